import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { CloudError } from '#lib/errors.ts'
import type { Clock } from '#lib/clock.ts'
import { ALL, type Key } from './resource.ts'
import { type Moment, openRecall } from './store.sqlite.recall.ts'
import { openSnapshot } from './store.sqlite.snapshot.ts'
import {
  type Change,
  DEPENDENTS_MAX,
  type Dependent,
  LIST_MAX,
  type ListQuery,
  type Page,
  type QueueEntry,
  type Store,
  type StoredClaim,
  type StoredRecord,
  type StoredResource,
} from './store.ts'

/** Terms of one list query at most. */
const TERMS_MAX = 16
/** Pages of more rows are not remembered. */
const RECALLED_ROWS_MAX = 32
/** Sorts after every id. */
const LAST_ID = '\u{10ffff}'

type ResourceRow = {
  id: string
  kind: string
  tenant: string
  name: string
  owner: string | null
  labels: string
  spec: string
  status: string
  version: number
  generation: number
  observed: number
  revision: number
  created_at: number
  updated_at: number
  deleted_at: number | null
  overdue: string | null
}
/** A page of a list as it was read. */
type RowPage = Omit<Page<StoredResource>, 'items'> & { readonly rows: readonly ResourceRow[] }
const COLUMNS =
  'r.id, r.kind, r.tenant, r.name, r.owner, r.labels, r.spec, r.status, r.version, r.generation, r.observed, r.revision, r.created_at, r.updated_at, r.deleted_at, r.overdue'

const toResource = (row: ResourceRow): StoredResource => ({
  kind: row.kind,
  id: row.id,
  tenant: row.tenant,
  name: row.name,
  ...(row.owner === null ? {} : { owner: row.owner }),
  labels: row.labels === '{}' ? {} : (JSON.parse(row.labels) as Record<string, string>),
  spec: JSON.parse(row.spec) as unknown,
  status: JSON.parse(row.status) as unknown,
  generation: row.generation,
  observed: row.observed,
  revision: row.revision,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  ...(row.deleted_at === null ? {} : { deletedAt: row.deleted_at }),
  ...(row.overdue === null ? {} : { overdue: row.overdue }),
  version: row.version,
})

type ClaimRow = {
  pool: string
  value: string
  owner: string
  ends: 'deletion' | 'removal'
  amount: number
  refusal: string | null
  expires_at: number | null
  note: string | null
}
const toClaim = (row: ClaimRow): StoredClaim => ({
  pool: row.pool,
  value: row.value,
  ends: row.ends,
  owner: row.owner,
  ...(row.amount ? { amount: row.amount } : {}),
  ...(row.refusal === null ? {} : { refusal: row.refusal }),
  ...(row.note === null ? {} : { note: row.note }),
  ...(row.expires_at === null ? {} : { expiresAt: row.expires_at }),
})

type RecordRow = {
  seq: number
  stream: StoredRecord['stream']
  tenant: string
  subject: string | null
  at: number
  what: string
  body: string
}
const toRecord = (row: RecordRow): StoredRecord => ({
  cursor: String(row.seq),
  stream: row.stream,
  tenant: row.tenant,
  ...(row.subject === null ? {} : { subject: row.subject }),
  at: row.at,
  what: row.what,
  body: JSON.parse(row.body) as unknown,
})

function parseCursor(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new CloudError('invalid', 'not a cursor', { field: 'after' })
  return Number(text)
}

type Reads = Pick<
  Store,
  | 'get'
  | 'list'
  | 'terms'
  | 'dependents'
  | 'claim'
  | 'claims'
  | 'pool'
  | 'guard'
  | 'changes'
  | 'records'
  | 'queue'
  | 'settleBy'
  | 'late'
  | 'versions'
  | 'newest'
> & {
  sizes(): { resources: number; queued: number }
  /** Ends the transaction that reads share; the connection is the caller's to close. */
  close(): void
}

