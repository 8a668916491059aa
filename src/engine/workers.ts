import { look, LOOK_MS_MAX, type LookContext } from './look.ts'
import { splitKey } from './resource.ts'
import type { Work } from './store.ts'

/** Looks at once, of all kinds and of one kind unless its reconciler says otherwise. */
export const LOOKS_MAX = 64
export const LOOKS_PER_KIND = 16
/** Longer than a look can take, so that a lease lapses only with its process. */
export const LEASE_MS = 2 * LOOK_MS_MAX
/** Works taken and not yet kept at once: looks, those of which only the commit is left, and those that wait for room. */
const HELD_MAX = 256
/** Works of one kind that wait here for room at most. */
const AHEAD_MAX = 64
const STORE_RETRY_MS = 1000

/** What is known of one kind: its bound, looks at work, works that wait for room, looks that ended since the last take. */
type Lane = { readonly bound: number; atWork: number; ended: number; readonly waiting: Taken[] }
type Taken = { readonly work: Work; readonly at: number }

/**
 * The looks under way, with their bounds. Of a kind as many works are taken ahead as ended since the last take: looks that
 * are over at once never wait for the store's next answer, and of slow ones none is kept from being woken again meanwhile.
 * `onRoom` is called when more may be taken.
 */
export function openWorkers(given: LookContext, signal: AbortSignal, onRoom: () => void) {
  const { store, clock } = given.context
  const held = new Map<Work, Promise<void>>()
  const lanes = new Map<string, Lane>()
  let atWork = 0
  let broken: { error: unknown } | undefined

  function laneOf(kind: string): Lane {
    let lane = lanes.get(kind)
    if (!lane) {
      const bound = given.reconcilers.find((it) => it.kind.name === kind)?.concurrency ?? LOOKS_PER_KIND
      lanes.set(kind, (lane = { bound, atWork: 0, ended: 0, waiting: [] }))
    }
    return lane
  }
  for (const { kind } of given.reconcilers) laneOf(kind.name)

  async function drop(work: Work): Promise<void> {
    await store.drop(work.lease).catch((reason: unknown) => {
      broken ??= { error: reason }
    })
  }
  /** The store refused to keep what a look came to (a full disk): the key is due again a little later. */
  async function putBack(work: Work, error: unknown): Promise<void> {
    given.log.error('look could not be kept', { key: work.lease.key, error })
    await clock.sleep(STORE_RETRY_MS, signal).catch(() => {})
    await drop(work)
  }

  function start(lane: Lane, { work, at }: Taken): void {
    // Its lease must not lapse under way.
    const isLate = clock.now() - at > LOOK_MS_MAX
    let isAtWork = true
    lane.atWork++
    atWork++
    const leave = (): void => {
      if (!isAtWork) return
      isAtWork = false
      lane.atWork--
      lane.ended++
      atWork--
      startWaiting()
      onRoom()
    }
    const done = (isLate ? drop(work) : look(given, work, signal, leave))
      .catch((error: unknown) => putBack(work, error))
      .finally(() => {
        held.delete(work)
        leave()
        onRoom()
      })
    held.set(work, done)
  }
  function startWaiting(): void {
    if (signal.aborted) return
    for (const lane of lanes.values()) {
      while (atWork < LOOKS_MAX && lane.atWork < lane.bound) {
        const next = lane.waiting.shift()
        if (!next) break
        start(lane, next)
      }
    }
  }
  const waiting = (): Taken[] => [...lanes.values()].flatMap((it) => it.waiting)
  const roomOf = (lane: Lane): number => lane.bound - lane.atWork - lane.waiting.length
  const roomForAll = (): number => {
    const many = waiting().length
    return Math.min(LOOKS_MAX - atWork - many, HELD_MAX - held.size - many)
  }

  return {
    /** Takes what is due and may be looked at, or soon may. */
    async take(): Promise<void> {
      let limit = roomForAll()
      if (limit <= 0) return
      const room: Record<string, number> = {}
      for (const [kind, lane] of lanes) {
        const ahead = Math.min(lane.ended, AHEAD_MAX)
        lane.ended = 0
        room[kind] = roomOf(lane) + ahead
        limit += ahead
      }
      const at = clock.now()
      for (const work of await store.take(at, limit, LEASE_MS, room))
        laneOf(splitKey(work.lease.key).kind).waiting.push({ work, at })
      startWaiting()
    },
    /** Kinds of which no more is looked at now; undefined when there is no room for any. */
    full(): string[] | undefined {
      if (roomForAll() <= 0) return undefined
      return [...lanes].flatMap(([kind, lane]) => (roomOf(lane) > 0 ? [] : [kind]))
    },
    /** Throws when the store is gone for good, since nothing more can be done without it. */
    check(): void {
      if (broken) throw broken.error
    },
    /** Until every look has ended. */
    async ended(): Promise<void> {
      await Promise.allSettled(held.values())
    },
    /** Gives up the leases of what has not ended. */
    async dropAll(): Promise<void> {
      for (const work of [...held.keys(), ...waiting().map((it) => it.work)])
        await store.drop(work.lease).catch(() => {})
    },
  }
}
