import type { Log } from '#lib/log.ts'
import { isCloudError, messageOf } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import { ALL, type AnyKind, type Key, PLATFORM, type Resource } from '#engine/resource.ts'
import type { ComputeDriver } from '#cloud/compute/compute.driver.ts'
import { diskImage } from '#cloud/compute/disk-image.kind.ts'
import type { DiskImagesDriver } from '#cloud/compute/disk-images.driver.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import type { CloudflareDriver, ConnectorDriver } from '#cloud/edge/cloudflare.driver.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import type { Issuers, TxtRecords } from '#cloud/edge/issuer.driver.ts'
import type { NamesDriver } from '#cloud/edge/names.driver.ts'
import { route } from '#cloud/edge/route.kind.ts'
import { serviceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import { loadBalancer } from '#cloud/network/load-balancer.kind.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import type { FrontDriver } from '#cloud/edge/front.driver.ts'
import type { MailDriver } from '#cloud/identity/mail.driver.ts'
import type { SocketsDriver } from '#cloud/inside/sockets.driver.ts'
import type { NetworkDriver } from '#cloud/network/network.driver.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { snapshot } from '#cloud/storage/snapshot.kind.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import {
  compare,
  type Leak,
  leakKey,
  NO_REALITY,
  NO_RECORDS,
  type Part,
  type Reality,
  type Records,
} from './compare.ts'
import type { Audited, Finding } from './finding.driver.ts'

export type Drivers = {
  readonly network: NetworkDriver
  readonly compute: ComputeDriver
  readonly images: DiskImagesDriver
  readonly mail: MailDriver
  readonly edge: EdgeDriver
  readonly front: FrontDriver
  readonly sockets: SocketsDriver
  readonly issuers: Issuers
  readonly records: TxtRecords
  readonly cloudflare: CloudflareDriver
  readonly connector: ConnectorDriver
  readonly names: NamesDriver
}

/** What an audit has to do with beside records and drivers. */
export type AuditorOptions = {
  readonly engine: Engine
  readonly drivers: Drivers
  /** Brings the host's own part up to date, which repairs it. */
  readonly keepHost: (signal: AbortSignal) => Promise<void>
  /** Drops what is remembered of a resource, since it was seen to differ. */
  readonly distrust: (leak: Leak) => void
  readonly log: Log
}

export type Passed = {
  readonly leaks: readonly Leak[]
  readonly keys: readonly Key[]
  readonly failures: readonly unknown[]
}

/** Compares records and reality, both ways, and puts right what differs. */
export type Auditor = {
  /** Looks and changes nothing. What only one of two looks sees was in motion and is left out. */
  look(signal: AbortSignal): Promise<readonly Leak[]>
  /**
   * Looks, tells what is new in event records, removes what nobody knows, and gives the keys whose resources have to be
   * looked at for the rest. What cannot be removed or mended keeps nothing else from being put right: it is logged, and
   * why is given as `failures`. One at a time.
   */
  pass(signal: AbortSignal): Promise<Passed>
  /** What the last pass found and has not seen gone. */
  known(): readonly Leak[]
  /** Differences that were put right since the start, by thing. */
  repairs(): ReadonlyMap<string, number>
}

/** A driver of an older program that does not audit has found nothing. */
const findingsOf = async (driver: Audited, signal: AbortSignal): Promise<readonly Finding[]> => {
  try {
    return await driver.audit(signal)
  } catch (error) {
    if (isCloudError(error, 'unsupported')) return []
    throw error
  }
}

export function createAuditor(options: AuditorOptions): Auditor {
  const { engine, drivers, log } = options
  let known = new Map<string, Leak>()
  const repairs = new Map<string, number>()
  let turn: Promise<unknown> = Promise.resolve()

  async function lookOnce(signal: AbortSignal): Promise<Leak[]> {
    const reality = await observe(drivers, signal)
    return compare(reality, await readRecords(engine))
  }

  async function look(signal: AbortSignal): Promise<readonly Leak[]> {
    const first = await lookOnce(signal)
    if (!first.length) return []
    const again = new Set((await lookOnce(signal)).map(leakKey))
    return first.filter((it) => again.has(leakKey(it))).map(dated)
  }

  const dated = (it: Leak): Leak => {
    const since = it.since ?? known.get(leakKey(it))?.since
    return since === undefined ? it : { ...it, since }
  }

  /** Event records of what is found for the first time, and of what was found before and is gone. */
  async function tell(appeared: readonly Leak[], gone: readonly Leak[]): Promise<void> {
    for (const it of gone) repairs.set(it.thing, (repairs.get(it.thing) ?? 0) + 1)
    for (const { by: _, ...it } of appeared) log.info('found a difference', it)
    for (const { kind, id, thing, detail } of gone)
      log.info('a difference is gone', { kind, id, thing, detail })
    if (!appeared.length && !gone.length) return
    await engine.transact(async (draft) => {
      const record = (it: Leak, what: string): void =>
        draft.record({
          stream: 'event',
          tenant: it.tenant ?? PLATFORM,
          ...(it.id === '' ? {} : { subject: it.id }),
          what: `${it.kind}.${what}`,
          body: { what: it.what, thing: it.thing, detail: it.detail },
        })
      for (const it of appeared) record(it, it.what === 'orphan' ? 'orphaned' : 'drifted')
      for (const it of gone) record(it, it.what === 'orphan' ? 'removed' : 'repaired')
      await Promise.resolve()
    })
  }

  /** The host's own part is looked at first, since bringing it up to date repairs it. */
  async function lookAtHost(signal: AbortSignal): Promise<Leak[]> {
    try {
      const network = (await findingsOf(drivers.network, signal)).filter((it) => it.of === undefined)
      return compare({ ...NO_REALITY, findings: { network, compute: [], edge: [] } }, NO_RECORDS)
    } finally {
      await options.keepHost(signal)
    }
  }

  async function pass(signal: AbortSignal): Promise<Passed> {
    const ofHost = await lookAtHost(signal)
    const now = engine.clock.now()
    const found = new Map(
      [...ofHost, ...(await look(signal))].map((it) => [leakKey(it), { since: now, ...it }]),
    )
    const leaks = [...found.values()]
    await tell(
      leaks.filter((it) => !known.has(leakKey(it))),
      [...known.values()].filter((it) => !found.has(leakKey(it))),
    )
    known = found
    const { mended, failures } = await mend(leaks, options, signal)
    // What a driver mended it has seen right; the rest is told when a later pass sees it gone.
    const gone = leaks.filter((it) => mended.has(leakKey(it)))
    for (const it of gone) known.delete(leakKey(it))
    await tell([], gone)
    const keys = leaks.flatMap((it): Key[] => {
      options.distrust(it)
      return it.by === 'resource' ? [`${it.kind}/${it.id}`] : []
    })
    return { leaks, keys, failures }
  }

  return {
    look,
    pass(signal) {
      const done = turn.then(() => pass(signal))
      turn = done.catch(() => {})
      return done
    },
    known: () => [...known.values()],
    repairs: () => repairs,
  }
}

