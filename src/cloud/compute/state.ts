import type { Replica } from './replica.kind.ts'
import type { Workload } from './workload.kind.ts'

/** Replicas wanted now: what the autoscaler says, within its bounds, or the number asked for. */
export function desiredOf({ spec, status }: Workload): number {
  const { enabled, min, max } = spec.autoscaling
  return enabled ? Math.min(max, Math.max(min, status.desired)) : spec.replicas
}

/** Whether the workload ended by itself and only a restart brings it back. */
export const endedOf = (it: Workload): boolean =>
  it.status.state === 'stopped' && it.observed === it.generation

type State = Pick<Workload['status'], 'state' | 'message'>

const isCurrent = (it: Replica): boolean => it.status.attempt === it.spec.attempt

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

/** Whether nothing more is on its way: every replica runs, has ended or has failed under the attempt that is wanted. */
export const isSteady = (desired: number, slots: readonly Replica[], attempt: number): boolean =>
  slots.length === desired &&
  slots.every(
    (it) =>
      it.deletedAt === undefined &&
      it.spec.attempt === attempt &&
      isCurrent(it) &&
      (it.status.ready || it.status.phase === 'failed' || it.status.phase === 'succeeded'),
  )
