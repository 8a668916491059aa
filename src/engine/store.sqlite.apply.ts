import type { DatabaseSync } from 'node:sqlite'
import { CloudError } from '#lib/errors.ts'
import { openClaims } from './store.sqlite.claims.ts'
import type { WriterQueue } from './store.sqlite.queue.ts'
import { openRows, type Row } from './store.sqlite.rows.ts'
import type { Mutation } from './store.ts'

type Of<D extends Mutation['do']> = Extract<Mutation, { do: D }>

/** Names of blockers in one refusal; more are only counted. */
const BLOCKERS_SHOWN_MAX = 20
/** Resources that one deletion takes along at most. */
const MARKED_MAX = 50_000

const lostRace = (message: string): CloudError => new CloudError('conflict', message, { rule: 'lost_race' })
const wrongState = (message: string): CloudError =>
  new CloudError('conflict', message, { rule: 'wrong_state' })
const nameOf = (row: { kind: string; name: string; id: string }): string =>
  `${row.kind} ${row.name} (${row.id})`

function inUse(row: Row, blockers: readonly string[]): CloudError {
  const shown = blockers.slice(0, BLOCKERS_SHOWN_MAX)
  const more = blockers.length - shown.length
  const list = shown.join(', ') + (more ? ` and ${more} more` : '')
  return new CloudError('conflict', `${row.kind} ${row.name} is in use by ${list}`, {
    rule: 'in_use',
    blockers: shown,
  })
}

