import Type, { type Static } from 'typebox'
import type { Sample } from '#cloud/compute/compute.driver.ts'
import { podNameOf, type Workload } from '#cloud/compute/workload.kind.ts'
import type { Tunnel as TunnelResource } from '#cloud/edge/tunnel.kind.ts'
import { Ipv4, Label, Nullable, Port, timestamp, Timestamp, Uuid } from './schema.ts'
import { encodeTunnel, Tunnel } from './tunnel.ts'

/** Bounds of this API; the platform's own are wider. */
const AUTOSCALE_MIN = 2
const AUTOSCALE_MAX = 50
const PORT_DEFAULT = 80

export const PodStatus = Type.Enum([
  'pending',
  'running',
  'degraded',
  'restarting',
  'updating',
  'stopped',
  'error',
  'deleting',
])
export const Pod = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  vpc_id: Uuid,
  subnet_id: Uuid,
  name: Label,
  container_image: Type.String(),
  replica_count: Type.Integer({
    minimum: 1,
    maximum: 50,
    description: 'Wanted replicas; with autoscaling the count the autoscaler wants now.',
  }),
  service_port: Port('Port of the VIP; the same port is used inside the container.'),
  use_registry_credentials: Type.Boolean(),
  external_access: Type.Boolean(),
  external_inbound: Type.Boolean(),
  auto_healing: Type.Boolean(),
  auto_scaling: Type.Boolean(),
  autoscale_min_replicas: Type.Integer({ minimum: 2, maximum: 50 }),
  autoscale_max_replicas: Type.Integer({ minimum: 2, maximum: 50 }),
  autoscale_cpu_target_millicores: Type.Integer({ minimum: 10, maximum: 10000 }),
  persistent: Type.Boolean(),
  persistent_mount_path: Type.String(),
  gpu_access: Type.Boolean({ description: 'Fixed at creation; false unless the operator offers GPUs.' }),
  status: PodStatus,
  status_message: Nullable(Type.String(), {
    description: 'Reason of `error` or `stopped`, for instance a failed image pull.',
  }),
  ready_replicas: Type.Integer({ minimum: 0 }),
  vip: Nullable(Ipv4),
  ip_addresses: Type.Array(Ipv4),
  external_ip: Nullable(Ipv4, { description: 'Set when external_inbound is true.' }),
  dns_name: Type.String(),
  tunnels: Type.Array(Tunnel),
  created_at: Timestamp,
  updated_at: Timestamp,
})
export type Pod = Static<typeof Pod>

const ReplicaLiveStatus = Type.Object({
  name: Type.String(),
  phase: Type.Enum(['pending', 'running', 'succeeded', 'failed', 'terminating']),
  ready: Type.Boolean(),
  restarts: Type.Integer({ minimum: 0 }),
  ip: Type.Optional(Nullable(Ipv4)),
  cpu_millicores: Type.Optional(Nullable(Type.Number())),
  memory_bytes: Type.Optional(Nullable(Type.Integer())),
})
const AutoscalerLiveStatus = Type.Object({
  min_replicas: Type.Integer(),
  max_replicas: Type.Integer(),
  current_replicas: Type.Integer(),
  desired_replicas: Type.Integer(),
  target_cpu_millicores: Type.Integer(),
  current_cpu_millicores: Nullable(Type.Number(), {
    description: 'Average per replica; null before the first reading.',
  }),
})
export const PodLiveStatus = Type.Object({
  status: PodStatus,
  desired_replicas: Type.Integer({ minimum: 0 }),
  ready_replicas: Type.Integer({ minimum: 0 }),
  replicas: Type.Array(ReplicaLiveStatus),
  autoscaler: Nullable(AutoscalerLiveStatus),
})

/** What a pod's state word is made of. */
export type PodState = Pick<Workload, 'deletedAt' | 'generation' | 'observed' | 'overdue'> & {
  readonly spec: Pick<Workload['spec'], 'change'>
  readonly status: Pick<Workload['status'], 'state' | 'message'>
}

