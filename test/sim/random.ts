/** The one source of chance of a history: the same seed draws the same numbers. */
export type Random = {
  /** In [0, 1). */
  next(): number
  /** A whole number from 0 up to, but not including, `below`. */
  int(below: number): number
  chance(probability: number): boolean
  pick<T>(list: readonly T[]): T
  /** One of the names, each as likely as its weight among all. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K
}

const WORD = 0x1_0000_0000

/** A small fast counting generator (sfc32), seeded by a whole number. */
export function seeded(seed: number): Random {
  let [a, b, c, counter] = [seed >>> 0, Math.floor(seed / WORD) >>> 0, 0x9e37_79b9, 1]
  const step = (): number => {
    const sum = (a + b + counter) >>> 0
    counter = (counter + 1) >>> 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) >>> 0
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0
    return sum
  }
  for (let round = 0; round < 15; round++) step()
  const next = (): number => step() / WORD
  const int = (below: number): number => Math.floor(next() * below)
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick<T>(list: readonly T[]): T {
      if (!list.length) throw new Error('nothing to pick from')
      return list[int(list.length)] as T
    },
    weighted(weights) {
      const entries = Object.entries(weights) as [keyof typeof weights & string, number][]
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
      for (const [name, weight] of entries) if ((left -= weight) < 0) return name
      return entries[0]?.[0] as keyof typeof weights & string
    },
  }
}
