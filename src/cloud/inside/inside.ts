import { cidr, contains, parseIpv4 } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { objectId } from '#lib/object-id.ts'
import { slugOf } from '#lib/slug.ts'
import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import { PLATFORM, type Resource } from '#engine/resource.ts'
import type { Settings } from '#cloud/context.ts'
import type { Sample } from '#cloud/compute/compute.driver.ts'
import type { Replica } from '#cloud/compute/replica.kind.ts'
import type { Service, Workload } from '#cloud/compute/workload.kind.ts'
import type { Tenant } from '#cloud/identity/tenant.kind.ts'
import { provider } from '#cloud/network/provider.kind.ts'
import type { Subnet } from '#cloud/network/subnet.kind.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import { createEvents } from './events.ts'
import { integration, type Integration } from './integration.kind.ts'
import { createMachine, type MachineTools } from './machine.ts'
import { createNames } from './names.ts'
import type { Network } from './network.kind.ts'
import type { ScopedVariable } from './scoped-variable.kind.ts'
import { createObjectCache } from './object-cache.ts'
import { createSight } from './sight.ts'
import { createTail, eventBefore, lastEvent } from './tail.ts'
import { createTelemetry } from './telemetry.ts'
import { createTokens } from './token.ts'
import { createVariables } from './variables.ts'
import { createVpn, type VpnTools } from './vpn.ts'

/** The replica that asks, with all that it stands in, as it is now. Every question is asked on behalf of one. */
export type Instance = {
  readonly replica: Replica
  readonly workload: Workload
  readonly vpc: Vpc
  readonly tenant: Tenant
}

/** A workload with where it is. */
export type PlacedWorkload = {
  readonly workload: Workload
  readonly vpc: Vpc
  readonly subnet: Subnet
  /** IPv6 address of its VIP; absent where it has none. */
  readonly address6?: string
  /** The oldest start of those of its replicas that run. */
  readonly startedAt?: number
  /** How many of its replicas are wanted to run. */
  readonly wanted: number
}

/** A replica with where it is and the addresses of its attachment. */
export type PlacedReplica = {
  readonly replica: Replica
  readonly workload: Workload
  readonly vpc: Vpc
  readonly subnet: Subnet
  /** IPv6 address, and the /64 that it is in. */
  readonly address6: string
  readonly cidr6: string
  readonly mac: string
}

export type Environment = {
  readonly vpc: Vpc
  readonly subnets: readonly Subnet[]
  readonly services: Partial<Readonly<Record<Service, PlacedWorkload>>>
}

/** An external address that is held for something in the VPC: a workload's own, or the one its outbound connections share. */
export type ExternalAddress = {
  readonly address: string
  readonly cidr: string
  readonly gateway: string
  /** Absent for the one that is shared. */
  readonly workload?: Workload
  readonly replicas: readonly Replica[]
}

/** The machine that all replicas run on. */
export type Server = {
  /** 24 hexadecimal digits, the same for as long as the installation is there. */
  readonly id: string
  readonly hostname: string
  /** When the installation began. */
  readonly createdAt: number
  /** When the newest of the tenant's replicas was made. */
  readonly latestReplicaAt?: number
  readonly cpus: number
}

/** An image that the machine has. */
export type CachedImage = {
  /** `objectIdOf(reference)`, with a tag in it. */
  readonly id: string
  readonly reference: string
  /** When the tenant last started something of it or asked for it. */
  readonly usedAt: number
}

/** A certificate that serves a hostname of a workload. */
export type ServedCertificate = {
  readonly id: string
  readonly names: readonly string[]
  /** PEM, the leaf first. */
  readonly chain: string
  /** PEM. */
  readonly key: string
}

/** A hostname that leads to a workload, and what it is part of. */
export type Hostname = {
  readonly hostname: string
  /** The tunnel or route. */
  readonly by: Resource
  readonly vpc: string
  readonly workload: string
  readonly certificate?: {
    readonly id: string
    readonly names: readonly string[]
    /** An operator brought it. */
    readonly isGiven: boolean
    readonly notBefore?: number
    readonly notAfter?: number
  }
  readonly isActive: boolean
}

