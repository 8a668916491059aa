import { CloudError } from '#lib/errors.ts'
import { keepNewest } from '#lib/newest.ts'

const FAILURES_MAX = 10
const WINDOW_MS = 15 * 60_000
const KEYS_MAX = 100_000

/** Counts failed logins per user name and address; more than ten in a quarter of an hour are refused until the oldest is past. */
export type Attempts = {
  /** Throws `rate_limited` with the seconds to wait when there were too many. */
  check(username: string, address: string): void
  /** How long to wait before the next is looked at; 0 when there were not too many. */
  waitMs(username: string, address: string): number
  failed(username: string, address: string): void
  succeeded(username: string, address: string): void
}

/**
 * `lockAfter` locks a name, from wherever it is tried, for the whole time after that many failures in a row; by default a
 * name alone is refused far later than name and address together, since anyone can fail on another's name.
 */
export function createAttempts(now: () => number, how: { readonly lockAfter?: number } = {}): Attempts {
  const perName = how.lockAfter ?? FAILURES_MAX * 10
  const failures = new Map<string, number[]>()
  const keysOf = (username: string, address: string): string[] => [
    `user ${username}`,
    `from ${username} ${address}`,
  ]
  const recent = (key: string): number[] =>
    // None of those to come: the clock was set back.
    (failures.get(key) ?? []).filter((at) => at > now() - WINDOW_MS && at <= now())
  const limitOf = (key: string): number => (key.startsWith('user ') ? perName : FAILURES_MAX)
  const waitMs = (username: string, address: string): number =>
    Math.max(
      ...keysOf(username, address).map((key) => {
        const past = recent(key)
        const [oldest] = past
        return oldest === undefined || past.length < limitOf(key) ? 0 : oldest + WINDOW_MS - now()
      }),
    )
  return {
    waitMs,
    check(username, address) {
      const wait = waitMs(username, address)
      if (wait <= 0) return
      const retryAfterSeconds = Math.ceil(wait / 1000)
      throw new CloudError(
        'rate_limited',
        `Too many failed logins; try again in ${retryAfterSeconds} seconds`,
        { retryAfterSeconds },
      )
    },
    failed(username, address) {
      for (const key of keysOf(username, address)) {
        const past = [...recent(key), now()].slice(-limitOf(key))
        // A lock begins with the failure that makes it.
        if (key.startsWith('user ') && how.lockAfter === past.length) past.fill(now())
        keepNewest(failures, key, past, KEYS_MAX)
      }
    },
    succeeded(username, address) {
      failures.delete(`from ${username} ${address}`)
      if (how.lockAfter !== undefined) failures.delete(`user ${username}`)
    },
  }
}
