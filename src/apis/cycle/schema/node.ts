import Type from 'typebox'
import { nullable, stateOf } from './scalar.ts'

const NODE_STATES = ['new', 'offline', 'authorizing', 'online', 'decommissioned', 'deleted'] as const
export const NodeState = stateOf(NODE_STATES, {
  desired: Type.Optional(nullable(Type.Enum([...NODE_STATES]))),
})
const ServerStatsNetwork = Type.Object({
  interfaces: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({
        interface: Type.String(),
        flags: Type.String(),
        mtu: Type.Integer(),
        mac_addr: Type.String(),
        addrs: Type.Optional(nullable(Type.Array(Type.String()))),
        speed: Type.Integer(),
        rx_bytes: Type.Integer(),
        tx_bytes: Type.Integer(),
      }),
    ),
  ),
  external_ipv4: Type.String(),
  external_ipv6: Type.String(),
})
const ServerStatsUptime = Type.Object({
  seconds: Type.Optional(Type.Number()),
  cpu_idle: Type.Optional(Type.Number()),
})
const ServerStatsCpuUsage = Type.Object({
  user: Type.Optional(Type.Integer()),
  nice: Type.Optional(Type.Integer()),
  system: Type.Optional(Type.Integer()),
  idle: Type.Optional(Type.Integer()),
  iowait: Type.Optional(Type.Integer()),
  irq: Type.Optional(Type.Integer()),
  soft_irq: Type.Optional(Type.Integer()),
  steal: Type.Optional(Type.Integer()),
  guest: Type.Optional(Type.Integer()),
  guest_nice: Type.Optional(Type.Integer()),
})
const ServerStatsCpu = Type.Object({
  physical_cpus: Type.Optional(Type.Integer()),
  cores: Type.Optional(Type.Integer()),
  threads: Type.Optional(Type.Integer()),
  processors: Type.Optional(
    Type.Array(Type.Object({ model: Type.Optional(Type.String()), speed: Type.Optional(Type.Number()) })),
  ),
  usage: Type.Optional(ServerStatsCpuUsage),
  virtualization: Type.Optional(Type.Boolean()),
})
const ServerStatsLoad = Type.Object({
  avg1m: Type.Number(),
  avg5m: Type.Number(),
  avg15m: Type.Number(),
})
const ServerStatsRam = Type.Object({
  available: Type.Integer(),
  free: Type.Integer(),
  total: Type.Integer(),
})
const ServerStatsStorage = Type.Object({
  volume_groups: Type.Record(
    Type.String(),
    Type.Object({
      name: Type.String(),
      size: Type.Integer(),
      volumes: Type.Record(
        Type.String(),
        Type.Object({
          name: Type.String(),
          size: Type.Integer(),
          data_percent: Type.Integer(),
          meta_percent: Type.Integer(),
          pool: Type.String(),
        }),
      ),
    }),
  ),
  mounts: Type.Record(
    Type.String(),
    Type.Object({
      device: Type.Optional(Type.String()),
      type: Type.String(),
      mountpoint: Type.Optional(Type.String()),
      total: Type.Integer(),
      free: Type.Integer(),
      used: Type.Integer(),
    }),
  ),
})
const ServerStatsOs = Type.Object({
  release: Type.Optional(Type.String()),
  kernel: Type.Optional(Type.String()),
  hostname: Type.Optional(Type.String()),
})
const ServerStatsVendor = Type.Object({
  system_vendor: Type.Optional(Type.String()),
  board_vendor: Type.Optional(Type.String()),
  board_name: Type.Optional(Type.String()),
  board_serial: Type.Optional(Type.String()),
  bios_vendor: Type.Optional(Type.String()),
})
const ServerStatsVersions = Type.Object({ services: Type.Record(Type.String(), Type.String()) })
export const NodeMetaStats = Type.Object({
  network: ServerStatsNetwork,
  uptime: ServerStatsUptime,
  cpu: ServerStatsCpu,
  load: ServerStatsLoad,
  ram: ServerStatsRam,
  storage: ServerStatsStorage,
  os: ServerStatsOs,
  vendor: ServerStatsVendor,
  versions: ServerStatsVersions,
})
