import type { Server as Machine } from '#cloud/cloud.ts'
import { objectId } from '#lib/object-id.ts'
import { timeOf, ZERO_TIME } from './wire.ts'
import type { Server } from './schema/server.ts'

/** The id of what there is none of here: a provider's account, a model of server. */
export const NO_ID = '0'.repeat(24)
/** All machines of an installation are one cluster. */
export const CLUSTER = 'default'
/** Who provides the machine: the installation itself. */
const VENDOR = 'arcus'

export const providerOf = (machine: Pick<Machine, 'hostname'>) => ({
  vendor: VENDOR,
  integration_id: NO_ID,
  location: machine.hostname,
})

/** The machine as its tenant may know it. It is where it is: its own location and node. */
export const encodeServer = (machine: Machine, tenant: string): Server => ({
  id: machine.id,
  hub_id: objectId(tenant),
  location_id: machine.id,
  model_id: NO_ID,
  node_id: machine.id,
  shared_file_systems: {},
  hostname: machine.hostname,
  nickname: null,
  creator: { id: objectId(tenant), type: 'platform' },
  provider: { ...providerOf(machine), model: '', server: machine.id, zone: null, init_ips: [], extra: {} },
  cluster: CLUSTER,
  features: { sftp: false, base_volume_gb: null, gateway: null },
  constraints: {
    tags: [],
    allow: { pool: false, services: true, overcommit: true, overcommit_multiple: null },
  },
  autoscale: null,
  ephemeral: false,
  evacuate: null,
  state: { current: 'live', changed: timeOf(machine.createdAt) },
  events: {
    created: timeOf(machine.createdAt),
    updated: timeOf(machine.createdAt),
    deleted: ZERO_TIME,
    latest_instance: timeOf(machine.latestReplicaAt),
    provisioning: {
      started: timeOf(machine.createdAt),
      failed: ZERO_TIME,
      completed: timeOf(machine.createdAt),
    },
  },
})
