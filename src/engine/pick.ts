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

const NONE: ReadonlySet<string> = new Set()

/** Values that are asked for one by one before the whole pool is read. */
const ASKED_MAX = 16

export function createPicker(): Picker {
  const last = new Map<string, number>()
  const takenIn = async (draft: Draft, pool: string): Promise<Set<string>> =>
    new Set((await draft.claims(pool)).map((it) => it.value))

  /**
   * The next free one, going on from the last one given: that is free nearly always, so that a pool of many is not read
   * for one of them. `next` is the one after another that may be given and is not among those `taken`, going round once.
   */
  async function pick(
    draft: Draft,
    pool: string,
    how: {
      next(after: number, taken: ReadonlySet<string>): number | undefined
      text(value: number): string
      first(taken: ReadonlySet<string>): number
    },
  ): Promise<number | undefined> {
    for (let asked = 0; asked < ASKED_MAX; asked++) {
      const before = last.get(pool)
      if (before === undefined) break
      const value = how.next(before, NONE)
      if (value === undefined) return undefined
      // Kept before it is asked for: who picks meanwhile goes on from it.
      last.set(pool, value)
      if (!(await draft.claimed(pool, how.text(value)))) return value
    }
    const taken = await takenIn(draft, pool)
    const value = how.next(last.get(pool) ?? how.first(taken), taken)
    if (value !== undefined) last.set(pool, value)
    return value
  }

  const number: Picker['number'] = async (draft, pool, { from, to }, avoid = () => false) => {
    const size = to - from + 1
    return await pick(draft, pool, {
      text: String,
      first: () => from - 1,
      next(after, taken) {
        const start = after < from || after > to ? 0 : after + 1 - from
        for (let step = 0; step < size; step++) {
          const value = from + ((start + step) % size)
          if (!taken.has(String(value)) && !avoid(value)) return value
        }
        return undefined
      },
    })
  }
  return {
    number,
    async address(draft, pool, network, avoid = []) {
      const avoided = new Set(avoid)
      const free = await pick(draft, pool, {
        text: formatIpv4,
        first: (taken) => Math.max(network.base, ...[...taken, ...avoid].map((it) => parseIpv4(it) ?? 0)),
        next(after, taken) {
          const isTaken = (address: number): boolean => {
            const text = formatIpv4(address)
            return taken.has(text) || avoided.has(text)
          }
          return nextFree(network, isTaken, after)
        },
      })
      return free === undefined ? undefined : formatIpv4(free)
    },
    index: async (draft, pool, max) => await number(draft, pool, { from: 0, to: max }),
  }
}
