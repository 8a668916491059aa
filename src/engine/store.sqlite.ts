import { once } from 'node:events'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { type Clock, systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { lockFolder, migrate } from './store.sqlite.open.ts'
import { openReads } from './store.sqlite.reads.ts'
import type { Answer, Request, Turn, WorkerStart } from './store.sqlite.worker.ts'
import type { Store, Work } from './store.ts'

/** Changes that the feed keeps by default. */
export const CHANGES_KEPT = 100_000
/** Requests to the writer that may wait at once; more are refused `unavailable`. */
const WAITING_MAX = 20_000
/** How often the size of the write-ahead log is looked at, and from what size it is worth a checkpoint. */
const CHECKPOINT_MS = 1000
const CHECKPOINT_BYTES_MIN = 4 * 1024 * 1024

export type SqliteOptions = {
  /** Made if absent, readable by its user alone. Belongs to one process at a time. */
  readonly directory: string
  readonly log: Log
  readonly clock?: Clock
  readonly changesKept?: number
  /** Folder of the numbered SQL files. */
  readonly migrations?: string
}

export type SqliteStore = Store & {
  /** Writes a consistent copy of the database to a file, while everything goes on. */
  backup(path: string): Promise<void>
}

// A request without what every one of them gets on its way.
type Ask<R = Request> = R extends Request ? Omit<R, 'n' | 'now'> : never

/** A thread of the store, asked by messages. Requests of one tick cross together. */
function startThread(start: WorkerStart, clock: Clock, log: Log, onTurn: (turn: Turn) => void) {
  const worker = new Worker(new URL('./store.sqlite.worker.ts', import.meta.url), { workerData: start })
  const waiting = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>()
  let outbox: Request[] = []
  let last = 0
  let broken: CloudError | undefined

  worker.on('message', (turn: Turn) => {
    for (const answer of turn.answers) {
      const waiter = waiting.get(answer.n)
      waiting.delete(answer.n)
      waiter?.resolve(answer)
    }
    onTurn(turn)
  })
  const fail = (error: unknown): void => {
    if (broken) return
    broken = new CloudError('unavailable', `the store's ${start.role} stopped; restart`, {}, error)
    if (waiting.size) log.error('store thread stopped', { role: start.role, error })
    for (const { reject } of waiting.values()) reject(broken)
    waiting.clear()
  }
  worker.on('error', fail)
  worker.on('exit', fail)

  return {
    async ask(request: Ask): Promise<Answer['value']> {
      if (broken) throw broken
      if (waiting.size >= WAITING_MAX)
        throw new CloudError('unavailable', 'too many writes are waiting', { retryAfterSeconds: 1 })
      const n = ++last
      if (!outbox.length) {
        queueMicrotask(() => {
          worker.postMessage(outbox)
          outbox = []
        })
      }
      outbox.push({ ...request, n, now: clock.now() } as Request)
      const answer = await new Promise<Answer>((resolve, reject) => waiting.set(n, { resolve, reject }))
      const { refusal } = answer
      if (!refusal) return answer.value
      if (refusal.kind === 'refused') throw new CloudError(refusal.code, refusal.message, refusal.details)
      const error = new Error(refusal.message)
      if (refusal.stack !== undefined) error.stack = refusal.stack
      throw error
    },
    async close(): Promise<void> {
      if (broken) return
      const ended = once(worker, 'exit')
      await this.ask({ do: 'close' })
      await ended
    },
  }
}

function listeners() {
  const all = new Set<() => void>()
  return {
    add(wake: () => void): () => void {
      all.add(wake)
      return () => void all.delete(wake)
    },
    call(): void {
      for (const wake of all) wake()
    },
  }
}

/** Opens the database in WAL mode with all its tables; the caller holds the folder's lock. */
function prepare(path: string, options: SqliteOptions, now: number): void {
  const folder = options.migrations ?? fileURLToPath(new URL('./migrations', import.meta.url))
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    migrate(db, folder, now)
  } finally {
    db.close()
  }
}

/**
 * The embedded store: one SQLite database in a folder that this process alone may use. Every write goes through one
 * thread, where the commits that wait at a moment share an fsync; this thread only reads. Disposing waits for what was
 * asked, then gives the folder up.
 */
export async function openSqliteStore(options: SqliteOptions): Promise<SqliteStore> {
  const { directory, log, clock = systemClock, changesKept = CHANGES_KEPT } = options
  const lock = lockFolder(directory)
  const path = join(directory, 'arcus.sqlite')
  let readDb: DatabaseSync
  try {
    prepare(path, options, clock.now())
    readDb = new DatabaseSync(path, { readOnly: true })
    readDb.exec('PRAGMA cache_size = -32000')
  } catch (error) {
    lock.close()
    throw error
  }
  const reads = openReads(readDb, clock)
  const changeListeners = listeners()
  const workListeners = listeners()
  let commits = 0
  let batches = 0

  const start = { path, now: clock.now(), changesKept }
  const writer = startThread({ ...start, role: 'writer' }, clock, log, (turn) => {
    if (turn.wrote) batches++
    if (turn.changed) changeListeners.call()
    if (turn.queued) workListeners.call()
  })
  // Started when there is first something to do, so that starting up does not wait for it.
  let checkpointer: ReturnType<typeof startThread> | undefined
  let checkpointing = false
  async function checkpoint(): Promise<void> {
    const size = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
    if (checkpointing || size < CHECKPOINT_BYTES_MIN) return
    checkpointing = true
    try {
      checkpointer ??= startThread({ ...start, role: 'checkpointer' }, clock, log, () => {})
      await checkpointer.ask({ do: 'checkpoint' })
    } catch (error) {
      log.error('checkpoint failed', { error })
    } finally {
      checkpointing = false
    }
  }
  const timer = setInterval(() => void checkpoint(), CHECKPOINT_MS)
  timer.unref()

  return {
    ...reads,
    async commit(mutations, how) {
      commits++
      await writer.ask({ do: 'commit', mutations: JSON.stringify(mutations), dryRun: how?.dryRun ?? false })
    },
    onChange: (wake) => changeListeners.add(wake),
    onWork: (wake) => workListeners.add(wake),
    forget: async (stream, before, limit) =>
      (await writer.ask({ do: 'forget', stream, before, limit })) as number,
    take: async (now, limit, leaseMs, room) =>
      (await writer.ask({
        do: 'take',
        due: now,
        limit,
        leaseMs,
        ...(room ? { room } : {}),
      })) as readonly Work[],
    drop: async (lease) => void (await writer.ask({ do: 'drop', lease })),
    nextDue: async (except = []) => (await writer.ask({ do: 'nextDue', except })) as number | undefined,
    stats: async () => ({ ...reads.sizes(), commits, batches }),
    backup: async (to) => void (await backup(readDb, to)),
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await checkpointer?.close()
      await writer.close()
      readDb.close()
      lock.close()
    },
  }
}
