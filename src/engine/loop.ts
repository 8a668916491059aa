import { setTimeout as pause } from 'node:timers/promises'
import type { Clock, SimulatedClock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { BACKOFF_MS_MAX, look, LOOK_MS_MAX, type LookContext, overdueReason, reasonSoFar } from './look.ts'
import type { Patrol } from './reconcile.ts'
import { type Key, keyOf, splitKey } from './resource.ts'
import type { Mutation, Work } from './store.ts'

/** Looks at once, of all kinds and of one kind unless its reconciler says otherwise. */
export const LOOKS_MAX = 64
export const LOOKS_PER_KIND = 16
/** Looks that have ended but for their commit, and those at once: many share an fsync. */
const UNKEPT_MAX = 256
/** Longer than a look can take, so that a lease lapses only with its process. */
const LEASE_MS = 2 * LOOK_MS_MAX
/** How long looks may go on after they were told to stop. */
const STOP_MS_MAX = 10_000
const STORE_RETRY_MS = 1000
const LATE_SWEEP_MS = 1000
const LATE_MAX = 200
/** The loop is awake every second: more than that back, or this much forward at once, is no passing of time. */
const STEP_BACK_MS_MIN = 1000
const STEP_FORWARD_MS_MIN = 60_000
const WAKES_PER_COMMIT_MAX = 500
const SETTLE_ROUNDS_MAX = 20_000

/** Marks as overdue what should have settled by now, with what its last look said. */
async function sweepLate(given: LookContext): Promise<void> {
  const { store, clock, kinds } = given.context
  const marks: Mutation[] = []
  for (const id of await store.late(clock.now(), LATE_MAX)) {
    const it = await store.get(id)
    const kind = it && kinds.get(it.kind)
    if (!kind) continue
    const key = keyOf(it)
    const why = reasonSoFar(given, key, (await store.queue(key))?.reason)
    marks.push({ do: 'overdue', id, reason: overdueReason(kind, it, why) })
  }
  if (marks.length) await store.commit(marks)
}

/** Wakes one sleeper, also one that falls asleep just after. */
function bell() {
  let rung = false
  let ring = (): void => {}
  return {
    ring(): void {
      rung = true
      ring()
    },
    /** What rang so far is heard. */
    hear(): void {
      rung = false
    },
    isRinging: (): boolean => rung,
    /** Until it rings, the time is over or the signal aborts. */
    async sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
      if (rung || signal.aborted) return
      const waking = new AbortController()
      ring = () => waking.abort()
      signal.addEventListener('abort', ring, { once: true })
      try {
        await clock.sleep(ms, waking.signal)
      } catch (error) {
        if (!waking.signal.aborted) throw error
      } finally {
        signal.removeEventListener('abort', ring)
        ring = () => {}
      }
    },
  }
}

/** The looks under way, with their bounds. `onRoom` is called when one more may begin. */
function openWorkers(given: LookContext, signal: AbortSignal, onRoom: () => void) {
  const running = new Map<Work, Promise<void>>()
  let atWork = 0
  const counts = new Map<string, number>()
  let broken: { error: unknown } | undefined
  const boundOf = new Map(given.reconcilers.map((it) => [it.kind.name, it.concurrency ?? LOOKS_PER_KIND]))
  /** The store refused to keep what a look came to (a full disk): the key is due again a little later. */
  async function putBack(work: Work, error: unknown): Promise<void> {
    given.log.error('look could not be kept', { key: work.lease.key, error })
    await given.context.clock.sleep(STORE_RETRY_MS, signal).catch(() => {})
    await given.context.store.drop(work.lease).catch((reason: unknown) => {
      broken ??= { error: reason }
    })
  }
  const count = (kind: string, by: number): void => void counts.set(kind, (counts.get(kind) ?? 0) + by)

  return {
    running,
    free: (): number => Math.min(LOOKS_MAX - atWork, UNKEPT_MAX - running.size),
    room: (): Record<string, number> =>
      Object.fromEntries([...boundOf].map(([kind, bound]) => [kind, bound - (counts.get(kind) ?? 0)])),
    start(work: Work): void {
      const { kind } = splitKey(work.lease.key)
      count(kind, 1)
      atWork++
      let isAtWork = true
      const leave = (): void => {
        if (!isAtWork) return
        isAtWork = false
        atWork--
        count(kind, -1)
        onRoom()
      }
      const done = look(given, work, signal, leave)
        .catch((error: unknown) => putBack(work, error))
        .finally(() => {
          running.delete(work)
          leave()
          onRoom()
        })
      running.set(work, done)
    },
    /** Throws when the store is gone for good, since nothing more can be done without it. */
    check(): void {
      if (broken) throw broken.error
    },
  }
}

