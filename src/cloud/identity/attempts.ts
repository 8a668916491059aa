import { CloudError } from '#lib/errors.ts'

const FAILURES_MAX = 10
const WINDOW_MS = 15 * 60_000
const KEYS_MAX = 100_000

/** Counts failed logins per user name and address; more than ten in a quarter of an hour are refused until the oldest is past. */
export type Attempts = {
  /** Throws `rate_limited` with the seconds to wait when there were too many. */
  check(username: string, address: string): void
  failed(username: string, address: string): void
  succeeded(username: string, address: string): void
}

export function createAttempts(now: () => number): Attempts {
  const failures = new Map<string, number[]>()
  const keysOf = (username: string, address: string): string[] => [
    `user ${username}`,
    `from ${username} ${address}`,
  ]
  const recent = (key: string): number[] =>
    // None of those to come: the clock was set back.
    (failures.get(key) ?? []).filter((at) => at > now() - WINDOW_MS && at <= now())
  // Anyone can fail on another's name, so the name alone is refused only far later than name and address together.
  const limitOf = (key: string): number => (key.startsWith('user ') ? FAILURES_MAX * 10 : FAILURES_MAX)
  return {
    check(username, address) {
      for (const key of keysOf(username, address)) {
        const past = recent(key)
        const [oldest] = past
        if (oldest === undefined || past.length < limitOf(key)) continue
        const retryAfterSeconds = Math.ceil((oldest + WINDOW_MS - now()) / 1000)
        throw new CloudError(
          'rate_limited',
          `Too many failed logins; try again in ${retryAfterSeconds} seconds`,
          { retryAfterSeconds },
        )
      }
    },
    failed(username, address) {
      for (const key of keysOf(username, address)) {
        const past = [...recent(key), now()].slice(-limitOf(key))
        failures.delete(key)
        failures.set(key, past)
        const [oldestKey] = failures.keys()
        if (failures.size > KEYS_MAX && oldestKey !== undefined) failures.delete(oldestKey)
      }
    },
    succeeded(username, address) {
      failures.delete(`from ${username} ${address}`)
    },
  }
}
