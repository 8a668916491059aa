import type { Clock } from '#lib/clock.ts'
import type { Random } from './random.ts'

/** Turns of the event loop that a request inside the HTTP layer may take between two points, at most. */
const TURNS_MAX = 12

/** One process: what waits in it goes on no more once it is killed. */
export type Life = { readonly number: number; alive: boolean }

type Waiter = {
  readonly at: number
  readonly life: Life | undefined
  readonly go: () => void
  /** Never goes on. */
  readonly drop: () => void
}

/**
 * Time and order. Everything that a history waits for waits here, and one waiter goes on at a time: of those whose
 * moment has come, one drawn at random. Time moves when nobody else can go on.
 */
export type Schedule = Clock & {
  /** A place where something else may go first; `ms` later at the earliest. */
  point(life: Life | undefined, ms?: number): Promise<void>
  /** A clock of one process. */
  clockOf(life: Life): Clock
  /** Forgets what a killed process waited for. */
  kill(life: Life): void
  /** Lets things happen until `done` says so; throws past `untilMs` or when nothing can happen any more. */
  run(done: () => boolean, untilMs: number): Promise<void>
  /** Something is inside the HTTP layer, so that time must not move yet. */
  busy(by: 1 | -1): void
  steps(): number
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

export function createSchedule(random: Random, startMs: number): Schedule {
  let now = startMs
  let waiters: Waiter[] = []
  let steps = 0
  let busyCount = 0
  const wait = (at: number, life: Life | undefined, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      if (life && !life.alive) return
      if (signal?.aborted) return reject(signal.reason as Error)
      const stop = (): void => {
        waiters = waiters.filter((it) => it !== waiter)
        reject(signal?.reason as Error)
      }
      const waiter: Waiter = {
        at,
        life,
        go: () => {
          signal?.removeEventListener('abort', stop)
          resolve()
        },
        drop: () => signal?.removeEventListener('abort', stop),
      }
      waiters.push(waiter)
      signal?.addEventListener('abort', stop, { once: true })
    })
  const ready = (): Waiter[] => waiters.filter((it) => it.at <= now)

  /** What can go on now, after everything in between had its turns. */
  async function candidates(): Promise<Waiter[]> {
    await turn()
    let found = ready()
    for (let turns = 0; !found.length && busyCount > 0 && turns < TURNS_MAX; turns++) {
      await turn()
      found = ready()
    }
    return found
  }

  const clockOf = (life: Life | undefined): Clock => ({
    now: () => now,
    sleep: (ms, signal) => wait(now + Math.max(0, ms), life, signal),
  })
  return {
    ...clockOf(undefined),
    clockOf,
    point: (life, ms = 0) => wait(now + ms, life),
    kill(life) {
      life.alive = false
      for (const it of waiters) if (it.life === life) it.drop()
      waiters = waiters.filter((it) => it.life !== life)
    },
    async run(done, untilMs) {
      for (;;) {
        let found = await candidates()
        if (done()) return
        if (!found.length) {
          if (!waiters.length) throw new Error('nothing can happen any more')
          now = Math.max(now, Math.min(...waiters.map((it) => it.at)))
          if (now > untilMs) throw new Error(`not done by ${new Date(untilMs).toISOString()}`)
          found = ready()
        }
        const next = random.pick(found)
        waiters = waiters.filter((it) => it !== next)
        steps++
        next.go()
      }
    },
    busy: (by) => void (busyCount += by),
    steps: () => steps,
  }
}
