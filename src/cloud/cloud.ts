import { CloudError, isCloudError } from '#lib/errors.ts'
import { guardedClient } from '#lib/guarded.ts'
import type { Log } from '#lib/log.ts'
import type { Bulk } from '#engine/bulk.ts'
import type { Engine } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import { createPicker } from '#engine/pick.ts'
import { type AnyKind, PLATFORM } from '#engine/resource.ts'
import { authorise, type Caller } from './access.ts'
import { type Act, createAct } from './act.ts'
import { registryFor } from './compute/containers.ts'
import { diskImage } from './compute/disk-image.kind.ts'
import { createDiskImages, type DiskImages } from './compute/disk-images.ts'
import { INSTANCE_TYPES, type InstanceType } from './compute/instance-types.ts'
import { countPublished } from './compute/published.verbs.ts'
import type { Samples } from './compute/samples.ts'
import type { Settings, VerbContext } from './context.ts'
import { createAttempts } from './identity/attempts.ts'
import { readsOf } from './identity/authenticate.ts'
import { type Callers, createCallers } from './identity/callers.ts'
import { createAdmin } from './identity/identity.verbs.ts'
import { roleIn } from './identity/membership.ts'
import { hashPassword, verifyPassword } from './identity/secrets.ts'
import { createInside, type Inside, type InsideTools, type Instance } from './inside/inside.ts'
import type { Metadata } from './inside/outfit.ts'
import type { NetworkDriver } from './network/network.driver.ts'
import { planHost } from './network/plan.ts'
import { provider } from './network/provider.kind.ts'
import { createZoneReads, type ZoneReads } from './network/zone-reads.ts'
import { createObservations, type Observations } from './observations.ts'
import { createAuditor, type Drivers } from './observe/audit.ts'
import { createLogs } from './observe/logs.ts'
import { createMetrics } from './observe/metrics.ts'
import { createOperations, type Operations } from './operations.ts'
import { createPatrols, SAMPLE_EVERY_MS } from './patrols.ts'
import { createReads, type Reads } from './reads.ts'
import { createHands, createReconcilers, distrust } from './reconcilers.ts'
import { createSessions, type Sessions } from './sessions.ts'
import { createWakes } from './wakes.ts'
import { createWatching, type Watching } from './watch.ts'

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
export type { BulkRange } from './observations.ts'
export type { Drivers } from './observe/audit.ts'
export type { LogQuery, StoredLogLine } from './observe/logs.ts'
export type { Interval } from './observe/usage.ts'
export type { Leak } from './observe/compare.ts'
export type { Repeatable } from './once.ts'
export type { GenericChange } from './generic.change.ts'
export type { NewGeneric } from './generic.create.ts'
export type { Verbs } from './verbs.ts'
export type { NewInstance } from './compute/instance.verbs.ts'
export type { NewWorkload, WorkloadChange } from './compute/compute.verbs.ts'

/** For the host to say which ports are in use; whoever publishes one waits for it. */
const LISTENING_MS_MAX = 5_000

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

