import { CloudError } from '#lib/errors.ts'
import { keepNewest } from '#lib/newest.ts'

/** Buckets remembered at most; the one that was asked longest ago goes first. */
const BUCKETS_MAX = 100_000

/** Lets through so many per second, and a burst of so many at once; per key. */
export type Rates = {
  /** Whether the key had something left, which is less by one then. */
  spend(key: string): boolean
  /** Spends; throws `rate_limited` with the seconds to wait when the key has nothing left. */
  take(key: string): void
}

/** Token buckets, contract A9; `perSecond` 0 lets everything through. */
export function createRates(
  now: () => number,
  { perSecond, burst }: { readonly perSecond: number; readonly burst: number },
): Rates {
  const buckets = new Map<string, { left: number; at: number }>()
  /** What was left before; from 1 on, one of it is spent. */
  const spend = (key: string): number => {
    if (perSecond <= 0) return 1
    const at = now()
    const had = buckets.get(key) ?? { left: burst, at }
    // A clock that was set back fills nothing.
    const left = Math.min(burst, had.left + (Math.max(0, at - had.at) / 1000) * perSecond)
    keepNewest(buckets, key, { left: left < 1 ? left : left - 1, at }, BUCKETS_MAX)
    return left
  }
  return {
    spend: (key) => spend(key) >= 1,
    take(key) {
      const left = spend(key)
      if (left >= 1) return
      const retryAfterSeconds = Math.ceil((1 - left) / perSecond)
      throw new CloudError('rate_limited', `Too many requests; try again in ${retryAfterSeconds} s`, {
        retryAfterSeconds,
      })
    },
  }
}
