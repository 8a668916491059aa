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
  /** How many visits of a route are at an origin. */
  held(route: string, origin: string): number
  readonly accesses: Accesses
}

const bucketOf = (ms: number): number => {
  let it = 0
  while (it < LATENCY_BUCKETS_MS.length && ms > (LATENCY_BUCKETS_MS[it] ?? 0)) it++
  return it
}

export function createTraffic(clock: Clock, limits: FrontLimits): Traffic {
  const since = Math.round(clock.now())
  const counters = new Map<string, Counters>()
  const open = new Map<string, number>()
  const held = new Map<string, number>()
  const accesses = createAccesses(since.toString(36), limits.accessesMax)

  const countersOf = (route: string): Counters => {
    let it = counters.get(route)
    if (!it) {
      it = {
        since,
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
  const one = (counts: Map<string, number>, key: string, more: 1 | -1): void => {
    const now = (counts.get(key) ?? 0) + more
    if (now > 0) counts.set(key, now)
    else counts.delete(key)
  }
  const at = (route: string, origin: string): string => `${route} ${origin}`
  const count = (route: string, origin: string, more: 1 | -1): void => {
    one(open, origin, more)
    one(held, at(route, origin), more)
  }
  const cut = (text: string): string =>
    text.length > limits.accessCharsMax ? text.slice(0, limits.accessCharsMax) : text

  return {
    accesses,
    begin({ route, tenant }, { client, hostname, method, path, userAgent }) {
      const startedAt = clock.now()
      const counted = countersOf(route.id)
      counted.active++
      let origin: string | undefined
      let ended = false
      return {
        receivedBytes: 0,
        sentBytes: 0,
        goTo(next) {
          if (ended) return
          if (origin !== undefined) count(route.id, origin, -1)
          if (next) count(route.id, next.id, 1)
          origin = next?.id
        },
        end({ status, fault }) {
          if (ended) return
          ended = true
          const durationMs = Math.max(0, clock.now() - startedAt)
          const { receivedBytes, sentBytes } = this
          counted.active--
          counted.requests++
          counted.receivedBytes += receivedBytes
          counted.sentBytes += sentBytes
          if (status !== undefined) {
            const group = String(status)[0] as keyof Counters['statuses']
            if (group in counted.statuses) counted.statuses[group]++
            const bucket = bucketOf(durationMs)
            counted.latency[bucket] = (counted.latency[bucket] ?? 0) + 1
            counted.latencySumMs += durationMs
          }
          if (origin !== undefined) count(route.id, origin, -1)
          accesses.add({
            route: route.id,
            tenant,
            at: Math.round(startedAt),
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
    held: (route, origin) => held.get(at(route, origin)) ?? 0,
  }
}
