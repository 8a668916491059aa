/**
 * Work on things by key, of two sorts: what only uses a thing goes side by side, what must meet nothing else goes alone.
 * In the order it was asked for, so that neither sort waits for ever.
 */
export type Turns = {
  using<T>(key: string, work: () => Promise<T>): Promise<T>
  alone<T>(key: string, work: () => Promise<T>): Promise<T>
}

/** The last that works alone, and what may work side by side since. */
type Turn = { alone: Promise<unknown>; using: Promise<unknown>[]; asked: number }

export function createTurns(): Turns {
  const turns = new Map<string, Turn>()
  const take = async <T>(key: string, isAlone: boolean, work: () => Promise<T>): Promise<T> => {
    const now: Turn = turns.get(key) ?? { alone: Promise.resolve(), using: [], asked: 0 }
    turns.set(key, now)
    now.asked++
    const before = Promise.allSettled(isAlone ? [now.alone, ...now.using] : [now.alone])
    const mine = before.then(work)
    if (isAlone) Object.assign(now, { alone: mine, using: [] })
    else now.using.push(mine)
    try {
      return await mine
    } finally {
      now.using = now.using.filter((it) => it !== mine)
      if (--now.asked === 0) turns.delete(key)
    }
  }
  return {
    using: (key, work) => take(key, false, work),
    alone: (key, work) => take(key, true, work),
  }
}
