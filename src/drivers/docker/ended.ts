import type { Clock } from '#lib/clock.ts'

/** How often is looked whether the source of a stream on which nothing comes is still there. */
const LOOK_MS = 2000
/** So many looks in a row found the stream silent and its source gone: what was on its way has arrived. */
const LOOKS = 2

/**
 * What Docker sends of something that runs, until it ends the stream, or forgets to: it ends too when its source is over
 * (`isOver`) and nothing more came for a while. `close` ends the connection; what it makes the stream throw is not passed
 * on. Time in which the reader does something else does not count.
 */
export async function* untilOver<T>(
  source: AsyncIterable<T>,
  how: { isOver(): boolean | Promise<boolean>; close(): void; readonly clock: Clock },
): AsyncGenerator<T, void, undefined> {
  const done = new AbortController()
  let isWaiting = true
  let silentLooks = 0
  let isClosed = false
  const look = async (): Promise<void> => {
    while (!isClosed) {
      await how.clock.sleep(LOOK_MS, done.signal)
      silentLooks = isWaiting && (await how.isOver()) ? silentLooks + 1 : 0
      // Something may have come while it was asked.
      if (!isWaiting || silentLooks < LOOKS) continue
      isClosed = true
      how.close()
    }
  }
  // Ends with the reading, or when Docker cannot be asked: then the stream breaks by itself.
  look().catch(() => {})
  try {
    for await (const piece of source) {
      isWaiting = false
      yield piece
      isWaiting = true
      silentLooks = 0
    }
  } catch (error) {
    if (!isClosed) throw error
  } finally {
    done.abort()
  }
}
