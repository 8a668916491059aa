import { CloudError } from '#lib/errors.ts'
import type { Bulk, BulkQuery, StoredBulkEntry } from '#engine/bulk.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import type { NewRecord, StoredRecord } from '#engine/store.ts'
import { authorise, type Caller, ownTenant } from './access.ts'
import type { Sample } from './compute/compute.driver.ts'
import { replica } from './compute/replica.kind.ts'
import type { Samples } from './compute/samples.ts'
import { workload } from './compute/workload.kind.ts'
import type { Access, RouteTraffic } from './edge/front.driver.ts'
import type { Traffic } from './edge/traffic.ts'
import { METRICS, metricOf, SNAPSHOTS, snapshotOf, TOLD, toldOf } from './inside/telemetry.ts'
import { LOGINS, loginOf } from './inside/vpn.ts'
import { vpc } from './network/vpc.kind.ts'
import type { LogQuery, Logs } from './observe/logs.ts'
import { type Interval, intervalsBetween, type Usage, usageOf } from './observe/usage.ts'
import { readOf } from './reads.ts'

const RECORDS_MAX = 1000

export type BulkRange = Pick<BulkQuery, 'from' | 'to' | 'after' | 'limit' | 'newestFirst'>

/** What was recorded and measured of a caller's resources. */
export type Observations = {
  /**
   * Moves with every record that changes and with every look at what replicas use: what is told of those alone, by the
   * reads here and `sample`, is the same for as long as this is. Undefined while it moves, or where it is not known.
   */
  moment(): number | undefined
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
  /** What a replica uses, measured now if nobody did yet; `conflict`, rule `wrong_state`, when it does not run. */
  measure(caller: Caller, replica: string, signal: AbortSignal): Promise<Sample>
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
}

export function createObservations(
  engine: Engine,
  bulk: Bulk,
  from: {
    readonly samples: Samples
    readonly traffic: Traffic
    readonly keptLogs: Logs
  },
): Observations {
  const { samples, traffic, keptLogs } = from
  const read = readOf(engine)
  const kept = async <R>(
    it: Resource,
    className: string,
    query: BulkRange,
    of: (entry: StoredBulkEntry) => R,
  ): Promise<readonly R[]> =>
    (await bulk.read({ ...query, class: className, tenant: it.tenant, subject: it.id })).map(of)

  return {
    moment: momentOf(() => engine.store.moment(), samples.looks),
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
    sample: (id) => samples.get(id),
    async history(caller, id, query) {
      const it = await read(caller, replica, id)
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
    async measure(caller, id, signal) {
      const it = await read(caller, replica, id)
      const runs = it.status.phase === 'running'
      if (runs && !samples.get(it.id)) await samples.look(signal)
      const sample = runs ? samples.get(it.id) : undefined
      if (!sample) throw new CloudError('conflict', 'It is not running', { rule: 'wrong_state' })
      return sample
    },
    workloadMetrics: async (caller, id, query) =>
      await kept(await read(caller, workload, id), METRICS, query, metricOf),
    balancerSnapshots: async (caller, id, query) =>
      await kept(await read(caller, workload, id), SNAPSHOTS, query, snapshotOf),
    workloadEvents: async (caller, id, query) =>
      await kept(await read(caller, workload, id), TOLD, query, toldOf),
    vpnLogins: async (caller, id, query) => await kept(await read(caller, vpc, id), LOGINS, query, loginOf),
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

/** Whose records a caller may see: its own tenant's, or all for an administrator that named none. */
const recordsOf = (caller: Caller): string =>
  caller.scope === 'admin' && caller.tenant === PLATFORM ? ALL : caller.tenant
