import { isCurrent, type Replica } from './replica.kind.ts'
import type { Workload } from './workload.kind.ts'

/** Replicas wanted now: what the autoscaler says, within its bounds, or the number asked for. */
export function desiredOf({ spec, status }: Workload): number {
  const { enabled, min, max } = spec.autoscaling
  return enabled ? Math.min(max, Math.max(min, status.desired)) : spec.replicas
}

/** Whether the workload ended by itself and only a restart brings it back; a function is done then, and as it should be. */
export const endedOf = (it: Workload): boolean =>
  it.status.state === 'stopped' &&
  it.observed === it.generation &&
  it.spec.function !== true &&
  it.status.replicas.some((one) => one.phase !== 'stopped')

type State = Pick<Workload['status'], 'state' | 'message'>

/** Ended by itself, as opposed to never having started. */
const hasEnded = (it: Replica): boolean =>
  isCurrent(it) &&
  it.status.exitCode !== undefined &&
  (it.status.phase === 'succeeded' || it.status.phase === 'failed')

const hasFailed = (it: Replica): boolean => isCurrent(it) && it.status.phase === 'failed' && !hasEnded(it)

/** A workload's state from its live replicas and how many are wanted; `before` tells a first start from a loss. */
export function stateOf(
  before: Workload['status']['state'],
  desired: number,
  live: readonly Replica[],
): State {
  const awake = live.filter((it) => it.spec.stopped !== true && it.spec.paused !== true)
  if (live.length > 0 && awake.length === 0)
    return {
      state: 'stopped',
      message: `Its replicas wait to be ${live.some((it) => it.spec.stopped !== true) ? 'resumed' : 'started'}`,
    }
  return stateAwake(before, desired - (live.length - awake.length), awake)
}

function stateAwake(before: Workload['status']['state'], desired: number, live: readonly Replica[]): State {
  const ready = live.filter((it) => isCurrent(it) && it.status.ready).length
  const failed = live.find(hasFailed)
  if (desired > 0 && ready >= desired) return { state: 'running' }
  if (failed && ready === 0)
    return { state: 'error', message: failed.status.message ?? 'A replica cannot start' }
  const ended = live.find(hasEnded)
  if (ended && live.every(hasEnded))
    return { state: 'stopped', message: `The workload ended with exit code ${ended.status.exitCode}` }
  if (before === 'running' || before === 'degraded' || ended || failed) {
    const message = failed?.status.message ?? live.find((it) => it.status.message)?.status.message
    return { state: 'degraded', ...(message === undefined ? {} : { message }) }
  }
  const message = live.find((it) => it.status.message)?.status.message
  return { state: 'pending', ...(message === undefined ? {} : { message }) }
}

/** One that started again must run this long before it counts as settled, so that a crash loop turns overdue. */
const STABLE_MS = 60_000

/** Whether a replica that runs can be taken to go on running. */
export const isStable = ({ restarts, startedAt }: Replica['status'], now: number): boolean =>
  restarts === 0 || now - (startedAt ?? now) >= STABLE_MS

/** Stopped or frozen by hand, and seen to be so. */
const isHalted = ({ status }: Replica): boolean => status.phase === 'stopped' || status.phase === 'paused'

/** Whether nothing more is on its way: every replica runs, has ended or has failed under the attempt that is wanted. */
export const isSteady = (desired: number, slots: readonly Replica[], attempt: number, now: number): boolean =>
  slots.length === desired &&
  slots.every(
    (it) =>
      it.deletedAt === undefined &&
      it.spec.attempt === attempt &&
      isCurrent(it) &&
      ((it.status.ready && isStable(it.status, now)) ||
        isHalted(it) ||
        it.status.phase === 'failed' ||
        it.status.phase === 'succeeded'),
  )

const NAMED_MAX = 3

const lackOf = (it: Replica, why: string | undefined): string => {
  if (it.deletedAt !== undefined) return why ?? 'it is going'
  if (!isCurrent(it)) return why ?? 'its container is not there yet'
  if (it.status.ready) return `it started again ${it.status.restarts} times`
  return it.status.message ?? why ?? `it is ${it.status.phase}`
}

/** What a workload that is not steady waits for, by the names of its replicas. */
export async function waitsFor(
  desired: number,
  slots: readonly Replica[],
  now: number,
  why: (it: Replica) => Promise<string | undefined>,
): Promise<string> {
  const live = slots.filter((it) => it.deletedAt === undefined)
  const lacking = slots.filter(
    (it) =>
      it.deletedAt !== undefined ||
      !isCurrent(it) ||
      (!isHalted(it) && (!it.status.ready || !isStable(it.status, now))),
  )
  const named: string[] = []
  for (const it of lacking.slice(0, NAMED_MAX)) named.push(`${it.name}: ${lackOf(it, await why(it))}`)
  if (live.length < desired) named.push(`${desired - live.length} more are to be made`)
  const more = lacking.length - NAMED_MAX
  return `waits for its replicas (${named.join('; ')}${more > 0 ? ` and ${more} more` : ''})`
}

/**
 * The slots to give the workload's attempt now. A restart goes through what serves one by one, each once those before it
 * are ready again or have ended; what does not serve, and every other change, goes at once.
 */
export function toReplace({ spec }: Pick<Workload, 'spec'>, live: readonly Replica[]): readonly Replica[] {
  const old = live.filter((it) => it.spec.attempt < spec.attempt)
  if (spec.change !== 'restart' || live.length < 2) return old
  const idle = old.filter((it) => !it.status.ready || !isCurrent(it))
  if (idle.length) return idle
  const renewed = live.filter((it) => it.spec.attempt === spec.attempt)
  // One that ended by itself comes back no more: the others need not wait for it.
  const isDone = (it: Replica): boolean => it.status.ready || isHalted(it) || hasEnded(it)
  return renewed.every((it) => isCurrent(it) && isDone(it)) ? old.slice(0, 1) : []
}

/** A slot under its workload's attempt. A restart starts what was stopped or frozen, but no function: that waits to be asked. */
export function renewed(it: Replica, { spec }: Pick<Workload, 'spec'>): Replica['spec'] {
  const { stopped, paused, ...kept } = it.spec
  const waits = stopped === true && (spec.change !== 'restart' || spec.function === true)
  return {
    ...kept,
    ...(waits ? { stopped } : {}),
    ...(paused === true && spec.change !== 'restart' ? { paused } : {}),
    attempt: spec.attempt,
  }
}
