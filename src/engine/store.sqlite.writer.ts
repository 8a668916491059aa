import { statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '#lib/errors.ts'
import { openApply } from './store.sqlite.apply.ts'
import { adviceOn, isDiskError } from './store.sqlite.disk.ts'
import { openQueue } from './store.sqlite.queue.ts'
import { type Moment, passing } from './store.sqlite.recall.ts'
import { retime } from './store.sqlite.time.ts'
import type { Lease, Mutation, NewRecord, Store } from './store.ts'
import { type Answer, type Refusal, refusalOf } from './thread.ts'

/** What the store's writer and checkpointer are started with. */
export type WriterStart = {
  readonly role: 'writer' | 'checkpointer'
  readonly path: string
  readonly now: number
  readonly changesKept: number
  /** Moved by the writer with every transaction. */
  readonly moment: Moment
  /** Whether a commit is on disk before it is answered. If not, there is no checkpointer beside the writer either. */
  readonly durable: boolean
}

type Ask =
  | {
      readonly do: 'commit'
      readonly now: number
      /** JSON, which crosses faster than objects. */
      readonly mutations: string
      readonly dryRun: boolean
    }
  | {
      readonly do: 'forget'
      readonly now: number
      readonly stream: NewRecord['stream']
      readonly before: number
      readonly limit: number
    }
  | ({ readonly do: 'retime' } & Parameters<Store['retime']>[0])
  | {
      readonly do: 'take'
      readonly now: number
      readonly limit: number
      readonly leaseMs: number
      readonly room?: Readonly<Record<string, number>>
    }
  | { readonly do: 'nextDue'; readonly now: number; readonly except: readonly string[] }
  | { readonly do: 'drop'; readonly lease: Lease }
  | { readonly do: 'checkpoint' }
  | { readonly do: 'close' }
export type { Ask as Request }
type Request = Ask & { readonly n: number }

/** What one turn of the writer came to: whether it had a batch to write, and whether any commit of it changed a resource or the queue. */
export type Turn = {
  readonly answers: readonly Answer[]
  readonly wrote: boolean
  readonly changed: boolean
  readonly queued: boolean
}

/** A write-ahead log larger than this is emptied by the writer itself, between two batches. */
const LOG_BYTES_MAX = 256 * 1024 * 1024
const LOG_CHECK_EVERY = 100
/** How long that waits for a read or another checkpoint to end. */
const LOG_WAIT_MS = 100
/** After a commit was refused, batches in which each has a savepoint: where some are refused, more will be. */
const CAREFUL_BATCHES = 16

type Write = Extract<Ask, { do: 'commit' | 'forget' | 'retime' }> & { readonly n: number }
const isWrite = (it: Request): it is Write => it.do === 'commit' || it.do === 'forget' || it.do === 'retime'

const isAsk = (it: Request): boolean => it.do === 'take' || it.do === 'nextDue'

const unavailable = (error: unknown): Refusal => ({
  kind: 'refused',
  code: 'unavailable',
  message: `the data folder cannot be written (${messageOf(error)}); ${adviceOn(error)}`,
  details: {},
})

/**
 * The one writer of a database, all writes of one call in one durable batch. What only asks the queue does not wait for
 * those, and has a turn of its own before them; all else is answered in its order.
 */
export function openWriter(start: WriterStart): (requests: readonly Request[]) => Iterable<Turn> {
  const db = new DatabaseSync(start.path, { timeout: LOG_WAIT_MS })
  db.exec(
    start.durable
      ? 'PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32000'
      : 'PRAGMA synchronous = OFF; PRAGMA cache_size = -32000',
  )
  // What a savepoint would take back is copied, page by page: not into a file.
  db.exec('PRAGMA temp_store = MEMORY')
  const queue = openQueue(db, start.now)
  const writer = openApply(db, queue)
  const forgetRecords = db.prepare(
    'DELETE FROM record WHERE seq IN (SELECT seq FROM record WHERE stream = ? AND at < ? ORDER BY at LIMIT ?)',
  )
  const trimChanges = db.prepare('DELETE FROM change WHERE seq <= (SELECT max(seq) FROM change) - ?')
  const trimEvery = Math.min(start.changesKept, 1000)
  let trimmedAt = 0
  let batches = 0
  let carefulFor = 0

  function write(request: Write): number | undefined {
    if (request.do === 'retime') {
      retime(db, request)
      return undefined
    }
    if (request.do === 'forget')
      return Number(forgetRecords.run(request.stream, request.before, request.limit).changes)
    for (const mutation of JSON.parse(request.mutations) as Mutation[]) writer.apply(mutation, request.now)
    return undefined
  }

  /** One commit in its own savepoint, so that its refusal takes back nothing but itself. */
  function writeOne(request: Write): Answer {
    const mark = queue.mark()
    writer.flush()
    db.exec('SAVEPOINT one')
    try {
      const value = write(request)
      if (request.do === 'commit' && request.dryRun) {
        db.exec('ROLLBACK TO one')
        queue.undoTo(mark)
        writer.forget()
      }
      db.exec('RELEASE one')
      return { n: request.n, value }
    } catch (error) {
      // After a full disk or a broken one SQLite may have given up the whole transaction.
      if (!db.isTransaction || isDiskError(error)) throw error
      db.exec('ROLLBACK TO one; RELEASE one')
      queue.undoTo(mark)
      writer.forget()
      return { n: request.n, refusal: refusalOf(error) }
    }
  }

  function takeBack(): void {
    if (db.isTransaction) db.exec('ROLLBACK')
    queue.undoTo(0)
    writer.forget()
  }

  function inTransaction(requests: readonly Write[], one: (request: Write) => Answer): Answer[] {
    db.exec('BEGIN IMMEDIATE')
    writer.sweep(requests.at(-1)?.now ?? 0)
    const answers = requests.map(one)
    writer.flush()
    if (writer.changes() - trimmedAt >= trimEvery) {
      trimChanges.run(start.changesKept)
      trimmedAt = writer.changes()
    }
    passing(start.moment, () => db.exec('COMMIT'), writer.moved)
    writer.moved.clear()
    queue.settle()
    return answers
  }

  /** All of them without savepoints, which cost a sixth of it all; undefined, and nothing is written, when one is refused. */
  function writeBoldly(requests: readonly Write[]): Answer[] | undefined {
    let refused = false
    try {
      return inTransaction(requests, (request) => {
        if (request.do === 'commit' && request.dryRun) return writeOne(request)
        try {
          return { n: request.n, value: write(request) }
        } catch (error) {
          refused = db.isTransaction && !isDiskError(error)
          throw error
        }
      })
    } catch (error) {
      if (!refused) throw error
      takeBack()
      return undefined
    }
  }

  function writeAll(requests: readonly Write[]): Answer[] {
    try {
      if (carefulFor > 0) carefulFor--
      else {
        const answers = writeBoldly(requests)
        if (answers) return answers
        carefulFor = CAREFUL_BATCHES
      }
      return inTransaction(requests, writeOne)
    } catch (error) {
      takeBack()
      return requests.map(({ n }) => ({ n, refusal: unavailable(error) }))
    }
  }

  function answer(request: Request): Answer {
    const { n } = request
    switch (request.do) {
      case 'take':
        return { n, value: queue.take(request.now, request.limit, request.leaseMs, request.room) }
      case 'nextDue':
        return { n, value: queue.nextDue(request.now, request.except) }
      case 'drop':
        queue.drop(request.lease)
        return { n }
      case 'close':
        db.close()
        return { n }
      default:
        throw new Error(`the writer does not know ${request.do}`)
    }
  }

  function emptyLog(): void {
    if (++batches % LOG_CHECK_EVERY) return
    const size = statSync(`${start.path}-wal`, { throwIfNoEntry: false })?.size ?? 0
    if (size <= LOG_BYTES_MAX) return
    try {
      db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      // What was committed is in the log and is answered; why it stays there the checkpointer finds and tells.
    }
  }

  function answerAll(requests: readonly Request[]): Turn {
    const changes = writer.changes()
    const enqueued = queue.enqueued()
    const writes = requests.filter(isWrite)
    const answers = writes.length ? writeAll(writes) : []
    if (writes.length) emptyLog()
    for (const request of requests) {
      if (isWrite(request)) continue
      try {
        answers.push(answer(request))
      } catch (error) {
        answers.push({ n: request.n, refusal: refusalOf(error) })
      }
    }
    return {
      answers,
      wrote: writes.length > 0,
      changed: writer.changes() > changes,
      queued: queue.enqueued() > enqueued,
    }
  }

  return function* (requests) {
    const { asks = [], others = [] } = Object.groupBy(requests, (it) => (isAsk(it) ? 'asks' : 'others'))
    if (asks.length) yield answerAll(asks)
    if (others.length) yield answerAll(others)
  }
}
