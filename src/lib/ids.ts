import { randomFillSync } from 'node:crypto'
import type { Clock } from './clock.ts'

/** Makes ids; `next()` is a UUIDv7 greater than every one before it from the same maker. */
export type Ids = { next(): string }

const COUNTER_MAX = 0xfff
/** Random bytes of one id, and of how many ids they are fetched at once: each fetch is a call into the kernel. */
const TAIL_BYTES = 8
const IDS_PER_FETCH = 256
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export const isUuid = (text: string): boolean => UUID.test(text)

/**
 * UUIDv7 with a counter in the 12 bits after the time, so that order by id is order by age within a process, also when
 * the clock steps back. `random` fills the rest and can be replaced in tests; the first is above `after`, the last one of
 * an earlier process.
 */
export function createIds(
  clock: Clock,
  random: (bytes: Uint8Array) => void = randomFillSync,
  after?: string,
): Ids {
  let lastMs = after === undefined ? 0 : parseInt(after.slice(0, 8) + after.slice(9, 13), 16) + 1
  let counter = 0
  const pool = new Uint8Array(TAIL_BYTES * IDS_PER_FETCH)
  let used = pool.length
  const tailBytes = (): Uint8Array => {
    if (used === pool.length) {
      random(pool)
      used = 0
    }
    used += TAIL_BYTES
    return pool.subarray(used - TAIL_BYTES, used)
  }
  return {
    next() {
      const now = clock.now()
      if (now > lastMs) {
        lastMs = now
        counter = 0
      } else if (counter < COUNTER_MAX) {
        counter++
      } else {
        lastMs++
        counter = 0
      }
      const tail = tailBytes()
      tail[0] = ((tail[0] ?? 0) & 0x3f) | 0x80
      const hex =
        lastMs.toString(16).padStart(12, '0') +
        (0x7000 | counter).toString(16) +
        Buffer.from(tail).toString('hex')
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    },
  }
}
