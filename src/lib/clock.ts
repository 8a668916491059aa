import { setTimeout as sleepFor } from 'node:timers/promises'

/** Time as an argument: milliseconds since 1970, and a sleep that ends early (by throwing) when `signal` aborts. */
export type Clock = {
  now(): number
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error)
      const stop = (): void => {
        clearTimeout(timer)
        reject(signal.reason as Error)
      }
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', stop)
        resolve()
      }, ms)
      signal.addEventListener('abort', stop, { once: true })
    }),
}

/**
 * Whether a moment is still to come that was `ms` ahead when it was set. One that is further ahead is not waited for: the
 * clock was set back since.
 */
export const isAhead = (at: number, ms: number, now: number): boolean => now < at && at - now <= ms

/** Runs on evenly from the start of the process, whatever the system's clock is set to: for programs that only wait. */
export const steadyClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  sleep: systemClock.sleep,
}

export type SimulatedClock = Clock & {
  /** Moves time on and wakes every sleeper whose moment has come, in order. */
  advance(ms: number): Promise<void>
  /** Milliseconds until the next sleeper wakes, undefined when nobody sleeps. */
  nextMs(): number | undefined
}

/** A clock that moves only when told to, for tests and simulation. */
export function simulatedClock(startMs = Date.UTC(2026, 0, 5, 10)): SimulatedClock {
  let now = startMs
  let sleepers: { at: number; wake: () => void }[] = []
  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason as Error)
        const sleeper = { at: now + ms, wake: resolve }
        sleepers.push(sleeper)
        signal.addEventListener(
          'abort',
          () => {
            sleepers = sleepers.filter((it) => it !== sleeper)
            reject(signal.reason as Error)
          },
          { once: true },
        )
      }),
    async advance(ms) {
      const until = now + ms
      for (;;) {
        const next = sleepers.toSorted((a, b) => a.at - b.at)[0]
        if (!next || next.at > until) break
        now = Math.max(now, next.at)
        sleepers = sleepers.filter((it) => it !== next)
        next.wake()
        await sleepFor(0)
      }
      now = until
    },
    nextMs: () => (sleepers.length ? Math.max(0, Math.min(...sleepers.map((it) => it.at)) - now) : undefined),
  }
}