/** How far the clock was set since this was asked last, or for how long nobody was awake to ask; 0 for less than a step. */
function stepsOf(clock: Clock): () => number {
  let seenAt = clock.now()
  return () => {
    const passed = clock.now() - seenAt
    seenAt += passed
    return passed < -STEP_BACK_MS_MIN || passed > STEP_FORWARD_MS_MIN ? passed : 0
  }
}

async function retime({ context }: LookContext, byMs: number): Promise<void> {
  const settleMsMax = Object.fromEntries(
    [...context.kinds.values()].map((it) => [it.name, it.settleSecondsMax * 1000]),
  )
  await context.store.retime({ now: context.clock.now(), byMs, waitMsMax: BACKOFF_MS_MAX, settleMsMax })
}

/** Works the queue until the signal aborts. A commit that enqueues something is noticed at once, not at the next poll. */
export async function runLoop(
  given: LookContext,
  patrols: readonly Patrol[],
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = given.context
  const { ring, hear, isRinging, sleep } = bell()
  const stopListening = store.onWork(ring)
  const stopping = new AbortController()
  const stop = AbortSignal.any([signal, stopping.signal])
  const workers = openWorkers(given, stop, ring)
  const patrolling = patrols.map((it) => runPatrol(given, it, stop))
  const step = stepsOf(clock)
  let sweepAt = clock.now()
  // The clock may have been set while no process ran.
  let byMs: number | undefined = 0
  try {
    while (!signal.aborted) {
      hear()
      workers.check()
      byMs = step() || byMs
      if (byMs !== undefined) {
        if (byMs !== 0) given.log.warn('the clock was set', { byMs })
        await retime(given, byMs).catch((error: unknown) => given.log.error('retime failed', { error }))
        byMs = undefined
        sweepAt = Math.min(sweepAt, clock.now())
      }
      const room = workers.room()
      const works = workers.free() > 0 ? await store.take(clock.now(), workers.free(), LEASE_MS, room) : []
      for (const work of works) workers.start(work)
      if (clock.now() >= sweepAt) {
        await sweepLate(given).catch((error: unknown) => given.log.error('late sweep failed', { error }))
        sweepAt = clock.now() + LATE_SWEEP_MS
      }
      // Something may be due again by now: what will be next need not be known.
      if (isRinging()) continue
      const full = Object.entries(workers.room()).flatMap(([kind, left]) => (left > 0 ? [] : [kind]))
      const next = workers.free() > 0 ? await store.nextDue(full) : undefined
      const until = Math.min(next ?? sweepAt, sweepAt)
      await sleep(clock, Math.min(Math.max(0, until - clock.now()), LATE_SWEEP_MS), signal)
    }
  } finally {
    stopListening()
    stopping.abort()
    const all = Promise.allSettled([...workers.running.values(), ...patrolling])
    const patience = new AbortController()
    await Promise.race([all, pause(STOP_MS_MAX, undefined, { signal: patience.signal }).catch(() => {})])
    patience.abort()
    for (const work of workers.running.keys()) await store.drop(work.lease).catch(() => {})
  }
}

async function runPatrol(given: LookContext, patrol: Patrol, signal: AbortSignal): Promise<void> {
  const { store, clock } = given.context
  while (!signal.aborted) {
    try {
      const keys = [...new Set(await patrol.run(signal))]
      for (let from = 0; from < keys.length; from += WAKES_PER_COMMIT_MAX) {
        const some = keys.slice(from, from + WAKES_PER_COMMIT_MAX)
        await store.commit(some.map((key: Key) => ({ do: 'enqueue', key, at: clock.now() })))
      }
    } catch (error) {
      if (signal.aborted) return
      given.log.warn('patrol failed', { patrol: patrol.name, reason: messageOf(error), error })
    }
    await clock.sleep(patrol.everyMs, signal).catch(() => {})
  }
}

/** Works what is due within a time, moving a simulated clock from one due moment to the next. */
export async function settleLoop(given: LookContext, withinMs: number): Promise<void> {
  const { store } = given.context
  const clock = given.context.clock as Clock & Partial<SimulatedClock>
  const never = new AbortController().signal
  const deadline = clock.now() + withinMs
  for (let round = 0; round < SETTLE_ROUNDS_MAX; round++) {
    const works = await store.take(clock.now(), LOOKS_MAX, LEASE_MS)
    if (works.length) {
      await Promise.all(works.map((work) => look(given, work, never)))
      continue
    }
    await sweepLate(given)
    const next = (await store.nextDue()) ?? Infinity
    // Turning overdue is something that is due, too.
    if (next > deadline && !(await store.late(deadline, 1)).length) return
    const ms = Math.max(0, Math.min(next, deadline) - clock.now())
    if (clock.advance) await clock.advance(ms)
    else await clock.sleep(ms, never)
  }
  throw new Error(`still busy after ${SETTLE_ROUNDS_MAX} rounds: something wakes itself for ever`)
}
