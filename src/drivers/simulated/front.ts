import { CloudError } from '#lib/errors.ts'
import {
  type Access,
  type Front,
  type FrontCertificate,
  type FrontDriver,
  LATENCY_BUCKETS_MS,
  type RouteTraffic,
} from '#cloud/edge/front.driver.ts'
import type { Fault } from './network.ts'

const ACCESSES_MAX = 10_000
const CHALLENGE_FIELDS = 'answer,hostname,token'

export type SimulatedFront = FrontDriver & {
  readonly fronts: ReadonlyMap<string, Front>
  readonly certificates: ReadonlyMap<string, FrontCertificate>
  /** What a test makes of the traffic: counters of a route by id, in place of zeros. */
  readonly counted: Map<string, RouteTraffic>
  /** Says how many connections an origin has open; 0 ends it. */
  occupy(origin: string, connections: number): void
  /** What a test makes of the origins of load balancers: those that cannot be connected to, by id. */
  readonly down: Set<string>
  /** What the host lacks, as a test sets it. */
  readonly lacks: string[]
  /** Logs an access; its cursor is given here. */
  visit(access: Omit<Access, 'cursor'>): void
}

/** Counters of a route that nobody asked yet. */
const untouched = (route: string): RouteTraffic => ({
  route,
  since: 0,
  requests: 0,
  statuses: { '1': 0, '2': 0, '3': 0, '4': 0, '5': 0 },
  receivedBytes: 0,
  sentBytes: 0,
  latency: Array.from({ length: LATENCY_BUCKETS_MS.length + 1 }, () => 0),
  latencySumMs: 0,
  active: 0,
})

/** Keeps the newest of each id; older is refused as the front door does. */
async function keep<T extends { readonly generation: number }>(
  held: Map<string, T>,
  id: string,
  it: T,
): Promise<void> {
  const served = held.get(id)?.generation
  if (served !== undefined && served > it.generation) {
    const message = `generation ${it.generation} is older than ${served}, which is served`
    throw new CloudError('conflict', message, { rule: 'lost_race' })
  }
  held.set(id, it)
  await Promise.resolve()
}

/** A front door that only keeps its tables: for tests and benchmarks, nothing answers. */
export function simulatedFront(fault: Fault = () => {}): SimulatedFront {
  const fronts = new Map<string, Front>()
  const certificates = new Map<string, FrontCertificate>()
  const counted = new Map<string, RouteTraffic>()
  let taken = 0
  const occupied = new Map<string, number>()
  const lacks: string[] = []
  const down = new Set<string>()
  const visits: Access[] = []
  let last = 0
  return {
    fronts,
    certificates,
    counted,
    down,
    lacks,
    occupy(origin, connections) {
      if (connections > 0) occupied.set(origin, connections)
      else occupied.delete(origin)
    },
    visit(access) {
      visits.push({ ...access, cursor: String(++last) })
      if (visits.length > ACCESSES_MAX) visits.shift()
    },
    async missing() {
      await fault('missing', '')
      return [...lacks]
    },
    async apply(front) {
      await fault('apply', front.vpc)
      await keep(fronts, front.vpc, front)
    },
    async remove(vpc) {
      await fault('remove', vpc)
      fronts.delete(vpc)
    },
    async applyCertificate(certificate) {
      await fault('applyCertificate', certificate.id)
      for (const it of certificate.challenges)
        if (Object.keys(it).toSorted().join() !== CHALLENGE_FIELDS)
          throw new CloudError('invalid', 'a challenge has fields that the front door does not know')
      await keep(certificates, certificate.id, certificate)
    },
    async removeCertificate(id) {
      await fault('removeCertificate', id)
      certificates.delete(id)
    },
    async list() {
      await fault('list', '')
      return {
        fronts: [...fronts.values()].map(({ vpc, generation }) => ({ vpc, generation })),
        certificates: [...certificates.values()].map(({ id, generation }) => ({ id, generation })),
      }
    },
    async traffic() {
      await fault('traffic', '')
      const routes = [...fronts.values()].flatMap((it) => it.routes)
      return routes.map(({ id }) => counted.get(id) ?? untouched(id))
    },
    async open() {
      await fault('open', '')
      return Object.fromEntries(occupied)
    },
    async health() {
      await fault('health', '')
      const routes = [...fronts.values()].flatMap((it) => it.routes).filter((it) => it.carry === 'tcp')
      return Object.fromEntries(
        routes.map((it) => [it.id, Object.fromEntries(it.origins.map(({ id }) => [id, !down.has(id)]))]),
      )
    },
    async accesses(after, limit) {
      await fault('accesses', '')
      taken = Math.max(taken, Number(after ?? 0))
      const read = Number(after ?? taken)
      const newer = visits.filter((it) => Number(it.cursor) > read).slice(0, limit)
      return { entries: newer, cursor: newer.at(-1)?.cursor ?? String(read) }
    },
  }
}