export type Cloud = Callers &
  Reads &
  Watching &
  Observations &
  Sessions &
  Operations & {
    readonly act: Act
    /** Every kind that exists, by name. */
    readonly kinds: ReadonlyMap<string, AnyKind>
    readonly version: { readonly version: string; readonly commit: string | null }
    readonly settings: Settings
    /** Looks at once at everything that waits for its next try. */
    retryNow(): Promise<void>
    /** Records of private zones, those that are kept for instances too. */
    readonly zones: ZoneReads
    /** How large an instance can be. */
    instanceTypes(caller: Caller): readonly InstanceType[]
    /** What workloads may know and do through their own API. */
    readonly inside: Inside
    readonly images: DiskImages
    /** Prometheus text. */
    metrics(): Promise<string>
  }

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
  const hands = createHands(drivers, settings)
  const { samples, traffic, targets } = hands
  const keptLogs = createLogs(bulk, engine.clock)
  const auditor = createAuditor({
    engine,
    drivers,
    keepHost: keepHost(options),
    distrust: (leak) => distrust(hands, leak),
    log,
  })
  const wakes = createWakes(engine, drivers.compute, log)
  const act = createAct(engine, {
    settings,
    pick,
    promises: new Set(drivers.network.promises),
    listening: listening(drivers.network),
  })
  const { inside, metrics: told } = createInside(insideTools(options, act, samples))
  const metrics = createMetrics(engine.store, auditor)
  const reconcilers = createReconcilers({
    engine,
    drivers,
    settings,
    pick,
    hands,
    keptLogs,
    inside: () => inside,
    ...(metadataOf ? { metadataOf } : {}),
  })
  const patrols = createPatrols({ engine, bulk, drivers, auditor, samples, traffic, targets })
  let isRunning = false

  return {
    ...createCallers(engine, bulk, settings),
    ...createReads(engine),
    ...createWatching(engine, () => isRunning),
    ...createObservations(engine, bulk, { samples, traffic, keptLogs }),
    ...createSessions(engine, drivers.compute),
    ...createOperations(engine, drivers, auditor),
    act,
    kinds: engine.kinds,
    version,
    settings,
    retryNow: wakes.retryNow,
    zones: createZoneReads(engine),
    instanceTypes(caller) {
      authorise(caller, 'read', 'instance:read')
      return INSTANCE_TYPES
    },
    inside,
    images: imagesOf(options, act),
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
      await Promise.all([engine.run(reconcilers, patrols, signal), wakes.follow(signal)])
    },
    async settle(withinMs) {
      await samples.look(AbortSignal.timeout(SAMPLE_EVERY_MS))
      await engine.settle(reconcilers, withinMs)
    },
  }
}

/** Ports that programs of the host listen on; `unavailable` while it does not say. */
const listening =
  (network: NetworkDriver): VerbContext['listening'] =>
  () =>
    network.listening(AbortSignal.timeout(LISTENING_MS_MAX)).catch((error: unknown) => {
      if (isCloudError(error)) throw error
      const text = 'The host does not say which of its ports are in use; try again in a moment'
      throw new CloudError('unavailable', text, {}, error)
    })

/** Brings the host's own part, which belongs to no VPC, up to date. */
const keepHost =
  ({ engine, drivers, settings }: CloudOptions) =>
  async (signal: AbortSignal): Promise<void> => {
    const [config] = (await engine.list(provider, { tenant: PLATFORM })).items
    await drivers.network.applyHost(planHost(config, settings), signal)
  }

const insideTools = (
  { engine, bulk, drivers, settings, log }: CloudOptions,
  act: Act,
  samples: Samples,
): InsideTools => ({
  engine,
  bulk,
  compute: drivers.compute,
  settings,
  log,
  everything: everythingOf(engine),
  ask: guardedClient(settings.allowedNetworks),
  sample: samples.get,
  registryFor: async (of) => await engine.transact(async (draft) => await registryFor(draft, of)),
  verifyPassword,
  isMember: async (of, id) => (await roleIn(readsOf(engine), of, id)) !== undefined,
  attempts: createAttempts(() => engine.clock.now()),
  start: async (of, id, run) =>
    await act(taskerOf(of), 'replica.start', async (verbs) => await verbs.startReplica(id, run)),
  stop: async (of, id) =>
    await act(taskerOf(of), 'replica.stop', async (verbs) => await verbs.stopReplica(id)),
})

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

const imagesOf = ({ engine, drivers }: CloudOptions, act: Act): DiskImages =>
  createDiskImages({
    engine,
    images: drivers.images,
    all: async (of, terms) => await everythingOf(engine)(diskImage, of, { terms, deleted: false }),
    check: async (caller, id) =>
      await act(caller, 'image.upload', async (verbs) => await verbs.imageToUpload(id), { dryRun: true }),
    note: async (caller, id) =>
      await act(caller, 'image.upload', async (verbs) => await verbs.imageUploaded(id)),
  })
