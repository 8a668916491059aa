import { CloudError } from '#lib/errors.ts'
import { authorise, authoriseFirst, creatorOf, ownTenant } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { found, toChange } from '#cloud/found.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import {
  createWorkload,
  nameClaim,
  type PickExternal,
  refuse,
  replaceContainers,
  resizeReplicas,
  startReplica,
} from './compute.verbs.ts'
import { refuseDiskImage } from './disk-image.verbs.ts'
import { INSTANCE_TYPE_DEFAULT, INSTANCE_TYPES, type InstanceType } from './instance-types.ts'
import { replica, type Replica } from './replica.kind.ts'
import { parsePublicKey } from './ssh-key.ts'
import { sshKey, type SshKey } from './ssh-key.kind.ts'
import {
  isInstance,
  podNameOf,
  type PublishedPort,
  VOLUME_USE,
  workload,
  type Workload,
} from './workload.kind.ts'

const MILLICORES = 1000
const MIB = 1024 * 1024
/** `/dev/vda` is the machine's own. */
const DEVICES = 'bcdefghijklmnopq'
/** How an image finds the key of whoever may log in. */
const SSH_KEY_VARIABLE = 'SSH_PUBLIC_KEY'

export type NewInstance = {
  readonly vpc: string
  readonly subnet: string
  readonly name: string
  /** INSTANCE_TYPE_DEFAULT unless told. */
  readonly type?: string
  readonly image: string
  /** The image as it was asked for, where that is another name. */
  readonly imageName?: string
  readonly env?: Readonly<Record<string, string>>
  readonly command?: readonly string[]
  readonly volumes?: readonly Mount[]
  readonly sshKey?: string
  readonly published?: readonly PublishedPort[]
  readonly metadata?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  /** In the place of what its type says. */
  readonly vcpus?: number
  readonly memoryBytes?: number
  readonly diskBytes?: number
}
type Mount = { readonly volume: string; readonly path: string }

/** Merged: an empty value takes the key away. */
export type InstanceChange = {
  readonly name?: string
  readonly metadata?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
}

function typeNamed(id: string): InstanceType {
  const found = INSTANCE_TYPES.find((it) => it.id === id)
  const known = INSTANCE_TYPES.map((it) => it.id).join(', ')
  if (!found) throw new CloudError('invalid', `must be one of ${known}`, { field: 'instance_type' })
  return found
}

const merged = (
  now: Readonly<Record<string, string>>,
  change: Readonly<Record<string, string>> = {},
): Record<string, string> =>
  Object.fromEntries(Object.entries({ ...now, ...change }).filter(([, value]) => value !== ''))

/** Commits an instance: a workload whose one replica is a machine of its own. */
export async function launchInstance(
  context: VerbContext,
  input: NewInstance,
  pickExternal: PickExternal,
  internet: boolean,
): Promise<Workload> {
  const { draft, caller } = context
  authorise(caller, 'write', 'instance:launch', { kind: 'workload', name: input.name })
  await refuseDiskImage(context, input.image)
  const type = typeNamed(input.type ?? INSTANCE_TYPE_DEFAULT)
  const key =
    input.sshKey === undefined ? undefined : await draft.get(sshKey, ownTenant(caller), input.sshKey)
  if (input.sshKey !== undefined && !key) throw new CloudError('not_found', 'SSH key not found')
  const volumes = input.volumes ?? []
  for (const it of volumes) await needFree(context, it)
  needPaths(volumes)
  const { vpc, subnet, name, labels, image, imageName, command, metadata, diskBytes } = input
  const env: Record<string, string> = { ...input.env }
  if (key) env[SSH_KEY_VARIABLE] ??= key.spec.publicKey
  return await createWorkload(
    context,
    {
      vpc,
      subnet,
      name,
      ...(labels ? { labels } : {}),
      spec: {
        image,
        env,
        ...(command?.length ? { command: [...command] } : {}),
        cpuMillicores: (input.vcpus ?? type.vcpus) * MILLICORES,
        memoryMib: input.memoryBytes === undefined ? type.memoryMib : Math.ceil(input.memoryBytes / MIB),
        healing: true,
        egress: internet,
        ports: [],
        ...(volumes.length ? { volumes: [...volumes] } : {}),
        ...(input.published?.length ? { published: [...input.published] } : {}),
        instance: {
          type: type.id,
          metadata: merged({}, metadata),
          ...(key ? { sshKey: key.id } : {}),
          ...(imageName === undefined ? {} : { image: imageName }),
          ...(diskBytes === undefined ? {} : { diskBytes }),
          ...creatorOf(caller),
        },
      },
    },
    pickExternal,
  )
}

