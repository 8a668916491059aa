import type { Static, TSchema } from 'typebox'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { guardedClient } from '#lib/guarded.ts'
import type { Log } from '#lib/log.ts'
import type { Engine, Explanation } from '#engine/engine.ts'
import type { Kind } from '#engine/kind.ts'
import type { Bulk, BulkQuery, StoredBulkEntry } from '#engine/bulk.ts'
import { createPicker } from '#engine/pick.ts'
import type { Patrol, Reconciler } from '#engine/reconcile.ts'
import { ALL, type AnyKind, isSettled, keyOf, PLATFORM, type Resource } from '#engine/resource.ts'
import {
  type Change,
  LIST_MAX,
  type ListQuery,
  type NewRecord,
  type Page,
  type StoredRecord,
} from '#engine/store.ts'
import {
  actionOf,
  type Caller,
  type Origin,
  authorise,
  authoriseFirst,
  decide,
  type Decision,
  mayByTime,
  ownTenant,
  tenantFor,
} from './access.ts'
import type { ExecSession, LogEntry, Sample } from './compute/compute.driver.ts'
import { createReplica, freeIndex } from './compute/compute.verbs.ts'
import { countPublished } from './compute/published.verbs.ts'
import { createLastWords } from './compute/last-words.ts'
import { diskImage } from './compute/disk-image.kind.ts'
import { reconcileDiskImage } from './compute/disk-image.reconcile.ts'
import { createDiskImages, type DiskImages } from './compute/disk-images.ts'
import { createContainers, registryFor } from './compute/containers.ts'
import { sshKey } from './compute/ssh-key.kind.ts'
import { snapshot } from './storage/snapshot.kind.ts'
import { reconcileSnapshot, reconcileVolume } from './storage/storage.reconcile.ts'
import { volume } from './storage/volume.kind.ts'
import { registryCredential } from './compute/registry-credential.kind.ts'
import { replica, type Replica } from './compute/replica.kind.ts'
import { reconcileReplica } from './compute/replica.reconcile.ts'
import { INSTANCE_TYPES, type InstanceType } from './compute/instance-types.ts'
import { createSamples } from './compute/samples.ts'
import { desiredOf } from './compute/state.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import { reconcileWorkload } from './compute/workload.reconcile.ts'
import type { Settings, VerbContext } from './context.ts'
import { acme } from './edge/acme.kind.ts'
import { reconcileAcme } from './edge/acme.reconcile.ts'
import { certificate } from './edge/certificate.kind.ts'
import { reconcileCertificate } from './edge/certificate.reconcile.ts'
import { domain } from './edge/domain.kind.ts'
import { reconcileDomain } from './edge/domain.reconcile.ts'
import {
  createFrontage,
  reconcileRoute,
  reconcileServiceTunnel,
  reconcileTunnel,
} from './edge/edge.reconcile.ts'
import type { Access, RouteTraffic } from './edge/front.driver.ts'
import { createFronts } from './edge/fronts.ts'
import { createHandover } from './edge/handover.ts'
import { createRemoteTunnels } from './edge/remote.ts'
import { route } from './edge/route.kind.ts'
import { serviceTunnel } from './edge/service-tunnel.kind.ts'
import { createTraffic } from './edge/traffic.ts'
import { tunnel } from './edge/tunnel.kind.ts'
import { type Accounts, createAccounts } from './identity/accounts.ts'
import { createAuthenticator, hasExpired, type Login, readsOf } from './identity/authenticate.ts'
import { credential, type Credential } from './identity/credential.kind.ts'
import { createAdmin } from './identity/identity.verbs.ts'
import { createAttempts } from './identity/attempts.ts'
import { membership } from './identity/membership.kind.ts'
import { tenantsOf } from './identity/membership.ts'
import { mailRelay } from './identity/mail-relay.kind.ts'
import { message } from './identity/message.kind.ts'
import { reconcileMessage } from './identity/message.reconcile.ts'
import { policy } from './identity/policy.kind.ts'
import { role } from './identity/role.kind.ts'
import { hashPassword, verifyPassword } from './identity/secrets.ts'
import { serviceAccount } from './identity/service-account.kind.ts'
import { simulate, type Simulation } from './identity/simulate.ts'
import { type Identity, type Member, membersOf, namesOf, whoIs } from './identity/whois.ts'
import { tenant, type Tenant } from './identity/tenant.kind.ts'
import { createUses, USES_KEPT_MS } from './identity/uses.ts'
import { user, type User } from './identity/user.kind.ts'
import { createInside, type Inside, type Instance } from './inside/inside.ts'
import { integration } from './inside/integration.kind.ts'
import { network } from './inside/network.kind.ts'
import { createOutfits, type Metadata } from './inside/outfit.ts'
import { createRefresh } from './inside/refresh.ts'
import { scopedVariable } from './inside/scoped-variable.kind.ts'
import { METRICS, metricOf, SNAPSHOTS, snapshotOf, TOLD, toldOf } from './inside/telemetry.ts'
import { LOGINS, loginOf } from './inside/vpn.ts'
import { vpnUser } from './inside/vpn-user.kind.ts'
import { createTargetHealth, reconcileBalancer } from './edge/balancer.reconcile.ts'
import { elasticIp } from './network/elastic-ip.kind.ts'
import { internetGateway } from './network/internet-gateway.kind.ts'
import { loadBalancer } from './network/load-balancer.kind.ts'
import { natGateway } from './network/nat-gateway.kind.ts'
import { peering } from './network/peering.kind.ts'
import { planHost } from './network/plan.ts'
import { provider } from './network/provider.kind.ts'
import { routeTable } from './network/route-table.kind.ts'
import { createRouters } from './network/routers.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { subnet } from './network/subnet.kind.ts'
import { vpc } from './network/vpc.kind.ts'
import { record } from './network/record.kind.ts'
import { zone } from './network/zone.kind.ts'
import { createZoneReads, type ZoneReads } from './network/zone-reads.ts'
import {
  reconcileElasticIp,
  reconcilePart,
  reconcilePlaced,
  reconcileProvider,
  reconcileVpc,
} from './network/vpc.reconcile.ts'
import { createAuditor, type Drivers } from './observe/audit.ts'
import { AUDIT_EVERY_SECONDS, type Leak } from './observe/compare.ts'
import { createHealth, type Health } from './observe/health.ts'
import { createLogs, type LogQuery, type Logs, LOGS, LOGS_KEPT_MS } from './observe/logs.ts'
import { createMetrics } from './observe/metrics.ts'
import { type Interval, intervalsBetween, type Usage, usageOf } from './observe/usage.ts'
import { createVerbs, type Verbs } from './verbs.ts'

