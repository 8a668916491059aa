import { chmodSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { dayOf, daysOf, daysOver, fileOf, spanOf } from './bulk.days.ts'
import { type Answer, refusalOf } from './thread.ts'

export type BulkRow = {
  readonly class: string
  readonly tenant: string
  readonly subject: string
  readonly at: number
  /** JSON. */
  readonly body: string
}
type Ask =
  | { readonly do: 'append'; readonly rows: readonly BulkRow[] }
  | {
      readonly do: 'read'
      readonly class: string
      readonly tenant: string
      readonly subject: string
      readonly from: number
      readonly to: number
      readonly after?: { readonly at: number; readonly seq: number }
      readonly limit: number
      readonly newestFirst: boolean
    }
  | { readonly do: 'forget'; readonly class: string; readonly before: number }
  | { readonly do: 'close' }
export type { Ask as Request }
export type Turn = { readonly answers: readonly Answer[] }

/** Files kept open at once. */
const OPEN_MAX = 16

type File = { db: DatabaseSync; add: ReturnType<DatabaseSync['prepare']> }

const { directory } = workerData as { directory: string }
/** Least recently used first. */
const files = new Map<string, File>()

function openFile(name: string): File {
  let file = files.get(name)
  files.delete(name)
  if (!file) {
    const db = new DatabaseSync(join(directory, name))
    chmodSync(join(directory, name), 0o600)
    // These rows are many and may be lost; what is written is never half a row.
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, subject TEXT NOT NULL,
        at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
      CREATE INDEX IF NOT EXISTS entry_subject ON entry (tenant, subject, at, seq)`)
    file = { db, add: db.prepare('INSERT INTO entry (tenant, subject, at, body) VALUES (?, ?, ?, ?)') }
  }
  files.set(name, file)
  for (const old of files.keys()) {
    if (files.size <= OPEN_MAX) break
    closeFile(old)
  }
  return file
}

function closeFile(name: string): void {
  files.get(name)?.db.close()
  files.delete(name)
}

function append(rows: readonly BulkRow[]): void {
  for (const [name, some] of Map.groupBy(rows, (it) => fileOf(it.class, dayOf(it.at)))) {
    const { db, add } = openFile(name)
    db.exec('BEGIN')
    try {
      for (const it of some) add.run(it.tenant, it.subject, it.at, it.body)
      db.exec('COMMIT')
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
}

type Found = { seq: number; at: number; body: string }
function read(query: Extract<Ask, { do: 'read' }>): Found[] {
  const { after, newestFirst: down } = query
  const days = daysOf(directory, query.class).filter((day) => {
    const { from, to } = spanOf(day)
    return from < query.to && to > query.from
  })
  const beyond = down ? { at: Number.MAX_SAFE_INTEGER, seq: 0 } : { at: -1, seq: 0 }
  const { at, seq } = after ?? beyond
  const found: Found[] = []
  for (const day of down ? days.toReversed() : days) {
    if (found.length >= query.limit) break
    if (after && (down ? day > dayOf(at) : day < dayOf(at))) continue
    const { db } = openFile(fileOf(query.class, day))
    const rows = db
      .prepare(
        `SELECT seq, at, body FROM entry WHERE tenant = ? AND subject = ? AND at >= ? AND at < ?
           AND (at, seq) ${down ? '<' : '>'} (?, ?)
         ORDER BY at ${down ? 'DESC' : 'ASC'}, seq ${down ? 'DESC' : 'ASC'} LIMIT ?`,
      )
      .all(query.tenant, query.subject, query.from, query.to, at, seq, query.limit - found.length)
    found.push(...(rows as Found[]))
  }
  return found
}

function forget(className: string, before: number): number {
  const old = daysOver(directory, className, before)
  for (const day of old) {
    const name = fileOf(className, day)
    closeFile(name)
    for (const part of ['', '-wal', '-shm']) rmSync(join(directory, name + part), { force: true })
  }
  return old.length
}

function serve(request: Ask): unknown {
  switch (request.do) {
    case 'append':
      return append(request.rows)
    case 'read':
      return read(request)
    case 'forget':
      return forget(request.class, request.before)
    case 'close':
      for (const name of files.keys()) closeFile(name)
      return undefined
  }
}

const port = parentPort
if (!port) throw new Error('this file runs in the thread of bulk records')
port.on('message', (requests: readonly (Ask & { readonly n: number })[]) => {
  const answers = requests.map((request): Answer => {
    try {
      return { n: request.n, value: serve(request) }
    } catch (error) {
      return { n: request.n, refusal: refusalOf(error) }
    }
  })
  port.postMessage({ answers } satisfies Turn)
  if (requests.some((it) => it.do === 'close')) port.close()
})
