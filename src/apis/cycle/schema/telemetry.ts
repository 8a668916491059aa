import Type, { type Static } from 'typebox'
import { DateTime, HubId, Id, Identifier, nullable } from './scalar.ts'

const LoadBalancerTelemetryRouterMetrics = Type.Object({
  destinations: Type.Record(
    Type.String(),
    Type.Object({
      connections: nullable(
        Type.Object({
          success: Type.Integer(),
          unavailable: Type.Integer(),
          errors: Type.Optional(Type.Record(Type.String(), Type.Integer())),
          bytes_transmitted: Type.Optional(Type.Integer()),
          bytes_received: Type.Optional(Type.Integer()),
        }),
      ),
      requests: nullable(
        Type.Object({
          total: Type.Integer(),
          responses: Type.Optional(Type.Record(Type.String(), Type.Integer())),
          errors: Type.Optional(Type.Record(Type.String(), Type.Integer())),
        }),
      ),
      latency_ms: Type.Optional(Type.Array(Type.Integer())),
      instance_id: Type.String(),
      container_id: Type.String(),
    }),
  ),
})
const LoadBalancerTelemetryUrlRequestHandler = Type.Object({
  hits: Type.Integer(),
  timing_ms: Type.Integer(),
})
const LoadBalancerTelemetryUrlMetrics = Type.Object({
  destinations: Type.Record(
    Type.String(),
    Type.Object({
      requests: nullable(
        Type.Object({
          host: Type.String(),
          method: Type.String(),
          path: Type.String(),
          total: Type.Integer(),
          last_hit: DateTime,
          handlers: Type.Object({
            proxy: LoadBalancerTelemetryUrlRequestHandler,
            cache: LoadBalancerTelemetryUrlRequestHandler,
            forward: LoadBalancerTelemetryUrlRequestHandler,
            redirect: LoadBalancerTelemetryUrlRequestHandler,
          }),
          responses: Type.Optional(Type.Record(Type.String(), Type.Integer())),
          errors: Type.Optional(Type.Record(Type.String(), Type.Integer())),
        }),
      ),
    }),
  ),
})
const LoadBalancerTelemetryControllerMetrics = Type.Object({
  disconnects: Type.Object({
    no_error: Type.Integer(),
    request_invalid: Type.Integer(),
    timeout_idle: Type.Integer(),
    router_none: Type.Integer(),
    router_nomatch: Type.Integer(),
    destination_unavailable: Type.Integer(),
    unknown_error: Type.Integer(),
  }),
  connections: Type.Integer(),
  requests: Type.Integer(),
  bytes_transmitted: Type.Integer(),
  bytes_received: Type.Integer(),
})
const Counted = Type.Object({
  router: Type.Optional(nullable(LoadBalancerTelemetryRouterMetrics)),
  urls: Type.Optional(nullable(LoadBalancerTelemetryUrlMetrics)),
  metrics: LoadBalancerTelemetryControllerMetrics,
})
export const LoadBalancerTelemetrySnapshot = Type.Object({
  time: DateTime,
  started: DateTime,
  version: Type.Optional(Type.String()),
  dataset_id: Type.Integer(),
  current: Counted,
  cumulative: Counted,
})
export type LoadBalancerTelemetrySnapshot = Static<typeof LoadBalancerTelemetrySnapshot>
const CpuSnapshot = Type.Object({
  num_cores: Type.Integer(),
  usage: Type.Object({ total: Type.Integer(), kernel: Type.Integer(), user: Type.Number() }),
  throttling: Type.Object({
    periods: Type.Optional(Type.Integer()),
    throttled_periods: Type.Optional(Type.Integer()),
    throttled_time: Type.Optional(Type.Integer()),
  }),
})
const MemoryData = Type.Object({
  usage: Type.Optional(Type.Number()),
  max_usage: Type.Optional(Type.Number()),
  fail_count: Type.Optional(Type.Number()),
  limit: Type.Optional(Type.Number()),
})
const MemorySnapshot = Type.Object({
  cache: Type.Optional(Type.Number()),
  usage: Type.Optional(MemoryData),
  swap_usage: Type.Optional(MemoryData),
  kernel_usage: Type.Optional(MemoryData),
  kernel_tcp_usage: Type.Optional(MemoryData),
})
const ProcessesSnapshot = Type.Object({
  current: Type.Optional(Type.Number()),
  limit: Type.Optional(Type.Number()),
})
const NetworkSnapshot = Type.Object({
  interfaces: Type.Array(
    Type.Object({
      name: Type.String(),
      rx_bytes: Type.Integer(),
      tx_bytes: Type.Integer(),
      rx_packets: Type.Integer(),
      tx_packets: Type.Integer(),
      rx_dropped: Type.Integer(),
      tx_dropped: Type.Integer(),
      rx_errors: Type.Integer(),
      tx_errors: Type.Integer(),
    }),
  ),
})
const HugeTlb = Type.Object({
  usage: Type.Optional(Type.Integer()),
  max: Type.Optional(Type.Integer()),
  fail_count: Type.Optional(Type.Integer()),
})
export const ResourceSnapshot = Type.Object({
  time: DateTime,
  hub_id: Type.Optional(nullable(HubId)),
  container_id: Type.Optional(nullable(Id)),
  instance_id: Type.Optional(nullable(Id)),
  environment_id: Type.Optional(nullable(Id)),
  server_id: Type.Optional(nullable(Id)),
  cluster: Type.Optional(nullable(Identifier)),
  cpu: CpuSnapshot,
  memory: MemorySnapshot,
  processes: ProcessesSnapshot,
  network: NetworkSnapshot,
  hugetlb: Type.Optional(HugeTlb),
})
export type ResourceSnapshot = Static<typeof ResourceSnapshot>
export const Metric = Type.Object({
  metric: Type.String(),
  type: Type.Enum(['gauge', 'count', 'counter', 'rate', 'histogram', 'distribution', 'set']),
  labels: Type.Optional(Type.Record(Type.String(), Type.String())),
  tags: Type.Optional(Type.Array(Type.String())),
  points: Type.Optional(
    Type.Array(Type.Object({ time: DateTime, values: Type.Optional(Type.Array(Type.Integer())) })),
  ),
})
export type Metric = Static<typeof Metric>
export const Event = Type.Object({
  metadata: Type.Optional(
    nullable(
      Type.Object({
        component: Type.Optional(
          Type.Object({ id: Type.Optional(Type.String()), type: Type.Optional(Type.String()) }),
        ),
      }),
    ),
  ),
  event: Type.String(),
  type: Type.Enum(['info', 'warning', 'error', 'success', 'alert', 'notice', 'audit']),
  priority: Type.Enum(['critical', 'high', 'medium', 'normal', 'low']),
  text: Type.Optional(nullable(Type.String())),
  extra: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  labels: Type.Optional(Type.Record(Type.String(), Type.String())),
  tags: Type.Optional(Type.Array(Type.String())),
})
export type Event = Static<typeof Event>
