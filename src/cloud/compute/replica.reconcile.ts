import { PLATFORM } from '#engine/resource.ts'
import { again, gone, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { provider } from '#cloud/network/provider.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import type { ComputeDriver, SeenContainer } from './compute.driver.ts'
import { type Containers, registryFor, wishOf } from './containers.ts'
import type { Replica } from './replica.kind.ts'
import { workload } from './workload.kind.ts'

const SOON_MS = 250
const NETWORK_WAIT_MS = 1000
const UNHEALTHY_MS = 2000
const FAILED_MS = 30_000
const PROGRESS_STEP_PERCENT = 10

/** What compute asks of the network: is this replica's attachment in force, does a VIP still lead to it. */
export type AttachmentView = {
  attached(vpc: string, replica: string): boolean
  serving(vpc: string, replica: string): boolean
}

/** Keeps one slot's container like its workload. */
export const reconcileReplica =
  (compute: ComputeDriver, containers: Containers, network: AttachmentView): Reconcile<Replica> =>
  async (it, { draft, signal }) => {
    if (it.deletedAt !== undefined) {
      if (network.serving(it.spec.vpc, it.id)) {
        draft.wake(`vpc/${it.spec.vpc}`)
        return again(SOON_MS, 'waiting for its VIP to let go of it')
      }
      containers.distrust(it.id)
      await compute.remove(it.id, signal)
      return (await compute.observe(it.id, signal))
        ? again(SOON_MS, 'waiting for its container to stop')
        : gone
    }
    const of = await draft.get(workload, it.tenant, it.spec.workload)
    const inVpc = await draft.get(vpc, it.tenant, it.spec.vpc)
    if (!of || !inVpc) return again(NETWORK_WAIT_MS, 'its workload is going')
    if (!network.attached(it.spec.vpc, it.id)) {
      draft.wake(`vpc/${it.spec.vpc}`)
      return again(NETWORK_WAIT_MS, 'waiting for its network')
    }
    const [config] = await draft.list(provider, { tenant: PLATFORM })
    const wish = wishOf(it, of, inVpc, config?.spec.ndots)
    let seen = await compute.observe(it.id, signal)
    if (!seen?.wanted || seen.attempt !== it.spec.attempt) containers.distrust(it.id)
    await containers.apply(wish, await registryFor(draft, of), signal)
    seen = await compute.observe(it.id, signal)
    if ((seen?.restarts ?? 0) > it.status.restarts && it.status.attempt === it.spec.attempt)
      draft.record({
        stream: 'event',
        tenant: it.tenant,
        subject: it.id,
        what: 'replica.restarted',
        body: { restarts: seen?.restarts },
      })
    if (wasReplaced(it, seen))
      draft.record({
        stream: 'event',
        tenant: it.tenant,
        subject: it.id,
        what: 'replica.drifted',
        body: { what: 'missing', thing: 'container', detail: 'its container is gone, or was made anew' },
      })
    return outcomeOf(it, seen)
  }

/** True when the container that ran is another one now though its replica asked for none, as after `docker rm -f`. */
const wasReplaced = (it: Replica, seen: SeenContainer | undefined): boolean =>
  it.observed === it.generation &&
  it.status.attempt === it.spec.attempt &&
  it.status.runtimeId !== undefined &&
  seen?.attempt === it.spec.attempt &&
  seen.runtimeId !== it.status.runtimeId

/** What a look at the container says of the replica; `restarts` grows over attempts, as a person counts them. */
export function outcomeOf(it: Replica, seen: SeenContainer | undefined): Outcome<Replica['status']> {
  if (!seen || seen.attempt !== it.spec.attempt)
    return again(SOON_MS, 'its container is being made', it.status)
  const status: Replica['status'] = {
    phase: phaseOf(seen),
    ready: seen.state === 'running' && seen.ready,
    restarts: seen.restarts,
    attempt: seen.attempt,
    ...optional('message', messageOf(seen)),
    ...optional('runtimeId', seen.runtimeId),
    ...optional('startedAt', seen.startedAt),
    ...optional('exitCode', seen.state === 'exited' ? (seen.exitCode ?? 0) : undefined),
  }
  switch (seen.state) {
    case 'running':
      return seen.ready ? settled(status) : settled(status, UNHEALTHY_MS)
    case 'exited':
      return settled(status)
    case 'failed':
      return settled(status, FAILED_MS)
    case 'pulling':
    case 'waiting':
    case 'starting':
    case 'stopping':
      return again(SOON_MS, status.message ?? `its container is ${seen.state}`, status)
  }
}

const optional = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { [P in K]?: V })

function phaseOf(seen: SeenContainer): Replica['status']['phase'] {
  if (seen.state === 'running') return 'running'
  if (seen.state === 'failed') return 'failed'
  if (seen.state === 'exited') return (seen.exitCode ?? 0) === 0 ? 'succeeded' : 'failed'
  return 'pending'
}

function messageOf(seen: SeenContainer): string | undefined {
  if (seen.state !== 'pulling' || !seen.progress?.totalBytes) return seen.message
  const percent = (100 * seen.progress.doneBytes) / seen.progress.totalBytes
  return `pulling the image, ${Math.floor(percent / PROGRESS_STEP_PERCENT) * PROGRESS_STEP_PERCENT} %`
}