/** Refused `conflict`, rule `in_use`, when somebody has it or it could not be made. One that is being made is waited for. */
async function needFree(context: VerbContext, { volume: id }: Mount): Promise<void> {
  const it = await found(context, volume, id, 'Volume')
  if (await context.draft.claimed(VOLUME_USE, it.id))
    throw new CloudError('conflict', `Volume ${it.name} is attached to an instance already`, {
      rule: 'in_use',
    })
  if (it.status.state === 'error')
    throw new CloudError('conflict', `Volume ${it.name} could not be made`, { rule: 'in_use' })
}

function needPaths(mounts: readonly Mount[]): void {
  const paths = mounts.map((it) => it.path)
  for (const path of paths)
    if (!/^(\/[^/\0]+)+$/.test(path) || path.split('/').some((it) => it === '.' || it === '..'))
      throw new CloudError('invalid', 'must be an absolute path other than /', { field: 'mount_path' })
  if (new Set(paths).size < paths.length)
    throw new CloudError('conflict', 'Two volumes cannot be mounted at one path', { rule: 'in_use' })
}

type Machine = { readonly it: Workload; readonly slot: Replica }

/** An instance with its one replica. */
async function machine(context: VerbContext, id: string, action = 'instance:update'): Promise<Machine> {
  const { draft, caller } = context
  authoriseFirst(caller, 'write', action)
  const it = await draft.get(workload, ownTenant(caller), id)
  if (!it || !isInstance(it) || it.deletedAt !== undefined)
    throw new CloudError('not_found', 'Instance not found')
  authorise(caller, 'write', action, it)
  const query = { tenant: it.tenant, terms: [`workload:${it.id}`], deleted: false }
  const [slot] = await draft.list(replica, query)
  if (!slot) return refuse('The instance is not there yet; ask again in a moment')
  return { it, slot }
}

/** Has it run: from being stopped, paused or ended by itself. Nothing happens to one that runs or is about to. */
export async function startInstance(context: VerbContext, id: string): Promise<Workload> {
  const { it, slot } = await machine(context, id)
  const { stopped, paused: _paused, ...kept } = slot.spec
  // What it wrote is kept where its container is.
  if (stopped !== true || it.spec.instance) context.draft.edit(replica, slot, { spec: kept })
  if (!it.spec.instance || stopped !== true) await startReplica(context, slot.id)
  return it
}

export async function stopInstance(context: VerbContext, id: string): Promise<Workload> {
  const { it, slot } = await machine(context, id)
  const { paused: _paused, ...kept } = slot.spec
  context.draft.edit(replica, slot, { spec: { ...kept, stopped: true } })
  return it
}

/** Freezes its processes; `conflict` unless it runs. */
export async function pauseInstance(context: VerbContext, id: string): Promise<Workload> {
  const { it, slot } = await machine(context, id)
  const { spec, status } = slot
  if (spec.stopped === true || spec.paused === true || status.phase !== 'running')
    refuse('Only an instance that is RUNNING can be paused')
  context.draft.edit(replica, slot, { spec: { ...spec, paused: true } })
  return it
}

