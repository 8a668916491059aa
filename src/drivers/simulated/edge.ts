import { CloudError } from '#lib/errors.ts'
import type { EdgeDriver, Zone } from '#cloud/edge/edge.driver.ts'
import { type Littered, simulatedAudit } from './audit.ts'
import type { Fault } from './network.ts'

/** An edge that only keeps its tables: for tests and benchmarks, nothing answers. */
export function simulatedEdge(fault: Fault = () => {}): EdgeDriver &
  Littered & {
    readonly zones: ReadonlyMap<string, Zone>
    /** The edge lost what it knew of a VPC. */
    vanish(vpc: string): void
  } {
  const zones = new Map<string, Zone>()
  return {
    zones,
    vanish: (vpc) => void zones.delete(vpc),
    ...simulatedAudit(fault),
    async apply(zone) {
      await fault('apply', zone.vpc)
      const held = zones.get(zone.vpc)
      if (held && held.generation > zone.generation)
        throw new CloudError('conflict', `generation ${zone.generation} is older than ${held.generation}`, {
          rule: 'lost_race',
        })
      zones.set(zone.vpc, zone)
    },
    async remove(vpc) {
      await fault('remove', vpc)
      zones.delete(vpc)
    },
    async list() {
      await fault('list', '')
      return [...zones.values()].map(({ vpc, generation }) => ({ vpc, generation }))
    },
  }
}
