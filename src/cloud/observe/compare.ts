import { PLATFORM, type Resource } from '#engine/resource.ts'
import type { SeenContainer } from '#cloud/compute/compute.driver.ts'
import type { DiskImage } from '#cloud/compute/disk-image.kind.ts'
import type { Replica } from '#cloud/compute/replica.kind.ts'
import type { Certificate } from '#cloud/edge/certificate.kind.ts'
import type { Route } from '#cloud/edge/route.kind.ts'
import type { ServiceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import type { Tunnel } from '#cloud/edge/tunnel.kind.ts'
import type { LoadBalancer } from '#cloud/network/load-balancer.kind.ts'
import type { SeenVpc } from '#cloud/network/network.driver.ts'
import type { Difference, Finding } from './finding.driver.ts'

/** Seconds from one audit to the next. */
export const AUDIT_EVERY_SECONDS = 30

/** Which driver's host something is on. */
export type Part = 'network' | 'compute' | 'edge'

/** A difference between the records and what is real. */
export type Leak = Difference & {
  /** Of the resource that it concerns: its kind and id. `host` and no id: the host's own part, or nobody is known. */
  readonly kind: string
  readonly id: string
  /** The tenant of that resource, when it is in the records. */
  readonly tenant?: string
  /** Whose it is, in words: `vpc production of acme`, `the host`, `nobody`. */
  readonly culprit: string
  /** In milliseconds: when it came to be, or, where that cannot be told, was first seen. */
  readonly since?: number
  /** What will put it right, and when; or the command that a person has to run. */
  readonly mend: string
  /** Who puts it right: the driver it was found by, a look at its resource, its removal, or a person. */
  readonly by: Part | 'resource' | 'removal' | 'person'
}

/** What is real, listed before the records are read: a record always comes before its thing. */
export type Reality = {
  readonly routers: readonly SeenVpc[]
  readonly containers: readonly SeenContainer[]
  readonly volumes: readonly string[]
  /** Disk images of which a file is there or arrives. */
  readonly images: readonly string[]
  /** Replicas whose own sockets answer. */
  readonly sockets: readonly string[]
  readonly zones: readonly { readonly vpc: string }[]
  readonly fronts: readonly { readonly vpc: string }[]
  readonly certificates: readonly { readonly id: string }[]
  readonly findings: Readonly<Record<Part, readonly Finding[]>>
}

export type Records = {
  readonly vpcs: ReadonlyMap<string, Resource>
  readonly replicas: ReadonlyMap<string, Resource>
  readonly workloads: ReadonlyMap<string, Resource>
  /** Volumes and snapshots. */
  readonly stores: ReadonlyMap<string, Resource>
  readonly images: ReadonlyMap<string, Resource>
  readonly tenants: ReadonlyMap<string, Resource>
  readonly tunnels: ReadonlyMap<string, Resource>
  readonly routes: ReadonlyMap<string, Resource>
  readonly balancers: ReadonlyMap<string, Resource>
  readonly serviceTunnels: ReadonlyMap<string, Resource>
  readonly certificates: ReadonlyMap<string, Resource>
}

/** What there is when nothing was looked at. */
export const NO_REALITY: Reality = {
  routers: [],
  containers: [],
  volumes: [],
  images: [],
  sockets: [],
  zones: [],
  fronts: [],
  certificates: [],
  findings: { network: [], compute: [], edge: [] },
}
const NOTHING: ReadonlyMap<string, Resource> = new Map()
export const NO_RECORDS: Records = {
  vpcs: NOTHING,
  replicas: NOTHING,
  workloads: NOTHING,
  stores: NOTHING,
  images: NOTHING,
  tenants: NOTHING,
  tunnels: NOTHING,
  routes: NOTHING,
  balancers: NOTHING,
  serviceTunnels: NOTHING,
  certificates: NOTHING,
}

const NEXT = `at the next audit, within ${AUDIT_EVERY_SECONDS} s`

/** Two looks that found the same say the same here. */
export const leakKey = (it: Leak): string => [it.what, it.thing, it.kind, it.id, it.detail].join(' ')

/** True when a record says that its thing is as wished by now. */
const isReal = (it: Resource): boolean => it.deletedAt === undefined && it.observed === it.generation

/** Of a tunnel, route, load balancer or certificate: it was seen at the edge, and is to be there. */
const isServed = (it: Tunnel | Route | LoadBalancer | ServiceTunnel | Certificate): boolean =>
  isReal(it) && (it.status.state === 'active' || it.status.state === 'issued')

/** What leads into each VPC, and into the platform; `served` where it was seen in force. */
function leadingInto({ tunnels, routes, balancers, serviceTunnels }: Records) {
  const all = new Map<string, { served: Resource | undefined }>()
  const add = (vpc: string, it: Tunnel | Route | LoadBalancer | ServiceTunnel): void => {
    const before = all.get(vpc)?.served
    all.set(vpc, { served: before ?? (isServed(it) ? it : undefined) })
  }
  const inVpcs = [...tunnels.values(), ...routes.values(), ...balancers.values()]
  for (const it of inVpcs as (Tunnel | Route | LoadBalancer)[]) add(it.spec.vpc, it)
  for (const it of serviceTunnels.values()) add(PLATFORM, it as ServiceTunnel)
  return all
}

const differs = (it: Replica, seen: SeenContainer): boolean =>
  it.deletedAt === undefined &&
  (isReal(it) && it.status.phase === 'stopped'
    ? seen.state !== 'stopping' && seen.state !== 'off'
    : !seen.wanted || (isReal(it) && it.status.phase === 'running' && seen.state !== 'running'))

/** Compares what is real with the records, both ways. Pure. */
export function compare(real: Reality, records: Records): Leak[] {
  const { vpcs, replicas, workloads, stores, tenants } = records
  const named = (it: Resource): Pick<Leak, 'kind' | 'id' | 'tenant' | 'culprit'> => {
    const owner = tenants.get(it.tenant)
    return {
      kind: it.kind,
      id: it.id,
      tenant: it.tenant,
      culprit: `${it.kind} ${it.name}${owner ? ` of ${owner.name}` : ''}`,
    }
  }
  /** Of a resource that is in the records; its next look repairs it. */
  const off = (it: Resource, difference: Difference): Leak => ({
    ...difference,
    ...named(it),
    mend: `Arcus repairs it ${NEXT}; \`arcus explain ${it.kind} ${it.id}\` says why it has not yet`,
    by: 'resource',
  })
  /** Of a resource that the records do not know. */
  const orphan = (kind: string, id: string, thing: Leak['thing'], detail: string): Leak => ({
    what: 'orphan',
    thing,
    detail,
    kind,
    id,
    culprit: 'nobody',
    mend: `Arcus removes it ${NEXT}`,
    by: 'removal',
  })
  const leaks: Leak[] = []
  for (const it of real.routers) {
    const record = vpcs.get(it.vpc)
    if (!record) leaks.push(orphan('vpc', it.vpc, 'namespace', 'a router that no VPC has'))
    else for (const difference of it.drift) leaks.push(off(record, difference))
  }
  for (const it of real.containers) {
    const record = replicas.get(it.id) as Replica | undefined
    const workload = workloads.get(it.workload ?? '')
    const left = orphan('replica', it.id, 'container', 'a container that no replica has')
    if (!record) leaks.push(workload ? { ...left, culprit: named(workload).culprit } : left)
    else if (differs(record, it))
      leaks.push(off(record, { what: 'drift', thing: 'container', detail: `the container is ${it.state}` }))
  }
  for (const id of real.volumes)
    if (!workloads.has(id) && !stores.has(id))
      leaks.push(orphan('volume', id, 'volume', 'a volume whose record is gone'))
  for (const id of real.images) {
    const record = records.images.get(id) as DiskImage | undefined
    if (!record) leaks.push(orphan('image', id, 'image', 'a file of an image that is gone'))
    // It came whole just before the cloud was killed.
    else if (isReal(record) && record.status.state === 'pending')
      leaks.push(
        off(record, { what: 'drift', thing: 'image', detail: 'its content is there, and not noted' }),
      )
  }
  for (const id of real.sockets)
    if (!replicas.has(id)) leaks.push(orphan('replica', id, 'socket', 'a socket that no replica has'))
  for (const it of real.zones)
    if (!vpcs.has(it.vpc)) leaks.push(orphan('zone', it.vpc, 'zone', 'names of a VPC that is gone'))
  const leading = leadingInto(records)
  for (const { vpc } of real.fronts) {
    if (leading.has(vpc)) continue
    const record = vpcs.get(vpc)
    const [thing, detail] = ['front', 'what no tunnel, route or load balancer has'] as const
    if (!record) leaks.push(orphan('front', vpc, thing, detail))
    else if (isReal(record)) leaks.push(off(record, { what: 'orphan', thing, detail }))
  }
  const fronts = new Set(real.fronts.map((it) => it.vpc))
  for (const [vpc, { served }] of leading) {
    const record = vpc === PLATFORM ? served : vpcs.get(vpc)
    if (!served || fronts.has(vpc) || !record || record.deletedAt !== undefined) continue
    const detail = `the edge does not have ${served.kind} ${served.name} and what else leads there`
    leaks.push(off(record, { what: 'missing', thing: 'front', detail }))
  }
  for (const { id } of real.certificates)
    if (!records.certificates.has(id))
      leaks.push(orphan('certificate', id, 'certificate', 'a certificate that is gone'))
  const missing = (thing: Leak['thing'], all: Records['vpcs'], there: ReadonlySet<string>): void => {
    for (const [id, it] of all) {
      if (!isReal(it) || there.has(id)) continue
      leaks.push(
        off(it, { what: 'missing', thing, detail: `the ${thing} of ${it.kind} ${it.name} is not there` }),
      )
    }
  }
  missing('namespace', vpcs, new Set(real.routers.map((it) => it.vpc)))
  missing('volume', stores, new Set(real.volumes))
  const active = [...records.images].filter(([, it]) => (it as DiskImage).status.state === 'active')
  missing('image', new Map(active), new Set(real.images))
  missing('zone', vpcs, new Set(real.zones.map((it) => it.vpc)))
  const served = [...records.certificates].filter(([, it]) => isServed(it as Certificate))
  missing('certificate', new Map(served), new Set(real.certificates.map((it) => it.id)))
  const wanted = [...replicas].filter(([, it]) => (it as Replica).spec.stopped !== true)
  missing('container', new Map(wanted), new Set(real.containers.map((it) => it.id)))
  const running = wanted.filter(([, it]) => (it as Replica).status.phase === 'running')
  missing('socket', new Map(running), new Set(real.sockets))
  for (const part of ['network', 'compute', 'edge'] as const)
    for (const it of real.findings[part]) leaks.push(found(part, it))
  return leaks

  /** What a driver found by itself. */
  function found(part: Part, { of, since, mend, what, thing, detail }: Finding): Leak {
    const owner = of && { vpc: vpcs, replica: replicas, workload: workloads }[of.kind].get(of.id)
    const leak = { what, thing, detail, ...(since === undefined ? {} : { since }) }
    if (typeof mend === 'object')
      return { ...leak, ...whose(owner), mend: `run \`${mend.command}\``, by: 'person' }
    if (mend === 'driver') {
      const verb = what === 'orphan' ? 'removes' : 'repairs'
      return { ...leak, ...whose(owner), mend: `Arcus ${verb} it ${NEXT}`, by: part }
    }
    if (owner) return { ...off(owner, leak), ...leak }
    return { ...orphan(of?.kind ?? 'host', of?.id ?? '', thing, detail), ...leak }
  }

  function whose(owner: Resource | undefined): Pick<Leak, 'kind' | 'id' | 'tenant' | 'culprit'> {
    return owner ? named(owner) : { kind: 'host', id: '', culprit: 'the host' }
  }
}
