import type { Replica } from '#cloud/compute/replica.kind.ts'
import { isInstance, namesOf, type Workload } from '#cloud/compute/workload.kind.ts'
import type { ServedRecord } from '#cloud/edge/edge.driver.ts'
import { discoveredAs } from './discovery.ts'
import { fullName, recordData, type RecordType } from './record-content.ts'
import type { ZoneRecord } from './record.kind.ts'
import type { Vpc } from './vpc.kind.ts'
import type { PrivateZone } from './zone.kind.ts'

/** A record of a zone, made by hand or kept for an instance. */
export type ZoneEntry = {
  /** Of the record's resource, or of the replica that an instance runs as. */
  readonly id: string
  readonly name: string
  readonly type: RecordType
  readonly content: string
  readonly ttlSeconds: number
  readonly priority?: number
  /** The instance that it is kept for. */
  readonly instance?: string
  /** Its name leads elsewhere, see `entriesOf`. */
  readonly hidden: boolean
  readonly createdAt: number
  readonly updatedAt: number
  /** What the edge answers for it; absent where it is hidden, or says what service discovery does anyway. */
  readonly served?: ServedRecord
}

/** What the entries of a zone are made from; all of its VPC. */
export type ZoneParts = {
  readonly vpc: Vpc
  readonly records: readonly ZoneRecord[]
  readonly workloads: readonly Workload[]
  readonly replicas: readonly Replica[]
}

/** Types by which a name leads to machines. */
const LEADS: readonly RecordType[] = ['A', 'AAAA', 'CNAME']

/**
 * The records of a zone: those made by hand, and an A record for each instance. Where they meet, the names of service
 * discovery come first, so that nobody who may only write records leads a workload's name elsewhere; then what was made
 * by hand; then instances.
 */
export function entriesOf(zone: PrivateZone, parts: ZoneParts): readonly ZoneEntry[] {
  const live = parts.workloads.filter((it) => it.deletedAt === undefined)
  const own = new Set(live.flatMap((it) => discoveredAs(it, parts.vpc.name)))
  const made = parts.records
    .filter((it) => it.deletedAt === undefined && it.spec.zone === zone.id)
    .map((it) => madeEntry(it, zone, own))
  const taken = new Set(
    made.filter((it) => it.type === 'A' || it.type === 'CNAME').map((it) => fullName(it.name, zone.name)),
  )
  const slots = new Map(
    parts.replicas
      .filter((it) => it.deletedAt === undefined && !it.status.released)
      .map((it) => [it.spec.workload, it]),
  )
  const kept = live.filter(isInstance).flatMap((it) => {
    const slot = slots.get(it.id)
    return slot ? [keptEntry(it, slot, zone, { own, taken })] : []
  })
  return [...made, ...kept]
}

function madeEntry(it: ZoneRecord, zone: PrivateZone, own: ReadonlySet<string>): ZoneEntry {
  const { type, content, ttlSeconds, priority } = it.spec
  const name = fullName(it.name, zone.name)
  const hidden = own.has(name) && LEADS.includes(type)
  return {
    id: it.id,
    name: it.name,
    type,
    content,
    ttlSeconds,
    ...(priority === undefined ? {} : { priority }),
    hidden,
    createdAt: it.createdAt,
    updatedAt: it.updatedAt,
    ...(hidden ? {} : { served: { name, ttlSeconds, ...recordData(type, content, priority) } }),
  }
}

function keptEntry(
  it: Workload,
  { id, spec, createdAt }: Replica,
  zone: PrivateZone,
  { own, taken }: { readonly own: ReadonlySet<string>; readonly taken: ReadonlySet<string> },
): ZoneEntry {
  const [name = it.name] = namesOf(it)
  const full = fullName(name, zone.name)
  const ttlSeconds = zone.spec.defaultTtlSeconds
  const hidden = taken.has(full)
  const lead = { type: 'A', data: spec.address } as const
  return {
    id,
    name,
    type: 'A',
    content: spec.address,
    ttlSeconds,
    instance: it.id,
    hidden,
    createdAt,
    updatedAt: createdAt,
    ...(hidden || own.has(full) ? {} : { served: { name: full, ttlSeconds, ...lead } }),
  }
}