/** What is to be started or stopped, by its 24 digits. */
export type Task = { readonly workload: string; readonly replica: string }
export type FunctionRun = { readonly token: string; readonly env?: Readonly<Record<string, string>> }

/** One snapshot of one of a load balancer's controllers; `body` is kept as it was sent. */
export type Snapshot = { readonly controller: string; readonly at: number; readonly body: object }

/** A value that workloads keep for each other: `global` is their tenant's. */
export type CacheItem = {
  readonly scope: 'global' | 'environment' | 'container' | 'instance'
  readonly key: string
  readonly value: string
  /** As it was given, with what it comes to. */
  readonly expires: string
  readonly seconds: number
}

/** One series of points of one metric. */
export type Metric = {
  readonly metric: string
  readonly type: 'gauge' | 'count' | 'counter' | 'rate' | 'histogram' | 'distribution' | 'set'
  readonly labels: Readonly<Record<string, string>>
  readonly tags: readonly string[]
  readonly points: readonly { readonly at: number; readonly values: readonly number[] }[]
}

/**
 * Something that happened, durable, in words of the cloud. Of a workload (`subject`): `workload.state.changed` (`from` and
 * `to` are its state words, `deleted` the last), `workload.changed` (its wish), `workload.replicas.changed` (`of` is a
 * replica, `from` and `to` its state words). Of a VPC: `vpc.services.changed` (`of` a service; `from` and `to` the settings
 * of its VPN), `vpc.deployments.changed` (`from` and `to` are its tags), `vpc.addresses.changed` (external addresses),
 * `vpc.variables.changed` (`of` an identifier). Of a network: `network.created`, `network.changed` (`from` and `to` are ids
 * of VPCs). Of a domain: `domain.verified`, `domain.changed` (states), `domain.records.changed` (`of` a hostname; the
 * subject is the domain it is below, else the tunnel or route). Of a certificate: `certificate.issued`,
 * `certificate.renewed`.
 */
export type InsideEvent = {
  /** Give it as `after` to go on behind it. */
  readonly cursor: string
  readonly what: string
  /** Id of the resource that it is about. */
  readonly subject: string
  readonly at: number
  readonly of?: string
  /** Before and after; absent where there was or is none. */
  readonly from?: unknown
  readonly to?: unknown
  readonly message?: string
  /** VPCs that it concerns, of those that the reader may see, and workloads. */
  readonly vpcs: readonly string[]
  readonly workloads: readonly string[]
}

/** A variable with its value, as a container is given it. */
export type GivenVariable = { readonly variable: ScopedVariable; readonly value: string }

/**
 * What a replica may know and do through its own API, and nothing else: its VPC, the VPCs that share a network with it,
 * and of the machine what is its tenant's. Whatever is beyond that is `not_found`, with the field that names it: `workload`,
 * `replica`, `image` or `integration`. Ids that come in are 24 hexadecimal digits (`invalid` otherwise). Lists are oldest
 * first and hold nothing that is being deleted.
 */