/** The reading half of the store, on a connection that cannot write. Answers at once; the promises are the interface's. */
export function openReads(db: DatabaseSync, clock: Clock, moment: Moment): Reads {
  const statements = new Map<string, StatementSync>()
  /** Prepared once for each text; the texts are few, since only shapes of queries vary. */
  const sql = (text: string): StatementSync => {
    let statement = statements.get(text)
    if (!statement) statements.set(text, (statement = db.prepare(text)))
    return statement
  }
  const getOne = db.prepare(`SELECT ${COLUMNS} FROM resource r WHERE r.id = ?`)
  const getClaim = db.prepare('SELECT * FROM claim WHERE pool = ? AND value = ?')
  const recallResource = openRecall<ResourceRow>(moment)
  const recallPage = openRecall<RowPage>(moment, (it) => it.rows.length <= RECALLED_ROWS_MAX)
  const recallClaim = openRecall<ClaimRow>(moment)
  const readCursor = db.prepare(
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change'), 0) AS seq",
  )
  const readOldest = db.prepare('SELECT min(seq) AS seq FROM change')
  const readTally = db.prepare('SELECT n, total, live FROM tally WHERE kind = ? AND scope = ? AND term = ?')

  /** What is given to each read is the number of the last change. */
  const { read, close } = openSnapshot(db, moment, () => (readCursor.get() as { seq: number }).seq)

  type Tally = { n: number; total: number; live: number }
  function listRows(query: ListQuery, tallies: readonly Tally[], cursor: number): RowPage {
    const limit = Math.min(query.limit ?? LIST_MAX, LIST_MAX)
    // The shortest list drives, the others are asked for each of its members.
    const [first, ...others] = tallies.toSorted((a, b) => a.total - b.total)
    if (!first) return { rows: [], total: 0, cursor: String(cursor) }
    const alive = query.deleted === false
    const down = query.newestFirst === true
    const where =
      'm.tally = ?' +
      ' AND EXISTS (SELECT 1 FROM member x WHERE x.tally = ? AND x.id = m.id)'.repeat(others.length) +
      (alive ? ' AND r.deleted_at IS NULL' : '')
    const from = `FROM member m JOIN resource r ON r.id = m.id WHERE ${where}`
    const lists = [first.n, ...others.map((it) => it.n)]
    const rows = sql(
      `SELECT ${COLUMNS} ${from} AND m.id ${down ? '<' : '>'} ? ORDER BY m.id ${down ? 'DESC' : 'ASC'} LIMIT ?`,
    ).all(...lists, query.after ?? (down ? LAST_ID : ''), limit + 1) as ResourceRow[]
    const total = others.length
      ? (sql(`SELECT count(*) AS total ${from}`).get(...lists) as { total: number }).total
      : alive
        ? first.live
        : first.total
    const shown = rows.slice(0, limit)
    const last = shown.at(-1)
    const next = rows.length > limit && last ? { next: last.id } : {}
    return { rows: shown, ...next, total, cursor: String(cursor) }
  }

  const reads = {
    get(id: string): StoredResource | undefined {
      const row = recallResource(id, () => read(() => getOne.get(id) as ResourceRow | undefined))
      return row && toResource(row)
    },
    list(query: ListQuery): Page<StoredResource> {
      const limit = query.limit ?? LIST_MAX
      if (!Number.isInteger(limit) || limit < 1)
        throw new CloudError('invalid', 'limit must be a whole number above 0', { field: 'limit' })
      const terms = [...new Set(query.terms)].filter((it) => it !== '')
      if (terms.length > TERMS_MAX)
        throw new CloudError('invalid', `a list filters by at most ${TERMS_MAX} terms`, { field: 'terms' })
      const readPage = (): RowPage =>
        read((cursor) => {
          const tallies = (terms.length ? terms : ['']).map(
            (term) => readTally.get(query.kind, query.tenant, term) as Tally | undefined,
          )
          return listRows(query, tallies.every((it) => it !== undefined) ? tallies : [], cursor)
        })
      const { kind, tenant, after, deleted, newestFirst } = query
      const asked = JSON.stringify([kind, tenant, terms, after, limit, deleted, newestFirst])
      const { rows, ...page } = recallPage(asked, readPage) ?? readPage()
      return { items: rows.map(toResource), ...page }
    },
    terms(id: string): string[] {
      const row = sql('SELECT terms FROM resource WHERE id = ?').get(id) as { terms: string } | undefined
      return row ? (JSON.parse(row.terms) as string[]) : []
    },
    dependents(id: string): Dependent[] {
      const rows = sql(
        `SELECT kind, id, name, deleted_at FROM resource WHERE owner = ?1
         UNION
         SELECT r.kind, r.id, r.name, r.deleted_at FROM ref f JOIN resource r ON r.id = f.id
          WHERE f.target = ?1 AND r.id <> ?1 AND r.id IS NOT (SELECT owner FROM resource WHERE id = ?1)
         ORDER BY id LIMIT ${DEPENDENTS_MAX}`,
      ).all(id) as { kind: string; id: string; name: string; deleted_at: number | null }[]
      return rows.map(({ deleted_at: deletedAt, ...it }) => (deletedAt === null ? it : { ...it, deletedAt }))
    },
    claim(pool: string, value: string): StoredClaim | undefined {
      const row = recallClaim(`${pool}\n${value}`, () =>
        read(() => getClaim.get(pool, value) as ClaimRow | undefined),
      )
      if (row && row.expires_at !== null && row.expires_at <= clock.now()) return undefined
      return row && toClaim(row)
    },
    claims(pool: string): StoredClaim[] {
      const rows = sql(
        'SELECT * FROM claim WHERE pool = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY value',
      ).all(pool, clock.now())
      return (rows as ClaimRow[]).map(toClaim)
    },
    pool(name: string): { max: number | undefined; used: number } {
      const row = sql('SELECT max, used FROM pool WHERE name = ?').get(name) as
        | { max: number | null; used: number }
        | undefined
      const over = sql(
        'SELECT coalesce(sum(amount), 0) AS amount FROM claim WHERE expires_at <= ? AND pool = ?',
      ).get(clock.now(), name) as { amount: number }
      return { max: row?.max ?? undefined, used: (row?.used ?? 0) - over.amount }
    },
    guard(name: string): number {
      const row = sql('SELECT moved FROM guard WHERE name = ?').get(name) as { moved: number } | undefined
      return row?.moved ?? 0
    },
    changes(after: string | undefined, limit: number, newest: number): { changes: Change[]; cursor: string } {
      if (after === undefined) return { changes: [], cursor: String(newest) }
      const from = parseCursor(after)
      const oldest = (readOldest.get() as { seq: number | null }).seq ?? newest + 1
      if (from < oldest - 1 || from > newest)
        throw new CloudError('gone', 'the changes after this cursor are not kept any more; list again')
      const rows = sql('SELECT * FROM change WHERE seq > ? ORDER BY seq LIMIT ?').all(from, limit) as (Omit<
        Change,
        'cursor'
      > & { seq: number })[]
      const changes = rows.map(({ seq, ...it }) => ({ cursor: String(seq), ...it }))
      return { changes, cursor: changes.at(-1)?.cursor ?? String(newest) }
    },
    records(query: Parameters<Store['records']>[0]): { records: StoredRecord[]; next?: string } {
      const down = query.newestFirst === true
      const where = ['stream = ?', `seq ${down ? '<' : '>'} ?`]
      const start =
        query.after === undefined ? (down ? Number.MAX_SAFE_INTEGER : 0) : parseCursor(query.after)
      const values: (string | number)[] = [query.stream, start]
      if (query.tenant !== ALL) {
        where.push('tenant = ?')
        values.push(query.tenant)
      }
      if (query.subject !== undefined) {
        where.push('subject = ?')
        values.push(query.subject)
      }
      const limit = Math.min(query.limit, LIST_MAX)
      const rows = sql(
        `SELECT * FROM record WHERE ${where.join(' AND ')} ORDER BY seq ${down ? 'DESC' : 'ASC'} LIMIT ?`,
      ).all(...values, limit + 1) as RecordRow[]
      const records = rows.slice(0, limit).map(toRecord)
      const last = records.at(-1)
      return rows.length > limit && last ? { records, next: last.cursor } : { records }
    },
    queue(key: Key): QueueEntry | undefined {
      const row = sql('SELECT key, at, attempt, reason FROM queue WHERE key = ?').get(key) as
        | { key: Key; at: number; attempt: number; reason: string | null }
        | undefined
      if (!row) return undefined
      const { reason, ...it } = row
      return reason === null ? it : { ...it, reason }
    },
    settleBy(id: string): number | undefined {
      const row = sql('SELECT settle_by FROM resource WHERE id = ?').get(id) as
        | { settle_by: number | null }
        | undefined
      return row?.settle_by ?? undefined
    },
    late(now: number, limit: number): string[] {
      const rows = sql(
        'SELECT id FROM resource WHERE settle_by <= ? AND overdue IS NULL ORDER BY settle_by LIMIT ?',
      ).all(now, limit) as { id: string }[]
      return rows.map((it) => it.id)
    },
    versions: () =>
      (
        sql('SELECT kind, version FROM kind_version ORDER BY kind, version').all() as {
          kind: string
          version: number
        }[]
      ).map(({ kind, version }) => ({ kind, version })),
    newest: (): string | undefined =>
      (sql('SELECT max(id) AS id FROM resource').get() as { id: string | null }).id ?? undefined,
    sizes(): { resources: number; queued: number } {
      const resources = sql(
        "SELECT coalesce(sum(total), 0) AS n FROM tally WHERE scope = '*' AND term = ''",
      ).get() as { n: number }
      const queued = sql('SELECT count(*) AS n FROM queue').get() as { n: number }
      return { resources: resources.n, queued: queued.n }
    },
  }

  return {
    get: async (id) => reads.get(id),
    list: async (query) => reads.list(query),
    terms: async (id) => read(() => reads.terms(id)),
    dependents: async (id) => read(() => reads.dependents(id)),
    claim: async (pool, value) => reads.claim(pool, value),
    claims: async (pool) => read(() => reads.claims(pool)),
    pool: async (name) => read(() => reads.pool(name)),
    guard: async (name) => read(() => reads.guard(name)),
    changes: async (after, limit) => read((newest) => reads.changes(after, limit, newest)),
    records: async (query) => read(() => reads.records(query)),
    queue: async (key) => read(() => reads.queue(key)),
    settleBy: async (id) => read(() => reads.settleBy(id)),
    late: async (now, limit) => read(() => reads.late(now, limit)),
    versions: async () => read(() => reads.versions()),
    newest: async () => read(() => reads.newest()),
    sizes: () => read(() => reads.sizes()),
    close,
  }
}
