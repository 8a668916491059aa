import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { ErrorShape, Fault, FaultCode } from '#apis/errors.ts'

/** The HTTP status of each refusal; every code is covered. */
const STATUS: Record<FaultCode, number> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  no_route: 404,
  wrong_method: 405,
  already_exists: 409,
  conflict: 409,
  gone: 410,
  rate_limited: 429,
  internal: 500,
  unsupported: 400,
  unavailable: 503,
  exhausted: 409,
}

/** What every refusal looks like; `field` is dotted, `blockers` are `kind name (id)`. */
export const ErrorBody = Type.Object({
  error: Type.Object({
    code: Type.Enum(Object.keys(STATUS)),
    message: Type.String(),
    field: Type.Optional(Type.String()),
    rule: Type.Optional(Type.String()),
    blockers: Type.Optional(Type.Array(Type.String())),
    requestId: Type.String(),
  }),
})

/** Answers a route may give beside its own. */
export const REFUSALS = { '4xx': ErrorBody, '5xx': ErrorBody }

/** The message as a sentence of its own: one that speaks of a field names it. */
const sentence = ({ message, details: { field } }: Fault): string =>
  field === undefined || message.includes(field.split('.').at(-1) ?? field) ? message : `${field}: ${message}`

const bodyOf = (fault: Fault, requestId: string) => {
  const { field, rule, blockers } = fault.details
  return {
    error: {
      code: fault.code,
      message: sentence(fault),
      ...(field === undefined ? {} : { field }),
      ...(rule === undefined ? {} : { rule }),
      ...(blockers === undefined ? {} : { blockers }),
      requestId,
    },
  }
}

/** The native API's shape of refusals. */
export const shape: ErrorShape = (fault, request) => {
  const [path] = request.url.split('?')
  const isNowhere = fault.code === 'no_route' || fault.code === 'wrong_method'
  const told = isNowhere
    ? { ...fault, message: `There is no ${request.method} ${path}; /docs/native lists what there is` }
    : fault
  return { status: STATUS[fault.code], body: bodyOf(told, request.id) }
}

/** What was thrown as data for a frame or event of a stream that already began; a bug shows as `internal`. */
export const errorBody = (error: unknown, requestId: string) =>
  bodyOf(
    isCloudError(error)
      ? error
      : { code: 'internal', message: `Internal error, request ${requestId}`, details: {} },
    requestId,
  )

/** Names the scheme to a client that came without a credential. */
export async function challenge(
  _request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
): Promise<void> {
  if (isCloudError(error, 'unauthenticated')) void reply.header('www-authenticate', 'Bearer realm="arcus"')
  await Promise.resolve()
}

/** `error` with `where` before its field, for what is wrong inside one item of a list. */
export const within = (where: string, what: string, error: unknown): unknown =>
  isCloudError(error)
    ? new CloudError(
        error.code,
        `${what}: ${sentence(error)}`,
        {
          ...error.details,
          field: error.details.field === undefined ? where : `${where}.${error.details.field}`,
        },
        error.cause,
      )
    : error
