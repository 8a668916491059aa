/** Numbers in [0, 1) that one seed gives again and again. */
export type Random = {
  (): number
  /** A whole number from 0 to below `n`. */
  below(n: number): number
  /** True in so many of a hundred cases. */
  percent(n: number): boolean
}

export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const below = (n: number): number => Math.floor(next() * n)
  return Object.assign(next, { below, percent: (n: number) => below(100) < n })
}

/** The seed that was asked for, or one of this run. */
export const seedOfRun = (): number =>
  Number(process.env['ARCUS_SEED'] ?? Math.floor(performance.timeOrigin % 2 ** 31))

/** How many rounds: what was asked for, the long form, or the short one. */
export const roundsOfRun = (short: number, long: number): number =>
  Number(process.env['ARCUS_ROUNDS'] ?? (process.env['ARCUS_SOAK'] ? long : short))
