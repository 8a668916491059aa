import { cidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import type { Claim } from '#engine/kind.ts'
import type { AnyKind } from '#engine/resource.ts'
import { checkSpec } from '#engine/shape.ts'
import { authorise, authoriseFirst, ownTenant } from '#cloud/access.ts'
import { needPromise, useQuota, type VerbContext } from '#cloud/context.ts'
import { found } from '#cloud/found.ts'
import { fabricPool } from '#cloud/network/addresses.driver.ts'
import { securityGroup } from '#cloud/network/security-group.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { vpc, type Vpc } from '#cloud/network/vpc.kind.ts'
import { addressOpened } from '#cloud/observe/usage.kind.ts'
import { registryCredential, type RegistryCredential } from './registry-credential.kind.ts'
import { isCurrent, replica, type Replica } from './replica.kind.ts'
import { desiredOf, endedOf, renewed, toReplace } from './state.ts'
import { publishedPorts } from './published.verbs.ts'
import { podNameOf, workload, type Workload } from './workload.kind.ts'

export type NewWorkload = {
  readonly vpc: string
  readonly subnet: string
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  /** Everything but the image has a default of the platform. */
  readonly spec: { readonly image: string } & Partial<
    Omit<Workload['spec'], 'vpc' | 'subnet' | 'image' | 'vip' | 'externalAddress' | 'attempt' | 'change'>
  >
  /** Give it an external address of its own (needs egress). */
  readonly inbound?: boolean
}

export type WorkloadChange = {
  readonly healing?: boolean
  readonly persistence?: Partial<Workload['spec']['persistence']>
  readonly autoscaling?: Partial<Workload['spec']['autoscaling']>
  readonly image?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cpuMillicores?: number
  readonly memoryMib?: number
  readonly command?: readonly string[]
}

/** Takes an address of the VPC's external pool for a workload or a VPC; given by the network capability. */
export type PickExternal = (context: VerbContext) => Promise<string>

const PERSISTENCE_PATH = '/storage'
const AUTOSCALING = { enabled: false, min: 2, max: 10, cpuTargetMillicores: 200 }
const SCALED_BY_HAND_MAX = 10

/** Commits the workload with its VIP and first replicas, addresses and all, at once. */
export async function createWorkload(
  context: VerbContext,
  input: NewWorkload,
  pickExternal: PickExternal,
): Promise<Workload> {
  const { draft, caller, settings, pick } = context
  authorise(caller, 'write', 'instance:launch', { kind: 'workload', name: input.name })
  const tenant = ownTenant(caller)
  const inVpc = await found(context, vpc, input.vpc, 'VPC')
  const inSubnet = await found(context, subnet, input.subnet, 'Subnet')
  if (inSubnet.spec.vpc !== inVpc.id)
    throw new CloudError('invalid', 'the subnet is not in this VPC', { field: 'subnet' })
  const spec = withDefaults(input, context)
  // As it came: what looks at it below counts on its types, and the draft would say so only when addresses are taken.
  checkSpec(workload as unknown as AnyKind, spec)
  checkScaling(spec)
  checkPersistence(spec.persistence)
  if (input.inbound && !spec.egress)
    throw new CloudError('invalid', 'needs outbound access', { field: 'inbound' })
  if (input.inbound) needPromise(context, 'external-address', 'external addresses', 'inbound')
  needCapabilities(context, spec.capabilities)
  if (spec.egress && !inVpc.spec.internet)
    throw new CloudError('invalid', 'the VPC has no internet access', { field: 'egress' })
  await checkGroups(context, tenant, spec)
  // An instance is reached by its own address.
  const needsVip = context.promises.has('vip') && !spec.instance
  const vip = needsVip
    ? await pick.address(draft, `addresses:${inSubnet.id}`, cidr(inSubnet.spec.cidr), [inSubnet.spec.gateway])
    : undefined
  if (vip === undefined && needsVip) throw noAddress(inSubnet.name)
  const made = draft.create(workload, {
    tenant,
    name: input.name,
    ...(input.labels ? { labels: input.labels } : {}),
    spec: {
      ...spec,
      ...(spec.published?.length ? { published: await publishedPorts(context, spec.published) } : {}),
      ...(vip === undefined ? {} : { vip }),
      ...(input.inbound ? { externalAddress: await pickExternal(context) } : {}),
    },
    status: { state: 'pending', desired: spec.replicas, ready: 0, replicas: [] },
  })
  draft.claim(nameClaim(made), made.id)
  useQuota(draft, tenant, 'workloads', made.id)
  if (made.spec.externalAddress !== undefined) {
    useQuota(draft, tenant, 'externalAddresses', made.id)
    draft.record(addressOpened(made, made.spec.externalAddress))
  }
  if (spec.egress && !input.inbound && context.promises.has('external-source'))
    await ensureNat(context, inVpc, pickExternal)
  const replicas = []
  for (let index = 0; index < spec.replicas; index++)
    replicas.push(await createReplica({ draft, settings, pick }, made, index))
  return { ...made, status: { ...made.status, replicas: replicas.map(summary) } }
}

/** Refuses security groups that are none of the workload's VPC. */
export async function checkGroups(
  { draft }: VerbContext,
  tenant: string,
  { vpc: of, securityGroups }: Pick<Workload['spec'], 'vpc' | 'securityGroups'>,
): Promise<void> {
  for (const id of securityGroups)
    if ((await draft.get(securityGroup, tenant, id))?.spec.vpc !== of)
      throw new CloudError('invalid', `no security group ${id} in this VPC`, { field: 'spec.securityGroups' })
}

/** Its name among those of its VPC. */
export const nameClaim = (it: Workload): Claim => ({
  pool: `workload-name:${it.spec.vpc}`,
  value: podNameOf(it),
  ends: 'deletion',
  refusal: 'Pod with this name already exists',
})

const summary = (it: Replica): Workload['status']['replicas'][number] => ({
  id: it.id,
  index: it.spec.index,
  address: it.spec.address,
  phase: 'pending',
  ready: false,
  restarts: 0,
})

/** Who can make packets by hand can send them under the addresses of others. */
function needCapabilities(context: VerbContext, capabilities: readonly string[]): void {
  if (capabilities.includes('NET_RAW'))
    needPromise(context, 'spoofing', 'containers with NET_RAW', 'spec.capabilities')
}

const noAddress = (name: string): CloudError =>
  new CloudError(
    'exhausted',
    `No address is free in subnet ${name}; delete something in it or use another subnet`,
    { rule: 'capacity' },
  )

function withDefaults(input: NewWorkload, { settings }: VerbContext): Omit<Workload['spec'], 'vip'> {
  const { spec } = input
  const autoscaling = { ...AUTOSCALING, ...spec.autoscaling }
  const replicas = spec.replicas ?? 1
  return {
    env: {},
    capabilities: [],
    ...settings.replica,
    ports: [{ protocol: 'tcp', port: 80 }],
    egress: false,
    securityGroups: [],
    useRegistryCredentials: true,
    ...spec,
    healing: autoscaling.enabled || (spec.healing ?? false),
    persistence: { enabled: false, path: PERSISTENCE_PATH, ...spec.persistence },
    autoscaling,
    replicas: autoscaling.enabled ? Math.max(replicas, autoscaling.min) : replicas,
    vpc: input.vpc,
    subnet: input.subnet,
    attempt: 1,
    change: 'create',
  }
}

function checkScaling({ autoscaling, replicas }: Omit<Workload['spec'], 'vip'>): void {
  if (!autoscaling.enabled) return
  if (autoscaling.min > autoscaling.max)
    throw new CloudError('invalid', 'must not be below the minimum', { field: 'autoscaling.max' })
  if (replicas > autoscaling.max)
    throw new CloudError('invalid', 'must not exceed the autoscaling maximum', { field: 'replicas' })
}

function checkPersistence(it: Workload['spec']['persistence']): void {
  const bad = !it.path.startsWith('/') || it.path.includes('\0') || it.path.split('/').includes('..')
  if (bad || /^\/+$/.test(it.path))
    throw new CloudError('invalid', 'must be an absolute path other than / and without ..', {
      field: 'persistence.path',
    })
}

/** A VPC gets one external address for the outbound connections of everything without its own, when first needed. */
async function ensureNat(context: VerbContext, it: Vpc, pickExternal: PickExternal): Promise<void> {
  if (it.spec.natAddress !== undefined) return
  const natAddress = await pickExternal(context)
  context.draft.edit(vpc, it, { spec: { ...it.spec, natAddress } })
  context.draft.record(addressOpened(it, natAddress))
}

/** One more slot of a workload, with its addresses; `exhausted` when the subnet or the tenant's quota is used up. */
export async function createReplica(
  { draft, settings, pick }: Pick<VerbContext, 'draft' | 'settings' | 'pick'>,
  of: Workload,
  index: number,
): Promise<Replica> {
  // Asked for here: a slot that somebody else takes meanwhile is then a lost race, and no refusal.
  if (await draft.claimed(`slots:${of.id}`, String(index)))
    throw new CloudError('conflict', `slot ${index} of ${of.name} was taken meanwhile`, { rule: 'lost_race' })
  const inSubnet = await draft.get(subnet, of.tenant, of.spec.subnet)
  if (!inSubnet) throw new CloudError('not_found', 'Subnet not found')
  const address = await pick.address(draft, `addresses:${inSubnet.id}`, cidr(inSubnet.spec.cidr), [
    inSubnet.spec.gateway,
  ])
  if (address === undefined) throw noAddress(inSubnet.name)
  const fabric = await pick.address(draft, 'fabric', fabricPool(settings.fabric))
  if (fabric === undefined)
    throw new CloudError(
      'exhausted',
      'This installation has no fabric address left; an administrator can give it a larger --fabric',
      { rule: 'capacity' },
    )
  const made = draft.create(replica, {
    tenant: of.tenant,
    name: `${of.name}-${index}`,
    owner: of.id,
    spec: {
      workload: of.id,
      vpc: of.spec.vpc,
      subnet: of.spec.subnet,
      index,
      address,
      fabric,
      attempt: of.spec.attempt,
      ...(of.spec.function === true || of.spec.autoStart === false ? { stopped: true } : {}),
    },
  })
  useQuota(draft, of.tenant, 'replicas', made.id)
  useSize(draft, of, made.id)
  return made
}

function useSize(draft: Draft, of: Workload, id: string): void {
  useQuota(draft, of.tenant, 'cpuMillicores', id, of.spec.cpuMillicores)
  useQuota(draft, of.tenant, 'memoryMib', id, of.spec.memoryMib)
}

/** Of two that count replicas at the size that they read one finds it moved; to be called before it is read. */
export async function guardSize(draft: Draft, of: string): Promise<void> {
  await draft.guard(`size:${of}`, of)
}

/** Counts every replica at the size the workload has now and has it looked at; `exhausted` when the quota does not allow it. */
export async function resizeReplicas({ draft }: Pick<VerbContext, 'draft'>, it: Workload): Promise<void> {
  await guardSize(draft, it.id)
  const query = { tenant: it.tenant, terms: [`workload:${it.id}`], deleted: false }
  for (const one of await draft.list(replica, query)) {
    useSize(draft, it, one.id)
    draft.wake(`replica/${one.id}`)
  }
}

async function existing(
  { draft, caller }: VerbContext,
  id: string,
  action = 'instance:update',
): Promise<Workload> {
  authoriseFirst(caller, 'write', action)
  const it = await draft.get(workload, ownTenant(caller), id)
  if (!it) throw new CloudError('not_found', 'Pod not found')
  authorise(caller, 'write', action, it)
  return it
}

export const refuse = (message: string): never => {
  throw new CloudError('conflict', message, { rule: 'wrong_state' })
}

export async function deleteWorkload(context: VerbContext, id: string): Promise<Workload> {
  const it = await existing(context, id, 'instance:terminate')
  if (it.deletedAt === undefined) context.draft.mark(it, { follow: ['replica'] })
  return it
}

/** One replica more or less: the newest goes. */
export async function scaleWorkload(
  context: VerbContext,
  id: string,
  by: 1 | -1,
  max: number,
): Promise<Workload> {
  const it = await existing(context, id)
  if (it.deletedAt !== undefined) refuse('Pod is being deleted')
  if (it.spec.autoscaling.enabled) refuse('Replica changes are not available while auto_scaling is enabled')
  if (endedOf(it)) refuse('Pod is stopped')
  const count = it.spec.replicas + by
  if (count < 1) refuse('A pod needs at least one replica')
  if (count > max) refuse(`A pod has at most ${max} replicas`)
  const edited = context.draft.edit(workload, it, { spec: { ...it.spec, replicas: count, change: 'scale' } })
  const slots = await context.draft.list(replica, { tenant: it.tenant, terms: [`workload:${it.id}`] })
  const live = slots.filter((slot) => slot.deletedAt === undefined)
  const newest = live.at(-1)
  if (by < 0 && newest && live.length > count) context.draft.mark(newest)
  if (by > 0 && live.length < count) await createReplica(context, edited, freeIndex(slots))
  return edited
}

/** The lowest slot number nobody holds; one on its way out still does. */
export function freeIndex(slots: readonly Replica[]): number {
  const taken = new Set(slots.map((it) => it.spec.index))
  let index = 0
  while (taken.has(index)) index++
  return index
}

export async function restartWorkload(context: VerbContext, id: string): Promise<Workload> {
  const it = await existing(context, id)
  if (it.deletedAt !== undefined) refuse('Pod is being deleted')
  return await replaceContainers(context, it, { ...it.spec, change: 'restart' })
}

/** Of one run of a function: what its starter goes by, and environment variables for that run alone. */
export type FunctionRun = { readonly token: string; readonly env?: Readonly<Record<string, string>> }

/**
 * Has a replica run that was stopped, ended or never ran; nothing happens to one that runs or is about to. `run` is for
 * functions alone.
 */
export async function startReplica(context: VerbContext, id: string, run?: FunctionRun): Promise<Replica> {
  const { it, of } = await slotOf(context, id)
  if (run && of.spec.function !== true)
    throw new CloudError('invalid', 'is for the replicas of a function', { field: 'function' })
  const { stopped, functionToken: _token, functionEnv: _env, ...kept } = it.spec
  const hasEnded = isCurrent(it) && (it.status.phase === 'succeeded' || it.status.phase === 'failed')
  if (stopped !== true && !hasEnded) return it
  return context.draft.edit(replica, it, {
    spec: {
      ...kept,
      starts: (it.spec.starts ?? 0) + 1,
      ...(run ? { functionToken: run.token, functionEnv: JSON.stringify(run.env ?? {}) } : {}),
    },
  })
}

/** Has a replica not run; it keeps its slot and addresses, and stays so until it is started. */
export async function stopReplica(context: VerbContext, id: string): Promise<Replica> {
  const { it } = await slotOf(context, id)
  return context.draft.edit(replica, it, { spec: { ...it.spec, stopped: true } })
}

async function slotOf({ draft, caller }: VerbContext, id: string): Promise<{ it: Replica; of: Workload }> {
  authoriseFirst(caller, 'write', 'instance:update')
  const it = await draft.get(replica, ownTenant(caller), id)
  const of = it && (await draft.get(workload, it.tenant, it.spec.workload))
  if (!of) throw new CloudError('not_found', 'Replica not found')
  authorise(caller, 'write', 'instance:update', of)
  if (it.deletedAt !== undefined || of.deletedAt !== undefined) refuse('The replica is being deleted')
  return { it, of }
}

/** A new wish with a new attempt, told in the same commit to the replicas that go first. */
export async function replaceContainers(
  { draft }: VerbContext,
  it: Workload,
  spec: Workload['spec'],
): Promise<Workload> {
  const attempt = it.spec.attempt + 1
  const edited = draft.edit(workload, it, { spec: { ...spec, attempt } })
  const live = await draft.list(replica, {
    tenant: it.tenant,
    terms: [`workload:${it.id}`],
    deleted: false,
  })
  for (const one of toReplace(edited, live)) draft.edit(replica, one, { spec: renewed(one, edited) })
  return edited
}

/** Applies a change of configuration; healing and autoscaling follow Circloud's rules (§4.3), an empty change does nothing. */
export async function configureWorkload(
  context: VerbContext,
  id: string,
  change: WorkloadChange,
): Promise<Workload> {
  const it = await existing(context, id)
  const spec = changed(it, change)
  checkPersistence(spec.persistence)
  needCapabilities(context, spec.capabilities)
  if (it.deletedAt !== undefined) refuse('Pod is being deleted')
  if (endedOf(it)) refuse('Pod is stopped')
  if (Object.keys(change).length === 0) return it
  const next = await replaceContainers(context, it, { ...spec, change: 'config' })
  await resizeReplicas(context, next)
  await fitReplicas(context, next)
  return next
}

function changed(it: Workload, change: WorkloadChange): Workload['spec'] {
  const { healing, persistence, autoscaling: wanted, ...rest } = change
  const autoscaling = { ...it.spec.autoscaling, ...wanted }
  if (autoscaling.min > autoscaling.max)
    throw new CloudError('invalid', 'must not be below the minimum', { field: 'autoscaling.max' })
  if (healing === false && wanted?.enabled !== true) autoscaling.enabled = false
  const desired = desiredOf({ ...it, spec: { ...it.spec, autoscaling } })
  const switchedOff = it.spec.autoscaling.enabled && !autoscaling.enabled
  return {
    ...it.spec,
    ...structuredClone(rest as Partial<Workload['spec']>),
    autoscaling,
    healing: autoscaling.enabled || (healing ?? it.spec.healing),
    persistence: { ...it.spec.persistence, ...persistence },
    replicas: switchedOff
      ? Math.min(SCALED_BY_HAND_MAX, desiredOf(it))
      : autoscaling.enabled
        ? desired
        : it.spec.replicas,
  }
}

/** Makes the replicas a higher count needs in the same commit, so that a full subnet refuses the change. */
async function fitReplicas(context: VerbContext, it: Workload): Promise<void> {
  const slots = await context.draft.list(replica, { tenant: it.tenant, terms: [`workload:${it.id}`] })
  let live = slots.filter((slot) => slot.deletedAt === undefined).length
  for (; live < desiredOf(it); live++) slots.push(await createReplica(context, it, freeIndex(slots)))
}

export async function addRegistryCredential(
  { draft, caller }: VerbContext,
  input: { name: string; server: string; username: string; password: string },
): Promise<RegistryCredential> {
  authorise(caller, 'write', 'registry_credential:create', { kind: 'registry-credential', name: input.name })
  const { name, ...spec } = input
  return draft.create(registryCredential, { tenant: ownTenant(caller), name, spec })
}
