import Type from 'typebox'
import { sentenceOf, type ErrorShape, type Fault, type FaultCode } from '#apis/errors.ts'
import type { Clock } from '#lib/clock.ts'
import { toSecond } from './schema.ts'

/** A status and `error.type`, contract A5. */
export type Refusal = { readonly status: number; readonly type: string }

/** What an operation answers otherwise than the dialect: by code, or by code and rule (`conflict:wrong_state`). */
export type Refusals = Readonly<Record<string, Partial<Refusal>>>

declare module 'fastify' {
  interface FastifyContextConfig {
    refusals?: Refusals
  }
}

/** What the contract calls a mistake in the request also where the cloud says otherwise. */
export const INVALID_INPUT: Refusal = { status: 400, type: 'INVALID_INPUT' }

/** A client's mistake is never 5xx or 429: the client sends those again three times. */
const TABLE = {
  invalid: INVALID_INPUT,
  unsupported: INVALID_INPUT,
  unauthenticated: { status: 401, type: 'UNAUTHORIZED' },
  forbidden: { status: 403, type: 'FORBIDDEN' },
  not_found: { status: 404, type: 'NOT_FOUND' },
  no_route: { status: 404, type: 'NOT_FOUND' },
  wrong_method: { status: 404, type: 'NOT_FOUND' },
  gone: { status: 404, type: 'NOT_FOUND' },
  already_exists: { status: 409, type: 'CONFLICT' },
  conflict: { status: 409, type: 'CONFLICT' },
  exhausted: { status: 429, type: 'QUOTA_EXCEEDED' },
  'exhausted:capacity': { status: 429, type: 'RESOURCE_LIMIT_EXCEEDED' },
  rate_limited: { status: 429, type: 'RESOURCE_LIMIT_EXCEEDED' },
  internal: { status: 500, type: 'INTERNAL' },
  unavailable: { status: 503, type: 'INTERNAL' },
} satisfies Record<FaultCode, Refusal> & Record<string, Refusal>

const INTERNAL = 'An unexpected error occurred'

/** This dialect's words for fields of the cloud's own; of several, the one that the request has. */
const FIELDS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    cidr: ['cidr_block', 'destination_cidr', 'cidr'],
    gateway: ['gateway_ip'],
    publicKey: ['public_key'],
    securityGroups: ['security_group_id', 'security_groups'],
    sizeGib: ['size_gb'],
    subnet: ['subnet_id'],
    vpc: ['vpc_id'],
    workload: ['instance_id'],
  }),
)

function messageOf(fault: Fault, asked: unknown): string {
  if (fault.code === 'internal') return INTERNAL
  const body = typeof asked === 'object' && asked !== null ? asked : {}
  return sentenceOf(fault, (field) => {
    const words = FIELDS.get(field) ?? [field]
    return words.find((it) => Object.hasOwn(body, it)) ?? words[0] ?? field
  })
}

/** The refusal of a fault in an operation. */
export function refusalFor(fault: Pick<Fault, 'code' | 'details'>, own: Refusals = {}): Refusal {
  const keys = [`${fault.code}:${fault.details.rule}`, fault.code]
  const table: Refusals = TABLE
  const [general = TABLE.internal] = keys.flatMap((key) => table[key] ?? [])
  const [special] = keys.flatMap((key) => own[key] ?? [])
  return { ...(general as Refusal), ...special }
}

/** `{error: {type, message, code}, meta}`. */
export const shapeOf =
  (clock: Clock): ErrorShape =>
  (fault, request) => {
    const { status, type } = refusalFor(fault, request.routeOptions.config.refusals)
    return {
      status,
      body: {
        error: { type, message: messageOf(fault, request.body), code: type },
        meta: { request_id: request.id, timestamp: toSecond(clock.now()) },
      },
    }
  }

export const Meta = Type.Object({
  request_id: Type.Optional(Type.String()),
  timestamp: Type.String({ format: 'date-time', description: 'UTC, to the second.' }),
})

const ErrorEnvelope = (description: string) =>
  Type.Object(
    {
      error: Type.Object({
        type: Type.String(),
        message: Type.String(),
        code: Type.Optional(Type.String()),
      }),
      meta: Meta,
    },
    { description },
  )

/** The refusals of an operation's document, by status. */
export const REFUSALS: Readonly<Record<number, ReturnType<typeof ErrorEnvelope>>> = {
  400: ErrorEnvelope('Invalid input.'),
  401: ErrorEnvelope('Missing or invalid credentials.'),
  403: ErrorEnvelope('Permission, membership or ownership is missing.'),
  404: ErrorEnvelope('There is no such resource in the active tenant.'),
  409: ErrorEnvelope('The state, or a name that is in use, does not allow it.'),
  413: ErrorEnvelope('The body is over the limit.'),
  429: ErrorEnvelope('Too many requests, or a quota is used up.'),
  500: ErrorEnvelope('Unexpected failure.'),
  503: ErrorEnvelope('What is needed is not there for the moment.'),
}
