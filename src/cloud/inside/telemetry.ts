import { CloudError } from '#lib/errors.ts'
import type { Bulk, StoredBulkEntry } from '#engine/bulk.ts'
import type { Clock } from '#lib/clock.ts'
import type { Instance, Metric, Snapshot } from './inside.ts'

export const METRICS = 'workload-metric'
export const SNAPSHOTS = 'balancer'
export const TOLD = 'workload-event'
/** Series that /metrics shows at most, of one workload and of all; further ones are kept and not shown there. */
const SERIES_PER_WORKLOAD_MAX = 200
const SERIES_MAX = 20_000
/** One that was sent nothing of for so long is not shown any more. */
const SERIES_KEPT_MS = 3_600_000
const CONTROLLERS_PER_WORKLOAD_MAX = 200

/** Where a metric or snapshot came from: the token says it, never the body. */
type Origin = { readonly replica: string; readonly vpc: string }
export type KeptMetric = Omit<Metric, 'points'> &
  Origin & { readonly points: readonly (readonly [at: number, ...values: number[]])[] }
export type KeptSnapshot = { readonly controller: string; readonly snapshot: object } & Origin

export const metricOf = ({ at, cursor, body }: StoredBulkEntry) => ({ ...(body as KeptMetric), at, cursor })
/** What a workload told of itself, as it was sent. */
export type KeptEvent = { readonly event: object } & Origin
export const toldOf = ({ at, cursor, body }: StoredBulkEntry) => ({ ...(body as KeptEvent), at, cursor })
export const snapshotOf = ({ at, cursor, body }: StoredBulkEntry) => ({
  ...(body as KeptSnapshot),
  at,
  cursor,
})

type Series = { readonly workload: string; readonly labels: string; value: number; seenAt: number }

const escaped = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
const pairs = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',')
/** A label of a caller's own cannot be taken for one of ours, nor break the text. */
const ownLabels = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [`label_${name.replaceAll(/[^A-Za-z0-9_]/g, '_')}`, value]),
  )

const COUNTS = {
  requests: 'Requests',
  connections: 'Connections',
  bytes_transmitted: 'Bytes sent',
  bytes_received: 'Bytes received',
} as const

/** Takes in what workloads measure: kept as bulk records, the last of each shown to Prometheus. */
export function createTelemetry(bulk: Bulk, clock: Clock) {
  const gauges = new Map<string, Series>()
  const counts = new Map<string, Series>()
  const held = new Map<string, number>()

  const forget = (all: Map<string, Series>, key: string, it: Series): void => {
    all.delete(key)
    const left = (held.get(it.workload) ?? 1) - 1
    if (left > 0) held.set(it.workload, left)
    else held.delete(it.workload)
  }
  const show = (all: Map<string, Series>, workload: string, labels: string, value: number): void => {
    const key = `${workload} ${labels}`
    const had = all.get(key)
    const own = held.get(workload) ?? 0
    if (!had && (own >= SERIES_PER_WORKLOAD_MAX || gauges.size + counts.size >= SERIES_MAX)) return
    if (!had) held.set(workload, own + 1)
    all.set(key, { workload, labels, value, seenAt: clock.now() })
  }
  const text = (name: string, type: string, help: string, all: Iterable<Series>): string => {
    const lines = [...all].map((it) => `${name}{${it.labels}} ${it.value}`)
    return lines.length ? `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('\n')}\n` : ''
  }

  return {
    takeMetrics({ replica, workload, vpc, tenant }: Instance, metrics: readonly Metric[]): void {
      for (const { points, ...it } of metrics) {
        const body: KeptMetric = {
          ...it,
          points: points.map(({ at, values }) => [at, ...values]),
          replica: replica.id,
          vpc: vpc.id,
        }
        bulk.append(METRICS, { tenant: tenant.id, subject: workload.id, body })
        const newest = points.toSorted((a, b) => b.at - a.at)[0]?.values.at(-1)
        if (newest === undefined) continue
        const { metric, type } = it
        const labels = pairs({
          tenant: tenant.id,
          workload: workload.id,
          replica: replica.id,
          metric,
          type,
          ...ownLabels(it.labels),
        })
        show(gauges, workload.id, labels, newest)
      }
    },
    takeEvents({ replica, workload, vpc, tenant }: Instance, events: readonly object[]): void {
      for (const event of events) {
        const body: KeptEvent = { event, replica: replica.id, vpc: vpc.id }
        bulk.append(TOLD, { tenant: tenant.id, subject: workload.id, body })
      }
    },
    takeSnapshots({ replica, workload, vpc, tenant }: Instance, snapshots: readonly Snapshot[]): void {
      if (workload.spec.service !== 'loadbalancer')
        throw new CloudError('forbidden', 'Only the load balancer of an environment tells of its controllers')
      if (snapshots.length > CONTROLLERS_PER_WORKLOAD_MAX)
        throw new CloudError('invalid', `must be at most ${CONTROLLERS_PER_WORKLOAD_MAX} controllers`)
      for (const { controller, at, body: snapshot } of snapshots) {
        const body: KeptSnapshot = {
          controller,
          snapshot: { ...snapshot, time: at },
          replica: replica.id,
          vpc: vpc.id,
        }
        bulk.append(SNAPSHOTS, { tenant: tenant.id, subject: workload.id, body })
        const { metrics } =
          (snapshot as { cumulative?: { metrics?: Record<string, unknown> } }).cumulative ?? {}
        for (const count of Object.keys(COUNTS)) {
          const value = metrics?.[count]
          if (typeof value !== 'number') continue
          const labels = { tenant: tenant.id, workload: workload.id, replica: replica.id, controller, count }
          show(counts, workload.id, pairs(labels), value)
        }
      }
    },
    /** Prometheus text. */
    metrics(): string {
      const old = clock.now() - SERIES_KEPT_MS
      for (const all of [gauges, counts])
        for (const [key, it] of all) if (it.seenAt < old) forget(all, key, it)
      return (
        text('arcus_workload_metric', 'gauge', 'Last value of what workloads send', gauges.values()) +
        text(
          'arcus_balancer_total',
          'counter',
          `What load balancers counted: ${Object.values(COUNTS).join(', ')}`,
          counts.values(),
        )
      )
    },
  }
}
