import { type FrontDriver, latencyBuckets, type RouteTraffic } from './front.driver.ts'
import type { Tunnel } from './tunnel.kind.ts'

/** What the edge last counted for each route. Only a memory: empty until it was asked. */
export type Traffic = {
  of(route: string): RouteTraffic | undefined
  /** Asks the edge; answers the routes whose counters moved since this said so last. */
  pull(signal: AbortSignal): Promise<readonly string[]>
  /** Prometheus text: counters and a latency histogram for each route. */
  metrics(): string
}

export const totalOf = (it: RouteTraffic): NonNullable<Tunnel['status']['traffic']> => ({
  since: it.since,
  requests: it.requests,
  faults: it.statuses[5],
  statuses: { ...it.statuses },
  receivedBytes: it.receivedBytes,
  sentBytes: it.sentBytes,
  active: it.active,
  latencySumMs: it.latencySumMs,
  latency: latencyBuckets(it.latency).filter((bucket) => bucket.count > 0),
})

export function createTraffic(front: FrontDriver): Traffic {
  let held = new Map<string, RouteTraffic>()
  return {
    of: (route) => held.get(route),
    async pull(signal) {
      const before = held
      held = new Map((await front.traffic(signal)).map((it) => [it.route, it]))
      const moved = (it: RouteTraffic): boolean => {
        const had = before.get(it.route)
        return it.requests !== (had?.requests ?? 0) || it.active !== (had?.active ?? 0)
      }
      return [...held.values()].filter(moved).map((it) => it.route)
    },
    metrics: () => render([...held.values()]),
  }
}

type Sample = readonly [labels: string, value: number]

const family = (
  name: string,
  type: 'counter' | 'gauge' | 'histogram',
  help: string,
  samples: readonly (readonly [suffix: string, ...Sample])[],
): string =>
  samples.length === 0
    ? ''
    : [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} ${type}`,
        ...samples.map(([suffix, labels, value]) => `${name}${suffix}{${labels}} ${value}`),
        '',
      ].join('\n')

/** Metrics of what another process counted, which the metrics library has no way to take. Ids need no escaping. */
function render(all: readonly RouteTraffic[]): string {
  const each = (value: (it: RouteTraffic) => number): ['', string, number][] =>
    all.map((it) => ['', `route="${it.route}"`, value(it)])
  return [
    family(
      'arcus_edge_requests_total',
      'counter',
      'Requests of a route, for other protocols connections',
      each((it) => it.requests),
    ),
    family(
      'arcus_edge_responses_total',
      'counter',
      'Answers of a route by class of status',
      all.flatMap((it) =>
        Object.entries(it.statuses).map(
          ([digit, count]) => ['', `route="${it.route}",status="${digit}xx"`, count] as const,
        ),
      ),
    ),
    family(
      'arcus_edge_received_bytes_total',
      'counter',
      'Bytes that clients of a route sent',
      each((it) => it.receivedBytes),
    ),
    family(
      'arcus_edge_sent_bytes_total',
      'counter',
      'Bytes that clients of a route were sent',
      each((it) => it.sentBytes),
    ),
    family(
      'arcus_edge_active',
      'gauge',
      'Requests and connections of a route that are open',
      each((it) => it.active),
    ),
    family(
      'arcus_edge_request_duration_seconds',
      'histogram',
      'Time from a request of a route to the end of its answer',
      all.flatMap(latencyOf),
    ),
  ].join('')
}

function latencyOf(it: RouteTraffic): (readonly [string, string, number])[] {
  let sum = 0
  const buckets = latencyBuckets(it.latency).map(({ upToMs, count }) => {
    sum += count
    return ['_bucket', `route="${it.route}",le="${upToMs === null ? '+Inf' : upToMs / 1000}"`, sum] as const
  })
  const route = `route="${it.route}"`
  return [...buckets, ['_sum', route, it.latencySumMs / 1000], ['_count', route, sum]]
}
