import type { Measured } from './figure.ts'

/** One value of one side, taken in one round. */
export type Side = (round: number) => Promise<number>

/** The value that a share of all (0 to 1) does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const [below = NaN, above = below] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]]
  return below + (above - below) * (at - Math.floor(at))
}
export const median = (values: readonly number[]): number => quantile(values, 0.5)

/**
 * Runs two sides in turn and changes who is first, so that what else goes on with the machine meets both alike. The ratio
 * is the median over the rounds of ours by the peer's.
 */
export async function inTurn(rounds: number, ours: Side, peer: Side): Promise<Measured> {
  const seen = { ours: [] as number[], peer: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    for (const side of round % 2 ? (['peer', 'ours'] as const) : (['ours', 'peer'] as const))
      seen[side].push(await (side === 'ours' ? ours : peer)(round))
  }
  return summarise(seen)
}

export const summarise = (rounds: { ours: readonly number[]; peer: readonly number[] }): Measured => ({
  ours: median(rounds.ours),
  peer: median(rounds.peer),
  ratio: median(rounds.ours.map((it, round) => it / (rounds.peer[round] ?? NaN))),
  rounds,
})
