import { mkdirSync } from 'node:fs'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { daysOver } from './bulk.days.ts'
import type { BulkRow, Request, Turn } from './bulk.worker.ts'
import { LIST_MAX } from './store.ts'
import { startThread } from './thread.ts'

/** How often what was appended is written. A power cut may cost that much. */
export const FLUSH_MS = 1000
/** What may wait to be written; beyond either, new entries are dropped and counted. */
const BUFFERED_MAX = 100_000
const BUFFERED_BYTES_MAX = 64 * 1024 * 1024
/** Files of their own are made per class, so that there must not be many. */
const CLASS = /^[a-z][a-z0-9-]{0,30}$/

export type BulkEntry = {
  readonly tenant: string
  /** Id of the resource it is about. */
  readonly subject: string
  readonly at: number
  readonly body: unknown
}
export type StoredBulkEntry = BulkEntry & { readonly cursor: string }

export type BulkQuery = {
  readonly class: string
  readonly tenant: string
  readonly subject: string
  /** Milliseconds since 1970, the first included, the last not; everything that is kept by default. */
  readonly from?: number
  readonly to?: number
  /** Goes on after this entry, in the order of the query. */
  readonly after?: string
  /** LIST_MAX by default and at most. */
  readonly limit?: number
  readonly newestFirst?: boolean
}

/**
 * Records in bulk (logs, metric samples, access logs), away from the main database: written each second into a file per
 * class and day, without waiting for the disk. A crash of the machine may cost the last second.
 */
export type Bulk = AsyncDisposable & {
  /** Never waits. `at` is now unless given. What does not fit into the buffer is dropped and counted. */
  append(className: string, entry: Omit<BulkEntry, 'at'> & { readonly at?: number }): void
  /** In order of time. Sees everything that was appended before. */
  read(query: BulkQuery): Promise<readonly StoredBulkEntry[]>
  /** Removes the files of the days that were over at this moment; returns how many. */
  forget(className: string, before: number): Promise<number>
  /** Entries dropped since the start. */
  dropped(): number
}

export type BulkOptions = { readonly directory: string; readonly clock: Clock; readonly log: Log }

function checkClass(className: string): void {
  if (!CLASS.test(className)) throw new Error(`${className} cannot be a class of bulk records`)
}

function parseCursor(text: string | undefined): { at: number; seq: number } | undefined {
  if (text === undefined) return undefined
  const [, at, seq] = /^(\d{1,15})\.(\d{1,15})$/.exec(text) ?? []
  if (at === undefined) throw new CloudError('invalid', 'not a cursor', { field: 'after' })
  return { at: Number(at), seq: Number(seq) }
}

/** Opens the folder of bulk records, made if absent. It belongs to one process at a time, like the store's. */
export function openBulk({ directory, clock, log }: BulkOptions): Bulk {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  let started: ReturnType<typeof startThread<Request, Turn>> | undefined
  const thread = () =>
    (started ??= startThread<Request, Turn>('engine/bulk.worker', {
      name: 'bulk',
      data: { directory },
      log,
    }))
  let buffer: BulkRow[] = []
  let bytes = 0
  let dropped = 0
  let told = 0
  let writing: Promise<void> | undefined

  async function write(): Promise<void> {
    const rows = buffer
    buffer = []
    bytes = 0
    try {
      await thread().ask({ do: 'append', rows })
    } catch (error) {
      dropped += rows.length
      log.error('bulk records could not be written', { records: rows.length, error })
    }
  }
  async function flush(): Promise<void> {
    // One at a time, so that what was appended first is written first.
    while (writing) await writing
    if (buffer.length) {
      writing = write()
      await writing.finally(() => (writing = undefined))
    }
    if (dropped > told) log.warn('bulk records were dropped', { records: dropped - told })
    told = dropped
  }
  const timer = setInterval(() => void flush(), FLUSH_MS)
  timer.unref()

  return {
    append(className, { tenant, subject, body, at = clock.now() }) {
      checkClass(className)
      const text = JSON.stringify(body ?? null)
      if (buffer.length >= BUFFERED_MAX || bytes + text.length > BUFFERED_BYTES_MAX) {
        dropped++
        return
      }
      bytes += text.length
      buffer.push({ class: className, tenant, subject, at, body: text })
    },
    async read({ class: className, tenant, subject, from = 0, to = Number.MAX_SAFE_INTEGER, ...query }) {
      checkClass(className)
      const after = parseCursor(query.after)
      await flush()
      const rows = (await thread().ask({
        do: 'read',
        class: className,
        tenant,
        subject,
        from,
        to,
        ...(after ? { after } : {}),
        limit: Math.min(query.limit ?? LIST_MAX, LIST_MAX),
        newestFirst: query.newestFirst ?? false,
      })) as readonly { seq: number; at: number; body: string }[]
      return rows.map(({ seq, at, body }) => ({
        cursor: `${at}.${seq}`,
        tenant,
        subject,
        at,
        body: JSON.parse(body) as unknown,
      }))
    },
    async forget(className, before) {
      checkClass(className)
      // A thread takes time and memory, and mostly there is nothing to remove.
      if (!daysOver(directory, className, before).length) return 0
      return (await thread().ask({ do: 'forget', class: className, before })) as number
    },
    dropped: () => dropped,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await flush()
      await started?.close()
    },
  }
}