export type Inside = {
  /** What its container proves by that it is this replica; changes with every attempt. Kept nowhere. */
  token(replica: Pick<Replica, 'id' | 'spec'>): string
  /** Whom a token stands for. `expired`: a replica that is gone, or a container of before. Undefined: not one of ours. */
  authenticate(token: string): Promise<Instance | 'expired' | undefined>
  /** By the id of a replica: for a socket, which names it too. Undefined once it goes. */
  instance(replica: string): Promise<Instance | undefined>
  environment(of: Instance): Promise<Environment>
  workloads(of: Instance): Promise<readonly PlacedWorkload[]>
  replicas(of: Instance): Promise<readonly PlacedReplica[]>
  /** Its own without `id`. */
  workload(of: Instance, id?: string): Promise<PlacedWorkload>
  replicasOf(of: Instance, id?: string): Promise<readonly PlacedReplica[]>
  addresses(of: Instance): Promise<readonly ExternalAddress[]>
  networks(of: Instance): Promise<readonly Network[]>
  /** The VPCs of its networks, its own among them; none without a network. */
  joined(of: Instance): Promise<readonly Environment[]>
  joinedReplicas(of: Instance): Promise<readonly PlacedReplica[]>
  /** The machine as everybody may know it. */
  readonly machine: Pick<Server, 'id' | 'hostname' | 'cpus'>
  server(of: Instance): Promise<Server>
  /** The tenant's, in whatever VPC. */
  serverReplicas(of: Instance): Promise<readonly PlacedReplica[]>
  serverWorkloads(of: Instance): Promise<readonly PlacedWorkload[]>
  /** The last sample of each of the tenant's replicas that run. */
  samples(of: Instance): Promise<readonly { readonly replica: PlacedReplica; readonly sample: Sample }[]>
  images(of: Instance): Promise<readonly CachedImage[]>
  /** Waits until the machine has an image that a workload of the tenant names; `unavailable` when it cannot be had in time. */
  fetchImage(of: Instance, id: string, signal: AbortSignal): Promise<CachedImage>
  /** With the keys: for the one answer that must carry them. */
  certificates(of: Instance, id?: string): Promise<readonly ServedCertificate[]>
  hostnames(of: Instance, id?: string): Promise<readonly Hostname[]>
  /** Identifier → value, as far as they are to be read through the API now. */
  variables(of: Instance): Promise<Readonly<Record<string, string>>>
  /** Those that its container is given as environment variables or files. */
  given(of: Instance): Promise<readonly GivenVariable[]>
  /** With its secrets; the oldest of a vendor. `identifier` is a name, its slug or 24 digits. */
  integration(
    of: Instance,
    by: { readonly identifier?: string; readonly vendor?: string },
  ): Promise<Integration>
  /** `forbidden` from anything but a load balancer. */
  takeSnapshots(of: Instance, snapshots: readonly Snapshot[]): Promise<void>
  takeMetrics(of: Instance, metrics: readonly Metric[]): Promise<void>
  /** What a workload tells of itself; kept as it was sent. */
  takeEvents(of: Instance, events: readonly object[]): Promise<void>
  /** Keeps a value for its tenant, VPC, workload or replica until it expires, room is needed or the process ends. */
  cache(of: Instance, item: CacheItem): void
  cached(of: Instance, scope: CacheItem['scope'], key: string): CacheItem | undefined
  /** `forbidden` for who may not; `conflict` (wrong_state) in a state that forbids it; `invalid` with field `function`. */
  start(of: Instance, task: Task, run?: FunctionRun): Promise<void>
  stop(of: Instance, task: Task): Promise<void>
  /** Whether a name and password open the VPC's VPN. Every try is kept; `rate_limited` after too many. */
  vpnLogin(of: Instance, login: { readonly username: string; readonly password: string }): Promise<boolean>
  /** The cursor behind all that has happened by now. */
  lastEvent(): Promise<string>
  /** The same behind the newest event of before a moment, in ms since 1970. */
  eventBefore(at: number): Promise<string>
  /**
   * What it may know of what happens, right after each commit, from now or after a cursor; kept 30 days. Ends when its
   * token is no longer good; throws `gone` when it reads too slowly.
   */
  events(of: Instance, how: { readonly after?: string }, signal: AbortSignal): AsyncIterable<InsideEvent>
}

export type InsideTools = {
  readonly log: Log
  readonly start: (of: Instance, replica: string, run?: FunctionRun) => Promise<unknown>
  readonly stop: (of: Instance, replica: string) => Promise<unknown>
} & VpnTools &
  Omit<MachineTools, 'sight'>

