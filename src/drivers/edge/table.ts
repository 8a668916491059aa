import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CloudError, messageOf } from '#lib/errors.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import type { Log } from '#lib/log.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { parseZone, type ServedZone, serveZone } from './zone.ts'

/** The zones being served, each also a file (0600), so that a restart serves them while the cloud is away. */
export type Table = {
  /** The zone that this address asks on behalf of. */
  zoneOf(caller: string): ServedZone | undefined
  /** Serves a zone instead of the one of its VPC; done when it is on disk. Older than the one served: `conflict`. */
  apply(zone: Zone): Promise<void>
  remove(vpc: string): Promise<void>
  list(): readonly { readonly vpc: string; readonly generation: number }[]
}

/** Grows with the form of the files; a file of another form is not read, since the cloud sends the zone again. */
const FILE_VERSION = 1
const SUFFIX = '.json'

type Kept = { readonly version: number; readonly order: number; readonly zone: unknown }

/** Reads what is on disk. A file that cannot be used is said and left out: the cloud applies every zone after its start. */
export async function openTable(options: { readonly directory: string; readonly log: Log }): Promise<Table> {
  const { directory, log } = options
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const zones = new Map<string, ServedZone>()
  const callers = new Map<string, ServedZone>()
  const pathOf = (vpc: string): string => join(directory, `${vpc}${SUFFIX}`)

  const forget = (vpc: string): void => {
    const held = zones.get(vpc)
    for (const caller of held?.zone.callers ?? []) if (callers.get(caller) === held) callers.delete(caller)
    zones.delete(vpc)
  }
  // An address that two zones name for a moment, while it moves between VPCs, belongs to the one that came last.
  const serve = (zone: Zone): void => {
    const served = serveZone(zone)
    forget(zone.vpc)
    zones.set(zone.vpc, served)
    for (const caller of zone.callers) callers.set(caller, served)
  }

  const found = await readAll(directory, log)
  for (const { zone } of found) serve(zone)
  let order = found.at(-1)?.order ?? 0

  // One change after the other, so that files and memory agree on which came last.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const done = turn.then(work)
    turn = done.catch(() => {})
    return done
  }
  const onDisk = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      throw new CloudError(
        'unavailable',
        `the edge cannot keep its table in ${directory}: ${messageOf(error)}`,
        {},
        error,
      )
    }
  }

  return {
    zoneOf: (caller) => callers.get(caller),
    apply: (zone) =>
      inTurn(async () => {
        const held = zones.get(zone.vpc)?.zone
        if (held && held.generation > zone.generation) {
          const message = `generation ${zone.generation} of the zone is older than ${held.generation}, which is served`
          throw new CloudError('conflict', message, { rule: 'lost_race' })
        }
        const kept: Kept = { version: FILE_VERSION, order: ++order, zone }
        await onDisk(() => writeAtomically(pathOf(zone.vpc), JSON.stringify(kept)))
        serve(zone)
      }),
    remove: (vpc) =>
      inTurn(async () => {
        if (!zones.has(vpc)) return
        await onDisk(() => rm(pathOf(vpc), { force: true }))
        forget(vpc)
      }),
    list: () => [...zones.values()].map(({ zone: { vpc, generation } }) => ({ vpc, generation })),
  }
}

/** The zones on disk in the order in which they were applied. */
async function readAll(directory: string, log: Log): Promise<{ order: number; zone: Zone }[]> {
  const found: { order: number; zone: Zone }[] = []
  for (const file of await readdir(directory)) {
    if (!file.endsWith(SUFFIX)) continue
    try {
      const kept = JSON.parse((await readIfThere(join(directory, file))) ?? '') as Kept
      if (kept.version !== FILE_VERSION) throw new Error(`its version is ${kept.version}`)
      found.push({ order: Number(kept.order), zone: parseZone(kept.zone) })
    } catch (error) {
      log.warn('zone on disk cannot be used; the cloud sends it again', { file, error: messageOf(error) })
    }
  }
  return found.toSorted((a, b) => a.order - b.order)
}
