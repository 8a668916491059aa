import Type, { type Static } from 'typebox'
import { ContainerExtension, ContainerSummary } from './container.ts'
import { Ip } from './ip.ts'
import { NodeState } from './node.ts'
import {
  CreatorScope,
  DateTime,
  Deployment,
  HubId,
  Id,
  IpNet,
  Lifetime,
  ServiceContainerIdentifier,
  nullable,
  stateOf,
} from './scalar.ts'

const EnvironmentNetworkSummary = Type.Object({
  id: Id,
  network_subnet: Type.String(),
  subnet: Type.String(),
  ipv6: nullable(IpNet),
  legacy: nullable(Type.Object({ host: Type.Integer(), subnet: Type.Integer(), ipv4: nullable(IpNet) })),
  mac_addr: Type.String(),
  vxlan_tag: Type.Integer(),
})
const InstanceProvider = Type.Object({
  vendor: Type.String(),
  integration_id: Id,
  location: Type.String(),
})
const InstanceState = stateOf(
  ['new', 'starting', 'migrating', 'running', 'stopping', 'stopped', 'failed', 'deleting', 'deleted'],
  {
    health: Type.Optional(nullable(Type.Object({ healthy: nullable(Type.Boolean()), updated: DateTime }))),
    readiness: Type.Optional(nullable(Type.Object({ ready: nullable(Type.Boolean()), updated: DateTime }))),
  },
)
const InstanceAutoScale = Type.Object({ min_ttl: DateTime })
const InstanceTrafficDrain = Type.Object({ started: DateTime })
const MigrationInstance = Type.Object({ instance_id: Type.String(), server_id: Type.String() })
const InstanceMigration = Type.Object({
  to: Type.Optional(nullable(MigrationInstance)),
  from: Type.Optional(nullable(MigrationInstance)),
  started: Type.Optional(DateTime),
  completed: Type.Optional(DateTime),
  key: Type.String(),
  copy_volumes: Type.Boolean(),
})
const InstanceMeta = Type.Object({
  node: Type.Optional(
    Type.Object({
      healthy: Type.Optional(Type.Boolean()),
      online: Type.Optional(Type.Boolean()),
      last_checkin: Type.Optional(DateTime),
      state: Type.Optional(NodeState),
    }),
  ),
  sdn_pool_ips: Type.Optional(Type.Array(Ip)),
})
/** What an instance and its summary have in common. */
const head = {
  id: Id,
  creator: CreatorScope,
  hub_id: HubId,
  container_id: Type.String(),
  location_id: Type.String(),
  environment: EnvironmentNetworkSummary,
  stateful: Type.Optional(nullable(Type.Object({ id: Id, base_hostname: Type.String() }))),
  provider: InstanceProvider,
  server_id: Id,
  ready_state: Type.Enum(['active', 'purge', 'hibernate', 'configuring']),
  hostname: Type.String(),
  service: Type.Optional(ServiceContainerIdentifier),
  state: InstanceState,
  autoscale: Type.Optional(nullable(InstanceAutoScale)),
  deployment: Type.Optional(nullable(Deployment)),
  events: Lifetime,
}
export const Instance = Type.Object({
  ...head,
  function: Type.Optional(Type.Object({ seed: Type.Integer() })),
  purge_time: Type.Optional(nullable(DateTime)),
  extension: Type.Optional(nullable(ContainerExtension)),
  traffic_drain: Type.Optional(nullable(InstanceTrafficDrain)),
  migration: Type.Optional(nullable(InstanceMigration)),
  meta: Type.Optional(nullable(InstanceMeta)),
})
export type Instance = Static<typeof Instance>
export const InstanceSummary = Type.Object(head)
export type InstanceSummary = Static<typeof InstanceSummary>
export const ServiceContainer = Type.Object({
  container: ContainerSummary,
  instances: Type.Optional(nullable(Type.Array(InstanceSummary))),
})
export type ServiceContainer = Static<typeof ServiceContainer>
