import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CloudError, isCloudError, type ErrorCode, type ErrorDetails } from '#lib/errors.ts'
import type { Mount } from './http.ts'

/** What a dialect's table must cover: the cloud's refusals, the server's own two, and a bug. */
export type FaultCode = ErrorCode | 'no_route' | 'wrong_method' | 'internal'

/** A refusal on its way to a client, before a dialect gives it its shape. */
export type Fault = { readonly code: FaultCode; readonly message: string; readonly details: ErrorDetails }

export type ErrorShape = (
  fault: Fault,
  request: FastifyRequest,
) => { readonly status: number; readonly body: unknown }

/** A field as a dialect that has no spec of its own names it: without `spec.`. */
export const plainField = (field: string): string => field.replace(/^spec\./, '')

/**
 * A refusal as a sentence: the field in the dialect's own word for it, what is demanded of it, and what is in the way.
 * `wordFor` gets the cloud's name for a field of a spec, without `spec.`, or the name of a part of the request.
 */
export function sentenceOf(
  { message, details: { field, blockers } }: Pick<Fault, 'message' | 'details'>,
  wordFor: (field: string) => string = (it) => it,
): string {
  const plain = field === undefined ? undefined : plainField(field)
  // Some messages begin with the field in the cloud's own words.
  const own = [field, plain].find((it) => it !== undefined && message.startsWith(`${it} `))
  const demand = own === undefined ? message : message.slice(own.length + 1)
  const text = plain === undefined ? message : `${wordFor(plain)}: ${demand}`
  return blockers?.length ? `${text}: ${blockers.join(', ')}` : text
}

/** Fastify's own refusals of a request, in our words; their texts speak of Fastify. */
const FASTIFY_TEXTS: Readonly<Record<string, string>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'Body is too large',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'Body is not as long as Content-Length says',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'Body must be JSON with Content-Type: application/json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'Body is not valid JSON',
}

/** What was thrown while answering a request, as the refusal it is; undefined for a bug. */
export function refusalOf(error: unknown): CloudError | undefined {
  if (isCloudError(error)) return error
  const { statusCode, code } = error as { statusCode?: unknown; code?: unknown }
  if (typeof statusCode !== 'number' || statusCode < 400 || statusCode > 499) return undefined
  if (error instanceof SyntaxError) return new CloudError('invalid', 'Body is not valid JSON')
  const details: ErrorDetails = code === 'FST_ERR_CTP_BODY_TOO_LARGE' ? { rule: 'too_large' } : {}
  return new CloudError(
    'invalid',
    FASTIFY_TEXTS[String(code)] ?? 'The request could not be read',
    details,
    error,
  )
}

/**
 * Error and not-found handlers of a dialect's scope: everything thrown, unknown paths and wrong methods get the dialect's
 * shape. What is no refusal is a bug: logged whole, shown as `internal` with the request's id.
 */
export function answerErrors(
  app: FastifyInstance,
  mount: Pick<Mount, 'log' | 'methodsAt'>,
  shape: ErrorShape,
): void {
  app.setErrorHandler(async (error, request, reply) => {
    const refusal = refusalOf(error)
    if (!refusal)
      mount.log.error('request failed', { requestId: request.id, route: request.routeOptions.url, error })
    const fault: Fault = refusal ?? {
      code: 'internal',
      message: `Internal error, request ${request.id}`,
      details: {},
    }
    if (fault.details.retryAfterSeconds !== undefined)
      void reply.header('retry-after', Math.ceil(fault.details.retryAfterSeconds))
    const { status, body } = shape(fault, request)
    return reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body))
  })
  const nowhere = (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const methods = mount.methodsAt(request.url)
    if (methods.length) void reply.header('allow', [...new Set(methods)].toSorted().join(', '))
    const fault: Fault = methods.length
      ? { code: 'wrong_method', message: 'Method not allowed', details: {} }
      : { code: 'no_route', message: 'Not found', details: {} }
    const { status, body } = shape(fault, request)
    return reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body))
  }
  // Before the body is read: whether that is well-formed doesn't matter where nothing is. Scopes within have their own.
  app.addHook('onRequest', (request, reply, done) => {
    if (request.is404 && request.server === app) nowhere(request, reply)
    else done()
  })
  app.setNotFoundHandler(nowhere)
}