export type {
  Instance,
  PlacedWorkload,
  PlacedReplica,
  Environment,
  ExternalAddress,
  Server,
  CachedImage,
  ServedCertificate,
  Hostname,
  Task,
  FunctionRun,
  Snapshot,
  Metric,
  CacheItem,
  InsideEvent,
  GivenVariable,
  Inside,
} from './inside/inside.ts'
export type { Metadata } from './inside/outfit.ts'
export type { Drivers } from './observe/audit.ts'
export type { LogQuery, StoredLogLine } from './observe/logs.ts'
export type { Interval } from './observe/usage.ts'
export type { Leak } from './observe/compare.ts'
export type { Repeatable } from './once.ts'
export type { GenericChange, NewGeneric, Verbs } from './verbs.ts'
export type { NewInstance } from './compute/instance.verbs.ts'
export type { NewWorkload, WorkloadChange } from './compute/compute.verbs.ts'

/** Every kind of resource there is. A new one is added here. */
export const KINDS: readonly AnyKind[] = [
  tenant,
  user,
  credential,
  membership,
  role,
  policy,
  serviceAccount,
  mailRelay,
  message,
  provider,
  domain,
  registryCredential,
  vpc,
  subnet,
  securityGroup,
  routeTable,
  internetGateway,
  elasticIp,
  natGateway,
  peering,
  zone,
  record,
  loadBalancer,
  volume,
  snapshot,
  diskImage,
  sshKey,
  workload,
  replica,
  acme,
  certificate,
  tunnel,
  serviceTunnel,
  route,
  network,
  scopedVariable,
  vpnUser,
  integration,
]

/** For the host to say which ports are in use; whoever publishes one waits for it. */
const LISTENING_MS_MAX = 5_000
const SAMPLE_EVERY_MS = 5_000
const SAMPLE_KEPT_EVERY_MS = 60_000
const SAMPLES_KEPT_MS = 15 * 86_400_000
const TRAFFIC_EVERY_MS = 5_000
const TRAFFIC_TOLD_EVERY_MS = 60_000
/** How soon what the edge sees of the targets of load balancers is known. */
const TARGETS_EVERY_MS = 2_000
const ACCESSES_EVERY_MS = 1_000
const ACCESSES_PAGE = 1_000
/** Pages of one second; what is beyond waits at the edge for the next. */
const ACCESSES_PAGES_MAX = 5
const ACCESSES_KEPT_MS = 7 * 86_400_000
/** How soon what containers find of their replicas' own follows a change. */
const OUTFITS_EVERY_MS = 1_000
const EVENTS_RETRY_MS = 500
const CHANGES_PAGE = 500
const RECORDS_MAX = 1000
const TELEMETRY_KEPT_MS = 15 * 86_400_000
const LOGINS_KEPT_MS = 90 * 86_400_000
const AUDIT_KEPT_MS = 400 * 86_400_000
const MESSAGES_KEPT_MS = 86_400_000
const EVENTS_KEPT_MS = 30 * 86_400_000

export type CloudOptions = {
  readonly engine: Engine
  /** Where samples are kept for later. */
  readonly bulk: Bulk
  readonly drivers: Drivers
  readonly settings: Settings
  readonly log: Log
  readonly version: { readonly version: string; readonly commit: string | null }
  /** The document about its VPC that a container finds as a file; absent: none. */
  readonly metadataOf?: (of: Metadata) => unknown
}