/** The state word: what is being done while the wish is ahead of what is true, else what is true. */
export function stateOf(it: PodState): Static<typeof PodStatus> {
  if (it.deletedAt !== undefined) return 'deleting'
  if (it.generation <= it.observed) return it.status.state
  switch (it.spec.change) {
    case 'create':
      return 'pending'
    case 'restart':
      return 'restarting'
    case 'config':
      return 'updating'
    case 'scale':
      return it.status.state
  }
}

/** Why the state is what it is; what was true of an earlier wish is not told of a later one. */
const messageOf = (it: PodState): string | null =>
  it.overdue ?? (it.generation <= it.observed ? it.status.message : undefined) ?? null

const atLeast = (value: number): number => Math.min(AUTOSCALE_MAX, Math.max(AUTOSCALE_MIN, value))

/** Replicas wanted now: the number asked for, or within its bounds what the autoscaler wants. */
function wantedOf({ spec, status }: Workload): number {
  const { enabled, min, max } = spec.autoscaling
  return enabled ? Math.min(max, Math.max(min, status.desired)) : spec.replicas
}

/** A workload as a pod. `vpcName` is part of its DNS name; of the tunnels those that lead to it are shown. */
export const encodePod = (it: Workload, vpcName: string, tunnels: readonly TunnelResource[]): Pod => ({
  id: it.id,
  tenant_id: it.tenant,
  vpc_id: it.spec.vpc,
  subnet_id: it.spec.subnet,
  name: podNameOf(it),
  container_image: it.spec.image,
  replica_count: wantedOf(it),
  service_port: it.spec.ports[0]?.port ?? PORT_DEFAULT,
  use_registry_credentials: it.spec.useRegistryCredentials,
  external_access: it.spec.egress,
  external_inbound: it.spec.externalAddress !== undefined,
  auto_healing: it.spec.healing,
  auto_scaling: it.spec.autoscaling.enabled,
  autoscale_min_replicas: atLeast(it.spec.autoscaling.min),
  autoscale_max_replicas: atLeast(it.spec.autoscaling.max),
  autoscale_cpu_target_millicores: it.spec.autoscaling.cpuTargetMillicores,
  persistent: it.spec.persistence.enabled,
  persistent_mount_path: it.spec.persistence.path,
  gpu_access: false,
  status: stateOf(it),
  status_message: messageOf(it),
  ready_replicas: it.status.ready,
  vip: it.spec.vip ?? null,
  ip_addresses: it.status.replicas.map((one) => one.address),
  external_ip: it.spec.externalAddress ?? null,
  dns_name: `${podNameOf(it)}.${vpcName}.internal`,
  tunnels: tunnels.filter((one) => one.spec.workload === it.id).map(encodeTunnel),
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const round = (value: number): number => Math.round(value * 100) / 100

/** What is going on in a pod right now. `sampleOf` gives a replica's last sample. */
export function encodeLive(
  it: Workload,
  sampleOf: (replica: string) => Sample | undefined,
): Static<typeof PodLiveStatus> {
  const { enabled, min, max, cpuTargetMillicores } = it.spec.autoscaling
  const live = it.status.replicas.filter((one) => one.phase !== 'terminating')
  const readings = live.flatMap((one) => sampleOf(one.id)?.cpuMillicores ?? [])
  return {
    status: stateOf(it),
    desired_replicas: wantedOf(it),
    ready_replicas: it.status.ready,
    replicas: it.status.replicas.map((one) => {
      const sample = sampleOf(one.id)
      return {
        name: `${podNameOf(it)}-${one.index}`,
        // Its contract has no words for one that somebody stopped or froze.
        phase: one.phase === 'stopped' || one.phase === 'paused' ? 'succeeded' : one.phase,
        ready: one.ready,
        restarts: one.restarts,
        ip: one.address,
        cpu_millicores: sample ? round(sample.cpuMillicores) : null,
        memory_bytes: sample ? Math.round(sample.memoryBytes) : null,
      }
    }),
    autoscaler: enabled
      ? {
          min_replicas: min,
          max_replicas: max,
          current_replicas: live.length,
          desired_replicas: wantedOf(it),
          target_cpu_millicores: cpuTargetMillicores,
          current_cpu_millicores: readings.length
            ? round(readings.reduce((sum, it) => sum + it, 0) / readings.length)
            : null,
        }
      : null,
  }
}
