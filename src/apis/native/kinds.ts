import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Explanation } from '#engine/engine.ts'
import type { AnyKind } from '#engine/resource.ts'
import type { ListQuery } from '#engine/store.ts'
import { CloudError } from '#lib/errors.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { byReference } from './lookup.ts'
import { asList, type ById, isOn, ListParams, PAGE_DEFAULT, RefParams } from './schema.ts'
import type { Streams } from '#apis/streams.ts'
import { sendChanges } from './watch.ts'
import { encode, wireSchema } from './wire.ts'
import { writeRoutes } from './writes.ts'

/** What GET /kinds says of one kind. */
const describe = (kind: AnyKind) => ({
  name: kind.name,
  scope: kind.scope,
  immutable: kind.immutable,
  secret: kind.secret,
  secretStatus: kind.secretStatus,
  settleSecondsMax: kind.settleSecondsMax,
  spec: kind.spec,
  status: kind.status,
})

const KindInfo = Type.Object({
  name: Type.String(),
  scope: Type.Enum(['tenant', 'platform']),
  immutable: Type.Array(Type.String(), { description: 'Spec fields that cannot change after creation.' }),
  secret: Type.Array(Type.String(), { description: 'Spec fields that are never shown.' }),
  secretStatus: Type.Array(Type.String(), { description: 'Status fields that are never shown.' }),
  settleSecondsMax: Type.Integer(),
  spec: Type.Unknown({ description: 'JSON schema.' }),
  status: Type.Unknown({ description: 'JSON schema.' }),
})

export function kindListRoute(app: FastifyInstance, cloud: Cloud): void {
  const schema = {
    tags: ['kinds'],
    summary: 'Every kind of resource, with its schemas',
    response: { 200: Type.Object({ items: Type.Array(KindInfo) }), ...REFUSALS },
  }
  app.get('/kinds', { schema }, async () => ({ items: [...cloud.kinds.values()].map(describe) }))
}

const iso = (ms: number): string => new Date(ms).toISOString()

/** `settled: false` with reasons a person can act on; times ISO 8601. */
const explained = ({ since, settleBy, queue, ...it }: Explanation, kind: AnyKind) => ({
  ...it,
  ...(since === undefined ? {} : { since: iso(since) }),
  ...(settleBy === undefined ? {} : { settleBy: iso(settleBy) }),
  ...(queue ? { queue: { ...queue, at: iso(queue.at) } } : {}),
  ...(it.advice === undefined ? {} : { page: `docs/states/${kind.name}-${it.state}.md` }),
})

const text = (description: string) => Type.String({ description })

const Explained = Type.Object({
  settled: Type.Boolean(),
  state: text("The kind's word for what it is or what is being done to it."),
  since: Type.Optional(text('Of an unsettled one: since when.')),
  settleBy: Type.Optional(text('When an unsettled one turns overdue.')),
  overdue: Type.Optional(text('Why it has not settled in time, as of the last look.')),
  message: Type.Optional(text('What its status says of it.')),
  advice: Type.Optional(text('What a person can do; absent where nothing is needed.')),
  page: Type.Optional(text("The page about this state, below the program's folder.")),
  queue: Type.Optional(
    Type.Object({
      key: Type.String(),
      at: text('When it is looked at next.'),
      attempt: Type.Integer({ description: 'Looks that failed in a row.' }),
      reason: Type.Optional(text('What the last look waited for or failed with.')),
    }),
  ),
  waitingFor: Type.Array(
    Type.Object({
      kind: Type.String(),
      id: Type.String(),
      name: Type.String(),
      reason: Type.Optional(Type.String()),
    }),
    { description: 'What has to settle, or to go, before it.' },
  ),
})

/** The engine's words for what a list is filtered by. */
export function termsOf(query: Static<typeof ListParams>): string[] {
  const labels = asList(query.label).map((it) => `label:${it}`)
  return [...asList(query.term), ...labels, ...(query.name === undefined ? [] : [`name:${query.name}`])]
}

const listQuery = (query: Static<typeof ListParams>): Omit<ListQuery, 'kind' | 'tenant'> => ({
  limit: query.limit ?? PAGE_DEFAULT,
  terms: termsOf(query),
  ...(query.after === undefined ? {} : { after: query.after }),
  ...(query.deleted === 'false' ? { deleted: false } : {}),
  ...(isOn(query.newestFirst) ? { newestFirst: true } : {}),
})

/** List, get, create, patch, delete and explain of one kind, each with the kind's own schema. */
export function kindRoutes(app: FastifyInstance, cloud: Cloud, kind: AnyKind, streams: Streams): void {
  readRoutes(app, cloud, kind, streams)
  writeRoutes(app, cloud, kind)
}

function readRoutes(app: FastifyInstance, cloud: Cloud, kind: AnyKind, streams: Streams): void {
  const shown = wireSchema(kind)
  const common = { tags: [kind.name] }
  const page = Type.Object({
    items: Type.Array(shown),
    next: Type.Optional(
      Type.String({ description: 'Give it as `after` for the next page; absent on the last.' }),
    ),
    total: Type.Integer(),
    cursor: Type.String({ description: 'Watch from here to miss nothing after this page.' }),
  })

  app.get<{ Querystring: Static<typeof ListParams> }>(
    `/${kind.name}`,
    {
      config: { remembered: true },
      schema: {
        ...common,
        summary: `List ${kind.name} resources, oldest first; with watch a stream of server-sent events`,
        querystring: ListParams,
        response: {
          200: {
            content: {
              'application/json': { schema: page },
              'text/event-stream': { schema: Type.String() },
            },
          },
          ...REFUSALS,
        },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      if (isOn(request.query.watch)) {
        const filters = Object.keys(request.query).filter((it) => it !== 'watch' && it !== 'after')
        if (filters.length)
          throw new CloudError('invalid', `A watch takes no ${filters.join(', ')}: filter what it sends`, {
            field: filters[0] ?? '',
          })
        return await sendChanges(cloud, request, reply, streams, {
          kind: kind.name,
          list: request.query.after === undefined,
          after: request.query.after,
        })
      }
      const { items, ...rest } = await cloud.list(caller, kind, listQuery(request.query))
      return { items: items.map((it) => encode(kind, it)), ...rest }
    },
  )

  app.get<ById>(
    `/${kind.name}/:id`,
    {
      config: { remembered: true },
      schema: {
        ...common,
        summary: `Get a ${kind.name} by id, name, or <vpc>/<name>`,
        params: RefParams,
        response: { 200: shown, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const it = await byReference(cloud, callerOf(request), kind, request.params.id)
      return reply.header('etag', `"${it.generation}"`).send(encode(kind, it))
    },
  )

  app.get<ById>(
    `/${kind.name}/:id/explain`,
    {
      schema: {
        ...common,
        summary: `Why a ${kind.name} is not settled`,
        params: RefParams,
        response: { 200: Explained, ...REFUSALS },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      const it = await byReference(cloud, caller, kind, request.params.id)
      return explained(await cloud.explain(caller, kind, it.id), kind)
    },
  )
}
