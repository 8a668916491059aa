import { randomFillSync } from 'node:crypto'
import type { Clock } from './clock.ts'

/** Makes ids; `next()` is a UUIDv7 greater than every one before it from the same maker. */
export type Ids = { next(): string }

const COUNTER_MAX = 0xfff
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
      const tail = new Uint8Array(8)
      random(tail)
      tail[0] = ((tail[0] ?? 0) & 0x3f) | 0x80
      const hex =
        lastMs.toString(16).padStart(12, '0') +
        (0x7000 | counter).toString(16) +
        Buffer.from(tail).toString('hex')
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    },
  }
}