/** Removes what is an orphan and lets the drivers mend what is theirs; gives the keys of the latter, and what failed. */
async function mend(
  leaks: readonly Leak[],
  { drivers, log }: AuditorOptions,
  signal: AbortSignal,
): Promise<{ readonly mended: ReadonlySet<string>; readonly failures: readonly unknown[] }> {
  const mended = new Set<string>()
  const failures: unknown[] = []
  const attempt = async (what: object, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      signal.throwIfAborted()
      log.warn('what was found cannot be put right', { ...what, reason: messageOf(error), error })
      failures.push(error)
    }
  }
  for (const part of ['network', 'compute', 'edge'] as const satisfies readonly Part[]) {
    const theirs = leaks.filter((it) => it.by === part)
    if (!theirs.length) continue
    await attempt({ by: part }, async () => {
      const done = new Set((await drivers[part].mend(signal)).map((it) => `${it.thing} ${it.detail}`))
      for (const it of theirs) if (done.has(`${it.thing} ${it.detail}`)) mended.add(leakKey(it))
    })
  }
  for (const it of leaks) {
    if (it.by !== 'removal') continue
    const { kind, id, thing } = it
    await attempt({ kind, id, thing }, () => removeOrphan(it, drivers, signal))
  }
  return { mended, failures }
}

async function removeOrphan(it: Leak, drivers: Drivers, signal: AbortSignal): Promise<void> {
  if (it.kind === 'vpc') await drivers.network.remove(it.id, signal)
  else if (it.thing === 'socket' && it.kind === 'replica') await drivers.sockets.remove(it.id, signal)
  else if (it.kind === 'replica') await drivers.compute.remove(it.id, signal)
  else if (it.kind === 'volume') await drivers.compute.removeVolume(it.id, signal)
  else if (it.kind === 'image') await drivers.images.remove(it.id, signal)
  else if (it.kind === 'zone') await drivers.edge.remove(it.id, signal)
  else if (it.kind === 'front') await drivers.front.remove(it.id, signal)
  else if (it.kind === 'certificate') await drivers.front.removeCertificate(it.id, signal)
}

async function observe(drivers: Drivers, signal: AbortSignal): Promise<Reality> {
  const [routers, containers, volumes, images, sockets, zones, served, network, compute, edge] =
    await Promise.all([
      drivers.network.list(signal),
      drivers.compute.list(signal),
      drivers.compute.volumes(signal),
      drivers.images.list(signal),
      drivers.sockets.list(signal),
      drivers.edge.list(signal),
      drivers.front.list(signal),
      findingsOf(drivers.network, signal),
      findingsOf(drivers.compute, signal),
      findingsOf(drivers.edge, signal),
    ])
  return {
    routers,
    containers,
    volumes,
    images,
    sockets,
    zones,
    ...served,
    findings: { network, compute, edge },
  }
}

async function readRecords(engine: Engine): Promise<Records> {
  const everything = everythingOf(engine)
  const byId = async (kind: AnyKind): Promise<Map<string, Resource>> =>
    new Map((await everything(kind, ALL)).map((it) => [it.id, it]))
  return {
    vpcs: await byId(vpc),
    replicas: await byId(replica),
    workloads: await byId(workload),
    stores: new Map([...(await byId(volume)), ...(await byId(snapshot))]),
    images: await byId(diskImage),
    tenants: await byId(tenant),
    tunnels: await byId(tunnel),
    routes: await byId(route),
    balancers: await byId(loadBalancer),
    serviceTunnels: await byId(serviceTunnel),
    certificates: await byId(certificate),
  }
}
