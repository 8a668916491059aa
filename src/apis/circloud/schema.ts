import Type, { type TSchema, type TSchemaOptions } from 'typebox'
import { isUuid } from '#lib/ids.ts'
import { CloudError } from '#lib/errors.ts'
import { TOLERATED } from '#apis/reference.ts'

export { type App, said } from '#apis/app.ts'
export { timestamp } from '#lib/timestamp.ts'

export const Label = Type.String({
  pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$',
  minLength: 1,
  maxLength: 63,
  title: 'an RFC 1123 label: a-z, 0-9 and -, 1 to 63 characters, no hyphen at either end',
  description: 'RFC 1123 label.',
})
const domainOf = (letters: string) =>
  Type.String({
    pattern: `^([${letters}0-9]([-${letters}0-9]{0,61}[${letters}0-9])?\\.)+[${letters}0-9]([-${letters}0-9]{0,61}[${letters}0-9])?$`,
    maxLength: 253,
    title: 'a domain name of at least two labels',
    description: 'At least two labels; compared in lower case.',
  })
export const DomainName = domainOf('a-z')
/** As it may be typed: in either case. */
export const DomainTyped = domainOf('a-zA-Z')
export const Uuid = Type.String({ format: 'uuid' })
export const Ipv4 = Type.String({ format: 'ipv4' })
export const CidrText = (description = 'IPv4 network in CIDR form with host bits zero.') =>
  Type.String({
    pattern: '^(\\d{1,3}\\.){3}\\d{1,3}/\\d{1,2}$',
    title: 'an IPv4 network in CIDR form, such as 10.100.1.0/24',
    description,
  })
export const Port = (description: string) => Type.Integer({ minimum: 1, maximum: 65535, description })
export const Timestamp = Type.String({ format: 'date-time', description: 'UTC, ISO 8601.' })
export const Nullable = <T extends TSchema>(schema: T, options: TSchemaOptions = {}) =>
  Type.Union([schema, Type.Null()], options)

export const BodyToken = Type.Optional(
  Type.String({
    description:
      'Repeats the tenant token. Clients should send it; its absence is tolerated when the header is valid, and a token that differs from the header is answered with 401.',
    [TOLERATED]: true,
  }),
)

const ErrorBody = (description: string) => Type.Object({ detail: Type.String() }, { description })

/** Refusals an operation can give, by status. */
const REFUSALS = {
  400: ErrorBody(
    'Invalid parameters (missing, ill-typed, out of bounds, or inconsistent), including a body that is not JSON.',
  ),
  401: ErrorBody('Missing or invalid token, or a token that is not for this tenant.'),
  404: ErrorBody('No such resource, or it belongs to another tenant.'),
  409: ErrorBody("The request clashes with what already exists or with the resource's state."),
}
export const refusals = <S extends keyof typeof REFUSALS>(...statuses: S[]): Pick<typeof REFUSALS, S> =>
  Object.fromEntries(statuses.map((it) => [it, REFUSALS[it]])) as Pick<typeof REFUSALS, S>

export const listOf = <T extends TSchema>(schema: T, description: string) =>
  Type.Array(schema, { description })
export const Nothing = (description: string) => Type.Null({ description })

/** Path parameters; a malformed id is a matter of existence, not of form, so handlers check it with `idOf`. */
export const params = <K extends string>(...names: K[]) =>
  Type.Object(
    Object.fromEntries(names.map((it) => [it, it.endsWith('_id') ? Uuid : Type.String()])) as Record<
      K,
      typeof Uuid
    >,
  )

/** The id in a path; nothing has an id that is no UUID: `not_found`. */
export function idOf(text: string, noun: string): string {
  if (!isUuid(text)) throw new CloudError('not_found', `${noun} not found`)
  return text.toLowerCase()
}
