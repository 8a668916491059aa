import { CloudError } from '#lib/errors.ts'
import { createLanes } from '#lib/lanes.ts'
import { keepNewest } from '#lib/newest.ts'

const FAILURES_MAX = 10
const WINDOW_MS = 15 * 60_000
const KEYS_MAX = 100_000

/** Counts failed logins per user name and address; more than ten in a quarter of an hour are refused until the oldest is past. */
export type Attempts = {
  /**
   * What `look` finds a guess to be right for, undefined where it is wrong. Those of one name are looked at one after the
   * other, so that each knows how those before it ended, also of many that come at once. Throws `rate_limited` with the
   * seconds to wait, and looks at nothing, when too many were wrong.
   */
  guess<R extends object>(
    username: string,
    address: string,
    look: () => Promise<R | undefined>,
  ): Promise<R | undefined>
}

/**
 * `lockAfter` locks a name, from wherever it is tried, for the whole time after that many failures in a row; by default a
 * name alone is refused far later than name and address together, since anyone can fail on another's name.
 */
export function createAttempts(now: () => number, how: { readonly lockAfter?: number } = {}): Attempts {
  const perName = how.lockAfter ?? FAILURES_MAX * 10
  const failures = new Map<string, number[]>()
  const lane = createLanes()
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
  const check = (username: string, address: string): void => {
    const wait = waitMs(username, address)
    if (wait <= 0) return
    const retryAfterSeconds = Math.ceil(wait / 1000)
    throw new CloudError(
      'rate_limited',
      `Too many failed logins; try again in ${retryAfterSeconds} seconds`,
      { retryAfterSeconds },
    )
  }
  const failed = (username: string, address: string): void => {
    for (const key of keysOf(username, address)) {
      const past = [...recent(key), now()].slice(-limitOf(key))
      // A lock begins with the failure that makes it.
      if (key.startsWith('user ') && how.lockAfter === past.length) past.fill(now())
      keepNewest(failures, key, past, KEYS_MAX)
    }
  }
  const succeeded = (username: string, address: string): void => {
    failures.delete(`from ${username} ${address}`)
    if (how.lockAfter !== undefined) failures.delete(`user ${username}`)
  }
  return {
    guess: async (username, address, look) =>
      await lane(username, async () => {
        check(username, address)
        const found = await look()
        if (found) succeeded(username, address)
        else failed(username, address)
        return found
      }),
  }
}
