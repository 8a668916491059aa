/**
 * What can be wrong with a request, in the engine's own words. Closed: each dialect's table covers every code.
 * `exhausted` is a quota, a pool or a capacity that is used up; `unavailable` is something that may work later.
 */
export const ERROR_CODES = [
  'invalid',
  'unauthenticated',
  'forbidden',
  'not_found',
  'already_exists',
  'conflict',
  'exhausted',
  'rate_limited',
  'unsupported',
  'unavailable',
  'gone',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

/** The broken rule, where dialects answer the same code differently (design §8). */
export type ErrorRule =
  | 'wrong_state'
  | 'quota'
  | 'foreign_tenant'
  | 'capacity'
  | 'in_use'
  | 'lost_race'
  | 'suspended'
  | 'required'
  | 'too_large'
  | 'port_format'
  | 'too_many'
  | 'port_taken'
  | 'other_vpc'
  | 'no_target'

export type ErrorDetails = {
  /** The field of the request that is wrong, dotted: `spec.cidr`. */
  readonly field?: string
  readonly rule?: ErrorRule
  /** Resources that stand in the way, as `kind name (id)`. */
  readonly blockers?: readonly string[]
  readonly retryAfterSeconds?: number
}

/** An expected refusal: `message` is for the caller, `cause` only for our log. */
export class CloudError extends Error {
  override readonly name = 'CloudError'
  readonly code: ErrorCode
  readonly details: ErrorDetails
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, { cause })
    this.code = code
    this.details = details
  }
}

/** True for a CloudError, with this code if one is given. */
export const isCloudError = (error: unknown, code?: ErrorCode): error is CloudError =>
  error instanceof CloudError && (code === undefined || error.code === code)

/** The text of anything that was thrown, for a log line or a status message. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
