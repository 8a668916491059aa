import { isAhead } from '#lib/clock.ts'

/** Down only to the highest recommendation of this long; the usual default of a horizontal autoscaler. */
export const DOWN_WINDOW_MS = 300_000
/** How often readings are taken. */
export const READ_EVERY_MS = 15_000
/** Readings closer to the target than this change nothing. */
const TOLERANCE = 0.1

export type Recommendation = { readonly at: number; readonly replicas: number }

/** How many replicas the readings ask for: ceil(replicas × average ÷ target) within min and max, with 10 % tolerance. */
export function recommend(reading: {
  readonly replicas: number
  readonly averageMillicores: number
  readonly targetMillicores: number
  readonly min: number
  readonly max: number
}): number {
  const { replicas, averageMillicores, targetMillicores } = reading
  const onTarget = Math.abs(averageMillicores - targetMillicores) <= targetMillicores * TOLERANCE
  const wanted = onTarget ? replicas : Math.ceil((replicas * averageMillicores) / targetMillicores)
  return Math.min(reading.max, Math.max(reading.min, wanted))
}

/** The replicas to go to now: up at once, down only as far as every recommendation of the window allows. */
export function stabilise(
  current: number,
  history: readonly Recommendation[],
  latest: Recommendation,
): { readonly replicas: number; readonly history: readonly Recommendation[] } {
  const past = history.length ? history : [{ at: latest.at, replicas: current }]
  const kept = [...past.filter((it) => isAhead(it.at + DOWN_WINDOW_MS, DOWN_WINDOW_MS, latest.at)), latest]
  if (latest.replicas >= current) return { replicas: latest.replicas, history: kept }
  return { replicas: Math.min(current, Math.max(...kept.map((it) => it.replicas))), history: kept }
}
