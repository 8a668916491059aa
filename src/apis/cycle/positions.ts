import type { Clock } from '#lib/clock.ts'
import { keepNewest } from '#lib/newest.ts'

/** How long after a connection broke the next one of the instance goes on where it stopped. */
export const RESUME_SECONDS = 120
/** Broken connections of one instance that are remembered. */
const POSITIONS_MAX = 4
/** Instances that are remembered; the one that broke first is forgotten for another. */
const INSTANCES_MAX = 10_000

type Position = { readonly cursor: string; readonly until: number }

/** Where each instance's notifications stopped when their connection broke. */
export type Positions = {
  /** A connection of the instance broke; `cursor` is behind the last that it surely has. */
  leave(instance: string, cursor: string): void
  /** Where the instance's next connection goes on, once; undefined when none of it broke of late. */
  take(instance: string): string | undefined
  /** A connection of the instance was closed in order: the next begins at its own time. */
  end(instance: string): void
  /**
   * From when on an instance, whose container runs since `startedAt`, may lack what happened: its connection broke with the
   * process before this one, whose positions nobody knows. Undefined when that cannot be, or is too long ago.
   */
  brokenAt(instance: string, startedAt: number | undefined): number | undefined
}

export function createPositions(clock: Pick<Clock, 'now'>): Positions {
  const left = new Map<string, readonly Position[]>()
  const over = new Map<string, true>()
  const bornAt = clock.now()
  const live = (instance: string): Position[] =>
    (left.get(instance) ?? []).filter((it) => it.until > clock.now())
  return {
    leave(instance, cursor) {
      const until = clock.now() + RESUME_SECONDS * 1000
      const all = [...live(instance), { cursor, until }].slice(-POSITIONS_MAX)
      keepNewest(left, instance, all, INSTANCES_MAX)
    },
    take(instance) {
      const [first, ...rest] = live(instance)
      if (rest.length > 0) left.set(instance, rest)
      else left.delete(instance)
      return first?.cursor
    },
    end: (instance) => keepNewest(over, instance, true, INSTANCES_MAX),
    brokenAt(instance, startedAt) {
      const isLate = clock.now() >= bornAt + RESUME_SECONDS * 1000
      if (isLate || startedAt === undefined || startedAt >= bornAt || over.has(instance)) return undefined
      return Math.max(startedAt, bornAt - RESUME_SECONDS * 1000)
    },
  }
}