export type Cloud = {
  /** Every kind that exists, by name. */
  readonly kinds: ReadonlyMap<string, AnyKind>
  readonly version: { readonly version: string; readonly commit: string | null }
  /**
   * Moves with every record that changes and with every look at what replicas use: what is told of those alone, by the
   * reads here and `sample`, is the same for as long as this is. Undefined while it moves, or where it is not known.
   */
  moment(): number | undefined
  /** Undefined for an unknown, revoked or expired token. */
  authenticate(token: string, origin: Origin): Promise<Caller | undefined>
  /**
   * Whether a caller that came at this same `moment` would come as the same once more; that it does is noted as its use.
   * False also where it may not be told: its policies ask for the time.
   */
  again(caller: Caller): boolean
  /** Checks a password, limited per user name and address (`rate_limited`); gives a new token of that user. */
  login(input: Login, origin: Origin): Promise<{ user: User; token: string }>
  /** A token for a service account, see Authenticator. */
  grant(id: string, secret: string, origin: Origin): Promise<{ token: string; seconds: number }>
  /** Registration, password and keys of people, before they are callers. */
  readonly accounts: Accounts
  readonly settings: Settings
  /** Who a caller is: its user, service account or tenant, with the role that it has where it acts. */
  whoIs(caller: Caller): Promise<Identity>
  /** The caller's own keys, oldest first, each with the moment it was last used (to the minute, kept 90 days). */
  ownKeys(caller: Caller): Promise<readonly { credential: Credential; lastUsed: number | undefined }[]>
  /** What says who may act in the caller's tenant, with that of the installation that counts there; for its owners, oldest first. */
  owned<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    terms?: readonly string[],
  ): Promise<readonly Resource<Static<S>, Static<T>>[]>
  /** Members of the caller's tenant with the names of their roles; for its owners. Every user for an administrator that named none. */
  members(caller: Caller): Promise<readonly Member[]>
  /** When a credential or secret last opened something. */
  lastUsed(id: string): Promise<number | undefined>
  /** Tenants that the caller belongs to, oldest membership first; all of them for an administrator. */
  ownTenants(caller: Caller): Promise<readonly Tenant[]>
  /** The text of a message in the outbox; administrators only, since it may hold a token. */
  messageText(caller: Caller, id: string): Promise<string>
  /** May somebody do something, and because of what; nothing is done. */
  simulate(caller: Caller, asked: Simulation): Promise<Decision>
  /** What the cloud stands on: whether it answers, and what the network lacks (undefined when it does not answer). */
  health(): Promise<Health>
  /** Looks at once at everything that waits for its next try. */
  retryNow(): Promise<void>
  /** The same caller acting in a tenant: an administrator's in any (`not_found` if it does not exist), others only in those they belong to. */
  inTenant(caller: Caller, tenant: string): Promise<Caller>
  /**
   * Does everything `work` does in one commit, with an audit entry named `what`. A lost race runs `work` again, so it must
   * do nothing but call verbs. With dryRun everything is checked and nothing is written.
   */
  act<R>(
    caller: Caller,
    what: string,
    work: (verbs: Verbs) => Promise<R>,
    how?: { dryRun?: boolean },
  ): Promise<R>
  get<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>>>
  list<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    query?: Omit<ListQuery, 'kind' | 'tenant'>,
  ): Promise<Page<Resource<Static<S>, Static<T>>>>
  /** Every page of a list, oldest first; for dialects without paging. */
  all<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    query?: Omit<ListQuery, 'kind' | 'tenant' | 'after' | 'limit'>,
  ): Promise<Resource<Static<S>, Static<T>>[]>
  /** By a name claimed in a scope: a tenant's id for VPCs, a VPC's id for subnets and workloads. */
  find<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    scope: string,
    name: string,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
  /** Changes the caller may see, from now or after a cursor, until the signal aborts or the credential is revoked; `gone` when the cursor is too old. */
  watch(caller: Caller, query: { kind?: string; after?: string }, signal: AbortSignal): AsyncIterable<Change>
  /**
   * Waits until a resource is settled, overdue or gone, `withinMs` at most, and gives it as it is then; undefined when it
   * is gone. Does not wait where nothing reconciles.
   */
  settled<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    id: string,
    withinMs: number,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
  explain(caller: Caller, kind: AnyKind, id: string): Promise<Explanation>
  records(
    caller: Caller,
    query: {
      stream: NewRecord['stream']
      subject?: string
      after?: string
      limit?: number
      newestFirst?: boolean
    },
  ): Promise<{ readonly records: readonly StoredRecord[]; readonly next?: string }>
  /** What was in use in the caller's tenant at any time between two moments, until now at most, oldest first; `to` absent while it goes on. */
  intervals(caller: Caller, period: { from: number; to?: number }): Promise<readonly Interval[]>
  /** Kept lines of what the caller's resources said, newest first. */
  searchLogs(caller: Caller, query: LogQuery): ReturnType<Logs['search']>
  /** Names of who acted, by id: those that are still known. */
  actors(caller: Caller, ids: Iterable<string>): Promise<ReadonlyMap<string, string>>
  /** What the caller's tenant used between two moments in milliseconds since 1970, until now at most; `invalid` the wrong way round. */
  usage(caller: Caller, period: { from: number; to?: number }): Promise<Usage>
  /** The last sample of a replica, undefined before the first. */
  sample(replica: string): Sample | undefined
  /** Samples of a replica, one a minute, oldest first; kept 15 days. `from` (included) and `to` in milliseconds. */
  history(
    caller: Caller,
    replica: string,
    query: { from?: number; to?: number; after?: string; limit?: number },
  ): Promise<readonly (Sample & { readonly cursor: string })[]>
  /** What the edge counted for a tunnel or route since its start; undefined before it was first asked. */
  traffic(caller: Caller, kind: AnyKind, id: string): Promise<RouteTraffic | undefined>
  /** The access log of a tunnel or route, oldest first unless told; kept 7 days. */
  accesses(
    caller: Caller,
    kind: AnyKind,
    id: string,
    query: { from?: number; to?: number; after?: string; limit?: number; newestFirst?: boolean },
  ): Promise<readonly Access[]>
  /** Records of private zones, those that are kept for instances too. */
  readonly zones: ZoneReads
  /** How large an instance can be. */
  instanceTypes(caller: Caller): readonly InstanceType[]
  /** What a replica uses, measured now if nobody did yet; `conflict`, rule `wrong_state`, when it does not run. */
  measure(caller: Caller, replica: string, signal: AbortSignal): Promise<Sample>
  logs(
    caller: Caller,
    replica: string,
    how: { follow?: boolean; tail?: number; after?: string },
    signal: AbortSignal,
  ): Promise<AsyncIterable<LogEntry>>
  exec(
    caller: Caller,
    replica: string,
    how: { command: readonly string[]; tty: boolean; width?: number; height?: number },
    signal: AbortSignal,
  ): Promise<ExecSession>
  /** Differences between records and reality, in words, with what will mend each; administrators only. */
  leaks(caller: Caller, signal: AbortSignal): Promise<readonly Leak[]>
  /** An audit now: puts right what can be, without waiting for the next; gives what it found. Administrators only. */
  mend(caller: Caller, signal: AbortSignal): Promise<readonly Leak[]>
  /** Sentences naming what the host lacks; administrators only. */
  missing(caller: Caller, signal: AbortSignal): Promise<readonly string[]>
  /** What workloads may know and do through their own API. */
  readonly inside: Inside
  readonly images: DiskImages
  /** What a workload's replicas sent, oldest first; kept 15 days. */
  workloadMetrics(
    caller: Caller,
    workload: string,
    query: BulkRange,
  ): Promise<readonly ReturnType<typeof metricOf>[]>
  /** What a load balancer told of its controllers, oldest first; kept 15 days. */
  balancerSnapshots(
    caller: Caller,
    workload: string,
    query: BulkRange,
  ): Promise<readonly ReturnType<typeof snapshotOf>[]>
  /** What a workload's replicas told of themselves, oldest first; kept 15 days. */
  workloadEvents(
    caller: Caller,
    workload: string,
    query: BulkRange,
  ): Promise<readonly ReturnType<typeof toldOf>[]>
  /** Who tried to log in to a VPC's VPN, oldest first; kept 90 days. */
  vpnLogins(caller: Caller, vpc: string, query: BulkRange): Promise<readonly ReturnType<typeof loginOf>[]>
  /** Prometheus text. */
  metrics(): Promise<string>
}

