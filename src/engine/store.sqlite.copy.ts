import { chmodSync, existsSync } from 'node:fs'
import { backup, DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { CloudError, messageOf } from '#lib/errors.ts'
import { adviceOn, isDiskError } from './store.sqlite.disk.ts'

/** Pages between two calls of `progress`. */
const PAGES_PER_STEP = 2000

/**
 * Writes a consistent copy of a database to a file, 0600, while other processes go on writing: everything committed before
 * the call is in it, and of what is committed meanwhile nothing. Refused `unavailable` when it cannot be read, or there is no
 * space, `not_found` when it is not there. `progress` gets the part done, from 0 to 1.
 */
export async function copyDatabase(
  from: string,
  to: string,
  progress: (part: number) => void = () => {},
): Promise<void> {
  let db: DatabaseSync | undefined
  try {
    const address = pathToFileURL(from)
    // None is made in its place: it would be ours, in the way of whoever it belonged to.
    address.searchParams.set('mode', 'rw')
    db = new DatabaseSync(address)
    // One moment for the whole copy, however often others commit: else each of their commits would start it afresh.
    db.exec('BEGIN')
    db.prepare('SELECT count(*) FROM sqlite_schema').get()
    await backup(db, to, {
      rate: PAGES_PER_STEP,
      progress: ({ totalPages, remainingPages }) => progress(1 - remainingPages / Math.max(1, totalPages)),
    })
    chmodSync(to, 0o600)
  } catch (error) {
    if (!existsSync(from)) throw new CloudError('not_found', `${from} is not there`, {}, error)
    const advice = isDiskError(error) ? `; ${adviceOn(error)}` : ''
    throw new CloudError(
      'unavailable',
      `${from} cannot be copied to ${to} (${messageOf(error)})${advice}`,
      {},
      error,
    )
  } finally {
    db?.close()
  }
}

/** Moves a guard of a database that nobody uses to `least`, if it is lower. */
export function raiseGuard(path: string, name: string, least: number): void {
  const db = new DatabaseSync(path)
  try {
    db.prepare(
      'INSERT INTO guard (name, moved) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET moved = max(moved, excluded.moved)',
    ).run(name, least)
  } finally {
    db.close()
  }
}

/** What SQLite itself finds wrong in a database; undefined when it is whole. */
export function damageOf(path: string): string | undefined {
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(path)
    const rows = db.prepare('PRAGMA quick_check(1)').all() as { quick_check: string }[]
    const [first] = rows
    return first?.quick_check === 'ok' ? undefined : (first?.quick_check ?? 'it is no database')
  } catch (error) {
    return messageOf(error)
  } finally {
    db?.close()
  }
}
