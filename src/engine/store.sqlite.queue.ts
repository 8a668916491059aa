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
  const due = db.prepare(
    'SELECT * FROM queue WHERE at <= ? AND kind NOT IN (SELECT value FROM json_each(?)) ORDER BY at',
  )
  const soonest = db.prepare(
    'SELECT key, at FROM queue WHERE kind NOT IN (SELECT value FROM json_each(?)) ORDER BY at',
  )

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
      const left: Record<string, number> = { ...room }
      const full = Object.keys(left).filter((kind) => (left[kind] ?? 0) <= 0)
      const works: Work[] = []
      const folded: Key[] = []
      for (const row of due.iterate(now, JSON.stringify(full)) as Iterable<QueueRow>) {
        if (works.length >= limit) break
        const kindLeft = left[row.kind]
        if (kindLeft === 0 || !isFree(row.key, now)) continue
        if (kindLeft !== undefined) left[row.kind] = kindLeft - 1
        const token = ++lastToken
        leases.set(row.key, { token, expiresAt: now + leaseMs })
        if (row.next_at !== null) folded.push(row.key)
        works.push({
          lease: { key: row.key, token },
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
      for (const row of soonest.iterate(JSON.stringify(except)) as Iterable<{ key: Key; at: number }>) {
        const held = leases.get(row.key)
        if (!held || held.expiresAt <= now) return row.at
      }
      return undefined
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
