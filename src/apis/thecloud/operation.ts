import type { FastifyReply, FastifyRequest, FastifySchema, FastifySchemaCompiler, HTTPMethods } from 'fastify'
import Type, { type Static, type TObject, type TProperties, type TSchema } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import type { Clock } from '#lib/clock.ts'
import { sendInParts } from '#apis/remembered-answers.ts'
import { validatorCompiler } from '#apis/validation.ts'
import type { Doors, Tenancy } from './doors.ts'
import { Meta, REFUSALS, type Refusals } from './errors.ts'
import { isPaged, NestedPage, pageOf, PAGING } from './page.ts'
import { type App, plainIds, toSecond, withoutUnset } from './schema.ts'

/** What every file of routes gets. */
export type Frame = {
  readonly app: App
  readonly cloud: Cloud
  readonly clock: Clock
  readonly doors: Doors
  /** The reference of the dialect, as a page. */
  page(): Promise<string>
}

/** What an operation is given: everything of the request that its schemas name, ids in lower case. */
export type Input<P extends TProperties, Q extends TProperties, B extends TSchema> = {
  readonly caller: Caller
  readonly params: Static<TObject<P>>
  readonly query: Static<TObject<Q>>
  readonly body: Static<B>
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

/** One operation of the contract: what it is called, takes and gives. Envelope, refusals, paging and doors follow from it. */
export type Operation<P extends TProperties, Q extends TProperties, B extends TSchema, A extends TSchema> = {
  readonly method: HTTPMethods
  readonly path: string
  /** Other paths of the same operation, not in the document. */
  readonly aliases?: readonly string[]
  readonly id: string
  readonly tag: string
  readonly summary: string
  readonly description?: string
  /** `required` unless told. */
  readonly tenancy?: Tenancy
  /** Takes a password: limited per address. */
  readonly guesses?: boolean
  readonly params?: P
  readonly query?: Q
  readonly body?: B
  /** The body comes as a form. */
  readonly form?: boolean
  /** The body comes as a form with a file in it, which is not held: `run` reads it from the request. */
  readonly file?: boolean
  /** Schema of `data`; absent: an envelope without data, or with status 204 nothing. */
  readonly answer?: A
  /** 200 unless told. */
  readonly status?: 200 | 201 | 202 | 204
  /** Statuses of refusals beside 400, 429, 500 and, of what is not open to all, 401 and 403. */
  readonly refuses?: readonly (401 | 403 | 404 | 409 | 413 | 503)[]
  /** Where the contract wants another status or type for a refusal than the dialect's table. */
  readonly refusals?: Refusals
  /** A list that is also served as a nested page (contract A6). */
  readonly paged?: boolean
  /** Not enveloped. */
  readonly bare?: boolean
  /** A GET whose answer may be remembered (remembered-answers.ts). */
  readonly remembered?: boolean
  run(input: Input<P, Q, B>): Promise<Static<A>> | Static<A>
}

/** The text of an envelope up to its `meta`; members of `data` stand beside it too, for readers of the bare form (contract A4). */
function startOf(shown: unknown): string {
  if (shown === undefined) return '{'
  const data = JSON.stringify(shown)
  if (shown === null || typeof shown !== 'object' || Array.isArray(shown)) return `{"data":${data},`
  if (!Object.hasOwn(shown, 'data') && !Object.hasOwn(shown, 'meta'))
    return data === '{}' ? `{"data":${data},` : `${data.slice(0, -1)},"data":${data},`
  const { data: _data, meta: _meta, ...repeated } = shown as Record<string, unknown>
  return `${JSON.stringify({ ...repeated, data: shown }).slice(0, -1)},`
}

function answerOf(it: Operation<TProperties, TProperties, TSchema, TSchema>): TSchema {
  if (it.status === 204) return Type.Null({ description: 'Done; no body.' })
  const description = it.status === 201 ? 'Made.' : it.status === 202 ? 'Begun.' : 'Done.'
  if (!it.answer) return Type.Object({ meta: Meta }, { description })
  if (it.bare) return { ...it.answer, description }
  // What is sent: the members of an object stand beside it too.
  const { data: _data, meta: _meta, ...beside } = (it.answer as Partial<TObject>).properties ?? {}
  const data = it.paged ? Type.Union([it.answer, NestedPage(it.answer)]) : it.answer
  return Type.Object({ ...beside, data, meta: Meta }, { description })
}

function schemaOf(it: Operation<TProperties, TProperties, TSchema, TSchema>): FastifySchema {
  const open = it.tenancy === 'none'
  const statuses = [400, ...(open ? [] : [401, 403]), 429, 500, ...(it.refuses ?? [])]
  const query = { ...it.query, ...(it.paged ? PAGING : {}) }
  return {
    operationId: it.id,
    tags: [it.tag],
    summary: it.summary,
    ...(it.description === undefined ? {} : { description: it.description }),
    ...(open ? { security: [] } : {}),
    ...(it.params ? { params: Type.Object(it.params) } : {}),
    ...(Object.keys(query).length ? { querystring: Type.Object(query) } : {}),
    ...(it.body ? { body: it.body } : {}),
    ...(it.form ? { consumes: ['application/x-www-form-urlencoded', 'multipart/form-data'] } : {}),
    ...(it.file ? { consumes: ['multipart/form-data'] } : {}),
    response: {
      [it.status ?? 200]: answerOf(it),
      ...Object.fromEntries(statuses.map((status) => [status, REFUSALS[status]])),
    },
  } as FastifySchema
}

/** Takes what the client did not set out of a body before it is looked at. */
const unsetting = (schema: TSchema) => async (request: FastifyRequest) => {
  request.body = withoutUnset(schema, request.body ?? {})
  await Promise.resolve()
}

/** For a body that is not read yet. */
const exceptBody: FastifySchemaCompiler<TSchema> = (route) =>
  route.httpPart === 'body' ? () => true : validatorCompiler(route)

/** Serves one operation. */
export function operation<
  P extends TProperties = Record<never, never>,
  Q extends TProperties = Record<never, never>,
  B extends TSchema = TSchema,
  A extends TSchema = TSchema,
>({ app, clock, doors }: Frame, given: Operation<P, Q, B, A>): void {
  const it = given as unknown as Operation<TProperties, TProperties, TSchema, TSchema>
  const { tenancy = 'required', status = 200 } = it
  const [params, query] = [plainIds(it.params), plainIds(it.query)]
  const body = plainIds((it.body as Partial<TObject> | undefined)?.properties)
  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    // What runs may choose another one.
    void reply.code(status)
    const data = await it.run({
      caller: tenancy === 'none' ? (undefined as never) : doors.callerOf(request),
      params: params(request.params) as never,
      query: query(request.query) as never,
      body: body(request.body) as never,
      request,
      reply,
    })
    if (reply.sent) return reply
    if (status === 204) return reply.send()
    if (it.bare) return reply.send(data)
    const shown = it.paged && isPaged(request) ? pageOf(request, data as readonly unknown[]) : data
    const end = (id: string): string =>
      `"meta":{"request_id":${JSON.stringify(id)},"timestamp":"${toSecond(clock.now())}"}}`
    return sendInParts(reply, startOf(shown), end)
  }
  for (const [at, url] of [it.path, ...(it.aliases ?? [])].entries())
    app.route({
      method: it.method,
      url,
      schema: { ...schemaOf(it), ...(at > 0 ? { hide: true } : {}) } as FastifySchema,
      config: {
        tenancy,
        ...(it.guesses ? { guesses: true } : {}),
        ...(it.remembered ? { remembered: true } : {}),
        ...(it.refusals ? { refusals: it.refusals } : {}),
      },
      ...(it.file ? { validatorCompiler: exceptBody } : {}),
      ...(it.body === undefined || it.file ? {} : { preValidation: unsetting(it.body) }),
      handler,
    })
}
