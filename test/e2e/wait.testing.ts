import { setTimeout as sleep } from 'node:timers/promises'

/** Between two looks of `eventually`. */
const LOOK_EVERY_MS = 200

const shown = (value: unknown): string =>
  value instanceof Error ? value.message : (JSON.stringify(value)?.slice(0, 2000) ?? String(value))

/**
 * Looks until `look` gives something truthy and returns that. A throw counts as "not yet"; at the end of the time
 * the error says what was waited for and what was seen last.
 */
export async function eventually<T>(
  what: string,
  look: () => Promise<T> | T,
  timeoutMs: number,
): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs
  let last: unknown = 'nothing'
  for (;;) {
    try {
      const seen = await look()
      if (seen) return seen as NonNullable<T>
      last = seen
    } catch (error) {
      last = error
    }
    if (performance.now() >= end)
      throw new Error(`${what}: not within ${timeoutMs / 1000} s; last seen: ${shown(last)}`)
    await sleep(LOOK_EVERY_MS)
  }
}

/** `look` must give something truthy at every look for the whole time. */
export async function always(what: string, look: () => unknown, forMs: number): Promise<void> {
  const end = performance.now() + forMs
  while (performance.now() < end) {
    const seen = await look()
    if (!seen) throw new Error(`${what}: no longer true; seen: ${shown(seen)}`)
    await sleep(LOOK_EVERY_MS)
  }
}

/** Does every step although one before it failed, then throws what the first failure threw. */
export async function everyStep(...steps: (() => PromiseLike<unknown> | undefined)[]): Promise<void> {
  const failures: unknown[] = []
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}
