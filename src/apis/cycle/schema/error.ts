import Type, { type Static } from 'typebox'

/** The codes that are answered here, out of the vendor's closed list. */
const ERROR_CODE_NAMES = [
  '400.invalid-syntax',
  '401.auth-invalid',
  '401.auth-expired',
  '403.permissions',
  '403.invalid-state',
  '403.not-allowed',
  '404.container',
  '404.hub.integration',
  '404.image',
  '404.infrastructure.server',
  '404.instance',
  '404.sdn.network',
  '404.uri',
  '404.virtual-machine',
  '409.duplicate-found',
  '415.invalid-content-type',
  '422.missing-argument',
  '422.invalid-argument',
  '422.max-exceeded',
  '422.not-compatible',
  '500.unknown',
  '503.not-ready',
  '503.not-enabled',
] as const

/** Contract section 1.3; `source` is a JSON pointer to what is wrong. */
export const ErrorBody = Type.Object({
  status: Type.Enum([400, 401, 403, 404, 409, 415, 422, 500, 501, 502, 503, 504]),
  code: Type.Enum([...ERROR_CODE_NAMES]),
  title: Type.String({ minLength: 1 }),
  detail: Type.Optional(Type.String({ minLength: 1 })),
  source: Type.Optional(Type.String()),
})
/** Every refusal; both keys always. */
export const ErrorEnvelope = Type.Object({ error: ErrorBody, data: Type.Null() })
export type ErrorEnvelope = Static<typeof ErrorEnvelope>
export type ErrorCodeName = ErrorEnvelope['error']['code']
