import type { Engine } from '#engine/engine.ts'
import { ALL, type AnyKind, type Key, type Resource } from '#engine/resource.ts'
import type { ComputeDriver } from '#cloud/compute/compute.driver.ts'
import { replica, type Replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import type { NetworkDriver } from '#cloud/network/network.driver.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'

/** A difference between the records and what is real. */
export type Leak = {
  /** `orphan`: real and not in the records. `missing`: in the records and not real. `drift`: both, and they differ. */
  readonly what: 'orphan' | 'missing' | 'drift'
  readonly kind: string
  readonly id: string
  readonly detail: string
  readonly mend: string
}

export type Drivers = {
  readonly network: NetworkDriver
  readonly compute: ComputeDriver
  readonly edge: EdgeDriver
}

const MENDS_ITSELF = 'Arcus mends it by itself; `arcus explain` says why it has not yet'

/** Compares one listing of each driver with the records, both ways. What is real is listed first: a record always comes before its thing. */
export async function audit(engine: Engine, drivers: Drivers, signal: AbortSignal): Promise<readonly Leak[]> {
  const [routers, containers, volumes, zones] = await Promise.all([
    drivers.network.list(signal),
    drivers.compute.list(signal),
    drivers.compute.volumes(signal),
    drivers.edge.list(signal),
  ])
  const vpcs = await everything(engine, vpc)
  const replicas = await everything(engine, replica)
  const workloads = await everything(engine, workload)
  const leaks: Leak[] = []
  const orphan = (kind: string, id: string, detail: string): void =>
    void leaks.push({ what: 'orphan', kind, id, detail, mend: 'Arcus removes it at its next audit' })
  for (const it of routers) {
    if (!vpcs.has(it.vpc)) orphan('vpc', it.vpc, 'a router that no VPC has')
    else if (it.drift.length)
      leaks.push({ what: 'drift', kind: 'vpc', id: it.vpc, detail: it.drift.join('; '), mend: MENDS_ITSELF })
  }
  for (const it of containers) {
    const record = replicas.get(it.id) as Replica | undefined
    if (!record) orphan('replica', it.id, 'a container that no replica has')
    else if (!it.wanted || differs(record, it.state === 'running'))
      leaks.push({
        what: 'drift',
        kind: 'replica',
        id: it.id,
        detail: `the container is ${it.state}`,
        mend: MENDS_ITSELF,
      })
  }
  for (const id of volumes) if (!workloads.has(id)) orphan('volume', id, 'a volume whose workload is gone')
  for (const it of zones) if (!vpcs.has(it.vpc)) orphan('zone', it.vpc, 'names of a VPC that is gone')
  const missing = (kind: string, settled: ReadonlyMap<string, Resource>, real: ReadonlySet<string>): void => {
    for (const [id, it] of settled)
      if (isReal(it) && !real.has(id))
        leaks.push({
          what: 'missing',
          kind,
          id,
          detail: `${it.name} is in the records and not on the host`,
          mend: MENDS_ITSELF,
        })
  }
  missing('vpc', vpcs, new Set(routers.map((it) => it.vpc)))
  missing('zone', vpcs, new Set(zones.map((it) => it.vpc)))
  missing('replica', replicas, new Set(containers.map((it) => it.id)))
  return leaks
}

const isReal = (it: Resource): boolean => it.deletedAt === undefined && it.observed === it.generation

const differs = (it: Replica, running: boolean): boolean =>
  isReal(it) && it.status.phase === 'running' && !running

async function everything(engine: Engine, kind: AnyKind): Promise<Map<string, Resource>> {
  const all = new Map<string, Resource>()
  let after: string | undefined
  do {
    const page = await engine.list(kind, { tenant: ALL, ...(after === undefined ? {} : { after }) })
    for (const it of page.items) all.set(it.id, it)
    after = page.next
  } while (after !== undefined)
  return all
}

/** Removes what is an orphan and answers the keys to look at again for everything else. */
export async function mend(
  leaks: readonly Leak[],
  drivers: Drivers,
  distrust: (leak: Leak) => void,
  signal: AbortSignal,
): Promise<readonly Key[]> {
  const keys: Key[] = []
  for (const it of leaks) {
    distrust(it)
    if (it.what !== 'orphan') keys.push(it.kind === 'zone' ? `vpc/${it.id}` : `${it.kind}/${it.id}`)
    else if (it.kind === 'vpc') await drivers.network.remove(it.id, signal)
    else if (it.kind === 'replica') await drivers.compute.remove(it.id, signal)
    else if (it.kind === 'volume') await drivers.compute.removeVolume(it.id, signal)
    else if (it.kind === 'zone') await drivers.edge.remove(it.id, signal)
  }
  return keys
}
