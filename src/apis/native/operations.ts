import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Cloud, Leak as FoundLeak } from '#cloud/cloud.ts'
import { THINGS } from '#cloud/observe/finding.driver.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { Flag, isOn, PAGE_DEFAULT, PAGE_MAX } from './schema.ts'

const RecordParams = Type.Object(
  {
    subject: Type.Optional(Type.String({ maxLength: 64, description: 'Id of the resource they are about.' })),
    after: Type.Optional(Type.String({ maxLength: 64 })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    newestFirst: Type.Optional(Flag),
  },
  { additionalProperties: false },
)
const StreamParams = Type.Object({ stream: Type.Enum(['audit', 'event', 'usage']) })

const Records = Type.Object({
  items: Type.Array(
    Type.Object({
      cursor: Type.String(),
      stream: Type.String(),
      at: Type.String({ format: 'date-time' }),
      tenant: Type.String(),
      subject: Type.Optional(Type.String()),
      what: Type.String(),
      body: Type.Unknown(),
    }),
  ),
  next: Type.Optional(Type.String()),
})

const HOUR_MS = 3_600_000
const Period = Type.Object(
  {
    from: Type.String({ format: 'date-time' }),
    to: Type.Optional(
      Type.String({ format: 'date-time', description: 'Not included; until now if absent.' }),
    ),
  },
  { additionalProperties: false },
)
const Usage = Type.Object({
  from: Type.String({ format: 'date-time' }),
  to: Type.String({ format: 'date-time' }),
  replicas: Type.Array(
    Type.Object({ cpuMillicores: Type.Integer(), memoryMib: Type.Integer(), hours: Type.Number() }),
  ),
  externalAddresses: Type.Object({ hours: Type.Number() }),
})

/** Ends when the client is gone, so that nobody looks at a host for a reader who left. */
function whileConnected(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => controller.abort(new Error('the client went away')))
  return controller.signal
}

/** What happened (records), what the host lacks and where it differs from the records. */
export function operationRoutes(app: FastifyInstance, cloud: Cloud): void {
  app.get<{ Params: Static<typeof StreamParams>; Querystring: Static<typeof RecordParams> }>(
    '/records/:stream',
    {
      schema: {
        tags: ['records'],
        summary: 'Audit entries, events or usage intervals, oldest first',
        params: StreamParams,
        querystring: RecordParams,
        response: { 200: Records, ...REFUSALS },
      },
    },
    async (request) => {
      const { newestFirst, ...rest } = request.query
      const { records, next } = await cloud.records(callerOf(request), {
        limit: PAGE_DEFAULT,
        ...rest,
        stream: request.params.stream,
        newestFirst: isOn(newestFirst),
      })
      return {
        items: records.map((it) => ({ ...it, at: new Date(it.at).toISOString() })),
        ...(next === undefined ? {} : { next }),
      }
    },
  )

  app.get<{ Querystring: Static<typeof Period> }>(
    '/usage',
    {
      schema: {
        tags: ['records'],
        summary: 'What the tenant used in a period: running replicas by class, external addresses',
        querystring: Period,
        response: { 200: Usage, ...REFUSALS },
      },
    },
    async (request) => {
      const { from, to } = request.query
      const period = { from: Date.parse(from), ...(to === undefined ? {} : { to: Date.parse(to) }) }
      const used = await cloud.usage(callerOf(request), period)
      const hours = (milliseconds: number): number => milliseconds / HOUR_MS
      return {
        from: new Date(used.from).toISOString(),
        to: new Date(used.to).toISOString(),
        replicas: used.replicas.map(({ milliseconds, ...it }) => ({ ...it, hours: hours(milliseconds) })),
        externalAddresses: { hours: hours(used.externalAddresses.milliseconds) },
      }
    },
  )

  const Leak = Type.Object({
    what: Type.Enum(['orphan', 'missing', 'drift']),
    thing: Type.Enum([...THINGS]),
    kind: Type.String({ description: 'of the resource that it concerns; `host`: of none that is known' }),
    id: Type.String(),
    culprit: Type.String({ description: 'whose it is, in words' }),
    since: Type.Optional(Type.String({ format: 'date-time' })),
    detail: Type.String(),
    mend: Type.String({ description: 'what will put it right, and when; or what a person has to run' }),
  })
  const Leaks = Type.Object({ items: Type.Array(Leak) })
  const shown = (leaks: readonly FoundLeak[]) => ({
    items: leaks.map(({ since, ...it }) => ({
      ...it,
      ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
    })),
  })
  app.get(
    '/leaks',
    {
      schema: {
        tags: ['operations'],
        summary: 'Where the host differs from the records; administrators only',
        response: { 200: Leaks, ...REFUSALS },
      },
    },
    async (request: FastifyRequest, reply) =>
      shown(await cloud.leaks(callerOf(request), whileConnected(reply))),
  )
  app.post(
    '/leaks/mend',
    {
      schema: {
        tags: ['operations'],
        summary: 'Audits now and puts right what can be; gives what was found; administrators only',
        response: { 200: Leaks, ...REFUSALS },
      },
    },
    async (request: FastifyRequest, reply) =>
      shown(await cloud.mend(callerOf(request), whileConnected(reply))),
  )
  app.get(
    '/missing',
    {
      schema: {
        tags: ['operations'],
        summary: 'What the host lacks, in sentences; administrators only',
        response: { 200: Type.Object({ items: Type.Array(Type.String()) }), ...REFUSALS },
      },
    },
    async (request: FastifyRequest, reply) => ({
      items: await cloud.missing(callerOf(request), whileConnected(reply)),
    }),
  )
}