/** Lets frozen processes go on; `conflict` unless it is paused. */
export async function resumeInstance(context: VerbContext, id: string): Promise<Workload> {
  const { it, slot } = await machine(context, id)
  const { paused, ...kept } = slot.spec
  if (paused !== true || kept.stopped === true) refuse('Only an instance that is PAUSED can be resumed')
  context.draft.edit(replica, slot, { spec: kept })
  return it
}

/** Another type, while it runs; `exhausted` when the quota does not allow it. */
export async function resizeInstance(context: VerbContext, id: string, type: string): Promise<Workload> {
  const { it } = await machine(context, id, 'instance:resize')
  const wanted = typeNamed(type)
  const edited = context.draft.edit(workload, it, {
    spec: {
      ...it.spec,
      change: 'scale',
      cpuMillicores: wanted.vcpus * MILLICORES,
      memoryMib: wanted.memoryMib,
      ...(it.spec.instance ? { instance: { ...it.spec.instance, type: wanted.id } } : {}),
    },
  })
  await resizeReplicas(context, edited)
  return edited
}

export async function updateInstance(
  context: VerbContext,
  id: string,
  { name, metadata, labels }: InstanceChange,
): Promise<Workload> {
  const { it } = await machine(context, id)
  const { instance } = it.spec
  if (name !== undefined && name !== it.name && !instance)
    throw new CloudError('unsupported', 'The name of a pod cannot be changed', { field: 'name' })
  if (metadata && !instance)
    throw new CloudError('unsupported', 'A pod has no metadata', { field: 'metadata' })
  const edited = context.draft.edit(workload, it, {
    ...(name === undefined ? {} : { name }),
    ...(labels ? { labels: merged(it.labels, labels) } : {}),
    ...(instance && metadata
      ? {
          spec: {
            ...it.spec,
            change: 'scale' as const,
            instance: { ...instance, metadata: merged(instance.metadata, metadata) },
          },
        }
      : {}),
  })
  if (podNameOf(edited) !== podNameOf(it)) {
    const had = nameClaim(it)
    context.draft.release(had.pool, had.value, it.id)
    context.draft.claim(nameClaim(edited), it.id)
  }
  return edited
}

/** Mounts a volume in an instance, in a new container; gives the device that it is known as. */
export async function attachVolume(
  context: VerbContext,
  { instance, ...mount }: Mount & { readonly instance: string },
): Promise<string> {
  authoriseFirst(context.caller, 'write', 'volume:update')
  await needFree(context, mount)
  const { it } = await machine(context, instance)
  const volumes = [...(it.spec.volumes ?? []), mount]
  needPaths(volumes)
  await replaceContainers(context, it, { ...it.spec, volumes, change: 'config' })
  return deviceOf(volumes.length - 1)
}

/** Takes a volume from whoever has it, in a new container; `conflict` when nobody has. */
export async function detachVolume(context: VerbContext, id: string): Promise<void> {
  const { draft } = context
  const it = await toChange(context, volume, id, 'Volume')
  const use = await draft.claimed(VOLUME_USE, id)
  const of = use && (await draft.get(workload, it.tenant, use.owner))
  if (!of) return refuse('The volume is not attached')
  if (of.deletedAt !== undefined) refuse('Its instance is being deleted, which detaches it')
  const { volumes = [], ...spec } = of.spec
  const left = volumes.filter((one) => one.volume !== id)
  await replaceContainers(context, of, {
    ...spec,
    ...(left.length ? { volumes: left } : {}),
    change: 'config',
  })
}

const deviceOf = (index: number): string => `/dev/vd${DEVICES[index]}`

export async function createSshKey(
  { draft, caller }: VerbContext,
  input: { readonly name: string; readonly publicKey: string; readonly labels?: Record<string, string> },
): Promise<SshKey> {
  const { name, publicKey, labels } = input
  authorise(caller, 'write', 'ssh_key:create', { kind: 'ssh-key', name })
  await Promise.resolve()
  return draft.create(sshKey, {
    tenant: ownTenant(caller),
    name,
    ...(labels ? { labels } : {}),
    spec: { ...parsePublicKey(publicKey), ...creatorOf(caller) },
  })
}