export type BulkRange = Pick<BulkQuery, 'from' | 'to' | 'after' | 'limit' | 'newestFirst'>

/** Names of the kinds that a reconciler makes true; the others are settled as they are. */
export const RECONCILED: readonly string[] = [
  vpc,
  subnet,
  securityGroup,
  routeTable,
  elasticIp,
  natGateway,
  peering,
  zone,
  record,
  loadBalancer,
  message,
  provider,
  volume,
  snapshot,
  diskImage,
  workload,
  replica,
  domain,
  acme,
  certificate,
  tunnel,
  serviceTunnel,
  route,
].map((it) => it.name)

/** The cloud with what keeps it running; only the main program and tests hold this much. */
export type RunningCloud = Cloud & {
  /** Makes the first administrator when there is none; `keep` is called with the credentials before they are committed. */
  bootstrap(
    keep: (admin: { username: string; password: string; token: string }) => Promise<void>,
    newPassword: () => string,
  ): Promise<void>
  /** Reconciles until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
  /** For tests on a simulated clock: reconciles until nothing is due within `withinMs`. */
  settle(withinMs?: number): Promise<void>
}

export function createCloud(options: CloudOptions): RunningCloud {
  const { engine, bulk, drivers, settings, log, version, metadataOf } = options
  const pick = createPicker()
  const promises = new Set(drivers.network.promises)
  const listening: VerbContext['listening'] = () =>
    drivers.network.listening(AbortSignal.timeout(LISTENING_MS_MAX)).catch((error: unknown) => {
      if (isCloudError(error)) throw error
      const text = 'The host does not say which of its ports are in use; try again in a moment'
      throw new CloudError('unavailable', text, {}, error)
    })
  const routers = createRouters(drivers.network, drivers.edge)
  const fronts = createFronts(drivers.front)
  const handover = createHandover(drivers.front)
  const traffic = createTraffic(drivers.front)
  const targets = createTargetHealth(drivers.front)
  const remote = createRemoteTunnels({ ...drivers, edgePort: settings.edgePort })
  const containers = createContainers(drivers.compute)
  const samples = createSamples()
  const authenticator = createAuthenticator(engine)
  const accounts = createAccounts(engine, settings)
  const uses = createUses(bulk, engine.clock)
  const keptLogs = createLogs(bulk, engine.clock)
  const health = createHealth(engine, drivers)

  const grow = async (of: Workload): Promise<void> =>
    await engine.transact(async (draft) => {
      const now = await draft.get(workload, of.tenant, of.id)
      if (!now || now.deletedAt !== undefined) return
      const slots = await draft.list(replica, { tenant: of.tenant, terms: [`workload:${of.id}`] })
      if (slots.filter((it) => it.deletedAt === undefined).length < desiredOf(of))
        await createReplica({ draft, settings, pick }, now, freeIndex(slots))
    })
  const reconcilers: readonly Reconciler[] = [
    {
      kind: vpc,
      reconcile: reconcileVpc(routers, createFrontage(fronts), drivers.network, settings),
      concurrency: 8,
    },
    { kind: subnet, reconcile: reconcilePart(routers) },
    { kind: securityGroup, reconcile: reconcilePart(routers) },
    { kind: routeTable, reconcile: reconcilePart(routers) },
    { kind: elasticIp, reconcile: reconcileElasticIp(routers) },
    { kind: natGateway, reconcile: reconcilePlaced(routers) },
    { kind: peering, reconcile: reconcilePlaced(routers) },
    { kind: zone, reconcile: reconcilePlaced(routers) },
    { kind: record, reconcile: reconcilePart(routers) },
    { kind: loadBalancer, reconcile: reconcileBalancer(fronts, routers, targets) },
    { kind: volume, reconcile: reconcileVolume(drivers.compute) },
    { kind: snapshot, reconcile: reconcileSnapshot(drivers.compute) },
    { kind: diskImage, reconcile: reconcileDiskImage(drivers.images) },
    { kind: message, reconcile: reconcileMessage(drivers.mail) },
    { kind: provider, reconcile: reconcileProvider(drivers.network, settings) },
    {
      kind: workload,
      reconcile: reconcileWorkload({ compute: drivers.compute, network: routers, samples, grow }),
    },
    {
      kind: replica,
      reconcile: reconcileReplica({
        compute: drivers.compute,
        containers,
        lastWords: createLastWords(drivers.compute, keptLogs.keep),
        outfits: createOutfits({
          engine,
          sockets: drivers.sockets,
          inside: () => inside,
          ...(metadataOf ? { metadataOf } : {}),
        }),
        network: routers,
        front: fronts,
        drainSeconds: settings.drainSeconds,
        namedByDocker: !promises.has('vip'),
      }),
      concurrency: 32,
    },
    { kind: certificate, reconcile: reconcileCertificate({ ...drivers, handover }), concurrency: 8 },
    { kind: acme, reconcile: reconcileAcme(drivers.issuers.acme) },
    { kind: domain, reconcile: reconcileDomain(drivers.names) },
    { kind: tunnel, reconcile: reconcileTunnel(fronts, traffic, remote) },
    { kind: serviceTunnel, reconcile: reconcileServiceTunnel(fronts, traffic, settings), concurrency: 1 },
    { kind: route, reconcile: reconcileRoute(fronts, traffic) },
  ]
  const distrust = (leak: Leak): void => {
    if (leak.thing === 'front') fronts.distrust(leak.kind === 'service-tunnel' ? PLATFORM : leak.id)
    else if (leak.thing === 'certificate') handover.distrust(leak.id)
    else if (leak.kind === 'replica') containers.distrust(leak.id)
    else routers.distrust(leak.id)
  }
  const keepHost = async (signal: AbortSignal): Promise<void> => {
    const [config] = (await engine.list(provider, { tenant: PLATFORM })).items
    await drivers.network.applyHost(planHost(config, settings), signal)
  }
  const auditor = createAuditor({ engine, drivers, keepHost, distrust, log })
  const everything = async <S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    tenantId: string,
    query: Omit<ListQuery, 'kind' | 'tenant' | 'after' | 'limit'> = {},
  ): Promise<Resource<Static<S>, Static<T>>[]> => {
    const items: Resource<Static<S>, Static<T>>[] = []
    let after: string | undefined
    do {
      const page = await engine.list(kind, {
        ...query,
        tenant: tenantId,
        limit: LIST_MAX,
        ...(after === undefined ? {} : { after }),
      })
      items.push(...page.items)
      after = page.next
    } while (after !== undefined)
    return items
  }
  /** A page of what no policy hides from the caller, and how much that is in all: everything has to be looked at for it. */
  const visiblePage = async <S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    of: string,
    asked: Omit<ListQuery, 'kind' | 'tenant'>,
  ): Promise<Page<Resource<Static<S>, Static<T>>>> => {
    const { cursor } = await engine.list(kind, { ...asked, tenant: of })
    const { after, limit = LIST_MAX, ...query } = asked
    const all = visible(caller, await everything(kind, of, query))
    const isBehind = (id: string): boolean =>
      after === undefined || (query.newestFirst ? id < after : id > after)
    const rest = all.filter((it) => isBehind(it.id))
    const items = rest.slice(0, Math.min(limit, LIST_MAX))
    const last = items.length < rest.length ? items.at(-1)?.id : undefined
    return { items, total: all.length, cursor, ...(last === undefined ? {} : { next: last }) }
  }
  const dropMessages = async (): Promise<void> => {
    const old = (await everything(message, PLATFORM, { deleted: false })).filter(
      (it) => it.createdAt < engine.clock.now() - MESSAGES_KEPT_MS,
    )
    if (old.length)
      await engine.transact(async (draft) => {
        for (const it of old) draft.mark(it)
        await Promise.resolve()
      })
  }
  let keptAt = 0
  let toldAt = 0
  const moved = new Set<string>()
  let accessCursor: string | undefined
  let isRunning = false
  const patrols: readonly Patrol[] = [
    { name: 'outfits', everyMs: OUTFITS_EVERY_MS, run: createRefresh(engine, everything) },
    {
      name: 'audit',
      everyMs: AUDIT_EVERY_SECONDS * 1000,
      run: async (signal) => (await auditor.pass(signal)).keys,
    },
    {
      name: 'samples',
      everyMs: SAMPLE_EVERY_MS,
      async run(signal) {
        samples.put(await drivers.compute.samples(signal))
        // Also when the clock was set back since.
        if (Math.abs(engine.clock.now() - keptAt) < SAMPLE_KEPT_EVERY_MS) return []
        keptAt = engine.clock.now()
        for (const { id, tenant: of } of await everything(replica, ALL)) {
          const sample = samples.get(id)
          if (!sample) continue
          const { at, id: _id, ...body } = sample
          bulk.append('metric', { tenant: of, subject: id, at, body })
        }
        return []
      },
    },
    {
      name: 'traffic',
      everyMs: TRAFFIC_EVERY_MS,
      async run(signal) {
        for (const id of await traffic.pull(signal)) moved.add(id)
        if (engine.clock.now() < toldAt + TRAFFIC_TOLD_EVERY_MS) return []
        toldAt = engine.clock.now()
        const told = await Promise.all([...moved].map(async (id) => await engine.store.get(id)))
        moved.clear()
        return told.flatMap((it) => (it ? [keyOf(it)] : []))
      },
    },
    {
      name: 'targets',
      everyMs: TARGETS_EVERY_MS,
      async run(signal) {
        if (!(await engine.list(loadBalancer, { tenant: ALL, limit: 1 })).items.length) return []
        return (await targets.pull(signal)).map((id) => `${loadBalancer.name}/${id}` as const)
      },
    },
    {
      name: 'accesses',
      everyMs: ACCESSES_EVERY_MS,
      async run(signal) {
        for (let pages = 0; pages < ACCESSES_PAGES_MAX; pages++) {
          const page = await drivers.front.accesses(accessCursor, ACCESSES_PAGE, signal)
          accessCursor = page.cursor
          for (const { cursor: _cursor, route: subject, tenant: of, at, ...body } of page.entries)
            bulk.append('access', { tenant: of, subject, at, body })
          if (page.entries.length < ACCESSES_PAGE) break
        }
        return []
      },
    },
    {
      name: 'retention',
      everyMs: 3_600_000,
      async run() {
        await dropMessages()
        await engine.store.forget('audit', engine.clock.now() - AUDIT_KEPT_MS, 10_000)
        await engine.store.forget('event', engine.clock.now() - EVENTS_KEPT_MS, 10_000)
        await bulk.forget('metric', engine.clock.now() - SAMPLES_KEPT_MS)
        await bulk.forget(LOGS, engine.clock.now() - LOGS_KEPT_MS)
        await bulk.forget('use', engine.clock.now() - USES_KEPT_MS)
        await bulk.forget('access', engine.clock.now() - ACCESSES_KEPT_MS)
        for (const told of [METRICS, SNAPSHOTS, TOLD])
          await bulk.forget(told, engine.clock.now() - TELEMETRY_KEPT_MS)
        await bulk.forget(LOGINS, engine.clock.now() - LOGINS_KEPT_MS)
        return []
      },
    },
  ]

  /** Looks at every resource of a kind; goes on trying, since the store may refuse for a while (a full disk). */
  const wakeAll = async (kind: AnyKind, signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      try {
        for (const it of await everything(kind, ALL)) await engine.wake(keyOf(it))
        return
      } catch (error) {
        log.warn('resources could not be woken', { kind: kind.name, error: messageOf(error) })
        await engine.clock.sleep(EVENTS_RETRY_MS, signal).catch(() => {})
      }
    }
  }
  /** Until the host agent answers again. */
  const agentAnswers = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      await engine.clock.sleep(EVENTS_RETRY_MS, signal).catch(() => {})
      const answers = await drivers.compute.list(signal).then(
        () => true,
        () => false,
      )
      if (answers) return
    }
  }
  /** Wakes a replica for each thing that happens to its container; after a break everything is looked at again. */
  const followEvents = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      try {
        for await (const event of drivers.compute.events(signal)) await engine.wake(`replica/${event.id}`)
      } catch (error) {
        if (!signal.aborted) log.warn('the stream of container events broke', { error: messageOf(error) })
      }
      await agentAnswers(signal)
      // Whatever pause it had before its next try: it stands on the host agent.
      for (const kind of [vpc, workload, replica]) await wakeAll(kind as unknown as AnyKind, signal)
    }
  }

  const metrics = createMetrics(engine.store, auditor)
  const read = async <S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>>> => {
    const action = actionOf(kind.name, 'read')
    authoriseFirst(caller, 'read', action)
    const own = kind.name === tenant.name && id === caller.tenant ? PLATFORM : tenantFor(caller, kind)
    const it = await engine.get(kind, own, id)
    if (!it) throw new CloudError('not_found', `No ${kind.name} ${id}`)
    authorise(caller, 'read', action, it)
    return it
  }
  const act: Cloud['act'] = async (caller, what, work, how = {}) =>
    await engine.transact(async (draft) => {
      const result = await work(createVerbs({ draft, caller, settings, pick, promises, listening }))
      draft.record(audited(caller, what, result))
      return result
    }, how)
  const { inside, metrics: told } = createInside({
    engine,
    bulk,
    compute: drivers.compute,
    settings,
    log,
    everything,
    ask: guardedClient(settings.allowedNetworks),
    sample: samples.get,
    registryFor: async (of) => await engine.transact(async (draft) => await registryFor(draft, of)),
    verifyPassword,
    attempts: createAttempts(() => engine.clock.now()),
    start: async (of, id, run) =>
      await act(taskerOf(of), 'replica.start', async (verbs) => await verbs.startReplica(id, run)),
    stop: async (of, id) =>
      await act(taskerOf(of), 'replica.stop', async (verbs) => await verbs.stopReplica(id)),
  })
  const images = createDiskImages({
    engine,
    images: drivers.images,
    all: async (of, terms) => await everything(diskImage, of, { terms, deleted: false }),
    check: async (caller, id) =>
      await act(caller, 'image.upload', async (verbs) => await verbs.imageToUpload(id), { dryRun: true }),
    note: async (caller, id) =>
      await act(caller, 'image.upload', async (verbs) => await verbs.imageUploaded(id)),
  })
  const kept = async <R>(
    it: Resource,
    className: string,
    query: BulkRange,
    of: (entry: StoredBulkEntry) => R,
  ): Promise<readonly R[]> =>
    (await bulk.read({ ...query, class: className, tenant: it.tenant, subject: it.id })).map(of)
  const moment = momentOf(() => engine.store.moment(), samples.looks)
  const container = async (caller: Caller, id: string): Promise<Replica> => await read(caller, replica, id)

  return {
    kinds: engine.kinds,
    version,
    async authenticate(token, origin) {
      const caller = await authenticator.authenticate(token, origin)
      if (caller) uses.note(caller)
      return caller
    },
    again(caller) {
      if (hasExpired(caller, engine.clock.now()) || mayByTime(caller)) return false
      uses.note(caller)
      return true
    },
    moment,
    login: authenticator.login,
    async grant(id, secret, origin) {
      const { secretId, ...granted } = await authenticator.grant(id, secret)
      uses.note({ credential: secretId, origin })
      return granted
    },
    accounts,
    settings,
    whoIs: async (caller) => await whoIs(engine, caller),
    async ownKeys(caller) {
      authorise(caller, 'self', 'identity:read', { kind: 'credential' })
      const keys = await everything(credential, ALL, {
        terms: [`subject:${caller.subject}`],
        deleted: false,
      })
      return await Promise.all(keys.map(async (it) => ({ credential: it, lastUsed: await uses.last(it.id) })))
    },
    async owned(caller, kind, terms = []) {
      authorise(caller, 'own', actionOf(kind.name, 'read'), { kind: kind.name })
      const scopes = kind.name === role.name ? new Set([PLATFORM, caller.tenant]) : [caller.tenant]
      const found = await Promise.all(
        [...scopes].map(async (of) => await everything(kind, of, { terms, deleted: false })),
      )
      return visible(caller, found.flat()).map((it) => engine.redact(it))
    },
    async members(caller) {
      authorise(caller, 'own', 'rbac:read')
      return (await membersOf(engine, caller)).map((it) => ({ ...it, user: engine.redact(it.user) }))
    },
    lastUsed: uses.last,
    async ownTenants(caller) {
      authorise(caller, 'self', 'tenant:read', { kind: 'tenant' })
      if (caller.scope === 'admin') return await everything(tenant, PLATFORM, { deleted: false })
      const of = await engine.get(user, PLATFORM, caller.subject)
      const ids = of ? await tenantsOf(readsOf(engine), of) : [caller.tenant]
      const found = await Promise.all(ids.map(async (id) => await engine.get(tenant, PLATFORM, id)))
      return found.flatMap((it) => it ?? [])
    },
    simulate: async (caller, asked) => await simulate(engine, caller, asked),
    async messageText(caller, id) {
      authorise(caller, 'operate', 'message:read')
      const it = await engine.get(message, PLATFORM, id)
      if (!it) throw new CloudError('not_found', `No message ${id}`)
      await engine.transact(async (draft) => {
        const body = { subject: caller.subject, address: caller.origin.address }
        draft.record({ stream: 'audit', tenant: PLATFORM, subject: it.id, what: 'message.read', body })
        await Promise.resolve()
      })
      return engine.open(it, 'text') ?? ''
    },
    health,
    async retryNow() {
      for (const kind of [vpc, workload, replica] as unknown as AnyKind[])
        for (const it of await everything(kind, ALL)) if (!isSettled(it)) await engine.wake(keyOf(it))
    },
    async inTenant(caller, id) {
      if (caller.scope !== 'admin') {
        const inside = await authenticator.inTenant(caller, id)
        if (!inside) throw new CloudError('not_found', 'Tenant not found', { rule: 'foreign_tenant' })
        return inside
      }
      const it = await engine.get(tenant, PLATFORM, id)
      if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Tenant not found')
      return { ...caller, tenant: id }
    },
    act,
    get: async (caller, kind, id) => engine.redact(await read(caller, kind, id)),
    async list(caller, kind, query = {}) {
      authorise(caller, 'read', actionOf(kind.name, 'read'), { kind: kind.name })
      const of = tenantFor(caller, kind)
      const page = hides(caller) ? await visiblePage(caller, kind, of, query) : undefined
      const { items, ...more } = page ?? (await engine.list(kind, { ...query, tenant: of }))
      return { ...more, items: items.map((it) => engine.redact(it)) }
    },
    async all(caller, kind, query = {}) {
      authorise(caller, 'read', actionOf(kind.name, 'read'), { kind: kind.name })
      const all = await everything(kind, tenantFor(caller, kind), query)
      return visible(caller, all).map((it) => engine.redact(it))
    },
    async find(caller, kind, scope, name) {
      const action = actionOf(kind.name, 'read')
      authoriseFirst(caller, 'read', action)
      const claim = await engine.store.claim(`${kind.name}-name:${scope}`, name)
      const it = claim && (await engine.get(kind, tenantFor(caller, kind), claim.owner))
      if (!it) return undefined
      authorise(caller, 'read', action, it)
      return engine.redact(it)
    },
    watch: (caller, query, signal) => watch(engine, caller, query, signal),
    async settled(caller, kind, id, withinMs) {
      const limit = AbortSignal.timeout(withinMs)
      for (;;) {
        const next = nextChange(engine, limit)
        try {
          const it = await engine.get(kind, tenantFor(caller, kind), id)
          if (!it || !isRunning || isSettled(it) || it.overdue !== undefined || limit.aborted)
            return it && engine.redact(it)
          await next.wait()
        } finally {
          next.stop()
        }
      }
    },
    explain: async (caller, kind, id) => await engine.explain(await read(caller, kind, id)),
    async records(caller, { limit = 100, ...query }) {
      authorise(caller, 'read', query.stream === 'usage' ? 'accounting:read' : 'audit:read')
      return await engine.store.records({
        ...query,
        tenant: recordsOf(caller),
        limit: Math.min(limit, RECORDS_MAX),
      })
    },
    async usage(caller, { from, to = Infinity }) {
      authorise(caller, 'read', 'accounting:read')
      return await usageOf(engine, recordsOf(caller), from, to)
    },
    async intervals(caller, { from, to = Infinity }) {
      authorise(caller, 'read', 'accounting:read')
      return await intervalsBetween(engine, recordsOf(caller), from, to)
    },
    async searchLogs(caller, query) {
      authorise(caller, 'read', 'instance:read')
      authorise(caller, 'read', 'audit:read')
      return await keptLogs.search(ownTenant(caller), query)
    },
    async actors(caller, ids) {
      authorise(caller, 'read', 'audit:read')
      return await namesOf(engine, ids)
    },
    sample: (id) => samples.get(id),
    async history(caller, id, query) {
      const it = await container(caller, id)
      const kept = await bulk.read({ ...query, class: 'metric', tenant: it.tenant, subject: it.id })
      return kept.map(({ at, cursor, body }) => ({
        ...(body as Omit<Sample, 'id' | 'at'>),
        id: it.id,
        at,
        cursor,
      }))
    },
    traffic: async (caller, kind, id) => traffic.of((await read(caller, kind, id)).id),
    async accesses(caller, kind, id, query) {
      const it = await read(caller, kind, id)
      const kept = await bulk.read({ ...query, class: 'access', tenant: it.tenant, subject: it.id })
      return kept.map(({ tenant: of, at, cursor, body }) => ({
        ...(body as Omit<Access, 'cursor' | 'route' | 'tenant' | 'at'>),
        cursor,
        route: it.id,
        tenant: of,
        at,
      }))
    },
    zones: createZoneReads(engine),
    instanceTypes(caller) {
      authorise(caller, 'read', 'instance:read')
      return INSTANCE_TYPES
    },
    async measure(caller, id, signal) {
      const it = await container(caller, id)
      const runs = it.status.phase === 'running'
      if (runs && !samples.get(it.id)) samples.put(await drivers.compute.samples(signal))
      const sample = runs ? samples.get(it.id) : undefined
      if (!sample) throw new CloudError('conflict', 'It is not running', { rule: 'wrong_state' })
      return sample
    },
    async logs(caller, id, how, signal) {
      return drivers.compute.logs((await container(caller, id)).id, how, signal)
    },
    async exec(caller, id, how, signal) {
      authoriseFirst(caller, 'write', 'instance:update')
      const it = await container(caller, id)
      authorise(caller, 'write', 'instance:update', it)
      await engine.transact(async (draft) => {
        draft.record({
          stream: 'audit',
          tenant: it.tenant,
          subject: it.id,
          what: 'replica.exec',
          body: { subject: caller.subject, credential: caller.credential, address: caller.origin.address },
        })
        await Promise.resolve()
      })
      return await drivers.compute.exec(it.id, how, signal)
    },
    async leaks(caller, signal) {
      authorise(caller, 'operate', 'installation:read')
      return await auditor.look(signal)
    },
    async mend(caller, signal) {
      authorise(caller, 'operate', 'installation:update')
      const { leaks, keys } = await auditor.pass(signal)
      for (const key of keys) await engine.wake(key)
      return leaks
    },
    async missing(caller, signal) {
      authorise(caller, 'operate', 'installation:read')
      return [
        ...(await drivers.network.missing(signal)),
        ...(await drivers.compute.missing(signal)),
        ...(await drivers.front.missing(signal)),
      ]
    },
    inside,
    images,
    workloadMetrics: async (caller, id, query) =>
      await kept(await read(caller, workload, id), METRICS, query, metricOf),
    balancerSnapshots: async (caller, id, query) =>
      await kept(await read(caller, workload, id), SNAPSHOTS, query, snapshotOf),
    workloadEvents: async (caller, id, query) =>
      await kept(await read(caller, workload, id), TOLD, query, toldOf),
    vpnLogins: async (caller, id, query) => await kept(await read(caller, vpc, id), LOGINS, query, loginOf),
    metrics: async () => (await metrics.text()) + traffic.metrics() + told(),
    async bootstrap(keep, newPassword) {
      await countPublished(engine)
      if (await engine.store.claim('singleton', 'first admin')) return
      const password = newPassword()
      const passwordHash = await hashPassword(password)
      await engine.transact(async (draft) => {
        const made = createAdmin(draft, 'admin', passwordHash)
        draft.claim({ pool: 'singleton', value: 'first admin', ends: 'deletion' }, made.user.id)
        // Written first: credentials that nobody could read again would lock the owner out.
        await keep({ username: 'admin', password, token: made.token })
      })
    },
    async run(signal) {
      isRunning = true
      const looking = wakeAll(vpc, signal)
      await Promise.all([looking, engine.run(reconcilers, patrols, signal), followEvents(signal)])
    },
    async settle(withinMs) {
      samples.put(await drivers.compute.samples(AbortSignal.timeout(SAMPLE_EVERY_MS)))
      await engine.settle(reconcilers, withinMs)
    },
  }
}

