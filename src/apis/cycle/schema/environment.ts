import Type, { type Static } from 'typebox'
import {
  Acl,
  CreatorScope,
  DateTime,
  HubId,
  Id,
  Identifier,
  IpNet,
  LegacyNetwork,
  Lifetime,
  StateCountSummary,
  Version,
  nullable,
  stateOf,
} from './scalar.ts'
import { EnvironmentServices } from './service.ts'

const EnvironmentAbout = Type.Object({ description: Type.String(), favorite: Type.Boolean() })
const EnvironmentState = stateOf(['new', 'live', 'cloning', 'deleting', 'deleted'])
const MonitoringTier = Type.Enum(['standard', 'plus', 'premium', 'scale'])
const LogFormat = Type.Enum(['ndjson-headers', 'ndjson-raw'])
const Receiver = Type.Object({ endpoint: Type.Optional(nullable(Type.Object({ url: Type.String() }))) })
const EnvironmentMonitoringConfig = Type.Object({
  logs: Type.Optional(
    nullable(
      Type.Object({
        drain: Type.Optional(
          nullable(
            Type.Object({
              url: Type.String(),
              format: Type.Optional(LogFormat),
              exclude_services: Type.Boolean(),
            }),
          ),
        ),
      }),
    ),
  ),
  metrics: Type.Optional(nullable(Receiver)),
  events: Type.Optional(nullable(Receiver)),
})
const EnvironmentFeatures = Type.Object({
  legacy_networking: Type.Boolean(),
  monitoring: Type.Optional(
    nullable(Type.Object({ tier: MonitoringTier, config: Type.Optional(EnvironmentMonitoringConfig) })),
  ),
})
const PrivateNetwork = Type.Object({
  vxlan_tag: Type.Integer(),
  subnet: Type.String(),
  ipv6: IpNet,
  legacy: nullable(LegacyNetwork),
})
const EnvironmentDeploymentTags = Type.Record(Type.String(), Version)
const CONTAINER_STATES = [
  'new',
  'starting',
  'running',
  'function',
  'stopping',
  'stopped',
  'deleting',
  'deleted',
] as const
export const ContainerState = stateOf(CONTAINER_STATES, {
  desired: Type.Optional(Type.Enum([...CONTAINER_STATES])),
})
const ContainerImageSummary = Type.Object({
  id: Id,
  service: nullable(Type.Enum(['discovery', 'loadbalancer', 'vpn'])),
})
export const ContainerEnvironmentSummary = Type.Object({
  id: Id,
  cluster: Type.String(),
  container_subnet: Type.Optional(nullable(Type.String())),
  ipv6: Type.Optional(nullable(IpNet)),
  legacy: Type.Optional(nullable(LegacyNetwork)),
})
const EnvironmentMeta = Type.Object({
  containers_count: Type.Optional(StateCountSummary),
  instances_count: Type.Optional(StateCountSummary),
  containers: Type.Optional(
    Type.Array(
      Type.Object({
        id: Id,
        name: Type.String(),
        state: ContainerState,
        image: ContainerImageSummary,
        environment: ContainerEnvironmentSummary,
      }),
    ),
  ),
  service_versions: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Array(
        Type.Object({ version: Type.String(), instance_id: Type.Optional(Id), last_updated: DateTime }),
      ),
    ),
  ),
})
export const Environment = Type.Object({
  id: Id,
  identifier: Identifier,
  name: Type.String(),
  cluster: Type.String(),
  about: EnvironmentAbout,
  creator: CreatorScope,
  hub_id: HubId,
  state: EnvironmentState,
  events: Lifetime,
  features: EnvironmentFeatures,
  services: EnvironmentServices,
  acl: Type.Optional(nullable(Acl)),
  private_network: Type.Optional(nullable(PrivateNetwork)),
  deployments: Type.Optional(nullable(Type.Object({ tags: EnvironmentDeploymentTags }))),
  meta: Type.Optional(EnvironmentMeta),
})
export type Environment = Static<typeof Environment>
export const EnvironmentMetadataFile = Type.Object({
  id: Id,
  deployments: nullable(Type.Object({ tags: EnvironmentDeploymentTags })),
  private_network: PrivateNetwork,
  services: EnvironmentServices,
})
export type EnvironmentMetadataFile = Static<typeof EnvironmentMetadataFile>
