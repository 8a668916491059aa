import type { DatabaseSync } from 'node:sqlite'
import type { Ref } from './kind.ts'
import type { Key } from './resource.ts'
import { openLists } from './store.sqlite.lists.ts'
import type { WriterQueue } from './store.sqlite.queue.ts'
import type { Change, Mutation } from './store.ts'

type Of<D extends Mutation['do']> = Extract<Mutation, { do: D }>

/** What decisions inside a transaction read of a resource. */
export type Row = {
  id: string
  kind: string
  tenant: string
  name: string
  owner: string | null
  version: number
  generation: number
  observed: number
  revision: number
  deleted_at: number | null
  overdue: string | null
  settle_by: number | null
  terms: string
  wakes: string
}
const ROW =
  'r.id, r.kind, r.tenant, r.name, r.owner, r.version, r.generation, r.observed, r.revision, r.deleted_at, r.overdue, r.settle_by, r.terms, r.wakes'

/** The writer's side of resources: their rows, references, lists, and the change feed. */
export function openRows(db: DatabaseSync, queue: WriterQueue) {
  const read = db.prepare(`SELECT ${ROW} FROM resource r WHERE r.id = ?`)
  const readOwned = db.prepare(`SELECT ${ROW} FROM resource r WHERE r.owner = ? ORDER BY r.id`)
  const readReferrers = db.prepare(
    `SELECT ${ROW}, f.on_delete FROM ref f JOIN resource r ON r.id = f.id WHERE f.target = ? ORDER BY r.id`,
  )
  const readRefs = db.prepare('SELECT target FROM ref WHERE id = ?')
  const insertRow = db.prepare(
    `INSERT INTO resource (id, kind, tenant, name, owner, labels, spec, status, version, generation, observed, revision,
       created_at, updated_at, deleted_at, overdue, settle_by, terms, wakes)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
  )
  const updateSpec = db.prepare(
    `UPDATE resource SET name = ?, labels = ?, spec = ?, generation = ?, observed = coalesce(?, observed),
       revision = revision + 1, updated_at = ?, overdue = NULL, settle_by = ?, terms = ?, wakes = ? WHERE id = ?`,
  )
  const updateStatus = db.prepare(
    `UPDATE resource SET status = ?, observed = ?, revision = revision + 1, updated_at = ?, terms = ?, wakes = ?
     WHERE id = ?`,
  )
  const updateUpgrade = db.prepare('UPDATE resource SET spec = ?, status = ?, version = ? WHERE id = ?')
  const updateMark = db.prepare(
    `UPDATE resource SET deleted_at = ?, updated_at = ?, revision = revision + 1, overdue = NULL, settle_by = ?
     WHERE id = ?`,
  )
  const updateSettle = db.prepare('UPDATE resource SET settle_by = ? WHERE id = ?')
  const updateOverdue = db.prepare(
    'UPDATE resource SET overdue = ?, revision = revision + 1, updated_at = ? WHERE id = ?',
  )
  const deleteRow = db.prepare('DELETE FROM resource WHERE id = ?')
  const insertRef = db.prepare('INSERT OR REPLACE INTO ref (id, target, on_delete) VALUES (?, ?, ?)')
  const deleteRefs = db.prepare('DELETE FROM ref WHERE id = ?')
  const addChange = db.prepare('INSERT INTO change (kind, id, tenant, revision, what) VALUES (?, ?, ?, ?, ?)')
  const addVersion = db.prepare('INSERT OR IGNORE INTO kind_version (kind, version) VALUES (?, ?)')
  const lists = openLists(db)
  /** Ids of resources that are there and not marked deleted, as far as this batch has seen. */
  const alive = new Set<string>()
  /** Schema versions that are noted. */
  const versions = new Set<string>()
  let changes = 0
  /** Kinds of which something was changed since the last transaction, and names of pools. */
  const moved = new Set<string>()

  const termsOf = (row: Row): string[] => JSON.parse(row.terms) as string[]
  function relist(row: Row, terms: readonly string[]): string {
    const text = JSON.stringify([...new Set(terms)])
    if (text !== row.terms) lists.change(row, termsOf(row), terms, row.deleted_at === null)
    return text
  }
  function learnVersion(kind: string, version: number): void {
    const name = `${kind} ${version}`
    if (versions.has(name)) return
    addVersion.run(kind, version)
    versions.add(name)
  }

  const self = {
    find: (id: string) => read.get(id) as Row | undefined,
    isAlive: (id: string): boolean => alive.has(id),
    noteAlive: (id: string): void => void alive.add(id),
    owned: (id: string) => readOwned.all(id) as Row[],
    referrers: (id: string) => readReferrers.all(id) as (Row & { on_delete: string })[],
    refsOf: (id: string): string[] => (readRefs.all(id) as { target: string }[]).map((it) => it.target),
    wakesOf: (row: Row): Key[] => JSON.parse(row.wakes) as Key[],

    /** What it owns and what refers to it; a reference by its own owner does not keep it, since the owner waits for it. */
    dependents: (row: Row): Row[] => [
      ...self.owned(row.id),
      ...self
        .referrers(row.id)
        .filter((it) => it.owner !== row.id && it.id !== row.owner && it.id !== row.id),
    ],

    /** False, and nothing is done, when the id is taken. */
    insert({ resource: it, refs, terms, wakes = [], settleBy }: Of<'create'>): boolean {
      const settled = it.observed >= it.generation
      const { changes: made } = insertRow.run(
        it.id,
        it.kind,
        it.tenant,
        it.name,
        it.owner ?? null,
        JSON.stringify(it.labels),
        JSON.stringify(it.spec),
        JSON.stringify(it.status),
        it.version,
        it.generation,
        it.observed,
        it.revision,
        it.createdAt,
        it.updatedAt,
        settled ? null : settleBy,
        JSON.stringify([...new Set(terms)]),
        JSON.stringify(wakes),
      )
      if (!made) return false
      alive.add(it.id)
      learnVersion(it.kind, it.version)
      lists.enter(it, terms)
      self.addRefs(it.id, refs)
      return true
    },
    writeSpec({ resource: it, terms, wakes = [], settleBy }: Of<'spec'>, row: Row, now: number): void {
      const settled = it.observed >= it.generation
      updateSpec.run(
        it.name,
        JSON.stringify(it.labels),
        JSON.stringify(it.spec),
        it.generation,
        settled ? it.generation : null,
        now,
        settled ? null : settleBy,
        relist(row, terms),
        JSON.stringify(wakes),
        it.id,
      )
    },
    writeStatus(m: Of<'status'>, row: Row, now: number): void {
      const wakes = m.wakes ? JSON.stringify(m.wakes) : row.wakes
      updateStatus.run(JSON.stringify(m.status), m.observed, now, relist(row, m.terms), wakes, m.id)
    },
    writeUpgrade(m: Of<'upgrade'>, row: Row): void {
      updateUpgrade.run(JSON.stringify(m.spec), JSON.stringify(m.status), m.version, m.id)
      learnVersion(row.kind, m.version)
      moved.add(row.kind)
    },
    writeMark(row: Row, settleBy: number, now: number): void {
      updateMark.run(now, now, settleBy, row.id)
      alive.delete(row.id)
      lists.die(row, termsOf(row))
    },
    writeSettleBy(id: string, at: number | null): void {
      updateSettle.run(at, id)
    },
    writeOverdue(row: Row, reason: string | null, now: number): void {
      updateOverdue.run(reason, now, row.id)
      self.changed({ ...row, revision: row.revision + 1 }, 'status')
      self.wake(self.wakesOf(row), now)
    },
    erase(row: Row): void {
      alive.delete(row.id)
      lists.leave(row, termsOf(row), row.deleted_at === null)
      deleteRefs.run(row.id)
      deleteRow.run(row.id)
    },

    replaceRefs(id: string, refs: readonly Ref[]): void {
      deleteRefs.run(id)
      self.addRefs(id, refs)
    },
    addRefs(id: string, refs: readonly Ref[]): void {
      const byTarget = new Map<string, string>()
      // Both ways to one target: the one that asks is the safe one.
      for (const ref of refs) if (byTarget.get(ref.to) !== 'block') byTarget.set(ref.to, ref.onDelete)
      for (const [to, onDelete] of byTarget) insertRef.run(id, to, onDelete)
    },
    changed(it: { kind: string; id: string; tenant: string; revision: number }, what: Change['what']): void {
      addChange.run(it.kind, it.id, it.tenant, it.revision, what)
      moved.add(it.kind)
      changes++
    },
    wake(keys: readonly Key[], now: number): void {
      for (const key of new Set(keys)) queue.enqueue(key, now)
    },
    /** Changes written by this process, refused ones included. */
    changes: (): number => changes,
    moved,
    /** Writes what is only known yet, before what was applied is made to stay. */
    flush(): void {
      lists.flush()
      alive.clear()
    },
    /** What was applied since the last `flush` is taken back. */
    forget(): void {
      lists.forget()
      alive.clear()
      versions.clear()
    },
  }
  return self
}