/** One number that moves when either of two does; undefined while the first is. */
function momentOf(records: () => number | undefined, looks: () => number): () => number | undefined {
  let [seen, seenLooks, moved] = [records(), looks(), 0]
  return () => {
    const [now, nowLooks] = [records(), looks()]
    if (now === undefined) return undefined
    if (now !== seen || nowLooks !== seenLooks) moved++
    seen = now
    seenLooks = nowLooks
    return moved
  }
}

/** A replica that starts and stops others: it may do that in its tenant, and nothing while that is suspended. */
const taskerOf = ({ replica: { id }, tenant: of }: Instance): Caller => ({
  scope: 'tenant',
  subject: id,
  tenant: of.id,
  role: 'editor',
  ...(of.spec.suspended ? { suspended: true } : {}),
  credential: id,
  origin: { dialect: 'cycle', address: '', requestId: '' },
})

/** Whose records a caller may see: its own tenant's, or all for an administrator that named none. */
const recordsOf = (caller: Caller): string =>
  caller.scope === 'admin' && caller.tenant === PLATFORM ? ALL : caller.tenant

/** What the audit notes of an act: who did it, and to which resource, where that is what came of it. */
function audited(caller: Caller, what: string, result: unknown): Omit<NewRecord, 'at'> {
  const { dialect, address, requestId, userAgent } = caller.origin
  const parts = [result, ...Object.values((result ?? {}) as object)] as (Partial<Resource> | undefined)[]
  const about = parts.find((it) => it?.kind !== undefined && it.id !== undefined)
  return {
    stream: 'audit',
    tenant: caller.tenant,
    ...(about?.id === undefined ? {} : { subject: about.id }),
    what,
    body: {
      subject: caller.subject,
      credential: caller.credential,
      dialect,
      address,
      requestId,
      ...(userAgent === undefined || userAgent === '' ? {} : { userAgent }),
      ...(about ? { kind: about.kind, name: about.name } : {}),
    },
  }
}

