import Type, { type Static } from 'typebox'
import { Config } from './container-config.ts'
import { ContainerEnvironmentSummary, ContainerState } from './environment.ts'
import { Ip } from './ip.ts'
import { DnsRecord } from './record.ts'
import {
  CreatorScope,
  DataSize,
  DateTime,
  Deployment,
  HubId,
  Id,
  Identifier,
  ServiceContainerIdentifier,
  StateCountSummary,
  nullable,
} from './scalar.ts'

export const ContainerExtension = nullable(
  Type.Object({ identifier: Type.Literal('virtual-machine-v1'), id: Type.Optional(Id) }),
)
const ImageSummary = Type.Object({
  id: nullable(Id),
  extension: nullable(ContainerExtension),
  service: nullable(ServiceContainerIdentifier),
})
const StackSummary = Type.Object({
  id: Type.Optional(Id),
  build_id: Type.Optional(Type.String()),
  identifier: Type.Optional(Type.String()),
})
const ContainerVolume = Type.Object({
  identifier: Type.Optional(nullable(Identifier)),
  read_only: Type.Boolean(),
  block_device: Type.Boolean(),
  local: Type.Optional(
    nullable(
      Type.Object({
        max_size: DataSize,
        stateless: Type.Optional(nullable(Type.Boolean())),
        storage_pool: Type.Optional(nullable(Type.Boolean())),
      }),
    ),
  ),
  external: Type.Optional(nullable(Type.Object({ id: Type.Optional(nullable(Id)) }))),
  destination: Type.String(),
  remote_access: Type.Optional(
    Type.Object({
      enable: Type.Boolean(),
      ips: Type.Optional(Type.Array(Type.String())),
      webhook: Type.Optional(Type.String()),
      password: nullable(
        Type.Object({ algorithm: Type.Enum(['raw', 'sha512', 'md5']), data: Type.String() }),
      ),
    }),
  ),
})
const VolumeSummary = Type.Object({
  id: Id,
  hash: Type.String(),
  config: ContainerVolume,
  external: Type.Optional(nullable(Type.Object({ id: Type.Optional(Id) }))),
  removed: Type.Optional(nullable(DateTime)),
})
const ContainersMeta = Type.Object({
  instances_count: Type.Optional(StateCountSummary),
  domains: Type.Optional(
    nullable(Type.Array(Type.Object({ fqdn: Type.String(), record: Type.Optional(DnsRecord) }))),
  ),
  ips: Type.Optional(Type.Array(Ip)),
})
/** What a container and its summary have in common. */
const head = {
  id: Id,
  name: Type.String(),
  creator: CreatorScope,
  environment: ContainerEnvironmentSummary,
  hub_id: HubId,
  image: ImageSummary,
  stack: Type.Optional(nullable(StackSummary)),
  deployment: Type.Optional(nullable(Deployment)),
  annotations: Type.Optional(nullable(Type.Record(Type.String(), Type.Unknown()))),
  deprecate: Type.Boolean(),
  lock: Type.Boolean(),
  state: ContainerState,
  events: Type.Object({ created: DateTime, updated: DateTime, deleted: DateTime, started: DateTime }),
}
export const Container = Type.Object({
  ...head,
  identifier: Identifier,
  config: Config,
  instances: Type.Integer(),
  volumes: Type.Optional(Type.Array(VolumeSummary)),
  role: Type.Optional(nullable(Type.Literal('orchestrator'))),
  stateful: Type.Boolean(),
  meta: Type.Optional(ContainersMeta),
})
export type Container = Static<typeof Container>
export const ContainerSummary = Type.Object({
  ...head,
  role: Type.Optional(nullable(Type.Literal('contductor'))),
})
export type ContainerSummary = Static<typeof ContainerSummary>
