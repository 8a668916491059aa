import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { isCurrent, replica, type Replica } from '#cloud/compute/replica.kind.ts'
import { isInstance, workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { byIdOrName } from './lookup.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'

export const StringMap = Type.Record(Type.String(), Type.String())
export const InstanceStatus = Type.Enum(['STARTING', 'RUNNING', 'STOPPED', 'ERROR', 'PAUSED'])
export type InstanceStatus = Static<typeof InstanceStatus>

export const Instance = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  image: Type.String(),
  container_id: Type.Optional(Type.String()),
  status: InstanceStatus,
  ports: Type.String(),
  vpc_id: Uuid,
  subnet_id: Uuid,
  private_ip: Type.Optional(Type.String()),
  ovs_port: Type.Optional(Type.String({ description: 'Never given: there is no Open vSwitch here.' })),
  instance_type: Type.Optional(Type.String()),
  volume_binds: Type.Array(Type.String({ description: '`<volume id>:<mount path>`' })),
  env: Type.Array(Type.String()),
  cmd: Type.Array(Type.String()),
  cpu_limit: Type.Integer({ description: 'Whole vCPUs, rounded up.' }),
  memory_limit: Type.Integer({ description: 'Bytes.' }),
  disk_limit: Type.Optional(Type.Integer({ description: 'Bytes; not enforced.' })),
  metadata: StringMap,
  labels: StringMap,
  ssh_key_id: Type.Optional(Uuid),
  version: Type.Integer(),
  created_at: Timestamp,
  updated_at: Timestamp,
})

/** Starts again and again: it was tried so often already. */
const RESTARTS_FINE = 2
export const MILLICORES = 1000
export const MIB = 1024 * 1024

/** An instance with the replica that it runs as; that is missing for a moment when a pod's slot is replaced. */
export type Machine = { readonly it: Workload; readonly slot: Replica | undefined }

export function statusOf({ it, slot }: Machine): InstanceStatus {
  if (!slot) return 'STARTING'
  const { spec, status } = slot
  if (spec.stopped === true) return 'STOPPED'
  if (!isCurrent(slot)) return it.overdue === undefined ? 'STARTING' : 'ERROR'
  if (status.phase === 'failed' || (status.phase === 'pending' && status.restarts > RESTARTS_FINE))
    return 'ERROR'
  if (spec.paused === true) return 'PAUSED'
  if (status.phase === 'running') return 'RUNNING'
  return status.phase === 'succeeded' ? 'STOPPED' : 'STARTING'
}

export function encodeInstance(machine: Machine): Static<typeof Instance> {
  const { it, slot } = machine
  const { spec } = it
  const { instance } = spec
  return {
    id: it.id,
    user_id: instance?.creator ?? NIL,
    tenant_id: it.tenant,
    name: it.name,
    image: instance?.image ?? spec.image,
    ...(slot?.status.runtimeId === undefined ? {} : { container_id: slot.status.runtimeId }),
    status: statusOf(machine),
    ports: (spec.published ?? []).map(({ host, container }) => `${host}:${container}`).join(','),
    vpc_id: spec.vpc,
    subnet_id: spec.subnet,
    ...(slot ? { private_ip: slot.spec.address } : {}),
    ...(instance ? { instance_type: instance.type } : {}),
    volume_binds: (spec.volumes ?? []).map(({ volume, path }) => `${volume}:${path}`),
    env: Object.entries(spec.env).map(([key, value]) => `${key}=${value}`),
    cmd: [...(spec.command ?? [])],
    cpu_limit: Math.ceil(spec.cpuMillicores / MILLICORES),
    memory_limit: spec.memoryMib * MIB,
    ...(instance?.diskBytes === undefined ? {} : { disk_limit: instance.diskBytes }),
    metadata: { ...instance?.metadata },
    labels: { ...it.labels },
    ...(instance?.sshKey === undefined ? {} : { ssh_key_id: instance.sshKey }),
    version: it.revision + (slot?.generation ?? 0),
    created_at: timestamp(it.createdAt),
    updated_at: timestamp(Math.max(it.updatedAt, slot?.updatedAt ?? 0)),
  }
}

/** The replica of each workload, that is not on its way out. */
async function slotsOf(
  cloud: Cloud,
  caller: Caller,
  terms: readonly string[] = [],
): Promise<ReadonlyMap<string, Replica>> {
  const all = await cloud.all(caller, replica, { terms, deleted: false })
  return new Map(all.map((it) => [it.spec.workload, it]))
}

/** Every instance of the tenant, oldest first. A workload of several replicas is none. */
export async function machinesOf(
  cloud: Cloud,
  caller: Caller,
  terms: readonly string[] = [],
): Promise<Machine[]> {
  const all = (await cloud.all(caller, workload, { terms, deleted: false })).filter(isInstance)
  const slots = await slotsOf(cloud, caller)
  return all.map((it) => ({ it, slot: slots.get(it.id) }))
}

export const machineOf = async (cloud: Cloud, caller: Caller, it: Workload): Promise<Machine> => ({
  it,
  slot: (await slotsOf(cloud, caller, [`workload:${it.id}`])).get(it.id),
})

/** The instance that a path or body names. */
export async function machineNamed(cloud: Cloud, caller: Caller, reference: string): Promise<Machine> {
  const it = await byIdOrName(cloud, caller, workload, reference, 'Instance')
  if (!isInstance(it)) throw new CloudError('not_found', 'Instance not found')
  return await machineOf(cloud, caller, it)
}
