import { isAhead } from '#lib/clock.ts'
import type { Bulk } from '#engine/bulk.ts'
import type { Engine } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import type { Patrol } from '#engine/reconcile.ts'
import { ALL, keyOf, PLATFORM } from '#engine/resource.ts'
import { replica } from './compute/replica.kind.ts'
import type { Samples } from './compute/samples.ts'
import type { TargetHealth } from './edge/balancer.reconcile.ts'
import type { Traffic } from './edge/traffic.ts'
import { message } from './identity/message.kind.ts'
import { USES_KEPT_MS } from './identity/uses.ts'
import { createRefresh } from './inside/refresh.ts'
import { METRICS, SNAPSHOTS, TOLD } from './inside/telemetry.ts'
import { LOGINS } from './inside/vpn.ts'
import { loadBalancer } from './network/load-balancer.kind.ts'
import type { Auditor, Drivers } from './observe/audit.ts'
import { AUDIT_EVERY_SECONDS } from './observe/compare.ts'
import { LOGS, LOGS_KEPT_MS } from './observe/logs.ts'

export const SAMPLE_EVERY_MS = 5_000
const SAMPLE_KEPT_EVERY_MS = 60_000
const TRAFFIC_EVERY_MS = 5_000
const TRAFFIC_TOLD_EVERY_MS = 60_000
/** How soon what the edge sees of the targets of load balancers is known. */
const TARGETS_EVERY_MS = 2_000
const ACCESSES_EVERY_MS = 1_000
const ACCESSES_PAGE = 1_000
/** Pages of one second; what is beyond waits at the edge for the next. */
const ACCESSES_PAGES_MAX = 5
/** How soon what containers find of their replicas' own follows a change. */
const OUTFITS_EVERY_MS = 1_000
const SAMPLES_KEPT_MS = 15 * 86_400_000
const ACCESSES_KEPT_MS = 7 * 86_400_000
const TELEMETRY_KEPT_MS = 15 * 86_400_000
const LOGINS_KEPT_MS = 90 * 86_400_000
const AUDIT_KEPT_MS = 400 * 86_400_000
const MESSAGES_KEPT_MS = 86_400_000
const EVENTS_KEPT_MS = 30 * 86_400_000
/** How long what is kept in bulk is, by its class. */
const BULK_KEPT_MS: Readonly<Record<string, number>> = {
  metric: SAMPLES_KEPT_MS,
  access: ACCESSES_KEPT_MS,
  use: USES_KEPT_MS,
  [LOGS]: LOGS_KEPT_MS,
  [METRICS]: TELEMETRY_KEPT_MS,
  [SNAPSHOTS]: TELEMETRY_KEPT_MS,
  [TOLD]: TELEMETRY_KEPT_MS,
  [LOGINS]: LOGINS_KEPT_MS,
}
const RETENTION_EVERY_MS = 3_600_000
/** Of one pass, which is more than can be recorded from one to the next; what is beyond goes with that. */
const RECORDS_FORGOTTEN_MAX = 100_000_000
/** Of one commit: others wait for it. */
const RECORDS_PER_COMMIT_MAX = 1000

type Looking = {
  readonly engine: Engine
  readonly bulk: Bulk
  readonly drivers: Drivers
  readonly auditor: Auditor
  readonly samples: Samples
  readonly traffic: Traffic
  readonly targets: TargetHealth
}

