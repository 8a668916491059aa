import { chmodSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { type Clock, systemClock } from '#lib/clock.ts'
import { CODE } from '#lib/entry.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { lockFolder, migrate } from './store.sqlite.open.ts'
import { openReads } from './store.sqlite.reads.ts'
import { newMoment, openLateRecall, quietly } from './store.sqlite.recall.ts'
import { openWriter, type Request, type Turn, type WriterStart } from './store.sqlite.writer.ts'
import type { Store, Work } from './store.ts'
import { answerHere, startThread, type Thread } from './thread.ts'

/** Changes that the feed keeps by default. */
export const CHANGES_KEPT = 100_000
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
  /**
   * For simulation: writes in this thread, so that the order of everything is given, and leaves it to the kernel when
   * they reach the disk. A process that is killed loses nothing by it, a machine that loses power does.
   */
  readonly simulated?: boolean
}

export type SqliteStore = Store & {
  /** Writes a consistent copy of the database to a file, while everything goes on. */
  backup(path: string): Promise<void>
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
  const folder = options.migrations ?? join(CODE, 'engine/migrations')
  const db = new DatabaseSync(path)
  try {
    // Its log and index files get the mode of the database.
    chmodSync(path, 0o600)
    try {
      db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    } catch (error) {
      throw new CloudError(
        'unavailable',
        `the database ${path} cannot be used (${messageOf(error)}); restore it from a backup`,
      )
    }
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
  const { directory, log, clock = systemClock, changesKept = CHANGES_KEPT, simulated = false } = options
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
  const moment = newMoment()
  const { sizes, close: closeReads, ...reads } = openReads(readDb, clock, moment)
  const changeListeners = listeners()
  const workListeners = listeners()
  let commits = 0
  let batches = 0

  const start = { path, now: clock.now(), changesKept, moment, durable: !simulated }
  const thread = (role: WriterStart['role'], onTurn?: (turn: Turn) => void): Thread<Request> =>
    startThread<Request, Turn>('engine/store.sqlite.worker', {
      name: role,
      data: { ...start, role } satisfies WriterStart,
      log,
      ...(onTurn ? { onTurn } : {}),
    })
  const onTurn = (turn: Turn): void => {
    if (turn.wrote) batches++
    if (turn.changed) changeListeners.call()
    if (turn.queued) workListeners.call()
  }
  const writer = simulated
    ? answerHere<Request, Turn>(openWriter({ ...start, role: 'writer' }), onTurn)
    : thread('writer', onTurn)
  // Started when there is first something to do, so that starting up does not wait for it.
  let checkpointer: ReturnType<typeof thread> | undefined
  let checkpointing = false
  async function checkpoint(): Promise<void> {
    const size = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
    if (checkpointing || size < CHECKPOINT_BYTES_MIN) return
    checkpointing = true
    try {
      checkpointer ??= thread('checkpointer')
      await checkpointer.ask({ do: 'checkpoint' })
    } catch (error) {
      log.error('checkpoint failed', { error })
      // The thread ends with it (a full disk); there is another one for the next.
      checkpointer = undefined
    } finally {
      checkpointing = false
    }
  }
  const timer = simulated ? undefined : setInterval(() => void checkpoint(), CHECKPOINT_MS)
  timer?.unref()

  return {
    ...reads,
    async commit(mutations, how) {
      commits++
      const dryRun = how?.dryRun ?? false
      await writer.ask({ do: 'commit', now: clock.now(), mutations: JSON.stringify(mutations), dryRun })
    },
    recall: (names) => openLateRecall(moment, names),
    moment: () => quietly(moment),
    onChange: (wake) => changeListeners.add(wake),
    onWork: (wake) => workListeners.add(wake),
    forget: async (stream, before, limit) =>
      (await writer.ask({ do: 'forget', now: clock.now(), stream, before, limit })) as number,
    retime: async (how) => void (await writer.ask({ do: 'retime', ...how })),
    take: async (now, limit, leaseMs, room) =>
      (await writer.ask({
        do: 'take',
        now,
        limit,
        leaseMs,
        ...(room ? { room } : {}),
      })) as readonly Work[],
    drop: async (lease) => void (await writer.ask({ do: 'drop', lease })),
    nextDue: async (except = []) =>
      (await writer.ask({ do: 'nextDue', now: clock.now(), except })) as number | undefined,
    stats: async () => ({ ...sizes(), commits, batches }),
    backup: async (to) => void (await backup(readDb, to)),
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await checkpointer?.close()
      await writer.close()
      closeReads()
      readDb.close()
      lock.close()
    },
  }
}
