import { type Cidr, formatIpv4, nextFree, parseIpv4 } from '#lib/cidr.ts'
import type { Draft } from './draft.ts'

/**
 * Picks free values of a pool, each going on from the last one given, so that concurrent commits rarely want the same
 * and a freed value rests. Only a hint: the claim decides, and a lost race picks again.
 */
export type Picker = {
  /** A free usable address of the network, undefined when there is none. `avoid` are addresses nobody may claim. */
  address(draft: Draft, pool: string, network: Cidr, avoid?: readonly string[]): Promise<string | undefined>
  /** The next free number in 0..max, undefined when there is none. */
  index(draft: Draft, pool: string, max: number): Promise<number | undefined>
  /** The next free number in a range, both ends included, undefined when there is none. `avoid` are numbers nobody may claim. */
  number(
    draft: Draft,
    pool: string,
    range: { readonly from: number; readonly to: number },
    avoid?: (value: number) => boolean,
  ): Promise<number | undefined>
}

export function createPicker(): Picker {
  const last = new Map<string, number>()
  const takenIn = async (draft: Draft, pool: string): Promise<Set<string>> =>
    new Set((await draft.claims(pool)).map((it) => it.value))
  const number: Picker['number'] = async (draft, pool, { from, to }, avoid = () => false) => {
    const taken = await takenIn(draft, pool)
    const size = to - from + 1
    const start = (last.get(pool) ?? from - 1) + 1 - from
    for (let step = 0; step < size; step++) {
      const value = from + ((start + step) % size)
      if (taken.has(String(value)) || avoid(value)) continue
      last.set(pool, value)
      return value
    }
    return undefined
  }
  return {
    number,
    async address(draft, pool, network, avoid = []) {
      const taken = await takenIn(draft, pool)
      for (const it of avoid) taken.add(it)
      const hint = last.get(pool) ?? Math.max(network.base, ...[...taken].map((it) => parseIpv4(it) ?? 0))
      const free = nextFree(network, (address) => taken.has(formatIpv4(address)), hint)
      if (free === undefined) return undefined
      last.set(pool, free)
      return formatIpv4(free)
    },
    index: async (draft, pool, max) => await number(draft, pool, { from: 0, to: max }),
  }
}
