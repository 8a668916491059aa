import Type, { type Static } from 'typebox'
import { NodeMetaStats, NodeState } from './node.ts'
import { CreatorScope, DateTime, HubId, Id, StateCountSummary, nullable, stateOf } from './scalar.ts'

const ServerSharedFileSystems = Type.Object({
  mounts: Type.Optional(
    nullable(
      Type.Record(
        Type.String(),
        Type.Object({ type: Type.String(), options: Type.String(), source: Type.String() }),
      ),
    ),
  ),
  directories: Type.Optional(nullable(Type.Record(Type.String(), Type.Unknown()))),
})
const ServerProvider = Type.Object({
  vendor: Type.String(),
  integration_id: Id,
  model: Type.String(),
  zone: Type.Optional(nullable(Type.String())),
  location: Type.String(),
  server: Type.String(),
  init_ips: Type.Optional(Type.Array(Type.String())),
  mac_addr: Type.Optional(Type.String()),
  extra: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  provision_options: Type.Optional(
    Type.Object({
      encrypt_storage: Type.Optional(Type.Boolean()),
      storage_size: Type.Optional(Type.Number()),
      reservation_id: Type.Optional(Type.String()),
    }),
  ),
})
const ServerFeatures = Type.Object({
  sftp: Type.Boolean(),
  base_volume_gb: Type.Optional(nullable(Type.Integer())),
  gateway: Type.Optional(nullable(Type.Object({ type: Type.Enum(['bgp', 'static']) }))),
})
const ServerConstraints = Type.Object({
  tags: Type.Array(Type.String()),
  allow: Type.Object({
    pool: Type.Boolean(),
    services: Type.Boolean(),
    overcommit: Type.Boolean(),
    overcommit_multiple: Type.Optional(nullable(Type.Integer())),
  }),
})
const ServerState = stateOf([
  'new',
  'provisioning',
  'configuring',
  'quarantined',
  'live',
  'deleting',
  'deleted',
])
const ServerMeta = Type.Object({
  node: Type.Optional(
    Type.Object({
      last_checkin: DateTime,
      drivers: Type.Array(Type.String()),
      state: NodeState,
      stats: NodeMetaStats,
      healthy: Type.Boolean(),
      online: Type.Boolean(),
    }),
  ),
  instances_count: Type.Optional(StateCountSummary),
  allocations: Type.Optional(
    Type.Object({
      cpu_shares: Type.Object({
        total: Type.Integer(),
        allocatable: Type.Integer(),
        allocated: Type.Integer(),
      }),
      ram: Type.Object({
        total_mb: Type.Integer(),
        allocatable_mb: Type.Integer(),
        allocated_mb: Type.Integer(),
      }),
    }),
  ),
})
export const Server = Type.Object({
  id: Id,
  hub_id: HubId,
  location_id: Type.String(),
  model_id: Type.String(),
  node_id: Type.String(),
  shared_file_systems: ServerSharedFileSystems,
  hostname: Type.String(),
  nickname: Type.Optional(nullable(Type.String())),
  creator: CreatorScope,
  provider: ServerProvider,
  cluster: Type.String(),
  features: ServerFeatures,
  constraints: ServerConstraints,
  autoscale: Type.Optional(nullable(Type.Object({ group_id: Id }))),
  ephemeral: Type.Boolean(),
  evacuate: Type.Optional(nullable(Type.Object({ started: DateTime }))),
  state: ServerState,
  events: Type.Object({
    created: DateTime,
    updated: DateTime,
    deleted: DateTime,
    latest_instance: DateTime,
    provisioning: Type.Object({ started: DateTime, failed: DateTime, completed: DateTime }),
  }),
  meta: Type.Optional(ServerMeta),
})
export type Server = Static<typeof Server>
