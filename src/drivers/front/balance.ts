import type { Clock } from '#lib/clock.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import type { FrontLimits } from './limits.ts'

/** Where a server is, whoever's it is: what fails is a place, not an id. */
export const placeOf = ({ address, port }: Pick<Origin, 'address' | 'port'>): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

/** What was seen of the origins in passing. */
export type Health = {
  /** It could not be connected to: left out for a pause that grows. */
  failed(place: string): void
  /** A connection broke before it answered. Once may be a kept connection's end; twice in a row is a failure. */
  broke(place: string): void
  /** It does not answer the connection in good time: avoided while others do. */
  slow(place: string): void
  /** It answered. */
  fine(place: string): void
  /** Until when it is left out; 0 when it is not. */
  pausedUntil(place: string): number
  /** Forgets all places but these. */
  keep(places: ReadonlySet<string>): void
}

type Mark = { failures: number; breaks: number; until: number }

export function createHealth(clock: Clock, limits: FrontLimits): Health {
  const marks = new Map<string, Mark>()
  const markOf = (place: string): Mark => {
    const mark = marks.get(place) ?? { failures: 0, breaks: 0, until: 0 }
    marks.set(place, mark)
    return mark
  }
  const failed = (place: string): void => {
    const mark = markOf(place)
    // Requests that were under way together fail together: one failure.
    if (mark.failures && clock.now() < mark.until) return
    mark.failures++
    mark.until = clock.now() + Math.min(limits.pauseMsMin * 2 ** (mark.failures - 1), limits.pauseMsMax)
  }
  return {
    failed,
    broke(place) {
      if (++markOf(place).breaks > 1) failed(place)
    },
    slow(place) {
      const mark = markOf(place)
      mark.until = Math.max(mark.until, clock.now() + limits.pauseMsMin)
    },
    fine(place) {
      if (marks.size) marks.delete(place)
    },
    pausedUntil(place) {
      const until = marks.size ? (marks.get(place)?.until ?? 0) : 0
      return until > clock.now() ? until : 0
    },
    keep(places) {
      for (const place of marks.keys()) if (!places.has(place)) marks.delete(place)
    },
  }
}

/** Those of origins that have the fewest connections for their weight; the ones to leave out last are left out here too. */
export function leastBusy(
  origins: readonly Origin[],
  heldBy: (origin: string) => number,
  isOut: (it: Origin) => boolean,
): readonly Origin[] {
  let least = Infinity
  let found: Origin[] = []
  for (const it of origins) {
    if (it.weight === 0 || isOut(it)) continue
    const busy = heldBy(it.id) / it.weight
    if (busy > least) continue
    if (busy < least) found = []
    least = busy
    found.push(it)
  }
  return found.length ? found : origins
}

/** Turns of the origins of one route: smooth weighted round robin, so that shares hold over short runs too. */
export type Turns = {
  /**
   * The next origin by weight among those not tried yet and not paused; when all are paused, the one whose pause ends
   * first, since a try is better than none. Undefined when there is nobody.
   */
  next(origins: readonly Origin[], health: Health, tried?: ReadonlySet<string>): Origin | undefined
}

export function createTurns(): Turns {
  let scores = new Map<string, number>()
  return {
    next(origins, health, tried) {
      let best: Origin | undefined
      let bestScore = 0
      let total = 0
      let soonest: Origin | undefined
      let soonestAt = Infinity
      if (origins.length === 1 && !tried?.size) return origins[0]?.weight ? origins[0] : undefined
      for (const it of origins) {
        if (it.weight === 0 || tried?.has(it.id)) continue
        const until = health.pausedUntil(placeOf(it))
        if (until) {
          if (until < soonestAt) [soonest, soonestAt] = [it, until]
          continue
        }
        const score = (scores.get(it.id) ?? 0) + it.weight
        scores.set(it.id, score)
        total += it.weight
        if (!best || score > bestScore) [best, bestScore] = [it, score]
      }
      if (!best) return soonest
      scores.set(best.id, bestScore - total)
      if (scores.size > origins.length * 2 + 8) {
        const present = new Set(origins.map((it) => it.id))
        scores = new Map([...scores].filter(([id]) => present.has(id)))
      }
      return best
    },
  }
}
