import type { Inside, PlacedReplica } from '#cloud/cloud.ts'
import type { Sample } from '#cloud/compute/compute.driver.ts'
import { attemptOf } from '#cloud/compute/replica.kind.ts'
import { CONTAINERS_LINK } from '#cloud/network/network.driver.ts'
import { objectId } from '#lib/object-id.ts'
import { deploymentOf } from './container.ts'
import { networkSubnetOf } from './environment.ts'
import { CLUSTER, providerOf } from './place.ts'
import type { Instance, InstanceSummary } from './schema/instance.ts'
import type { ResourceSnapshot } from './schema/telemetry.ts'
import { lifetimeOf, timeOf } from './wire.ts'

type Machine = Inside['machine']

const PHASES = {
  pending: 'starting',
  running: 'running',
  // Its contract has no word for one that is frozen.
  paused: 'stopped',
  stopped: 'stopped',
  succeeded: 'stopped',
  failed: 'failed',
} as const

/** Where it is between what is wanted of it and what was seen. */
function currentOf({ replica, workload }: PlacedReplica): Instance['state']['current'] {
  const { spec, status, deletedAt } = replica
  const waits = workload.spec.function === true || workload.spec.autoStart === false
  if (deletedAt !== undefined) return 'deleting'
  if (spec.stopped === true) {
    if (status.phase === 'running') return 'stopping'
    return waits && spec.starts === undefined ? 'new' : 'stopped'
  }
  // Of the container before: this one's is on its way.
  if (status.attempt !== undefined && status.attempt !== attemptOf(replica)) return 'starting'
  if (status.phase === 'pending' && status.attempt === undefined) return 'new'
  return status.phase === 'stopped' ? 'starting' : PHASES[status.phase]
}

function stateOf(it: PlacedReplica): Instance['state'] {
  const { status, updatedAt } = it.replica
  const changed = timeOf(status.changedAt ?? updatedAt)
  const current = currentOf(it)
  return {
    current,
    changed,
    health:
      it.workload.spec.health === undefined
        ? null
        : { healthy: current === 'running' ? status.ready : null, updated: changed },
    readiness: null,
    ...(status.message === undefined || current === 'running'
      ? {}
      : { error: { message: status.message, time: changed } }),
  }
}

/** What an instance and its summary have in common. */
function headOf(it: PlacedReplica, machine: Machine) {
  const { replica, workload, vpc } = it
  const hostname = replica.name.slice(0, 63)
  return {
    id: objectId(replica.id),
    creator: { id: objectId(vpc.id), type: 'environment' as const },
    hub_id: objectId(replica.tenant),
    container_id: objectId(workload.id),
    location_id: machine.id,
    environment: {
      id: objectId(vpc.id),
      network_subnet: networkSubnetOf(vpc),
      // Its ordinal within the container, from 1.
      subnet: String(replica.spec.index + 1),
      ipv6: { ip: it.address6, cidr: it.cidr6 },
      legacy: null,
      mac_addr: it.mac,
      vxlan_tag: vpc.spec.index,
    },
    stateful: workload.spec.persistence.enabled
      ? { id: objectId(replica.id), base_hostname: hostname }
      : null,
    provider: providerOf(machine),
    server_id: machine.id,
    ready_state: 'active' as const,
    hostname,
    ...(workload.spec.service === undefined ? {} : { service: workload.spec.service }),
    state: stateOf(it),
    autoscale: null,
    deployment: deploymentOf(workload),
    events: lifetimeOf(replica),
  }
}

export const encodeInstance = (it: PlacedReplica, machine: Machine): Instance => ({
  ...headOf(it, machine),
  ...(it.workload.spec.function === true ? { function: { seed: it.replica.spec.index } } : {}),
  purge_time: null,
  extension: null,
  traffic_drain: it.replica.deletedAt === undefined ? null : { started: timeOf(it.replica.deletedAt) },
  migration: null,
  meta: null,
})

export const encodeInstanceSummary = (it: PlacedReplica, machine: Machine): InstanceSummary =>
  headOf(it, machine)

const used = (usage: number, limit: number) => ({ usage, max_usage: 0, fail_count: 0, limit })

/** The last sample. Counters that are not read are 0 (section 11). */
export function encodeSnapshot(it: PlacedReplica, sample: Sample, machine: Machine): ResourceSnapshot {
  const { replica, workload, vpc } = it
  return {
    time: timeOf(sample.at),
    hub_id: objectId(replica.tenant),
    container_id: objectId(workload.id),
    instance_id: objectId(replica.id),
    environment_id: objectId(vpc.id),
    server_id: machine.id,
    cluster: CLUSTER,
    cpu: {
      num_cores: machine.cpus,
      usage: { total: sample.cpuNs ?? 0, kernel: 0, user: 0 },
      throttling: { periods: 0, throttled_periods: 0, throttled_time: 0 },
    },
    memory: {
      cache: 0,
      usage: used(sample.memoryBytes, workload.spec.memoryMib * 1_048_576),
      swap_usage: used(0, 0),
      kernel_usage: used(0, 0),
      kernel_tcp_usage: used(0, 0),
    },
    processes: { current: 0, limit: workload.spec.pidsMax },
    network: {
      interfaces: [
        {
          name: CONTAINERS_LINK,
          rx_bytes: sample.receivedBytes,
          tx_bytes: sample.sentBytes,
          rx_packets: 0,
          tx_packets: 0,
          rx_dropped: 0,
          tx_dropped: 0,
          rx_errors: 0,
          tx_errors: 0,
        },
      ],
    },
  }
}
