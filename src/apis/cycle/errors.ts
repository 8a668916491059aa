import { CloudError, type ErrorCode, type ErrorRule } from '#lib/errors.ts'
import { sentenceOf, type ErrorShape, type Fault, type FaultCode } from '#apis/errors.ts'
import type { ErrorCodeName, ErrorEnvelope } from './schema/error.ts'

/** What a client reads first; `detail` says the rest. */
const TITLES: Record<ErrorCodeName, string> = {
  '400.invalid-syntax': 'Invalid syntax',
  '401.auth-invalid': 'Invalid token',
  '401.auth-expired': 'Token is no longer valid',
  '403.permissions': 'Not permitted',
  '403.invalid-state': 'Invalid state',
  '403.not-allowed': 'Not allowed',
  '404.container': 'Container not found',
  '404.hub.integration': 'Integration not found',
  '404.image': 'Image not found',
  '404.infrastructure.server': 'Server not found',
  '404.instance': 'Instance not found',
  '404.sdn.network': 'Network not found',
  '404.uri': 'Not found',
  '404.virtual-machine': 'Virtual machine not found',
  '409.duplicate-found': 'Conflict',
  '415.invalid-content-type': 'Invalid content type',
  '422.missing-argument': 'Missing argument',
  '422.invalid-argument': 'Invalid argument',
  '422.max-exceeded': 'Maximum exceeded',
  '422.not-compatible': 'Not compatible',
  '500.unknown': 'Unknown error',
  '503.not-ready': 'Not ready',
  '503.not-enabled': 'Not enabled',
}

/** A refusal of the cloud in this dialect's codes; there is no 405, 413 or 429 in the contract (section 1.3). */
const ANSWERS: Record<FaultCode, ErrorCodeName> = {
  invalid: '422.invalid-argument',
  unauthenticated: '401.auth-invalid',
  forbidden: '403.permissions',
  not_found: '404.uri',
  no_route: '404.uri',
  wrong_method: '404.uri',
  already_exists: '409.duplicate-found',
  conflict: '409.duplicate-found',
  gone: '401.auth-expired',
  rate_limited: '503.not-ready',
  unsupported: '503.not-enabled',
  unavailable: '503.not-ready',
  exhausted: '422.max-exceeded',
  internal: '500.unknown',
}
const BY_RULE: Partial<Record<ErrorRule, ErrorCodeName>> = {
  wrong_state: '403.invalid-state',
  lost_race: '503.not-ready',
  required: '422.missing-argument',
  too_large: '422.max-exceeded',
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  415: 'invalid',
  422: 'invalid',
  503: 'unavailable',
}

/** A refusal that this dialect makes itself, with the code and the pointer that its contract wants. */
class CycleRefusal extends CloudError {
  readonly answer: ErrorCodeName
  readonly source: string | undefined
  constructor(answer: ErrorCodeName, detail: string, source?: string) {
    super(CODES[answer.slice(0, 3)] ?? 'invalid', detail)
    this.answer = answer
    this.source = source
  }
}

/** To throw: this code, a sentence for the caller, and the JSON pointer to what is wrong. */
export const refusal = (answer: ErrorCodeName, detail: string, source?: string): CloudError =>
  new CycleRefusal(answer, detail, source)

type Named = { absent: ErrorCodeName; query?: string; body?: string }

/** What the cloud calls things that a request names, with the answer when there is none and where they are named here. */
const NAMED: ReadonlyMap<string, Named> = new Map<string, Named>(
  Object.entries({
    workload: { absent: '404.container', query: '/query/container-id', body: '/contents/container_id' },
    replica: { absent: '404.instance', body: '/contents/instance_id' },
    image: { absent: '404.image', body: '/image_id' },
    integration: { absent: '404.hub.integration' },
    function: { absent: '404.instance', body: '/contents/function' },
  }),
)

function codeOf({ code, details: { rule, field } }: Fault): ErrorCodeName {
  if (code === 'not_found') return NAMED.get(field ?? '')?.absent ?? ANSWERS.not_found
  if (code === 'invalid' && field === 'function') return '422.not-compatible'
  return (rule && BY_RULE[rule]) ?? ANSWERS[code]
}

/** `contents.points[0].time` as a JSON pointer; a field of the query string is below `/query`. */
function pointerOf(fault: Fault, method: string): string | undefined {
  const { field } = fault.details
  if (field === undefined) return undefined
  const named = NAMED.get(field)
  if (named) return method === 'POST' ? named.body : named.query
  const path = field
    .replace(/\[(\d+)\]/g, '.$1')
    .split('.')
    .filter((it) => it !== '')
  const { validationContext: of } = fault as { validationContext?: string }
  return `/${[...(of === 'querystring' ? ['query'] : []), ...path].join('/')}`
}

const envelope = (code: ErrorCodeName, detail: string, source: string | undefined): ErrorEnvelope => ({
  error: {
    status: Number(code.slice(0, 3)) as ErrorEnvelope['error']['status'],
    code,
    title: TITLES[code],
    ...(detail === '' ? {} : { detail }),
    ...(source === undefined ? {} : { source }),
  },
  data: null,
})

/** The body for what never became a request. */
export const broken = (detail: string): ErrorEnvelope => envelope('400.invalid-syntax', detail, undefined)

/** Every refusal in the envelope of contract section 1.3. */
export const shape: ErrorShape = (fault, request) => {
  if (fault instanceof CycleRefusal) {
    const body = envelope(fault.answer, fault.message, fault.source)
    return { status: body.error.status, body }
  }
  const code = codeOf(fault)
  const isNowhere = fault.code === 'no_route' || fault.code === 'wrong_method'
  const [path] = request.url.split('?')
  const detail = isNowhere ? `There is no ${request.method} ${path}` : sentenceOf(fault)
  const body = envelope(code, detail, pointerOf(fault, request.method))
  return { status: body.error.status, body }
}