/** What is looked at again and again, whatever changes. */
export const createPatrols = (of: Looking): readonly Patrol[] => [
  {
    name: 'outfits',
    everyMs: OUTFITS_EVERY_MS,
    run: createRefresh(of.engine, everythingOf(of.engine)),
  },
  {
    name: 'audit',
    everyMs: AUDIT_EVERY_SECONDS * 1000,
    run: async (signal) => (await of.auditor.pass(signal)).keys,
  },
  { name: 'samples', everyMs: SAMPLE_EVERY_MS, run: sampling(of) },
  { name: 'traffic', everyMs: TRAFFIC_EVERY_MS, run: counting(of) },
  {
    name: 'targets',
    everyMs: TARGETS_EVERY_MS,
    async run(signal) {
      if (!(await of.engine.list(loadBalancer, { tenant: ALL, limit: 1 })).items.length) return []
      return (await of.targets.pull(signal)).map((id) => `${loadBalancer.name}/${id}` as const)
    },
  },
  { name: 'accesses', everyMs: ACCESSES_EVERY_MS, run: logging(of) },
  { name: 'retention', everyMs: RETENTION_EVERY_MS, run: forgetting(of) },
]

/** What replicas use; one sample a minute is kept. */
function sampling({ engine, bulk, samples }: Looking): Patrol['run'] {
  const everything = everythingOf(engine)
  let keptAt = 0
  return async (signal) => {
    await samples.look(signal)
    const now = engine.clock.now()
    if (isAhead(keptAt + SAMPLE_KEPT_EVERY_MS, SAMPLE_KEPT_EVERY_MS, now)) return []
    keptAt = now
    for (const { id, tenant: of } of await everything(replica, ALL)) {
      const sample = samples.get(id)
      if (!sample) continue
      const { at, id: _id, ...body } = sample
      bulk.append('metric', { tenant: of, subject: id, at, body })
    }
    return []
  }
}

/** What went through tunnels and routes; their resources are told once a minute. */
function counting({ engine, traffic }: Looking): Patrol['run'] {
  const moved = new Set<string>()
  let toldAt = 0
  return async (signal) => {
    for (const id of await traffic.pull(signal)) moved.add(id)
    const now = engine.clock.now()
    if (isAhead(toldAt + TRAFFIC_TOLD_EVERY_MS, TRAFFIC_TOLD_EVERY_MS, now)) return []
    toldAt = now
    const told = await Promise.all([...moved].map(async (id) => await engine.store.get(id)))
    moved.clear()
    return told.flatMap((it) => (it ? [keyOf(it)] : []))
  }
}

/** The access log of the edge, kept here. */
function logging({ bulk, drivers }: Looking): Patrol['run'] {
  let cursor: string | undefined
  return async (signal) => {
    for (let pages = 0; pages < ACCESSES_PAGES_MAX; pages++) {
      const page = await drivers.front.accesses(cursor, ACCESSES_PAGE, signal)
      cursor = page.cursor
      for (const { cursor: _cursor, route: subject, tenant: of, at, ...body } of page.entries)
        bulk.append('access', { tenant: of, subject, at, body })
      if (page.entries.length < ACCESSES_PAGE) break
    }
    return []
  }
}

/** What was kept long enough goes. */
function forgetting({ engine, bulk }: Looking): Patrol['run'] {
  const dropMessages = async (before: number): Promise<void> => {
    const sent = await everythingOf(engine)(message, PLATFORM, { deleted: false })
    const old = sent.filter((it) => it.createdAt < before)
    if (!old.length) return
    await engine.transact(async (draft) => {
      for (const it of old) draft.mark(it)
      await Promise.resolve()
    })
  }
  const forget = async (stream: 'audit' | 'event', before: number, signal: AbortSignal): Promise<void> => {
    for (let left = RECORDS_FORGOTTEN_MAX; left > 0 && !signal.aborted; left -= RECORDS_PER_COMMIT_MAX)
      if ((await engine.store.forget(stream, before, RECORDS_PER_COMMIT_MAX)) < RECORDS_PER_COMMIT_MAX) return
  }
  return async (signal) => {
    const now = engine.clock.now()
    await dropMessages(now - MESSAGES_KEPT_MS)
    await forget('audit', now - AUDIT_KEPT_MS, signal)
    await forget('event', now - EVENTS_KEPT_MS, signal)
    for (const [name, keptMs] of Object.entries(BULK_KEPT_MS)) await bulk.forget(name, now - keptMs)
    return []
  }
}
