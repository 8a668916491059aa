import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { createEngine, type Engine } from '#engine/engine.ts'
import { ALL } from '#engine/resource.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import { type SqliteStore, openSqliteStore } from '#engine/store.sqlite.ts'
import type { StoredClaim, StoredRecord } from '#engine/store.ts'
import { KINDS } from '#cloud/kinds.ts'

const RECORDS_MAX = 1000

/** Everything that a data folder holds and a caller could ask for, as the program of this checkout reads it. */
export type Whole = {
  /** As the engine reads them, secrets sealed; by kind and id. */
  readonly resources: readonly unknown[]
  /** Of every secret field that is set, what it opens to: `kind/id.field`. */
  readonly secrets: Readonly<Record<string, string>>
  readonly claims: readonly StoredClaim[]
  readonly pools: readonly { readonly name: string; readonly max: number | null; readonly used: number }[]
  readonly records: readonly StoredRecord[]
}

/** Opens a data folder that no process uses, with the engine of this checkout on it; nothing reconciles. */
export async function openFolder(
  data: string,
): Promise<AsyncDisposable & { readonly engine: Engine; readonly store: SqliteStore }> {
  const store = await openSqliteStore({ directory: data, log: silentLog })
  const engine = createEngine({
    store,
    kinds: KINDS,
    clock: systemClock,
    ids: createIds(systemClock),
    keyring: createKeyring(await openMasterKey(join(data, 'master.key'), randomBytes)),
    log: silentLog,
    random: Math.random,
    tenantRefs: true,
  })
  return { engine, store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() }
}

/** `pools` are the names to ask for, since a store does not list them. */
export async function wholeOf(data: string, pools: readonly string[]): Promise<Whole> {
  await using folder = await openFolder(data)
  const { engine, store } = folder
  await engine.check()
  const resources: unknown[] = []
  const secrets: Record<string, string> = {}
  for (const kind of KINDS) {
    const { items } = await engine.list(kind, { tenant: ALL })
    resources.push(...items)
    for (const it of items) {
      for (const field of kind.secret) {
        const plain = engine.open(it, field)
        if (plain !== undefined) secrets[`${it.kind}/${it.id}.${field}`] = plain
      }
    }
  }
  const claims: StoredClaim[] = []
  const sums: Whole['pools'][number][] = []
  for (const name of pools) {
    // Those that end by themselves are there for a while alone.
    claims.push(...(await store.claims(name)).filter((it) => it.expiresAt === undefined))
    const { max, used } = await store.pool(name)
    sums.push({ name, max: max ?? null, used })
  }
  const records: StoredRecord[] = []
  for (const stream of ['audit', 'event', 'usage'] as const)
    records.push(...(await store.records({ stream, tenant: ALL, limit: RECORDS_MAX })).records)
  // As it would be written down and read back: without what is undefined.
  return JSON.parse(JSON.stringify({ resources, secrets, claims, pools: sums, records })) as Whole
}

/** Every row of every table of a database, by table. */
export function tablesOf(path: string): Record<string, unknown[]> {
  const db = new DatabaseSync(path)
  try {
    const names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all()
    const all = (names as { name: string }[]).map(({ name }): [string, unknown[]] => [
      name,
      // In an order of the values alone.
      db
        .prepare(`SELECT * FROM "${name}"`)
        .all()
        .map((row) => ({ ...row }))
        .toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
    ])
    return Object.fromEntries(all)
  } finally {
    db.close()
  }
}
