import { CloudError } from '#lib/errors.ts'
import {
  type Front,
  type FrontCertificate,
  type FrontDriver,
  LATENCY_BUCKETS_MS,
} from '#cloud/edge/front.driver.ts'
import type { Fault } from './network.ts'

const older = (what: string, wanted: number, held: number): CloudError =>
  new CloudError('conflict', `generation ${wanted} of ${what} is older than ${held}`, { rule: 'lost_race' })

export type SimulatedFront = FrontDriver & {
  readonly fronts: ReadonlyMap<string, Front>
  readonly certificates: ReadonlyMap<string, FrontCertificate>
  /** Says how many connections an origin has open; 0 ends it. */
  occupy(origin: string, connections: number): void
}

/** A front door that only keeps its tables: for tests and benchmarks, nothing listens. */
export function simulatedFront(fault: Fault = () => {}): SimulatedFront {
  const fronts = new Map<string, Front>()
  const certificates = new Map<string, FrontCertificate>()
  const occupied = new Map<string, number>()
  return {
    fronts,
    certificates,
    occupy(origin, connections) {
      if (connections > 0) occupied.set(origin, connections)
      else occupied.delete(origin)
    },
    async missing() {
      await fault('missing', '')
      return []
    },
    async apply(front) {
      await fault('apply', front.vpc)
      const held = fronts.get(front.vpc)?.generation ?? 0
      if (held > front.generation) throw older(`the front of ${front.vpc}`, front.generation, held)
      fronts.set(front.vpc, front)
    },
    async remove(vpc) {
      await fault('remove', vpc)
      fronts.delete(vpc)
    },
    async applyCertificate(certificate) {
      await fault('applyCertificate', certificate.id)
      const held = certificates.get(certificate.id)?.generation ?? 0
      if (held > certificate.generation)
        throw older(`certificate ${certificate.id}`, certificate.generation, held)
      certificates.set(certificate.id, certificate)
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
      return [...fronts.values()].flatMap(({ routes }) =>
        routes.map(({ id }) => ({
          route: id,
          since: 0,
          requests: 0,
          statuses: { 1: 0, 2: 0, 3: 0, 4: 0, 5: 0 },
          receivedBytes: 0,
          sentBytes: 0,
          latency: [...LATENCY_BUCKETS_MS, Infinity].map(() => 0),
          latencySumMs: 0,
          active: 0,
        })),
      )
    },
    async open() {
      await fault('open', '')
      return Object.fromEntries(occupied)
    },
    async accesses(after) {
      await fault('accesses', '')
      return { entries: [], cursor: after ?? '0' }
    },
  }
}
