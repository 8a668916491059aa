import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import type { Resource } from '#engine/resource.ts'
import { type Caller, decide, tenantFor } from '#cloud/access.ts'
import type { AnyKind } from '#engine/resource.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { record } from './record.kind.ts'
import { vpc } from './vpc.kind.ts'
import { entriesOf, type ZoneEntry } from './zone-entries.ts'
import { type PrivateZone, zone } from './zone.kind.ts'

export type ZoneReads = {
  /** The records of a zone that the caller may see, those made by hand first, each oldest first. */
  entries(caller: Caller, of: PrivateZone): Promise<readonly ZoneEntry[]>
  /** One record by its id, with its zone; `not_found`. */
  entry(caller: Caller, id: string): Promise<{ readonly zone: PrivateZone; readonly entry: ZoneEntry }>
}

/** Reads of zones that see more than resources: the records that are kept for instances. */
export function createZoneReads(engine: Pick<Engine, 'get' | 'store' | 'transact'>): ZoneReads {
  const entriesIn = async (of: PrivateZone): Promise<readonly ZoneEntry[]> =>
    await engine.transact(async (draft) => {
      const inVpc = await draft.get(vpc, of.tenant, of.spec.vpc)
      if (!inVpc) return []
      const query = { tenant: of.tenant, terms: [`vpc:${inVpc.id}`], deleted: false }
      const [records, workloads, replicas] = await Promise.all([
        draft.list(record, query),
        draft.list(workload, query),
        draft.list(replica, query),
      ])
      return entriesOf(of, { vpc: inVpc, records, workloads, replicas })
    })
  const maySee = (caller: Caller, { tenant }: Resource, { id, name }: ZoneEntry): boolean =>
    decide(caller, 'read', 'dns:read', { kind: record.name, id, name, tenant }).allowed
  const zoneWith = async (caller: Caller, id: string): Promise<PrivateZone | undefined> => {
    const tenant = tenantFor(caller, zone as unknown as AnyKind)
    const made = await engine.get(record, tenant, id)
    if (made) return await engine.get(zone, tenant, made.spec.zone)
    const slot = await engine.get(replica, tenant, id)
    const claim = slot && (await engine.store.claim('zone-of', slot.spec.vpc))
    return claim && (await engine.get(zone, tenant, claim.owner))
  }
  return {
    entries: async (caller, of) => (await entriesIn(of)).filter((it) => maySee(caller, of, it)),
    async entry(caller, id) {
      const of = await zoneWith(caller, id)
      const entry = of && (await entriesIn(of)).find((it) => it.id === id)
      if (!entry) throw new CloudError('not_found', 'Record not found')
      if (!maySee(caller, of, entry))
        throw new CloudError('forbidden', `You may not read the record ${entry.name}`)
      return { zone: of, entry }
    },
  }
}
