import { rm } from 'node:fs/promises'
import { CloudError } from '#lib/errors.ts'
import { openKept } from '#lib/kept.ts'
import type { Log } from '#lib/log.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import type { Repair } from '#cloud/observe/finding.driver.ts'
import { parseZone, type ServedZone, serveZone } from './zone.ts'

/** The zones being served, each also a file (0600), so that a restart serves them while the cloud is away. */
export type Table = {
  /** The zone that this address asks on behalf of. */
  zoneOf(caller: string): ServedZone | undefined
  /** Serves a zone instead of the one of its VPC; done when it is on disk. Older than the one served: `conflict`. */
  apply(zone: Zone): Promise<void>
  remove(vpc: string): Promise<void>
  list(): readonly { readonly vpc: string; readonly generation: number }[]
  /** How the files differ from what is served. */
  look(): Promise<readonly Repair[]>
}

/** Reads what is on disk. A file that cannot be used is said and left out: the cloud applies every zone after its start. */
export async function openTable(options: { readonly directory: string; readonly log: Log }): Promise<Table> {
  const { directory, log } = options
  const { kept, found } = await openKept({ directory, name: 'zone', parse: parseZone, log })
  const zones = new Map<string, ServedZone>()
  /** The zones that name each caller, the one that came last at the end. */
  const callers = new Map<string, ServedZone[]>()

  const forget = (vpc: string): void => {
    const held = zones.get(vpc)
    for (const caller of held?.zone.callers ?? []) {
      const others = (callers.get(caller) ?? []).filter((it) => it !== held)
      if (others.length) callers.set(caller, others)
      else callers.delete(caller)
    }
    zones.delete(vpc)
  }
  // An address that two zones name for a moment, while it moves between VPCs, belongs to the one that came last; when that
  // lets go of it, to the other again.
  const serve = (zone: Zone): void => {
    const served = serveZone(zone)
    forget(zone.vpc)
    zones.set(zone.vpc, served)
    for (const caller of zone.callers) callers.set(caller, [...(callers.get(caller) ?? []), served])
  }

  for (const zone of found) serve(zone)

  return {
    zoneOf: (caller) => callers.get(caller)?.at(-1),
    apply: (zone) =>
      kept.inTurn(async () => {
        const held = zones.get(zone.vpc)?.zone
        if (held && held.generation > zone.generation) {
          const message = `generation ${zone.generation} of the zone is older than ${held.generation}, which is served`
          throw new CloudError('conflict', message, { rule: 'lost_race' })
        }
        await kept.write(zone.vpc, zone)
        serve(zone)
      }),
    remove: (vpc) =>
      kept.inTurn(async () => {
        if (!zones.has(vpc)) return
        await kept.remove(vpc)
        forget(vpc)
      }),
    list: () => [...zones.values()].map(({ zone: { vpc, generation } }) => ({ vpc, generation })),
    look: () =>
      kept.inTurn(async (): Promise<Repair[]> => {
        const { missing, strays } = await kept.compare(zones.keys())
        const again = async (vpc: string): Promise<void> => {
          const zone = zones.get(vpc)?.zone
          if (zone) await kept.write(vpc, zone)
        }
        return [
          ...missing.map((vpc) => ({
            finding: {
              what: 'missing' as const,
              thing: 'zone' as const,
              detail: 'its names are served and not on disk',
              of: { kind: 'vpc' as const, id: vpc },
              mend: 'driver' as const,
            },
            fix: () => kept.inTurn(() => again(vpc)),
          })),
          ...strays.map((path) => ({
            finding: {
              what: 'orphan' as const,
              thing: 'file' as const,
              detail: `file ${path} is of no zone`,
              mend: 'driver' as const,
            },
            fix: () => kept.inTurn(() => rm(path, { force: true })),
          })),
        ]
      }),
  }
}
