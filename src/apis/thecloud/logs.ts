import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { LogQuery, StoredLogLine } from '#cloud/cloud.ts'
import { CloudError } from '#lib/errors.ts'
import { type Frame, operation } from './operation.ts'
import { timestamp, Timestamp, Uuid } from './schema.ts'

const LIMIT_DEFAULT = 100
const LIMIT_MAX = 1000
const OFFSET_MAX = 1_000_000

const LogEntry = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  resource_id: Type.String(),
  resource_type: Type.String(),
  level: Type.String(),
  message: Type.String(),
  timestamp: Timestamp,
  trace_id: Type.Optional(Type.String()),
})
const LogPage = Type.Object({
  entries: Type.Array(LogEntry),
  total: Type.Integer(),
  limit: Type.Integer(),
  offset: Type.Integer(),
})
const Word = (description: string) => Type.Optional(Type.String({ maxLength: 255, description }))
const Limit = { limit: Word(`${LIMIT_DEFAULT} unless told, 1 to ${LIMIT_MAX}.`) }

/** A line's id: the moment and its place among those of the moment. */
function idOf(cursor: string): string {
  const [at = 0, place = 0] = cursor.split('.').map(Number)
  const time = at.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${place.toString(16).padStart(12, '0')}`
}

const encode = (it: StoredLogLine, tenant: string): Static<typeof LogEntry> => ({
  id: idOf(it.cursor),
  tenant_id: tenant,
  resource_id: it.resource,
  resource_type: it.type,
  level: it.level,
  message: it.message,
  timestamp: timestamp(it.at),
  ...(it.trace === undefined ? {} : { trace_id: it.trace }),
})

function wholeIn(text: string | undefined, field: string, otherwise: number): number {
  if (text === undefined || text === '') return otherwise
  if (!/^-?\d{1,9}$/.test(text)) throw new CloudError('invalid', 'must be a whole number', { field })
  return Number(text)
}

function offsetOf(text: string | undefined): number {
  const offset = wholeIn(text, 'offset', 0)
  if (offset < 0 || offset > OFFSET_MAX)
    throw new CloudError('invalid', `must be between 0 and ${OFFSET_MAX}`, { field: 'offset' })
  return offset
}

const limitOf = (text: string | undefined): number =>
  Math.min(Math.max(wholeIn(text, 'limit', LIMIT_DEFAULT), 1), LIMIT_MAX)

function momentOf(text: string | undefined, field: string): number | undefined {
  if (text === undefined || text === '') return undefined
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new CloudError('invalid', 'must be a time in RFC 3339', { field })
  return at
}

/** Members that are set, and not to an empty text. */
const given = <K extends string>(values: Record<K, string | number | undefined>) =>
  Object.fromEntries(Object.entries(values).filter(([, it]) => it !== undefined && it !== '')) as Partial<
    Record<K, never>
  >

export function logRoutes({ cloud, ...rest }: Frame): void {
  const frame: Frame = { cloud, ...rest }
  const common = { tag: 'Logs', answer: LogPage }
  const search = async (caller: Caller, query: LogQuery) => {
    const { entries, total } = await cloud.searchLogs(caller, query)
    const { limit, offset } = query
    return { entries: entries.map((it) => encode(it, caller.tenant)), total, limit, offset }
  }
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/logs',
    id: 'searchLogs',
    summary: 'Search kept lines, newest first; all that is asked for must hold',
    query: {
      resource_id: Word('Id of what said it.'),
      resource_type: Word('instance or function.'),
      level: Word('INFO, WARN or ERROR.'),
      search: Word('A part of the message, in whatever case.'),
      start_time: Word('RFC 3339.'),
      end_time: Word('RFC 3339.'),
      ...Limit,
      offset: Word(`0 to ${OFFSET_MAX}.`),
    },
    async run({ caller, query }) {
      return await search(caller, {
        ...given({
          resource: query.resource_id,
          type: query.resource_type,
          level: query.level,
          search: query.search,
          from: momentOf(query.start_time, 'start_time'),
          to: momentOf(query.end_time, 'end_time'),
        }),
        limit: limitOf(query.limit),
        offset: offsetOf(query.offset),
      })
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/logs/:id',
    id: 'getResourceLogs',
    summary: 'Kept lines of one resource, newest first',
    params: { id: Type.String({ minLength: 1, maxLength: 255 }) },
    query: Limit,
    run: async ({ caller, params, query }) =>
      await search(caller, { resource: params.id, limit: limitOf(query.limit), offset: 0 }),
  })
}
