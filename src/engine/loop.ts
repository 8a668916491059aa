import { setTimeout as pause } from 'node:timers/promises'
import type { Clock, SimulatedClock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { BACKOFF_MS_MAX, look, type LookContext, overdueReason, reasonSoFar } from './look.ts'
import type { Patrol } from './reconcile.ts'
import { type Key, keyOf } from './resource.ts'
import type { Mutation } from './store.ts'
import { LEASE_MS, LOOKS_MAX, openWorkers } from './workers.ts'

/** How long looks may go on after they were told to stop. */
const STOP_MS_MAX = 10_000
const LATE_SWEEP_MS = 1000
const LATE_MAX = 200
/** The loop is awake every second: more than that back, or this much forward at once, is no passing of time. */
const STEP_BACK_MS_MIN = 1000
const STEP_FORWARD_MS_MIN = 60_000
/** Keys that are woken in one commit at most: others wait for it. */
export const WAKES_PER_COMMIT_MAX = 500
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
      await workers.take()
      if (clock.now() >= sweepAt) {
        await sweepLate(given).catch((error: unknown) => given.log.error('late sweep failed', { error }))
        sweepAt = clock.now() + LATE_SWEEP_MS
      }
      // Something may be due again by now: what will be next need not be known.
      if (isRinging()) continue
      const full = workers.full()
      const next = full && (await store.nextDue(full))
      const until = Math.min(next ?? sweepAt, sweepAt)
      await sleep(clock, Math.min(Math.max(0, until - clock.now()), LATE_SWEEP_MS), signal)
    }
  } finally {
    stopListening()
    stopping.abort()
    const all = Promise.allSettled([workers.ended(), ...patrolling])
    const patience = new AbortController()
    await Promise.race([all, pause(STOP_MS_MAX, undefined, { signal: patience.signal }).catch(() => {})])
    patience.abort()
    await workers.dropAll()
  }
}

async function runPatrol(given: LookContext, patrol: Patrol, signal: AbortSignal): Promise<void> {
  const { store, clock } = given.context
  // Kept until they are in the queue: a patrol mostly tells what is new since it was asked before.
  const keys = new Set<Key>()
  const failed = (error: unknown): void => {
    if (!signal.aborted)
      given.log.warn('patrol failed', { patrol: patrol.name, reason: messageOf(error), error })
  }
  while (!signal.aborted) {
    try {
      for (const key of await patrol.run(signal)) keys.add(key)
    } catch (error) {
      failed(error)
    }
    try {
      while (keys.size) {
        const some = [...keys].slice(0, WAKES_PER_COMMIT_MAX)
        await store.commit(some.map((key) => ({ do: 'enqueue', key, at: clock.now() })))
        for (const key of some) keys.delete(key)
      }
    } catch (error) {
      failed(error)
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
