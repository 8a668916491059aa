import { isAhead } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Draft } from '#engine/draft.ts'
import { again, gone, type Look, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { provider } from '#cloud/network/provider.kind.ts'
import { vpc, type Vpc } from '#cloud/network/vpc.kind.ts'
import { meter, type ReplicaClass } from '#cloud/observe/usage.kind.ts'
import type { ComputeDriver, ContainerWish, HealthCheck, SeenContainer } from './compute.driver.ts'
import { type Containers, registryFor, wishOf, withNames } from './containers.ts'
import type { LastWords } from './last-words.ts'
import { paced, type Progress, progressWords } from './progress.ts'
import { attemptOf, isCurrent, type Replica } from './replica.kind.ts'
import { isStable } from './state.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import { workload, type Workload } from './workload.kind.ts'

const SOON_MS = 250
/** Each change of a container wakes its replica; this is for one that no event told. As long again as it was waited, within these. */
const UNDERWAY_MS = 1000
const UNDERWAY_MS_MAX = 10_000
const NETWORK_WAIT_MS = 1000
const UNHEALTHY_MS = 2000
const UNSTABLE_MS = 5000
const FAILED_MS = 30_000

/** What compute asks of the network: is this replica's attachment in force, does a VIP still lead to it, is it gone. */
export type AttachmentView = {
  attached(vpc: string, replica: string): boolean
  serving(vpc: string, replica: string): boolean
  /** Whether the network is known to have nothing of this replica or workload any more. */
  isFreeOf(vpc: string, id: string): boolean
}

/** What compute asks of the front door: does a route still lead to this replica, what has it still to answer. */
export type FrontView = {
  leadsTo(vpc: string, replica: string): boolean
  open(vpc: string, replica: string, signal: AbortSignal): Promise<number>
}

/** Lets a replica that runs end what it has begun before its container goes; undefined when it may go. */
function createDrain(network: AttachmentView, front: FrontView, drainSeconds: number) {
  const since = new Map<string, number>()
  const drainMs = drainSeconds * 1000
  /** Whether anything new is still led to it. */
  const led = async (
    it: Replica,
    inVpc: Vpc | undefined,
    { draft, why }: Look,
  ): Promise<string | undefined> => {
    const leads = network.serving(it.spec.vpc, it.id)
      ? 'its VIP'
      : front.leadsTo(it.spec.vpc, it.id)
        ? 'the edge'
        : undefined
    if (leads === undefined) return undefined
    draft.wake(`vpc/${it.spec.vpc}`)
    return `waits for ${leads} to let go of it: ${await routerOf(inVpc, why)}`
  }
  return {
    led,
    async why(it: Replica, inVpc: Vpc | undefined, look: Look): Promise<string | undefined> {
      const { draft, signal } = look
      const leads = await led(it, inVpc, look)
      if (leads !== undefined) return leads
      const begun = since.get(it.id) ?? draft.now
      since.set(it.id, begun)
      const isDraining = isAhead(begun + drainMs, drainMs, draft.now)
      const open = isDraining ? await front.open(it.spec.vpc, it.id, signal) : 0
      if (open > 0) return `waits for ${open} connections to end, ${drainSeconds} s at most`
      return undefined
    },
    forget: (id: string): void => void since.delete(id),
  }
}

/** What compute asks for a replica's container: what it finds of its own, beside what its workload says. */
export type OutfitView = {
  fit(wish: ContainerWish, it: Replica, signal: AbortSignal): Promise<ContainerWish>
  remove(replica: string, signal: AbortSignal): Promise<void>
}

export type ReplicaTools = {
  readonly compute: ComputeDriver
  readonly outfits: OutfitView
  readonly containers: Containers
  readonly lastWords: LastWords
  readonly network: AttachmentView
  readonly front: FrontView
  /** How long a replica that is going may still answer what it was asked before. */
  readonly drainSeconds: number
  /** Without VIPs a name leads to the containers themselves. */
  readonly namedByDocker: boolean
}

/** Keeps one slot's container like its workload. */
export const reconcileReplica = (tools: ReplicaTools): Reconcile<Replica> => {
  const { compute, containers, network, namedByDocker, outfits } = tools
  const drain = createDrain(network, tools.front, tools.drainSeconds)
  /** Lets it end what it has begun, then its container go; undefined once nothing runs. */
  const emptied = async (
    it: Replica,
    inVpc: Vpc | undefined,
    look: Look,
  ): Promise<Outcome<never> | undefined> => {
    const busy = await drain.why(it, inVpc, look)
    if (busy !== undefined) return again(SOON_MS, busy)
    containers.distrust(it.id)
    await compute.remove(it.id, look.signal)
    const left = await compute.observe(it.id, look.signal)
    return left
      ? again(UNDERWAY_MS, `its container does not go: ${left.message ?? `it is ${left.state}`}`)
      : undefined
  }
  /** Before an instance's container goes, its output is kept, once; undefined when nothing is to be kept any more. */
  const keptOutput = async (
    it: Replica,
    inVpc: Vpc | undefined,
    look: Look,
  ): Promise<Outcome<Replica['status']> | undefined> => {
    if (it.status.kept || it.status.released) return undefined
    const of = await look.draft.get(workload, it.tenant, it.spec.workload)
    if (of?.spec.instance === undefined) return undefined
    const busy = await drain.why(it, inVpc, look)
    if (busy !== undefined) return again(SOON_MS, busy)
    await tools.lastWords(it, look.signal)
    return again(0, 'what its console shows is kept', { ...it.status, kept: true })
  }
  return async (it, look) => {
    const { draft, why, signal } = look
    const inVpc = await draft.get(vpc, it.tenant, it.spec.vpc)
    if (it.deletedAt !== undefined) {
      const busy = (await keptOutput(it, inVpc, look)) ?? (await emptied(it, inVpc, look))
      if (busy) return busy
      // Its addresses are given to others with its record: no router may have them then.
      if (!it.status.released || !network.isFreeOf(it.spec.vpc, it.id)) {
        draft.wake(`vpc/${it.spec.vpc}`)
        const reason = `its network has not let go of it: ${await routerOf(inVpc, why)}`
        return again(SOON_MS, reason, released(draft, it))
      }
      await outfits.remove(it.id, signal)
      containers.forget(it.id)
      drain.forget(it.id)
      return gone
    }
    const of = await draft.get(workload, it.tenant, it.spec.workload)
    const isOff = it.spec.stopped === true
    if (isOff && of?.spec.instance === undefined) {
      const busy = await emptied(it, inVpc, look)
      if (busy) return busy
      await outfits.remove(it.id, look.signal)
      drain.forget(it.id)
      return settled(finished(draft, it, { ...it.status, phase: 'stopped', attempt: attemptOf(it) }))
    }
    if (!of || !inVpc) return again(NETWORK_WAIT_MS, 'its workload is going')
    if (isOff || it.spec.paused === true) {
      // What is frozen keeps the connections that it has.
      const busy = await (isOff ? drain.why(it, inVpc, look) : drain.led(it, inVpc, look))
      if (busy !== undefined) return again(SOON_MS, busy)
    }
    const attached = isOff || network.attached(it.spec.vpc, it.id)
    const networkWait = async (): Promise<Outcome<Replica['status']>> => {
      draft.wake(`vpc/${it.spec.vpc}`)
      return again(NETWORK_WAIT_MS, `waits for its network: ${await routerOf(inVpc, why)}`)
    }
    const lacks = await lacking(draft, of)
    if (!isOff && lacks !== undefined) return again(NETWORK_WAIT_MS, lacks)
    const [config] = await draft.list(provider, { tenant: PLATFORM })
    const plain = wishOf(it, of, inVpc, config?.spec.ndots)
    const wish = namedByDocker ? withNames(plain, of, inVpc, config?.spec.nameservers ?? []) : plain
    let seen = await compute.observe(it.id, signal)
    // One of before goes on until there is a network for the next; where there is none, the first is begun meanwhile.
    if (!attached && seen) return await networkWait()
    if (seen?.state === 'running' && seen.attempt < attemptOf(it)) {
      const busy = await drain.why(it, inVpc, look)
      if (busy !== undefined) return again(SOON_MS, busy)
    }
    drain.forget(it.id)
    if (seen?.wanted === false && seen.state === 'stopping')
      return again(UNDERWAY_MS, 'its container of before is going')
    if (!seen?.wanted || seen.attempt !== attemptOf(it)) containers.distrust(it.id)
    // Records that were restored from an older backup: what runs is of a time that they do not know.
    if (seen?.wanted && seen.attempt > attemptOf(it)) {
      await compute.remove(it.id, signal)
      return again(SOON_MS, `a container of attempt ${seen.attempt} is in the place of ${attemptOf(it)}`)
    }
    try {
      const fitted = await outfits.fit(wish, it, signal)
      const isNew = await containers.apply(fitted, await registryFor(draft, of), signal)
      if (!attached) return await networkWait()
      if (isNew) seen = await compute.observe(it.id, signal)
    } catch (error) {
      // What is gone must not be taken for ready only because nothing can be put in its place.
      if (!it.status.ready || seen?.state === 'running') throw error
      const status = { ...it.status, phase: 'pending' as const, ready: false }
      return metered(draft, it, of.spec, again(SOON_MS, messageOf(error), status))
    }
    if ((seen?.restarts ?? 0) > it.status.restarts && isCurrent(it))
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
    return metered(draft, it, of.spec, outcomeOf(it, seen, of.spec.health, draft.now))
  }
}

/** The volume that is not there yet, and has to be before its container. */
async function lacking(draft: Draft, of: Workload): Promise<string | undefined> {
  for (const { volume: id } of of.spec.volumes ?? []) {
    const it = await draft.get(volume, of.tenant, id)
    if (it && it.status.sizeGib === undefined)
      return `waits for volume ${it.name}: ${it.status.message ?? `it is ${it.status.state}`}`
  }
  return undefined
}

/** True when the container that ran is another one now though its replica asked for none, as after `docker rm -f`. */
const wasReplaced = (it: Replica, seen: SeenContainer | undefined): boolean =>
  it.observed === it.generation &&
  isCurrent(it) &&
  it.status.runtimeId !== undefined &&
  seen?.attempt === attemptOf(it) &&
  seen.runtimeId !== it.status.runtimeId

/** What a VPC's router has not done yet, and why, as far as it is known. */
async function routerOf(it: Vpc | undefined, why: Look['why']): Promise<string> {
  const cause = it && (await why(it))
  return `the router of VPC ${it?.name ?? '(gone)'} is behind${cause ? `: ${cause}` : ''}`
}

/** Opens and closes usage intervals as the phase goes, in the commit that says so. */
function metered(
  draft: Draft,
  it: Replica,
  of: ReplicaClass,
  outcome: Outcome<Replica['status']>,
): Outcome<Replica['status']> {
  if (outcome.do === 'gone' || !outcome.status) return outcome
  const { metered: _, ...status } = outcome.status
  const running = status.phase === 'running' ? of : undefined
  const { open, records } = meter(it, it.status.metered, running, draft.now)
  for (const one of records) draft.record(one)
  return { ...outcome, status: since(draft, it, { ...status, ...optional('metered', open) }) }
}

/** With the moment since when it is as it is. */
const since = (
  draft: Draft,
  { status: had, createdAt }: Replica,
  now: Replica['status'],
): Replica['status'] => ({
  ...now,
  changedAt: now.phase === had.phase && now.ready === had.ready ? (had.changedAt ?? createdAt) : draft.now,
})

/** Its container was seen gone: nothing of it is used or true any more. */
function finished(draft: Draft, it: Replica, now: Replica['status']): Replica['status'] {
  for (const one of meter(it, it.status.metered, undefined, draft.now).records) draft.record(one)
  const { metered: _metered, runtimeId: _id, startedAt: _at, message: _message, progress: _, ...status } = now
  return since(draft, it, { ...status, ready: false })
}

/** The same after deletion was asked: its network may let go of its addresses. */
const released = (draft: Draft, it: Replica): Replica['status'] =>
  finished(draft, it, {
    ...it.status,
    released: true,
    ...(it.status.phase === 'running' ? { phase: 'pending' as const } : {}),
  })

/** What a look at the container says of the replica; `restarts` grows over attempts, as a person counts them. */
export function outcomeOf(
  it: Replica,
  seen: SeenContainer | undefined,
  health: HealthCheck | undefined,
  now: number,
): Outcome<Replica['status']> {
  const waitedMs = now - (it.status.changedAt ?? it.createdAt)
  const underwayMs = Math.min(Math.max(UNDERWAY_MS, waitedMs), UNDERWAY_MS_MAX)
  if (!seen) return again(underwayMs, 'its container is being made', it.status)
  const progress = seen.progress?.totalBytes ? paced(it.status.progress, seen.progress, now) : undefined
  if (seen.attempt !== attemptOf(it)) {
    const is = seen.message ?? (seen.state === 'running' ? 'it runs' : `it is ${seen.state}`)
    const how = progress ? progressWords(PULLING, progress) : is
    const { progress: _, ...had } = it.status
    const status = { ...had, ...optional('progress', progress) }
    return again(underwayMs, `its container of before is to be replaced: ${how}`, status)
  }
  const status: Replica['status'] = {
    phase: phaseOf(seen),
    ready: seen.state === 'running' && seen.ready,
    restarts: seen.restarts,
    attempt: seen.attempt,
    ...optional('message', wordsOf(seen, health, progress)),
    ...optional('progress', progress),
    // Of one that is to run yet it tells nothing, and would only have everybody look; of one that ran it tells another from it.
    ...optional(
      'runtimeId',
      phaseOf(seen) === 'pending' && seen.runtimeId !== it.status.runtimeId ? undefined : seen.runtimeId,
    ),
    ...optional('startedAt', seen.startedAt),
    ...optional('exitCode', seen.state === 'exited' ? (seen.exitCode ?? 0) : undefined),
  }
  const { stopped, paused } = it.spec
  if (seen.state !== 'failed' && stopped === true && seen.state !== 'off')
    return again(underwayMs, 'its container is being stopped', status)
  if (seen.state === 'running' && paused === true)
    return again(underwayMs, 'its processes are being frozen', status)
  switch (seen.state) {
    case 'off':
    case 'paused':
      return settled(status)
    case 'running':
      if (!seen.ready) return again(UNHEALTHY_MS, status.message ?? 'it is not ready', status)
      return isStable(status, now)
        ? settled(status)
        : again(UNSTABLE_MS, `it started again ${times(seen.restarts)}, the last time just now`, status)
    case 'exited':
      return settled(status)
    case 'failed':
      return settled(status, FAILED_MS)
    case 'pulling':
    case 'waiting':
    case 'starting':
    case 'stopping':
      return again(underwayMs, status.message ?? `its container is ${seen.state}`, status)
  }
}

const optional = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { [P in K]?: V })

function phaseOf(seen: SeenContainer): Replica['status']['phase'] {
  if (seen.state === 'running') return 'running'
  if (seen.state === 'off') return 'stopped'
  if (seen.state === 'paused') return 'paused'
  if (seen.state === 'failed') return 'failed'
  if (seen.state === 'exited') return (seen.exitCode ?? 0) === 0 ? 'succeeded' : 'failed'
  return 'pending'
}

const times = (count: number): string => (count === 1 ? 'once' : `${count} times`)

function checkOf({ check }: HealthCheck): string {
  switch (check.type) {
    case 'tcp':
      return `a connection to port ${check.port}`
    case 'http':
      return `GET ${check.path} on port ${check.port}`
    case 'command':
      return `the command ${check.command[0] ?? ''}`
  }
}

const PULLING = 'pulling the image'

function wordsOf(
  seen: SeenContainer,
  health: HealthCheck | undefined,
  progress: Progress | undefined,
): string | undefined {
  if (seen.state === 'running' && !seen.ready && seen.message === undefined)
    return `it runs, but its health check does not pass${health ? `: ${checkOf(health)}` : ''}`
  return seen.state === 'pulling' && progress ? progressWords(PULLING, progress) : seen.message
}