/** Whether a policy may hide some of a list from the caller. */
const hides = (caller: Caller): boolean => Boolean(caller.access?.statements.length)

/** Those of a list that no policy hides from the caller. */
const visible = <R extends Resource>(caller: Caller, items: readonly R[]): readonly R[] =>
  hides(caller) ? items.filter((it) => decide(caller, 'read', actionOf(it.kind, 'read'), it).allowed) : items

const REVOKED_CHECK_MS = 1000

/** The change feed as one caller may see it; ends when its credential is revoked. */
async function* watch(
  engine: Engine,
  caller: Caller,
  query: { kind?: string; after?: string },
  signal: AbortSignal,
): AsyncIterable<Change> {
  // Of a kind that the caller may see nothing of, no change is shown below.
  if (query.kind !== undefined) authorise(caller, 'read', actionOf(query.kind, 'read'), { kind: query.kind })
  else authoriseFirst(caller, 'read', 'audit:read')
  let cursor = query.after
  while (!signal.aborted) {
    // Before reading, so that a commit between the read and the wait is not slept through.
    const next = nextChange(engine, signal)
    const page = await engine.store.changes(cursor, CHANGES_PAGE)
    const valid =
      (await engine.get(credential, ALL, caller.credential)) ??
      (await engine.get(serviceAccount, ALL, caller.credential))
    if (!valid || valid.deletedAt !== undefined) return next.stop()
    for (const change of page.changes) {
      const kind = engine.kinds.get(change.kind)
      const scope = kind && tenantFor(caller, kind)
      if (scope !== ALL && scope !== change.tenant) continue
      if (query.kind !== undefined && query.kind !== change.kind) continue
      if (caller.access && !decide(caller, 'read', actionOf(change.kind, 'read'), change).allowed) continue
      yield change
    }
    cursor = page.cursor
    if (page.changes.length < CHANGES_PAGE) await next.wait()
    next.stop()
  }
}

/** The next commit; `wait` takes a second at most, so that a revoked credential ends a quiet watch too. */
function nextChange(engine: Engine, signal: AbortSignal): { wait(): Promise<void>; stop(): void } {
  const woken = Promise.withResolvers<void>()
  const ended = new AbortController()
  const unsubscribe = engine.store.onChange(woken.resolve)
  return {
    async wait() {
      const any = AbortSignal.any([signal, ended.signal])
      await Promise.race([woken.promise, engine.clock.sleep(REVOKED_CHECK_MS, any).catch(() => {})])
    },
    stop() {
      ended.abort()
      unsubscribe()
    },
  }
}
