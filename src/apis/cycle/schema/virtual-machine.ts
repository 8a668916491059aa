import Type, { type Static } from 'typebox'
import { Ip } from './ip.ts'
import { DnsRecord } from './record.ts'
import { CreatorScope, DateTime, Duration, HubId, Id, Identifier, nullable, stateOf } from './scalar.ts'
import { Server } from './server.ts'

const VirtualMachineNetworkConfig = Type.Object({
  public: Type.Enum(['enable', 'disable', 'egress-only', 'environment-limited']),
  hostname: Type.String(),
  ports: Type.Optional(nullable(Type.Array(Type.String()))),
  egress_via_gateway: Type.Boolean(),
})
const VirtualMachineDeployTags = Type.Object({
  any: Type.Optional(nullable(Type.Array(Type.String()))),
  all: Type.Optional(nullable(Type.Array(Type.String()))),
})
const VirtualMachineNodeConstraints = Type.Object({ tags: VirtualMachineDeployTags })
const VirtualMachineDeployConstraints = Type.Object({
  node: Type.Optional(nullable(VirtualMachineNodeConstraints)),
  secrets: Type.Optional(nullable(Type.Array(Type.String()))),
  containers: Type.Optional(nullable(Type.Array(Type.String()))),
})
const VirtualMachineShutdownPolicy = Type.Object({
  graceful_timeout: Type.Optional(nullable(Duration)),
})
const VirtualMachineStartupPolicy = Type.Object({ delay: Type.Optional(nullable(Duration)) })
const VirtualMachineTelemetryConfig = Type.Object({
  retention: Type.Optional(nullable(Duration)),
  interval: Type.Optional(nullable(Duration)),
  disable: Type.Boolean(),
})
const VirtualMachineDeployConfig = Type.Object({
  constraints: Type.Optional(nullable(VirtualMachineDeployConstraints)),
  shutdown: Type.Optional(nullable(VirtualMachineShutdownPolicy)),
  startup: Type.Optional(nullable(VirtualMachineStartupPolicy)),
  telemetry: Type.Optional(nullable(VirtualMachineTelemetryConfig)),
})
const VirtualMachineRamResources = Type.Object({
  limit: Type.String(),
  allocate: Type.Optional(nullable(Type.Boolean())),
})
const VirtualMachineCpuResources = Type.Object({
  cores: Type.Optional(
    nullable(Type.Object({ number: Type.Integer(), allocate: Type.Optional(nullable(Type.Boolean())) })),
  ),
  cpus: Type.Optional(nullable(Type.String())),
})
const VirtualMachineResourcesConfig = Type.Object({
  ram: VirtualMachineRamResources,
  cpu: VirtualMachineCpuResources,
})
const VirtualMachineCpuConfigDefault = Type.Object({
  type: Type.Enum(['host', 'qemu32', 'qemu64', 'kvm64']),
  details: Type.Object({}),
})
const VirtualMachineCpuConfigCustom = Type.Object({
  type: Type.Literal('custom'),
  details: Type.Object({
    model: Type.String(),
    feature_flags: Type.Optional(nullable(Type.Array(Type.String()))),
  }),
})
const VirtualMachineRuntimeConfigHardware = Type.Object({
  machine_type: Type.Optional(nullable(Type.Enum(['pc', 'q35', 'microvm']))),
  cpu: Type.Union([VirtualMachineCpuConfigDefault, VirtualMachineCpuConfigCustom]),
})
const VirtualMachineAttachmentTypeIso = Type.Object({
  type: Type.Literal('iso'),
  details: Type.Object({ url: Type.String() }),
})
const VirtualMachineRuntimeConfigAttachment = VirtualMachineAttachmentTypeIso
const VirtualMachineRuntimeConfig = Type.Object({
  hardware: Type.Optional(nullable(VirtualMachineRuntimeConfigHardware)),
  attach: Type.Optional(nullable(Type.Array(VirtualMachineRuntimeConfigAttachment))),
  os_flavor: Type.Optional(Type.Enum(['linux', 'unix', 'windows'])),
})
const VirtualMachineConfig = Type.Object({
  network: VirtualMachineNetworkConfig,
  deploy: VirtualMachineDeployConfig,
  resources: VirtualMachineResourcesConfig,
  runtime: Type.Optional(nullable(VirtualMachineRuntimeConfig)),
})
const VirtualMachineImageSourceUrl = Type.Object({
  type: Type.Literal('url'),
  details: Type.Object({ url: Type.String() }),
})
const VirtualMachineImageSourceIpxe = Type.Object({
  type: Type.Literal('ipxe'),
  details: Type.Object({
    chain_url: Type.Optional(nullable(Type.String())),
    script: Type.Optional(nullable(Type.String())),
  }),
})
const VirtualMachineImageSourceBase = Type.Object({
  type: Type.Literal('base'),
  details: Type.Object({ identifier: Type.String() }),
})
const VirtualMachineImageSourceExternalVolume = Type.Object({
  type: Type.Literal('external-volume'),
  details: Type.Object({ identifier: Type.Optional(nullable(Identifier)), id: Type.Optional(nullable(Id)) }),
})
const VirtualMachineImage = Type.Union([
  VirtualMachineImageSourceUrl,
  VirtualMachineImageSourceIpxe,
  VirtualMachineImageSourceBase,
  VirtualMachineImageSourceExternalVolume,
])
const VirtualMachineVolumeConfig = Type.Object({
  local: Type.Optional(
    nullable(
      Type.Object({
        max_size: Type.String(),
        storage_pool: Type.Optional(nullable(Type.Boolean())),
        stateless: Type.Optional(nullable(Type.Boolean())),
      }),
    ),
  ),
  external: Type.Optional(nullable(Type.Object({ id: Type.Optional(nullable(Id)) }))),
  identifier: Identifier,
  read_only: Type.Boolean(),
})
const VirtualMachineVolume = Type.Object({
  id: Id,
  hash: Type.String(),
  config: VirtualMachineVolumeConfig,
  removed: Type.Optional(nullable(DateTime)),
})
const VirtualMachineState = stateOf([
  'new',
  'starting',
  'configuring',
  'running',
  'stopping',
  'stopped',
  'deleting',
  'deleted',
])
const VirtualMachineMeta = Type.Object({
  domains: Type.Optional(
    nullable(Type.Array(Type.Object({ fqdn: Type.String(), record: Type.Optional(nullable(DnsRecord)) }))),
  ),
  ips: Type.Optional(nullable(Type.Array(Ip))),
  server: Type.Optional(nullable(Server)),
  hypervisor_ips: Type.Optional(
    nullable(Type.Object({ ipv4: Type.Optional(Type.String()), ipv6: Type.Optional(Type.String()) })),
  ),
})
export const VirtualMachine = Type.Object({
  id: Id,
  name: Type.String(),
  identifier: Identifier,
  creator: CreatorScope,
  environment: Type.Object({ id: Id, cluster: Identifier }),
  hub_id: HubId,
  config: VirtualMachineConfig,
  image: VirtualMachineImage,
  container_id: Type.Optional(Id),
  volumes: Type.Optional(nullable(Type.Array(VirtualMachineVolume))),
  annotations: Type.Optional(nullable(Type.Record(Type.String(), Type.Unknown()))),
  root_password: Type.Optional(Type.Object({ changed: DateTime, current: nullable(Type.String()) })),
  ssh_keys: Type.Optional(nullable(Type.Array(Id))),
  state: VirtualMachineState,
  events: Type.Object({ created: DateTime, updated: DateTime, deleted: DateTime, started: DateTime }),
  deprecate: Type.Boolean(),
  lock: Type.Boolean(),
  meta: Type.Optional(nullable(VirtualMachineMeta)),
})
export type VirtualMachine = Static<typeof VirtualMachine>