/** The answers to what workloads ask; `metrics` is what they told of themselves, as Prometheus text. */
export function createInside(tools: InsideTools): { readonly inside: Inside; metrics(): string } {
  const { engine, everything, settings } = tools
  const tokens = createTokens(engine.mac)
  const sight = createSight(engine, everything, tokens)
  const variables = createVariables(engine, everything, tools.ask)
  const telemetry = createTelemetry(tools.bulk, engine.clock)
  const cache = createObjectCache(engine.clock)
  const edge = createNames(engine, everything, sight)
  const machine = createMachine({ ...tools, sight })
  const mayTask = ({ workload: { spec } }: Instance): void => {
    if (spec.service !== 'scheduler' && spec.role !== 'orchestrator')
      throw new CloudError('forbidden', 'Only a scheduler or an orchestrator starts and stops instances')
  }
  const inside: Inside = {
    token: tokens.of,
    authenticate: sight.authenticate,
    instance: sight.instance,
    environment: sight.environment,
    workloads: sight.workloads,
    replicas: sight.replicas,
    workload: sight.workload,
    replicasOf: sight.replicasOf,
    addresses: async (of) =>
      await addressesOf(of, engine, settings, await sight.workloads(of), await sight.replicas(of)),
    networks: sight.networks,
    joined: sight.joined,
    joinedReplicas: sight.joinedReplicas,
    serverReplicas: sight.serverReplicas,
    serverWorkloads: sight.serverWorkloads,
    ...machine,
    ...edge,
    variables: variables.readable,
    given: variables.given,
    integration: async (of, by) => await integrationOf(engine, everything, of, by),
    takeSnapshots: async (of, snapshots) => await Promise.resolve(telemetry.takeSnapshots(of, snapshots)),
    takeMetrics: async (of, metrics) => await Promise.resolve(telemetry.takeMetrics(of, metrics)),
    takeEvents: async (of, events) => await Promise.resolve(telemetry.takeEvents(of, events)),
    cache: cache.put,
    cached: cache.get,
    async start(of, task, run) {
      mayTask(of)
      await tools.start(of, (await sight.replicaOf(of, task)).id, run)
    },
    async stop(of, task) {
      mayTask(of)
      await tools.stop(of, (await sight.replicaOf(of, task)).id)
    },
    vpnLogin: createVpn(tools),
    lastEvent: async () => await lastEvent(engine),
    eventBefore: async (at) => await eventBefore(engine, at),
    events: createEvents(engine, everything, sight, createTail(engine, tools.log)),
  }
  return { inside, metrics: telemetry.metrics }
}

async function addressesOf(
  of: Instance,
  engine: Engine,
  settings: Settings,
  workloads: readonly PlacedWorkload[],
  replicas: readonly PlacedReplica[],
): Promise<ExternalAddress[]> {
  const [config] = (await engine.list(provider, { tenant: PLATFORM, limit: 1 })).items
  const pools = [
    ...(config ? [{ cidr: config.spec.externalCidr, gateway: config.spec.externalGateway }] : []),
    { cidr: settings.externalCidr, gateway: settings.externalGateway },
  ]
  const held = (address: string, workload?: Workload): ExternalAddress[] => {
    const pool = pools.find((it) => contains(cidr(it.cidr), parseIpv4(address) ?? -1))
    if (!pool) return []
    const own = replicas.filter((it) => it.workload.id === workload?.id).map((it) => it.replica)
    return [{ address, ...pool, ...(workload ? { workload } : {}), replicas: own }]
  }
  const { natAddress } = of.vpc.spec
  return [
    ...workloads.flatMap(({ workload }) =>
      workload.spec.externalAddress === undefined ? [] : held(workload.spec.externalAddress, workload),
    ),
    ...(natAddress === undefined ? [] : held(natAddress)),
  ]
}

async function integrationOf(
  engine: Engine,
  everything: Everything,
  of: Instance,
  { identifier, vendor }: { readonly identifier?: string; readonly vendor?: string },
): Promise<Integration> {
  if (identifier === undefined && vendor === undefined)
    throw new CloudError('invalid', 'Pass identifier or vendor', { field: 'identifier' })
  const terms = vendor === undefined ? {} : { terms: [`vendor:${vendor}`] }
  const all = await everything(integration, of.tenant.id, { ...terms, deleted: false })
  const isNamed = (it: Integration): boolean =>
    [it.name, slugOf(it.name), objectId(it.id)].includes(identifier ?? it.name)
  const it = all.find(isNamed)
  if (!it) throw new CloudError('not_found', 'There is no such integration', { field: 'integration' })
  const opened = integration.secret.map((field) => [field, engine.open(it, field)] as const)
  return {
    ...it,
    spec: { ...it.spec, ...Object.fromEntries(opened.filter(([, text]) => text !== undefined)) },
  }
}
