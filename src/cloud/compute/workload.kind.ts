import Type, { type Static } from 'typebox'
import { type Claim, defineKind, type KindEvent } from '#engine/kind.ts'
import { quotaClaim } from '#cloud/context.ts'
import { changed, event, turnOf } from '#cloud/inside/event.kind.ts'
import type { Resource, ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE } from '#cloud/states.ts'
import { Progress } from './progress.ts'

export const REPLICAS_MAX = 50
const VOLUMES_MAX = 16
const PUBLISHED_MAX = 64
const LABEL_LENGTH_MAX = 50
const ID_DIGITS = 8
const Strings = Type.Array(Type.String({ maxLength: 4096 }), { maxItems: 256 })
const Port = Type.Integer({ minimum: 1, maximum: 65535 })

/** What a workload does for its VPC as a whole; one workload a service and VPC. */
export const SERVICES = ['discovery', 'vpn', 'loadbalancer', 'scheduler', 'gateway'] as const
export type Service = (typeof SERVICES)[number]

const Published = Type.Object(
  {
    /** Port of the host; asked for as 0 it becomes a free one. */
    host: Type.Integer({ minimum: 0, maximum: 65535 }),
    /** Port inside the container. */
    container: Port,
    protocol: Type.Enum(['tcp', 'udp']),
  },
  { additionalProperties: false },
)
/** A port of the host that leads to the replicas that are ready, in turn. */
export type PublishedPort = Static<typeof Published>

export const WORKLOAD_STATES = ['pending', 'running', 'degraded', 'stopped', 'error'] as const

const REPLICAS_ADVICE =
  '`arcus explain` names the replicas that are not there yet; `arcus logs` shows what they said'

const CHANGES = { create: 'pending', restart: 'restarting', config: 'updating', scale: 'scaling' } as const

/** What is being done to it while the wish is ahead of what is true, else what is true. */
function stateWord(it: Resource<{ change: keyof typeof CHANGES }, { state: string }>): string {
  if (it.deletedAt !== undefined) return 'deleting'
  return it.observed < it.generation ? CHANGES[it.spec.change] : it.status.state
}

type Told = Resource<
  { vpc: string; change: keyof typeof CHANGES; service?: Service; externalAddress?: string },
  { state: string; message?: string }
>

function events(before: Told | undefined, after: Told | undefined): KindEvent[] {
  const of = after ?? before
  if (!of) return []
  const { vpc } = of.spec
  const about = { vpcs: [vpc], workloads: [of.id] }
  const { from, to, isWish } = turnOf(before, after)
  const [was, is] = [before && stateWord(before), after ? stateWord(after) : 'deleted']
  const { message } = of.status
  const all = [
    ...(was === is
      ? []
      : [
          event('workload.state.changed', of.id, {
            ...about,
            ...(was === undefined ? {} : { from: was }),
            to: is,
            ...(message === undefined ? {} : { message }),
          }),
        ]),
    ...(from && to && isWish ? [event('workload.changed', of.id, about)] : []),
  ]
  for (const service of new Set([from?.spec.service, to?.spec.service]))
    if (service !== undefined && from?.spec.service !== to?.spec.service)
      all.push(event('vpc.services.changed', vpc, { ...about, of: service }))
  if (from?.spec.externalAddress !== to?.spec.externalAddress)
    all.push(event('vpc.addresses.changed', vpc, { ...about, ...changed(from, to, 'externalAddress') }))
  return all
}

/** The pool in which workloads claim ports of the host, one for all tenants. */
export const hostPortPool = (protocol: PublishedPort['protocol']): string => `host-port:${protocol}`

/** What a workload's published ports take of its tenant's quota; nothing for none. */
export const portsClaim = (it: {
  readonly id: string
  readonly tenant: string
  readonly spec: { readonly published?: readonly unknown[] }
}): readonly Claim[] =>
  it.spec.published?.length ? [quotaClaim(it.tenant, 'publishedPorts', it.id, it.spec.published.length)] : []

/** The pool in which a workload claims the volumes that it uses. */
export const VOLUME_USE = 'volume-use'

/** A text as a label of DNS: what else there is in it becomes hyphens; `instance` when nothing is left. */
const labelOf = (text: string): string =>
  text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .slice(0, LABEL_LENGTH_MAX)
    .replace(/^-+|-+$/g, '') || 'instance'

/** Whether it is one machine, made as such or not: what can be stopped, paused and resized by itself. */
export const isInstance = ({ spec }: Workload): boolean =>
  spec.instance !== undefined || (spec.replicas === 1 && !spec.autoscaling.enabled)

type Named = { readonly id: string; readonly name: string; readonly spec: { readonly instance?: unknown } }

/** The name that it has alone in its VPC. An instance's own may be another's too: the last digits of its id tell them apart. */
export const podNameOf = (it: Named): string =>
  it.spec.instance === undefined ? it.name : `${labelOf(it.name)}-${it.id.slice(-ID_DIGITS)}`