/** Applies mutations inside the transaction that the caller holds; throws a CloudError where one is refused. */
export function openApply(db: DatabaseSync, queue: WriterQueue) {
  const rows = openRows(db, queue)
  const claims = openClaims(
    db,
    (id) => rows.isAlive(id) || rows.find(id) !== undefined,
    (name) => void rows.moved.add(name),
  )
  const guardRead = db.prepare('SELECT moved FROM guard WHERE name = ?')
  const guardMove = db.prepare(
    'INSERT INTO guard (name, moved, owner) VALUES (?, 1, ?) ON CONFLICT (name) DO UPDATE SET moved = moved + 1',
  )
  const guardsEnd = db.prepare('DELETE FROM guard WHERE owner = ?')
  const recordAdd = db.prepare(
    'INSERT INTO record (stream, tenant, subject, at, what, body) VALUES (?, ?, ?, ?, ?, ?)',
  )

  const found = (id: string): Row => {
    const row = rows.find(id)
    if (!row) throw new CloudError('not_found', `${id} does not exist`)
    return row
  }

  function mustLive(id: string): void {
    if (rows.isAlive(id)) return
    const target = rows.find(id)
    if (!target) throw wrongState(`${id} does not exist any more`)
    if (target.deleted_at !== null) throw wrongState(`${target.kind} ${target.name} is being deleted`)
    rows.noteAlive(id)
  }

  function create(m: Of<'create'>, now: number): void {
    const it = m.resource
    if (it.owner !== undefined) mustLive(it.owner)
    for (const ref of m.refs) mustLive(ref.to)
    if (!rows.insert(m)) throw new CloudError('already_exists', `${it.kind} ${it.id} exists already`)
    rows.changed(it, 'created')
    if (it.observed < it.generation) queue.enqueue(`${it.kind}/${it.id}`, now, true)
    rows.wake(m.wakes ?? [], now)
  }

  function spec(m: Of<'spec'>, now: number): void {
    const it = m.resource
    const row = found(it.id)
    if (row.deleted_at !== null && it.deletedAt === undefined)
      throw lostRace(`${row.kind} ${row.name} was marked for deletion meanwhile`)
    if (row.deleted_at !== null) throw wrongState(`${row.kind} ${row.name} is being deleted`)
    if (row.generation !== m.expected || row.version !== it.version)
      throw lostRace(`${row.kind} ${row.name} was changed meanwhile`)
    for (const ref of m.refs) mustLive(ref.to)
    rows.writeSpec(m, row, now)
    rows.replaceRefs(it.id, m.refs)
    rows.changed({ ...row, revision: row.revision + 1 }, 'changed')
    if (it.observed < it.generation) queue.enqueue(`${row.kind}/${row.id}`, now, true)
    rows.wake([...rows.wakesOf(row), ...(m.wakes ?? [])], now)
  }

  function status(m: Of<'status'>, now: number): void {
    queue.check(m.lease)
    const row = found(m.id)
    if (m.lease.key !== `${row.kind}/${row.id}`)
      throw new CloudError('gone', `the lease on ${m.lease.key} is not one on ${row.kind}/${row.id}`)
    if (row.version !== m.version) throw lostRace(`${row.kind} ${row.name} was upgraded meanwhile`)
    rows.writeStatus(m, row, now)
    rows.changed({ ...row, revision: row.revision + 1 }, 'status')
    rows.wake([...rows.wakesOf(row), ...(m.wakes ?? [])], now)
  }

  function upgrade(m: Of<'upgrade'>): void {
    const row = found(m.id)
    if (row.version === m.version) return
    if (row.revision !== m.revision || row.version > m.version)
      throw lostRace(`${row.kind} ${row.name} was changed meanwhile`)
    rows.writeUpgrade(m, row)
  }

  /** Everything that goes when `root` goes: what it owns and what refers to it, all the way down; refused by name of what blocks. */
  function closure(root: Row, m: Of<'mark'>): Row[] {
    const follow = new Set(m.follow)
    const hold = new Set(m.hold)
    const going = new Map([[root.id, root]])
    const held = new Map<string, Row>()
    const blocking = new Map<string, Row>()
    for (const it of going.values()) {
      for (const child of rows.owned(it.id)) {
        if (child.deleted_at !== null) continue
        if (hold.has(child.kind)) held.set(child.id, child)
        else going.set(child.id, child)
      }
      for (const child of rows.referrers(it.id)) {
        if (child.deleted_at !== null) continue
        if (hold.has(child.kind)) held.set(child.id, child)
        else if (child.on_delete === 'cascade' || follow.has(child.kind)) going.set(child.id, child)
        else blocking.set(child.id, child)
      }
      if (going.size > MARKED_MAX)
        throw new CloudError(
          'unavailable',
          `deleting ${nameOf(root)} takes more than ${MARKED_MAX} along; delete in parts`,
        )
    }
    // What turned out to go by another way does not block.
    const blockers = [...held.values(), ...blocking.values()].filter((it) => !going.has(it.id))
    if (blockers.length) throw inUse(root, [...new Set(blockers.map(nameOf))])
    return [...going.values()]
  }

  function mark(m: Of<'mark'>, now: number): void {
    const root = found(m.id)
    if (root.deleted_at !== null) return
    for (const row of closure(root, m)) {
      rows.writeMark(row, m.settleBy, now)
      claims.endAtDeletion(row.id)
      rows.changed({ ...row, revision: row.revision + 1 }, 'deleted')
      queue.enqueue(`${row.kind}/${row.id}`, now, true)
      rows.wake(rows.wakesOf(row), now)
    }
  }

  function remove(m: Of<'remove'>, now: number): void {
    queue.check(m.lease)
    const row = found(m.id)
    if (m.lease.key !== `${row.kind}/${row.id}`)
      throw new CloudError('gone', `the lease on ${m.lease.key} is not one on ${row.kind}/${row.id}`)
    if (row.deleted_at === null) throw wrongState(`${row.kind} ${row.name} is not marked for deletion`)
    const left = rows.dependents(row)
    if (left.length) throw inUse(row, left.map(nameOf))
    const wakes = rows.wakesOf(row)
    for (const id of [row.owner, ...rows.refsOf(row.id)]) {
      if (id !== null && id !== row.owner && rows.isAlive(id)) continue
      const target = id === null ? undefined : rows.find(id)
      if (target && (target.deleted_at !== null || id === row.owner))
        wakes.push(`${target.kind}/${target.id}`)
    }
    claims.endAll(row.id)
    guardsEnd.run(row.id)
    rows.erase(row)
    rows.changed({ ...row, revision: row.revision + 1 }, 'removed')
    rows.wake(wakes, now)
  }

  function guard(m: Of<'guard'>): void {
    const row = guardRead.get(m.name) as { moved: number } | undefined
    if ((row?.moved ?? 0) !== m.seen) throw lostRace(`${m.name} was changed meanwhile`)
    guardMove.run(m.name, m.owner ?? null)
  }

  function overdue(m: Of<'overdue'>, now: number): void {
    const row = rows.find(m.id)
    if (!row || (row.overdue ?? undefined) === m.reason) return
    // Its time may have begun anew since whoever says this looked.
    if (m.reason !== undefined && (row.settle_by === null || row.settle_by > now)) return
    rows.writeOverdue(row, m.reason ?? null, now)
  }

  function finish(m: Of<'finish'>, now: number): void {
    queue.finish(m)
    const row = rows.find(m.lease.key.slice(m.lease.key.indexOf('/') + 1))
    if (!row) return
    if (m.settleBy !== undefined) {
      if (row.settle_by === null) rows.writeSettleBy(row.id, m.settleBy)
    } else if (row.observed === row.generation && row.deleted_at === null) {
      if (row.settle_by !== null) rows.writeSettleBy(row.id, null)
      if (row.overdue !== null) rows.writeOverdue(row, null, now)
    }
  }

  function record({ record: it }: Of<'record'>): void {
    recordAdd.run(it.stream, it.tenant, it.subject ?? null, it.at, it.what, JSON.stringify(it.body ?? null))
  }

  return {
    apply(m: Mutation, now: number): void {
      switch (m.do) {
        case 'create':
          return create(m, now)
        case 'spec':
          return spec(m, now)
        case 'status':
          return status(m, now)
        case 'upgrade':
          return upgrade(m)
        case 'mark':
          return mark(m, now)
        case 'remove':
          return remove(m, now)
        case 'claim':
          return claims.claim(m)
        case 'release':
          return claims.release(m)
        case 'pool':
          return claims.pool(m)
        case 'guard':
          return guard(m)
        case 'record':
          return record(m)
        case 'enqueue':
          return queue.enqueue(m.key, m.at)
        case 'finish':
          return finish(m, now)
        case 'overdue':
          return overdue(m, now)
      }
    },
    /** Frees claims whose time is over. */
    sweep: (now: number): void => claims.sweep(now),
    /** Changes written so far by this process, those of refused commits included. */
    changes: (): number => rows.changes(),
    /** Kinds, and names of pools, of which something was changed; to be emptied by whoever makes that visible. */
    moved: rows.moved,
    /** To be called before what was applied is made to stay: some of it is written only then. */
    flush: (): void => rows.flush(),
    /** To be called after what was applied since was taken back. */
    forget: (): void => rows.forget(),
  }
}
