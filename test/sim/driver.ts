import type { Life, Schedule } from './schedule.ts'
import type { Random } from './random.ts'

/** What may befall a call: it is refused, done but its answer is lost, done late and after its caller gave up, or slow. */
export type Trouble = 'before' | 'after' | 'late' | 'slow'

/** How likely each is, per call. */
export type TroubleRates = Readonly<Record<Trouble, number>>
export const CALM: TroubleRates = { before: 0, after: 0, late: 0, slow: 0 }

const ANSWER_MS_MAX = 5
const SLOW_MS_MAX = 20_000
/** After this a caller has given up; a late call is done at most so much later. */
const GIVE_UP_MS = 10_000
const LATE_MS_MAX = 30_000

/** Calls that will be done late, by what they are about. They outlive the process that made them. */
export type Pending = Map<string, Promise<unknown>>

export type FaultyOptions = {
  readonly pending: Pending
  readonly name: string
  readonly schedule: Schedule
  readonly random: Random
  rates(): TroubleRates
  /** Told of every trouble that was made, with the place in the program that called. */
  onTrouble(verb: string, trouble: Trouble, from: string): void
  trace(line: string): void
}

type AnyFunction = (...args: never[]) => unknown

/** Where in `src` the call came from: the innermost frame outside of drivers and tests. */
function callerOf(stack: string): string {
  const frame = stack.split('\n').find((line) => /\/src\/(cloud|engine|apis)\//.test(line))
  return /\/src\/([^:)]+)/.exec(frame ?? '')?.[1] ?? 'elsewhere'
}

const idOf = (argument: unknown): string => {
  if (typeof argument === 'string') return argument
  const { id, vpc } = (argument ?? {}) as { id?: string; vpc?: string }
  return id ?? vpc ?? ''
}

/**
 * A driver as one process sees it: every verb it has, found by its own keys, passes points where others go first, and
 * meets with trouble. Once the process is killed nothing is answered to it any more.
 */
export function faulty<D extends object>(driver: D, life: Life, options: FaultyOptions): D {
  const { name, schedule, random, trace, pending } = options
  const never = new Promise<never>(() => {})
  const draw = (verb: string, from?: string): Trouble | undefined => {
    const rates = options.rates()
    const kinds: readonly Trouble[] = ['before', 'after', 'late', 'slow']
    let left = random.next()
    const trouble = kinds.find((it) => (left -= rates[it]) < 0)
    if (trouble)
      options.onTrouble(`${name}.${verb}`, trouble, from ?? callerOf(new Error('called').stack ?? ''))
    return trouble
  }

  async function call(verb: string, method: AnyFunction, args: readonly unknown[]): Promise<unknown> {
    const trouble = draw(verb)
    const id = idOf(args[0])
    if (trouble) trace(`${name}.${verb} ${id} ${trouble}`)
    const run = async (): Promise<unknown> => await (method as (...all: unknown[]) => unknown)(...args)
    if (trouble === 'before') {
      await schedule.point(life)
      throw new Error(`${name}.${verb} failed (simulated)`)
    }
    if (trouble === 'late') {
      const done = schedule.point(undefined, GIVE_UP_MS + random.int(LATE_MS_MAX)).then(run)
      pending.set(
        id,
        done.catch(() => {}),
      )
      await schedule.point(life, GIVE_UP_MS)
      throw new Error(`${name}.${verb} took too long (simulated)`)
    }
    await schedule.point(life, trouble === 'slow' ? random.int(SLOW_MS_MAX) : random.int(ANSWER_MS_MAX))
    // The other side does what it is asked about one thing in the order it was asked.
    await pending.get(id)
    const result = await run()
    await schedule.point(life)
    if (trouble === 'after') throw new Error(`the answer of ${name}.${verb} was lost (simulated)`)
    return result
  }

  /** A stream that may break, and that ends with its process. */
  async function* stream(
    verb: string,
    from: string,
    open: () => AsyncIterable<unknown>,
  ): AsyncIterable<unknown> {
    await schedule.point(life)
    const refused = draw(verb, from)
    if (refused === 'before') throw new Error(`${name}.${verb} failed (simulated)`)
    for await (const item of open()) {
      if (!life.alive) await never
      const trouble = draw(verb, from)
      if (trouble && trouble !== 'slow') throw new Error(`${name}.${verb} broke (simulated)`)
      await schedule.point(life)
      yield item
    }
  }

  return new Proxy(driver, {
    get(target, key) {
      const member = Reflect.get(target, key) as unknown
      if (typeof member !== 'function' || typeof key !== 'string') return member
      const method = (member as AnyFunction).bind(target)
      if (member.constructor.name === 'AsyncGeneratorFunction')
        return (...args: never[]) => {
          const from = callerOf(new Error('called').stack ?? '')
          return stream(key, from, () => method(...args) as AsyncIterable<unknown>)
        }
      return async (...args: unknown[]) => await call(key, method, args)
    },
  })
}
