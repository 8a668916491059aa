import type { DatabaseSync } from 'node:sqlite'
import { CloudError } from '#lib/errors.ts'
import { type Key, splitKey } from './resource.ts'
import { isDiskError } from './store.sqlite.disk.ts'
import type { Lease, Mutation, Work } from './store.ts'

type QueueRow = {
  key: Key
  kind: string
  at: number
  next_at: number | null
  attempt: number
  reason: string | null
}

/**
 * The writer's side of the work queue: rows on disk, leases in memory, since they die with the process. A change of a
 * lease made inside a commit that is refused is undone with it (`mark`, `undoTo`).
 */
export function openQueue(db: DatabaseSync, startMs: number) {
  const leases = new Map<Key, { token: number; expiresAt: number }>()
  const undo: (() => void)[] = []
  // Higher than any token of an earlier process, as long as the clock went forward.
  let lastToken = startMs * 1000
  let enqueued = 0

  const read = db.prepare('SELECT * FROM queue WHERE key = ?')
  const put = db.prepare(
    `INSERT INTO queue (key, kind, at, next_at, attempt, reason) VALUES (?, ?, ?, NULL, 0, NULL)
     ON CONFLICT (key) DO UPDATE SET at = min(at, excluded.at)`,
  )
  const putFresh = db.prepare(
    `INSERT INTO queue (key, kind, at, next_at, attempt, reason) VALUES (?, ?, ?, NULL, 0, NULL)
     ON CONFLICT (key) DO UPDATE SET at = min(at, excluded.at), attempt = 0`,
  )
  const putLeased = db.prepare(
    'UPDATE queue SET next_at = min(coalesce(next_at, ?), ?), attempt = CASE ? WHEN 1 THEN 0 ELSE attempt END WHERE key = ?',
  )
  const keep = db.prepare('UPDATE queue SET at = ?, next_at = NULL, attempt = ?, reason = ? WHERE key = ?')
  const forget = db.prepare('DELETE FROM queue WHERE key = ?')
  const fold = db.prepare('UPDATE queue SET next_at = NULL WHERE key = ?')
  const nextKind = db.prepare('SELECT min(kind) AS kind FROM queue WHERE kind > ?')
  const inOrder = db.prepare('SELECT key, at FROM queue WHERE kind = ? AND at <= ? ORDER BY at')

  /** Kinds that have a key in the queue; there are few. */
  function* kinds(): Generator<string> {
    let after = ''
    for (;;) {
      const { kind } = nextKind.get(after) as { kind: string | null }
      if (kind === null) return
      yield kind
      after = kind
    }
  }
  /** Keys of a kind that nobody works on, longest due first. */
  function* free(kind: string, now: number, dueBy: number): Generator<{ key: Key; at: number }> {
    for (const it of inOrder.iterate(kind, dueBy) as Iterable<{ key: Key; at: number }>)
      if (isFree(it.key, now)) yield it
  }

  const isFree = (key: Key, now: number): boolean => (leases.get(key)?.expiresAt ?? 0) <= now

  const check = (lease: Lease): void => {
    if (leases.get(lease.key)?.token !== lease.token)
      throw new CloudError('gone', `the lease on ${lease.key} was lost`)
  }

  return {
    check,

    /** Looks at the key at `at` or earlier; `fresh` forgets failed attempts, since the wish is a new one. */
    enqueue(key: Key, moment: number, fresh = false): void {
      enqueued++
      const at = Math.ceil(moment)
      if (leases.has(key) && putLeased.run(at, at, fresh ? 1 : 0, key).changes) return
      const statement = fresh ? putFresh : put
      statement.run(key, splitKey(key).kind, at)
    },

    finish(m: Extract<Mutation, { do: 'finish' }>): void {
      const { key } = m.lease
      check(m.lease)
      const row = read.get(key) as QueueRow | undefined
      const asked = row?.next_at ?? undefined
      const at = Math.min(m.at ?? Infinity, asked ?? Infinity)
      if (at === Infinity) forget.run(key)
      else keep.run(Math.ceil(at), m.attempt, m.reason ?? null, key)
      enqueued++
      const held = leases.get(key)
      leases.delete(key)
      if (held) undo.push(() => leases.set(key, held))
    },

    take(now: number, limit: number, leaseMs: number, room: Readonly<Record<string, number>> = {}): Work[] {
      const due: { key: Key; at: number }[] = []
      for (const kind of kinds())
        due.push(...free(kind, now, now).take(Math.max(0, Math.min(room[kind] ?? limit, limit))))
      const works: Work[] = []
      const folded: Key[] = []
      for (const { key } of due.toSorted((a, b) => a.at - b.at).slice(0, limit)) {
        const row = read.get(key) as QueueRow
        const token = ++lastToken
        leases.set(key, { token, expiresAt: now + leaseMs })
        if (row.next_at !== null) folded.push(key)
        works.push({
          lease: { key, token },
          attempt: row.attempt,
          ...(row.reason === null ? {} : { reason: row.reason }),
        })
      }
      // What was asked for before this look is answered by it. Left by a holder that dropped its lease: rare. Where nothing
      // can be written (a full disk) it is answered by one look more.
      try {
        for (const key of folded) fold.run(key)
      } catch (error) {
        if (!isDiskError(error)) throw error
      }
      return works
    },

    drop(lease: Lease): void {
      if (leases.get(lease.key)?.token === lease.token) leases.delete(lease.key)
    },

    nextDue(now: number, except: readonly string[]): number | undefined {
      let next: number | undefined
      for (const kind of kinds()) {
        if (except.includes(kind)) continue
        const [first] = free(kind, now, next ?? Infinity).take(1)
        if (first) next = first.at
      }
      return next
    },

    /** Keys put into the queue so far by this process, those of refused commits included. */
    enqueued: (): number => enqueued,

    mark: (): number => undo.length,
    undoTo(mark: number): void {
      while (undo.length > mark) undo.pop()?.()
    },
    /** The batch is durable: nothing is undone any more. */
    settle(): void {
      undo.length = 0
    },
  }
}
export type WriterQueue = ReturnType<typeof openQueue>
