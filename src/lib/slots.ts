/** Runs at most `max` pieces of work at once; the others wait their turn. */
export function slots(max: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let used = 0
  return async (work) => {
    if (used >= max) await new Promise<void>((go) => waiting.push(go))
    else used++
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else used--
    }
  }
}
