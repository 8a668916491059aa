import type { DatabaseSync } from 'node:sqlite'
import type { Moment } from './store.sqlite.recall.ts'

/**
 * Runs reads of a connection, each in a transaction. Those of one turn of the event loop share one for as long as no
 * transaction of the writer became visible since: each gives exactly what it would give by itself, at a quarter of the
 * cost, which is mostly the database's lock. `touch` is a read that opens the transaction; what it gives is of its moment.
 */
export function openSnapshot<Touched>(db: DatabaseSync, moment: Moment, touch: () => Touched) {
  const begin = db.prepare('BEGIN')
  const end = db.prepare('COMMIT')
  /** The transaction that is open, and the moment it is of; undefined when it may be of another one. */
  let open: { readonly of: number | undefined; readonly touched: Touched } | undefined
  let isClosing = false
  let depth = 0

  function close(): void {
    open = undefined
    // The database is asked: a read that fails may have ended the transaction, and one that opens it may fail.
    if (db.isOpen && db.isTransaction) end.run()
  }
  function openNow(): Touched {
    const now = Atomics.load(moment, 0)
    if (open?.of === now) return open.touched
    close()
    begin.run()
    open = { of: undefined, touched: touch() }
    if (now % 2 === 0 && Atomics.load(moment, 0) === now) open = { of: now, touched: open.touched }
    if (!isClosing) {
      isClosing = true
      // So that the write-ahead log is never held for long.
      setImmediate(() => {
        isClosing = false
        close()
      }).unref()
    }
    return open.touched
  }

  return {
    /** Several reads of one moment. */
    read<R>(work: (touched: Touched) => R): R {
      if (depth > 0 && open) return work(open.touched)
      const touched = openNow()
      depth++
      try {
        return work(touched)
      } finally {
        depth--
        if (open?.of === undefined) close()
      }
    },
    close,
  }
}