/** What others in its VPC know it by; several instances can share one. */
export const namesOf = (it: Named): readonly string[] =>
  it.spec.instance === undefined ? [it.name] : [labelOf(it.name), podNameOf(it)]

/** A workload: an image to run as one or more replicas behind one stable address (VIP) and DNS name. */
export const workload = defineKind({
  name: 'workload',
  spec: Type.Object(
    {
      vpc: Type.String(),
      subnet: Type.String(),
      image: Type.String({ minLength: 1, maxLength: 512 }),
      entrypoint: Type.Optional(Strings),
      command: Type.Optional(Strings),
      env: Type.Record(Type.String(), Type.String({ maxLength: 32768 })),
      user: Type.Optional(Type.String({ maxLength: 64 })),
      workdir: Type.Optional(Type.String({ maxLength: 1024 })),
      capabilities: Type.Array(Type.String({ maxLength: 32 }), { maxItems: 40 }),
      cpuMillicores: Type.Integer({ minimum: 10, maximum: 256_000 }),
      memoryMib: Type.Integer({ minimum: 16, maximum: 4_194_304 }),
      pidsMax: Type.Integer({ minimum: 16, maximum: 65_536 }),
      /** Wanted replicas; with autoscaling on, the count it starts from. */
      replicas: Type.Integer({ minimum: 1, maximum: REPLICAS_MAX }),
      /** Ports of the VIP, the same inside the container. */
      ports: Type.Array(
        Type.Object({ protocol: Type.Enum(['tcp', 'udp']), port: Port }, { additionalProperties: false }),
        { maxItems: 64 },
      ),
      /** Its stable address; absent where the host's network has none, and its name leads to its replicas. */
      vip: Type.Optional(Type.String({ format: 'ipv4' })),
      /** Outbound connections leave by an external address; off: no way out. */
      egress: Type.Boolean(),
      /** Its own external address, translated to the VIP and the source of what leaves. */
      externalAddress: Type.Optional(Type.String({ format: 'ipv4' })),
      securityGroups: Type.Array(Type.String(), { maxItems: 16 }),
      useRegistryCredentials: Type.Boolean(),
      healing: Type.Boolean(),
      health: Type.Optional(
        Type.Object(
          {
            check: Type.Union([
              Type.Object({ type: Type.Literal('tcp'), port: Port }, { additionalProperties: false }),
              Type.Object(
                { type: Type.Literal('http'), port: Port, path: Type.String({ pattern: '^/' }) },
                { additionalProperties: false },
              ),
              Type.Object(
                { type: Type.Literal('command'), command: Strings },
                { additionalProperties: false },
              ),
            ]),
            intervalSeconds: Type.Integer({ minimum: 1, maximum: 3600 }),
            timeoutSeconds: Type.Integer({ minimum: 1, maximum: 600 }),
            failuresMax: Type.Integer({ minimum: 1, maximum: 100 }),
            startSeconds: Type.Integer({ minimum: 0, maximum: 3600 }),
          },
          { additionalProperties: false },
        ),
      ),
      autoscaling: Type.Object(
        {
          enabled: Type.Boolean(),
          min: Type.Integer({ minimum: 1, maximum: REPLICAS_MAX }),
          max: Type.Integer({ minimum: 1, maximum: REPLICAS_MAX }),
          /** Average per replica that it steers for. */
          cpuTargetMillicores: Type.Integer({ minimum: 10, maximum: 10_000 }),
        },
        { additionalProperties: false },
      ),
      /** A host directory of the workload, mounted in every replica. Switched off, the data stays until the workload goes. */
      persistence: Type.Object(
        { enabled: Type.Boolean(), path: Type.String() },
        { additionalProperties: false },
      ),
      stopGraceSeconds: Type.Integer({ minimum: 0, maximum: 3600 }),
      /** Each higher number replaces every container by a new one: restart, changed configuration. */
      attempt: Type.Integer({ minimum: 1 }),
      /** The service that it is for its VPC. */
      service: Type.Optional(Type.Enum([...SERVICES])),
      /** `orchestrator`: its replicas may start and stop others of their VPC. */
      role: Type.Optional(Type.Enum(['orchestrator'])),
      /** Which version of a deployment it is part of; chooses variables and is told to its replicas. */
      deploymentVersion: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
      /** Each replica waits to be started, runs once, and is not started again by itself. */
      function: Type.Optional(Type.Boolean()),
      /** Off: a new replica waits to be started. On unless told. */
      autoStart: Type.Optional(Type.Boolean()),
      /**
       * It is a machine of its own: its one container keeps what it wrote while it is stopped, others reach it by its own
       * address, and its name is unique nowhere.
       */
      instance: Type.Optional(
        Type.Object(
          {
            type: Type.String({ maxLength: 64 }),
            metadata: Type.Record(Type.String({ maxLength: 256 }), Type.String({ maxLength: 4096 })),
            /** Id of the key whose owner may log in. */
            sshKey: Type.Optional(Type.String()),
            /** Who made it; absent: the platform or a tenant's own token. */
            creator: Type.Optional(Type.String()),
            /** The image as its maker named it. */
            image: Type.Optional(Type.String({ maxLength: 512 })),
            /** Bytes that its maker had in mind for its own files; not enforced. */
            diskBytes: Type.Optional(Type.Integer({ minimum: 0 })),
          },
          { additionalProperties: false },
        ),
      ),
      /** Ports of the host by which it is reached from outside; its security groups decide who may. */
      published: Type.Optional(Type.Array(Published, { maxItems: PUBLISHED_MAX })),
      /** Volumes that are mounted in its containers. */
      volumes: Type.Optional(
        Type.Array(
          Type.Object(
            { volume: Type.String(), path: Type.String({ minLength: 2, maxLength: 1024 }) },
            { additionalProperties: false },
          ),
          { maxItems: VOLUMES_MAX },
        ),
      ),
      /** What the last change of the wish was; a dialect's state word while it is being done. */
      change: Type.Enum(['create', 'scale', 'restart', 'config']),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum([...WORKLOAD_STATES]),
    message: Type.Optional(Type.String()),
    /** While its image is on its way: of the replica that has least of it. */
    progress: Type.Optional(Progress),
    /** Replicas wanted now: spec.replicas, or what the autoscaler wants. */
    desired: Type.Integer(),
    ready: Type.Integer(),
    /** By index. */
    replicas: Type.Array(
      Type.Object({
        id: Type.String(),
        index: Type.Integer(),
        address: Type.String(),
        phase: Type.Enum(['pending', 'running', 'paused', 'stopped', 'succeeded', 'failed', 'terminating']),
        ready: Type.Boolean(),
        restarts: Type.Integer(),
        message: Type.Optional(Type.String()),
      }),
    ),
    /** When the autoscaler last changed `desired`. */
    scaledAt: Type.Optional(Type.Integer()),
    /** When `state` last changed, in milliseconds since 1970. */
    changedAt: Type.Optional(Type.Integer()),
  }),
  initial: { state: 'pending', desired: 1, ready: 0, replicas: [] },
  immutable: ['vpc', 'subnet', 'vip'],
  settleSecondsMax: 600,
  states: {
    pending: { advice: REPLICAS_ADVICE },
    restarting: { advice: REPLICAS_ADVICE },
    updating: { advice: REPLICAS_ADVICE },
    scaling: { advice: REPLICAS_ADVICE },
    running: { advice: REPLICAS_ADVICE, fine: true },
    degraded: { advice: REPLICAS_ADVICE },
    stopped: {
      advice: 'Its program ended; `arcus logs` shows what it said and `arcus restart` starts it again',
    },
    error: {
      advice:
        'It cannot start as it is; correct its image, registry login or command, or restart it when the cause is gone',
    },
    deleting: {
      advice: `\`arcus explain\` names the replicas that are still there and why. ${HOST_ADVICE}`,
    },
  },
  state: stateWord,
  claims: (r) => [
    ...portsClaim(r),
    ...(r.spec.volumes ?? []).map(({ volume }) => ({
      pool: VOLUME_USE,
      value: volume,
      ends: 'removal' as const,
      refusal: 'The volume is attached to an instance already',
    })),
    ...(r.spec.published ?? []).map(({ host, protocol }) => ({
      pool: hostPortPool(protocol),
      value: String(host),
      ends: 'removal' as const,
      refusal: `Host port ${host} is in use`,
    })),
    ...(r.spec.vip
      ? [{ pool: `addresses:${r.spec.subnet}`, value: r.spec.vip, ends: 'removal' as const }]
      : []),
    ...(r.spec.externalAddress
      ? [{ pool: 'external', value: r.spec.externalAddress, ends: 'removal' as const }]
      : []),
    ...(r.spec.service
      ? [
          {
            pool: `service:${r.spec.vpc}`,
            value: r.spec.service,
            ends: 'deletion' as const,
            refusal: `Another workload is the ${r.spec.service} service of this VPC`,
          },
        ]
      : []),
  ],
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'cascade' },
    { to: r.spec.subnet, onDelete: 'block' },
    ...r.spec.securityGroups.map((to) => ({ to, onDelete: 'block' as const })),
    ...(r.spec.volumes ?? []).map(({ volume: to }) => ({ to, onDelete: 'block' as const })),
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`, `subnet:${r.spec.subnet}`, `state:${r.status.state}`],
  wakes: (r) => [
    `vpc/${r.spec.vpc}`,
    ...(r.spec.volumes ?? []).map(({ volume }) => `volume/${volume}` as const),
  ],
  events,
})
export type Workload = ResourceOf<typeof workload>
