import type { DatabaseSync } from 'node:sqlite'
import type { Store } from './store.ts'

/** Moves what waits for a moment, after the clock was set. Inside the transaction that the caller holds. */
export function retime(
  db: DatabaseSync,
  { now, byMs, waitMsMax, settleMsMax }: Parameters<Store['retime']>[0],
): void {
  // Set forward: what is late by the new clock alone has the time that it had left.
  if (byMs > 0)
    db.prepare('UPDATE resource SET settle_by = settle_by + ? WHERE settle_by <= ? AND overdue IS NULL').run(
      byMs,
      now,
    )
  // Set back: what was asked for by the new clock already is looked at somewhat early, which does no harm.
  const back = Math.max(0, -byMs)
  const latest = now + waitMsMax
  for (const column of ['at', 'next_at'])
    db.prepare(`UPDATE queue SET ${column} = min(max(${column} - ?, ?), ?) WHERE ${column} > ?`).run(
      back,
      now,
      latest,
      back > 0 ? now : latest,
    )
  const deadline = db.prepare('UPDATE resource SET settle_by = ? WHERE kind = ? AND settle_by > ?')
  for (const [kind, ms] of Object.entries(settleMsMax)) deadline.run(now + ms, kind, now + ms)
}
