import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** A resource as it stands in the database, read without the engine. */
export type Row = {
  readonly id: string
  readonly kind: string
  readonly tenant: string
  readonly name: string
  readonly owner: string | null
  readonly generation: number
  readonly observed: number
  readonly deletedAt: number | null
  readonly overdue: string | null
  readonly settleBy: number | null
  // Read field by field by those who know the kind.
  // eslint-disable-next-line typescript/no-explicit-any
  readonly spec: any
  // eslint-disable-next-line typescript/no-explicit-any
  readonly status: any
}
export type Claimed = {
  readonly pool: string
  readonly value: string
  readonly owner: string
  readonly amount: number
}
export type Pool = { readonly name: string; readonly max: number | null; readonly used: number }

/** The database of a history, seen from outside while the cloud runs on it. */
export type Rows = {
  all(): Row[]
  one(id: string): Row | undefined
  claims(): Claimed[]
  pools(): Pool[]
  queued(key: string): string | undefined
  usage(): {
    readonly tenant: string
    readonly subject: string
    readonly at: number
    readonly what: string
    readonly body: unknown
    readonly stream: 'usage'
    readonly cursor: string
  }[]
  /** Everything that is kept of resources that do not exist, in words. */
  stray(): string[]
  close(): void
}

const COLUMNS =
  'id, kind, tenant, name, owner, generation, observed, deleted_at AS deletedAt, overdue, settle_by AS settleBy, spec, status'

// What may only be there for a resource that is. Each gives one text for each thing that should not be.
const STRAY: readonly string[] = [
  `SELECT 'claim ' || pool || ' ' || value AS it FROM claim WHERE owner <> 'platform' AND expires_at IS NULL
     AND owner NOT IN (SELECT id FROM resource)`,
  `SELECT 'reference of ' || id || ' to ' || target AS it FROM ref
     WHERE id NOT IN (SELECT id FROM resource) OR target NOT IN (SELECT id FROM resource)`,
  `SELECT 'member ' || id || ' of list ' || tally AS it FROM member WHERE id NOT IN (SELECT id FROM resource)`,
  `SELECT 'list ' || kind || ' ' || scope || ' ' || term || ' counts ' || total AS it FROM tally
     WHERE total <> (SELECT count(*) FROM member WHERE tally = tally.n)
       OR live <> (SELECT count(*) FROM member m JOIN resource r ON r.id = m.id WHERE m.tally = tally.n AND r.deleted_at IS NULL)`,
  `SELECT 'pool ' || name || ' has ' || used || ' used' AS it FROM pool
     WHERE used <> (SELECT coalesce(sum(amount), 0) FROM claim WHERE claim.pool = pool.name)`,
]

export function openRows(directory: string): Rows {
  const db = new DatabaseSync(join(directory, 'arcus.sqlite'), { readOnly: true })
  const parsed = (row: unknown): Row => {
    const it = row as Row & { spec: string; status: string }
    return { ...it, spec: JSON.parse(it.spec) as unknown, status: JSON.parse(it.status) as unknown }
  }
  const all = db.prepare(`SELECT ${COLUMNS} FROM resource ORDER BY id`)
  const one = db.prepare(`SELECT ${COLUMNS} FROM resource WHERE id = ?`)
  const claims = db.prepare('SELECT pool, value, owner, amount FROM claim ORDER BY pool, value')
  const pools = db.prepare('SELECT name, max, used FROM pool ORDER BY name')
  const queued = db.prepare('SELECT reason FROM queue WHERE key = ?')
  const usage = db.prepare(
    "SELECT seq AS cursor, tenant, subject, at, what, body FROM record WHERE stream = 'usage' ORDER BY seq",
  )
  const stray = STRAY.map((text) => db.prepare(text))
  return {
    all: () => all.all().map(parsed),
    one(id) {
      const row = one.get(id)
      return row && parsed(row)
    },
    claims: () => claims.all() as Claimed[],
    pools: () => pools.all() as Pool[],
    queued: (key) => (queued.get(key) as { reason: string | null } | undefined)?.reason ?? undefined,
    usage: () =>
      usage.all().map((row) => {
        const it = row as {
          tenant: string
          subject: string
          at: number
          what: string
          body: string
          cursor: number
        }
        return { ...it, cursor: String(it.cursor), stream: 'usage', body: JSON.parse(it.body) as unknown }
      }),
    stray: () => stray.flatMap((it) => it.all().map((row) => (row as { it: string }).it)),
    close: () => db.close(),
  }
}

/** What is in the queue, of guards and pools, once no tenant is left. */
export function remains(directory: string): string[] {
  const db = new DatabaseSync(join(directory, 'arcus.sqlite'), { readOnly: true })
  try {
    const ask = (text: string): string[] =>
      db
        .prepare(text)
        .all()
        .map((row) => (row as { it: string }).it)
    return [
      ...ask("SELECT 'queued ' || key AS it FROM queue WHERE kind <> 'provider'"),
      ...ask("SELECT 'guard ' || name AS it FROM guard"),
      ...ask("SELECT 'pool ' || name AS it FROM pool"),
      ...ask(
        "SELECT kind || ' ' || name || ' ' || id AS it FROM resource WHERE kind NOT IN ('provider', 'user', 'credential') OR tenant <> 'platform'",
      ),
      ...ask(
        "SELECT 'claim ' || pool || ' ' || value AS it FROM claim WHERE pool NOT IN ('credential', 'user-name', 'singleton')",
      ),
    ]
  } finally {
    db.close()
  }
}
