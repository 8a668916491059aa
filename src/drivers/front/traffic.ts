import type { Clock } from '#lib/clock.ts'
import { LATENCY_BUCKETS_MS, type Origin, type RouteTraffic } from '#cloud/edge/front.driver.ts'
import { type Accesses, createAccesses } from './accesses.ts'
import type { FrontLimits } from './limits.ts'
import type { FrontTable, ServedRoute } from './table.ts'

/** What is known of a visit when it begins. */
export type Visitor = {
  readonly client: string
  readonly hostname: string
  readonly method?: string
  readonly path?: string
  readonly userAgent?: string | undefined
}

/** One request, connection or session from its beginning to its end. */
export type Visit = {
  receivedBytes: number
  sentBytes: number
  /** It goes to this origin from now on; the one before, if any, is left. */
  goTo(origin: Pick<Origin, 'id'> | undefined): void
  /** Counts and logs it, once; later calls do nothing. */
  end(how: { readonly status?: number | undefined; readonly fault?: string | undefined }): void
}

type Counters = {
  since: number
  requests: number
  statuses: Record<'1' | '2' | '3' | '4' | '5', number>
  receivedBytes: number
  sentBytes: number
  latency: number[]
  latencySumMs: number
  active: number
}

/** Counters of every served route, what is open at origins, and the accesses. */
export type Traffic = {
  begin(served: ServedRoute, visitor: Visitor): Visit
  /** Routes of this table alone are counted from now on. */
  keep(table: FrontTable): void
  counted(): readonly RouteTraffic[]
  open(): Readonly<Record<string, number>>
  readonly accesses: Accesses
}

const bucketOf = (ms: number): number => {
  let it = 0
  while (it < LATENCY_BUCKETS_MS.length && ms > (LATENCY_BUCKETS_MS[it] ?? 0)) it++
  return it
}

export function createTraffic(clock: Clock, limits: FrontLimits): Traffic {
  const startedAt = Math.round(clock.now())
  const counters = new Map<string, Counters>()
  const open = new Map<string, number>()
  const accesses = createAccesses(startedAt.toString(36), limits.accessesMax)

  const countersOf = (route: string): Counters => {
    let it = counters.get(route)
    if (!it) {
      it = {
        since: startedAt,
        requests: 0,
        statuses: { '1': 0, '2': 0, '3': 0, '4': 0, '5': 0 },
        receivedBytes: 0,
        sentBytes: 0,
        latency: Array.from({ length: LATENCY_BUCKETS_MS.length + 1 }, () => 0),
        latencySumMs: 0,
        active: 0,
      }
      counters.set(route, it)
    }
    return it
  }
  const leave = (origin: string): void => {
    const left = (open.get(origin) ?? 1) - 1
    if (left > 0) open.set(origin, left)
    else open.delete(origin)
  }
  const cut = (text: string): string =>
    text.length > limits.accessCharsMax ? text.slice(0, limits.accessCharsMax) : text

  return {
    accesses,
    begin({ route, tenant }, { client, hostname, method, path, userAgent }) {
      const at = clock.now()
      const count = countersOf(route.id)
      count.active++
      let origin: string | undefined
      let ended = false
      return {
        receivedBytes: 0,
        sentBytes: 0,
        goTo(next) {
          if (ended) return
          if (origin !== undefined) leave(origin)
          if (next) open.set(next.id, (open.get(next.id) ?? 0) + 1)
          origin = next?.id
        },
        end({ status, fault }) {
          if (ended) return
          ended = true
          const durationMs = Math.max(0, clock.now() - at)
          const { receivedBytes, sentBytes } = this
          count.active--
          count.requests++
          count.receivedBytes += receivedBytes
          count.sentBytes += sentBytes
          if (status !== undefined) {
            const group = String(status)[0] as keyof Counters['statuses']
            if (group in count.statuses) count.statuses[group]++
            const bucket = bucketOf(durationMs)
            count.latency[bucket] = (count.latency[bucket] ?? 0) + 1
            count.latencySumMs += durationMs
          }
          if (origin !== undefined) leave(origin)
          accesses.add({
            route: route.id,
            tenant,
            at: Math.round(at),
            client,
            hostname,
            method,
            path: path === undefined ? undefined : cut(path),
            status,
            receivedBytes,
            sentBytes,
            durationMs: Math.round(durationMs * 1000) / 1000,
            origin,
            userAgent: userAgent === undefined ? undefined : cut(userAgent),
            fault,
          })
        },
      }
    },
    keep(table) {
      for (const id of table.routes.keys()) countersOf(id)
      for (const id of counters.keys()) if (!table.routes.has(id)) counters.delete(id)
    },
    counted: () =>
      [...counters].map(([route, it]) => ({
        route,
        ...it,
        statuses: { ...it.statuses },
        latency: [...it.latency],
      })),
    open: () => Object.fromEntries(open),
  }
}
