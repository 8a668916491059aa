import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { CloudError, messageOf } from '#lib/errors.ts'
import { adviceOn, isDiskError } from './store.sqlite.disk.ts'

const BUSY = 5

/**
 * Takes the data folder for this process. The kernel drops the lock when the process dies, however it dies; while it is
 * held, another one is refused with the id of the holder. Closing gives it up.
 */
export function lockFolder(directory: string): { close(): void } {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new CloudError('unavailable', `the data folder ${directory} cannot be made: ${messageOf(error)}`)
  }
  const path = join(directory, 'lock')
  let db: DatabaseSync
  try {
    db = new DatabaseSync(path)
    db.exec('PRAGMA synchronous = OFF')
  } catch (error) {
    throw new CloudError('unavailable', `the data folder ${directory} cannot be used: ${messageOf(error)}`)
  }
  try {
    // A write lock lets others read who holds it. Writing that down ends the first one, so it is taken twice.
    db.exec('BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS holder (pid INTEGER NOT NULL); DELETE FROM holder')
    db.prepare('INSERT INTO holder (pid) VALUES (?)').run(process.pid)
    db.exec('COMMIT; BEGIN IMMEDIATE')
  } catch (error) {
    const refusal = refusalOf(db, directory, error)
    db.close()
    throw refusal
  }
  return db
}

function refusalOf(db: DatabaseSync, directory: string, error: unknown): CloudError {
  if (isDiskError(error))
    return new CloudError(
      'unavailable',
      `the data folder ${directory} cannot be written (${messageOf(error)}); ${adviceOn(error)}`,
    )
  if ((error as { errcode?: number }).errcode !== BUSY)
    return new CloudError('unavailable', `the data folder ${directory} cannot be used: ${messageOf(error)}`)
  let holder: { pid: number } | undefined
  try {
    holder = db.prepare('SELECT pid FROM holder').get() as { pid: number } | undefined
  } catch {
    // The holder is writing its id down at this moment.
  }
  const who = holder ? `process ${holder.pid}` : 'another process'
  return new CloudError(
    'unavailable',
    `the data folder ${directory} is in use by ${who}; stop it first, or use another folder`,
  )
}

type Applied = { number: number; name: string; sha256: string }

const NAME = /^(\d{4})-.+\.sql$/

/**
 * Brings the database's tables to what this program expects, each step once, in order and in its own transaction. Stops
 * where the folder has a step that this program lacks or knows differently.
 */
export function migrate(db: DatabaseSync, folder: string, now: number): void {
  db.exec(
    'CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT',
  )
  const steps = readdirSync(folder)
    .filter((name) => NAME.test(name))
    .toSorted()
    .map((name) => {
      const sql = readFileSync(join(folder, name), 'utf8')
      const sha256 = createHash('sha256').update(sql).digest('hex')
      return { number: Number(NAME.exec(name)?.[1]), name, sql, sha256 }
    })
  const applied = db.prepare('SELECT number, name, sha256 FROM migration ORDER BY number').all() as Applied[]
  for (const it of applied) {
    const step = steps.find(({ number }) => number === it.number)
    if (!step) {
      throw new CloudError(
        'unsupported',
        `the data folder was written by a newer version (migration ${it.name}); start that version or a later one`,
      )
    }
    if (step.sha256 !== it.sha256) {
      throw new CloudError(
        'unsupported',
        `migration ${step.name} is not the one that was applied to the data folder; restore the file of that version`,
      )
    }
  }
  const last = applied.at(-1)?.number ?? 0
  const insert = db.prepare('INSERT INTO migration (number, name, sha256, applied_at) VALUES (?, ?, ?, ?)')
  for (const step of steps) {
    if (step.number <= last) continue
    db.exec('BEGIN IMMEDIATE')
    try {
      db.exec(step.sql)
      insert.run(step.number, step.name, step.sha256, now)
      db.exec('COMMIT')
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw new Error(`migration ${step.name} failed: ${messageOf(error)}`, { cause: error })
    }
  }
}
