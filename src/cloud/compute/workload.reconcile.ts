import { isAhead } from '#lib/clock.ts'
import { isCloudError, messageOf } from '#lib/errors.ts'
import { again, gone, type Look, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import type { Draft } from '#engine/draft.ts'
import { addressClosed } from '#cloud/observe/usage.kind.ts'
import { type Recommendation, recommend, READ_EVERY_MS, stabilise } from './autoscale.ts'
import type { ComputeDriver } from './compute.driver.ts'
import { behindOf, paced } from './progress.ts'
import { replica, type Replica, serves } from './replica.kind.ts'
import type { AttachmentView } from './replica.reconcile.ts'
import type { Samples } from './samples.ts'
import { desiredOf, isSteady, renewed, stateOf, toReplace, waitsFor } from './state.ts'
import type { Workload } from './workload.kind.ts'

/** The last replica wakes it when it goes; this is for when that was missed. */
const EMPTYING_MS = 10_000
/** Each change of a replica wakes it; this is for one that passes with time. As long again as it was waited, within these. */
const PROGRESS_MS = 1000
const PROGRESS_MS_MAX = 10_000
const NETWORK_MS = 250
const RETRY_GROWTH_MS = 30_000

export type WorkloadTools = {
  readonly compute: ComputeDriver
  readonly network: AttachmentView
  readonly samples: Samples
  /** Makes one more slot in a commit of its own, so that a full quota does not undo the rest of the look. */
  grow(of: Workload): Promise<void>
}

/** Keeps a workload's slots as many as wanted and of the attempt wanted, and its status like them. */
export function reconcileWorkload({ compute, network, samples, grow }: WorkloadTools): Reconcile<Workload> {
  const histories = new Map<string, readonly Recommendation[]>()
  return async (it, look) => {
    if (it.deletedAt !== undefined) {
      histories.delete(it.id)
      if (look.dependents) return again(EMPTYING_MS, look.waitsFor)
      if (!network.isFreeOf(it.spec.vpc, it.id)) {
        look.draft.wake(`vpc/${it.spec.vpc}`)
        return again(NETWORK_MS, 'waiting for its network to let go of it')
      }
      await compute.removeVolume(it.id, look.signal)
      const { externalAddress } = it.spec
      if (externalAddress !== undefined) look.draft.record(addressClosed(it, externalAddress))
      return gone
    }
    const slots = await slotsOf(look.draft, it)
    const scaled = it.spec.autoscaling.enabled ? autoscale(it, slots, look, samples, histories) : undefined
    const desired = scaled?.desired ?? desiredOf(it)
    let trouble: string | undefined
    const live = slots.filter((slot) => slot.deletedAt === undefined)
    for (const extra of live.slice(desired)) look.draft.mark(extra)
    for (let missing = live.length; missing < desired && !trouble; missing++) {
      try {
        await grow({ ...it, status: { ...it.status, desired } })
      } catch (error) {
        if (!isCloudError(error)) throw error
        trouble = messageOf(error)
      }
    }
    for (const old of toReplace(it, live.slice(0, desired)))
      look.draft.edit(replica, old, { spec: renewed(old, it) })
    return await outcomeOf(it, slots, desired, scaled?.scaledAt ?? it.status.scaledAt, trouble, look)
  }
}

/** Oldest first, so that what is beyond the wanted number is the newest. */
const slotsOf = async (draft: Draft, it: Workload): Promise<Replica[]> =>
  await draft.list(replica, { tenant: it.tenant, terms: [`workload:${it.id}`] })

async function outcomeOf(
  it: Workload,
  slots: readonly Replica[],
  desired: number,
  scaledAt: number | undefined,
  trouble: string | undefined,
  { draft, why }: Look,
): Promise<Outcome<Workload['status']>> {
  const live = slots.filter((slot) => slot.deletedAt === undefined).slice(0, desired)
  const state = stateOf(it.status.state, desired, live)
  const message = trouble ?? state.message
  const behind = behindOf(live.map((slot) => slot.status.progress))
  const status: Workload['status'] = {
    state: state.state,
    ...(message === undefined ? {} : { message }),
    ...(behind ? { progress: paced(it.status.progress, behind, draft.now) } : {}),
    desired,
    ready: live.filter((slot) => serves(slot, it.id)).length,
    replicas: slots
      .toSorted((a, b) => a.spec.index - b.spec.index)
      .map((slot) => ({
        id: slot.id,
        index: slot.spec.index,
        address: slot.spec.address,
        phase: slot.deletedAt === undefined ? slot.status.phase : ('terminating' as const),
        ready: serves(slot, it.id),
        restarts: slot.status.restarts,
        ...(slot.status.message === undefined ? {} : { message: slot.status.message }),
      })),
    ...(scaledAt === undefined ? {} : { scaledAt }),
    changedAt: state.state === it.status.state ? (it.status.changedAt ?? it.createdAt) : draft.now,
  }
  if (trouble) return again(RETRY_GROWTH_MS, trouble, status)
  if (isSteady(desired, slots, it.spec.attempt, draft.now))
    return it.spec.autoscaling.enabled ? settled(status, READ_EVERY_MS) : settled(status)
  const waitedMs = draft.now - (status.changedAt ?? it.createdAt)
  const againMs = Math.min(Math.max(PROGRESS_MS, waitedMs), PROGRESS_MS_MAX)
  return again(againMs, await waitsFor(desired, slots, draft.now, why), status)
}

function autoscale(
  it: Workload,
  slots: readonly Replica[],
  { draft }: Look,
  samples: Samples,
  histories: Map<string, readonly Recommendation[]>,
): { desired: number; scaledAt: number | undefined } {
  const current = desiredOf(it)
  const { min, max, cpuTargetMillicores } = it.spec.autoscaling
  const ready = slots.filter((slot) => slot.status.ready && slot.deletedAt === undefined)
  const averageMillicores = samples.averageMillicores(
    ready.map((slot) => slot.id),
    draft.now,
  )
  // What somebody stopped carries nothing, and is not to be made up for.
  const stopped = slots.filter((slot) => slot.spec.stopped === true && slot.deletedAt === undefined).length
  const history = histories.get(it.id) ?? []
  const last = history.at(-1)
  if (averageMillicores === undefined || (last && isAhead(last.at + READ_EVERY_MS, READ_EVERY_MS, draft.now)))
    return { desired: current, scaledAt: it.status.scaledAt }
  const awake = recommend({
    replicas: Math.max(1, current - stopped),
    averageMillicores,
    targetMillicores: cpuTargetMillicores,
    min,
    max,
  })
  const replicas = Math.min(max, awake + stopped)
  const next = stabilise(current, history, { at: draft.now, replicas })
  histories.set(it.id, next.history)
  if (next.replicas !== current)
    draft.record({
      stream: 'event',
      tenant: it.tenant,
      subject: it.id,
      what: 'workload.scaled',
      body: {
        from: current,
        to: next.replicas,
        averageMillicores: Math.round(averageMillicores),
        cpuTargetMillicores,
      },
    })
  return { desired: next.replicas, scaledAt: next.replicas === current ? it.status.scaledAt : draft.now }
}
