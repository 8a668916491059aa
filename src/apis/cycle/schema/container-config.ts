import Type, { type Static } from 'typebox'
import { Duration, HybridIdentifier, L2Domain, nullable } from './scalar.ts'

const ContainerNetwork = Type.Object({
  public: Type.Enum(['enable', 'egress-only', 'environment-limited', 'disable']),
  hostname: Type.String(),
  ports: Type.Optional(Type.Array(Type.String())),
  l2: Type.Optional(Type.Object({ domains: Type.Array(L2Domain) })),
})
const DeploymentStrategyName = Type.Enum([
  'resource-density',
  'high-availability',
  'distributed',
  'first-available',
  'manual',
  'node',
  'edge',
  'function',
])
const ShutdownSignal = Type.Enum(['SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGQUIT'])
const ContainerDeploy = Type.Object({
  instances: Type.Integer(),
  strategy: Type.Optional(nullable(DeploymentStrategyName)),
  function: Type.Optional(
    nullable(
      Type.Object({
        max_pool_size: Type.Optional(nullable(Type.Integer())),
        max_shard_concurrency: Type.Optional(nullable(Type.Integer())),
        max_runtime: Type.Optional(nullable(Duration)),
        max_queue_time: Type.Optional(nullable(Duration)),
      }),
    ),
  ),
  stateful: Type.Optional(
    nullable(
      Type.Object({
        options: Type.Optional(
          nullable(Type.Object({ use_base_hostname: Type.Optional(nullable(Type.Boolean())) })),
        ),
      }),
    ),
  ),
  constraints: Type.Optional(
    nullable(
      Type.Object({
        node: Type.Optional(
          nullable(
            Type.Object({
              tags: Type.Object({
                any: Type.Optional(nullable(Type.Array(Type.String()))),
                all: Type.Optional(nullable(Type.Array(Type.String()))),
              }),
            }),
          ),
        ),
        secrets: Type.Optional(nullable(Type.Array(Type.String()))),
      }),
    ),
  ),
  shutdown: Type.Optional(
    nullable(
      Type.Object({
        graceful_timeout: Type.Optional(nullable(Duration)),
        signals: Type.Optional(nullable(Type.Array(ShutdownSignal))),
      }),
    ),
  ),
  startup: Type.Optional(nullable(Type.Object({ delay: Type.Optional(Duration) }))),
  update: Type.Optional(nullable(Type.Object({ stagger: Type.Optional(Duration) }))),
  restart: Type.Optional(
    nullable(
      Type.Object({
        condition: Type.Enum(['always', 'never', 'failure']),
        delay: Duration,
        max_attempts: Type.Integer(),
      }),
    ),
  ),
  readiness_check: Type.Optional(
    nullable(Type.Object({ command: Type.String(), interval: Duration, timeout: Duration })),
  ),
  health_check: Type.Optional(
    nullable(
      Type.Object({
        command: Type.String(),
        retries: Type.Integer(),
        delay: Duration,
        interval: Duration,
        timeout: Duration,
        restart: Type.Boolean(),
      }),
    ),
  ),
  telemetry: Type.Optional(
    nullable(Type.Object({ retention: Duration, interval: Duration, disable: Type.Boolean() })),
  ),
})
const ScaleThresholdMetricRam = Type.Object({
  type: Type.Literal('ram'),
  details: Type.Object({ usage: Type.String() }),
})
const ScaleThresholdMetricCpu = Type.Object({
  type: Type.Literal('cpu'),
  details: Type.Object({ utilization: Type.Integer() }),
})
const ScaleThresholdMetricCustom = Type.Object({
  type: Type.Literal('custom'),
  details: Type.Object({ webhook: Type.String() }),
})
const ScaleThresholdMetricNetworkConnections = Type.Object({
  type: Type.Literal('network-connections'),
  details: Type.Object({ connections: Type.Integer() }),
})
const ScaleThresholdMetricNetworkRequests = Type.Object({
  type: Type.Literal('network-requests'),
  details: Type.Object({ requests: Type.Integer() }),
})
const ScaleThresholdMetricNetworkThroughput = Type.Object({
  type: Type.Literal('network-throughput'),
  details: Type.Object({ private: Type.Boolean(), bandwidth: Type.String() }),
})
const ScaleThresholdMetric = Type.Union([
  ScaleThresholdMetricRam,
  ScaleThresholdMetricCpu,
  ScaleThresholdMetricNetworkConnections,
  ScaleThresholdMetricNetworkRequests,
  ScaleThresholdMetricNetworkThroughput,
  ScaleThresholdMetricCustom,
])
const ContainerScale = Type.Object({
  autoscale_group: nullable(Type.String()),
  instances: Type.Object({ max: Type.Integer(), max_server: Type.Integer(), min_ttl: Duration }),
  window: Duration,
  thresholds: Type.Array(ScaleThresholdMetric),
})
const SeccompRule = Type.Object({
  capabilities: Type.Optional(
    Type.Object({ includes: Type.Optional(Type.String()), excludes: Type.Optional(Type.String()) }),
  ),
  syscall: Type.Optional(
    Type.Object({
      names: Type.Array(Type.String()),
      action: Type.String(),
      errnoRet: Type.Optional(Type.Integer()),
      args: Type.Optional(
        Type.Array(
          Type.Object({
            index: Type.Integer(),
            value: Type.Integer(),
            valueTwo: Type.Optional(Type.Integer()),
            op: Type.String(),
          }),
        ),
      ),
    }),
  ),
})
const RuntimeExposedDevice = Type.Object({
  source: Type.String(),
  destination: Type.String(),
  options: Type.Optional(nullable(Type.Array(Type.String()))),
})
const RuntimeDevicePermissionType = Type.Enum(['b', 'c'])
const RuntimeDevicePermissionAccess = Type.String({ pattern: '^[rwm]+$' })
const RuntimeDevicePermission = Type.Object({
  type: RuntimeDevicePermissionType,
  major: Type.Optional(nullable(Type.Integer())),
  minor: Type.Optional(nullable(Type.Integer())),
  allow: Type.Boolean(),
  access: RuntimeDevicePermissionAccess,
})
const ContainerRuntime = Type.Object({
  command: Type.Optional(
    nullable(
      Type.Object({
        path: Type.Optional(nullable(Type.String())),
        args: Type.Optional(nullable(Type.String())),
      }),
    ),
  ),
  namespaces: Type.Optional(
    Type.Array(Type.Enum(['ipc', 'pid', 'uts', 'network', 'mount', 'user', 'cgroup'])),
  ),
  environment_vars: Type.Optional(Type.Record(Type.String(), Type.String())),
  privileged: Type.Boolean(),
  capabilities: Type.Optional(
    Type.Array(
      Type.Enum([
        'CAP_CHOWN',
        'CAP_FSETID',
        'CAP_DAC_OVERRIDE',
        'CAP_FOWNER',
        'CAP_SETFCAP',
        'CAP_SETGID',
        'CAP_SETUID',
        'CAP_KILL',
        'CAP_MKNOD',
        'CAP_NET_BIND_SERVICE',
        'CAP_NET_RAW',
        'CAP_AUDIT_WRITE',
        'CAP_SYS_CHROOT',
        'CAP_SETPCAP',
        'CAP_DAC_READ_SEARCH',
        'CAP_NET_ADMIN',
        'CAP_NET_BROADCAST',
        'CAP_SYS_ADMIN',
        'CAP_SYS_MODULE',
        'CAP_SYS_NICE',
        'CAP_SYS_PACCT',
        'CAP_SYS_PTRACE',
        'CAP_SYS_RAWIO',
        'CAP_SYS_RESOURCE',
        'CAP_SYS_BOOT',
        'CAP_SYS_TIME',
        'CAP_SYS_TTY_CONFIG',
        'CAP_SYSLOG',
        'CAP_AUDIT_CONTROL',
        'CAP_AUDIT_READ',
        'CAP_IPC_LOCK',
        'CAP_IPC_OWNER',
        'CAP_LINUX_IMMUTABLE',
        'CAP_MAC_ADMIN',
        'CAP_MAC_OVERRIDE',
        'CAP_BLOCK_SUSPEND',
        'CAP_LEASE',
        'CAP_WAKE_ALARM',
      ]),
    ),
  ),
  workdir: Type.Optional(Type.String()),
  sysctl: Type.Optional(Type.Record(Type.String(), Type.String())),
  rlimits: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({ hard: Type.Optional(Type.Integer()), soft: Type.Optional(Type.Integer()) }),
    ),
  ),
  seccomp: Type.Optional(
    nullable(
      Type.Object({ disable: Type.Optional(Type.Boolean()), rules: Type.Optional(Type.Array(SeccompRule)) }),
    ),
  ),
  host: Type.Optional(
    nullable(
      Type.Object({
        expose_proc: Type.Optional(nullable(Type.Boolean())),
        expose_cgroups: Type.Optional(nullable(Type.Boolean())),
        power_management: Type.Optional(nullable(Type.Boolean())),
      }),
    ),
  ),
  rootfs: Type.Optional(Type.Object({ readonly: Type.Optional(Type.Boolean()) })),
  devices: Type.Optional(
    nullable(
      Type.Object({
        shm_size: Type.Optional(nullable(Type.String())),
        expose: Type.Optional(nullable(Type.Array(RuntimeExposedDevice))),
        permissions: Type.Optional(nullable(Type.Array(RuntimeDevicePermission))),
      }),
    ),
  ),
})
const ContainerResources = Type.Object({
  cpu: Type.Object({
    shares: Type.Optional(Type.Object({ limit: Type.Integer(), reserve: Type.Integer() })),
    cpus: Type.Optional(Type.String()),
  }),
  ram: Type.Object({ limit: Type.Optional(Type.String()), reserve: Type.Optional(Type.String()) }),
})
const ContainerIntegrations = Type.Object({
  webhooks: Type.Optional(
    Type.Object({
      events: Type.Optional(
        Type.Object({
          deploy: Type.Optional(Type.String()),
          start: Type.Optional(Type.String()),
          stop: Type.Optional(Type.String()),
        }),
      ),
      config: Type.Optional(Type.String()),
    }),
  ),
  files: Type.Optional(Type.Array(Type.Object({ source: Type.String(), destination: Type.String() }))),
  lets_encrypt: Type.Optional(
    nullable(
      Type.Object({
        certificate_path: Type.Optional(Type.String()),
        chain_path: Type.Optional(Type.String()),
        key_path: Type.Optional(Type.String()),
        bundle_path: Type.Optional(Type.String()),
        additional_certs_path: Type.Optional(Type.String()),
      }),
    ),
  ),
  backups: Type.Optional(
    Type.Object({
      integration_id: Type.Optional(HybridIdentifier),
      backup: Type.Object({
        command: Type.String(),
        timeout: Type.Optional(nullable(Duration)),
        cron_string: Type.Optional(Type.String()),
      }),
      restore: nullable(Type.Object({ command: Type.String(), timeout: Type.Optional(Duration) })),
      retention: nullable(Duration),
      destination: Type.String(),
    }),
  ),
  shared_file_systems: Type.Optional(
    nullable(
      Type.Record(Type.String(), Type.Object({ writable: Type.Boolean(), mount_point: Type.String() })),
    ),
  ),
})
export const Config = Type.Object({
  network: ContainerNetwork,
  deploy: ContainerDeploy,
  scale: Type.Optional(ContainerScale),
  runtime: Type.Optional(ContainerRuntime),
  resources: Type.Optional(ContainerResources),
  integrations: Type.Optional(ContainerIntegrations),
})
export type Config = Static<typeof Config>
