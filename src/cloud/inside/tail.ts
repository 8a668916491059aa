import { isAhead } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL } from '#engine/resource.ts'
import type { StoredRecord } from '#engine/store.ts'

const PAGE = 500
/** What may wait for a slow reader. */
const WAITING_MAX = 1000
/** A commit wakes it; this is for the credentials of those who hear nothing. */
const QUIET_MS = 1000

/** The cursor behind every event so far. */
export const lastEvent = async (engine: Engine): Promise<string> =>
  (await engine.store.records({ stream: 'event', tenant: ALL, limit: 1, newestFirst: true })).records[0]
    ?.cursor ?? '0'

/** Pages of events that are looked back through; what lies further back is not looked for. */
const BACK_PAGES_MAX = 20

/** The cursor behind the newest event of before a moment; of those that are kept, and of the newest 10,000. */
export async function eventBefore(engine: Engine, at: number): Promise<string> {
  let after: string | undefined
  for (let page = 0; page < BACK_PAGES_MAX; page++) {
    const { records, next } = await engine.store.records({
      stream: 'event',
      tenant: ALL,
      limit: PAGE,
      newestFirst: true,
      ...(after === undefined ? {} : { after }),
    })
    const found = records.find((it) => it.at < at)
    if (found) return found.cursor
    if (next === undefined) return '0'
    after = next
  }
  return after ?? '0'
}

type Reader = { readonly give: (record: StoredRecord) => void; readonly tick: () => void }

/**
 * The end of the event records, read once for everybody who follows: each record is given to every reader right after
 * its commit. It reads only while somebody follows.
 */
export function createTail(engine: Engine, log: Log) {
  const readers = new Set<Reader>()
  let running: Promise<void> | undefined
  let cursor: string | undefined
  let tickedAt = 0
  const pageAfter = async (after: string) =>
    await engine.store.records({ stream: 'event', tenant: ALL, limit: PAGE, after })

  const run = async (): Promise<void> => {
    while (readers.size > 0) {
      const woken = Promise.withResolvers<void>()
      const stop = engine.store.onChange(woken.resolve)
      const ended = new AbortController()
      try {
        const page = await pageAfter(cursor ?? '0')
        for (const record of page.records) for (const reader of readers) reader.give(record)
        cursor = page.records.at(-1)?.cursor ?? cursor
        const now = engine.clock.now()
        if (!isAhead(tickedAt + QUIET_MS, QUIET_MS, now)) {
          tickedAt = now
          for (const reader of readers) reader.tick()
        }
        if (page.next === undefined)
          await Promise.race([woken.promise, engine.clock.sleep(QUIET_MS, ended.signal).catch(() => {})])
      } catch (error) {
        log.warn('events could not be read', { error: messageOf(error) })
        await engine.clock.sleep(QUIET_MS, ended.signal).catch(() => {})
      } finally {
        ended.abort()
        stop()
      }
    }
  }

  const start = (): void => {
    running ??= run().finally(() => {
      running = undefined
      if (readers.size > 0) start()
    })
  }

  /**
   * Records from now or after a cursor, and now and then nothing, until the signal aborts. `wants` is asked at once, so
   * that what somebody does not want does not wait for them. Throws `gone` when the reader is too slow.
   */
  return async function* follow(
    how: { readonly after?: string; readonly wants: (record: StoredRecord) => boolean },
    signal: AbortSignal,
  ): AsyncGenerator<StoredRecord | undefined> {
    const waiting: StoredRecord[] = []
    let more = Promise.withResolvers<void>()
    let isFull = false
    let last = Number(how.after ?? (await lastEvent(engine)))
    if (!Number.isSafeInteger(last) || last < 0)
      throw new CloudError('invalid', 'not a cursor', { field: 'after' })
    const reader: Reader = {
      give(record) {
        if (!how.wants(record)) return
        if (waiting.length >= WAITING_MAX) isFull = true
        else waiting.push(record)
        more.resolve()
      },
      tick: () => more.resolve(),
    }
    const end = (): void => more.resolve()
    signal.addEventListener('abort', end, { once: true })
    // It may be behind the others or ahead: what is given twice is told by its cursor, which is a number that grows.
    readers.add(reader)
    if (!running) {
      cursor = await lastEvent(engine)
      start()
    }
    try {
      while (!signal.aborted) {
        const { records } = await pageAfter(String(last))
        for (const record of records) {
          last = Number(record.cursor)
          if (how.wants(record)) yield record
          if (signal.aborted) return
        }
        if (records.length < PAGE) break
      }
      while (!signal.aborted) {
        more = Promise.withResolvers()
        for (let record = waiting.shift(); record && !signal.aborted; record = waiting.shift()) {
          if (Number(record.cursor) <= last) continue
          last = Number(record.cursor)
          yield record
        }
        if (isFull)
          throw new CloudError(
            'gone',
            `more than ${WAITING_MAX} events waited for this reader; connect again`,
          )
        if (waiting.length === 0) await more.promise
        yield undefined
      }
    } finally {
      readers.delete(reader)
      signal.removeEventListener('abort', end)
      more.resolve()
    }
  }
}
