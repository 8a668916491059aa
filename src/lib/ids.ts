import { randomFillSync } from 'node:crypto'
import type { Clock } from './clock.ts'

/** Makes ids; `next()` is a UUIDv7 greater than every one before it from the same maker. */
export type Ids = { next(): string }

const COUNTER_MAX = 0xfff
/** Random bytes of one id, and of how many ids they are fetched at once: each fetch is a call into the kernel. */
const TAIL_BYTES = 8
const IDS_PER_FETCH = 1024
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
  const pool = Buffer.alloc(TAIL_BYTES * IDS_PER_FETCH)
  // Written as text at once, of which each id takes its part.
  let digits = ''
  let used = 0
  const tail = (): string => {
    if (used === digits.length) {
      random(pool)
      for (let at = 0; at < pool.length; at += TAIL_BYTES) pool[at] = ((pool[at] ?? 0) & 0x3f) | 0x80
      digits = pool.toString('hex')
      used = 0
    }
    used += 2 * TAIL_BYTES
    return `${digits.slice(used - 16, used - 12)}-${digits.slice(used - 12, used)}`
  }
  let written = { ms: -1, text: '' }
  const timeText = (ms: number): string => {
    if (ms !== written.ms) {
      const hex = ms.toString(16).padStart(12, '0')
      written = { ms, text: `${hex.slice(0, 8)}-${hex.slice(8)}` }
    }
    return written.text
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
      return `${timeText(lastMs)}-${(0x7000 | counter).toString(16)}-${tail()}`
    },
  }
}
