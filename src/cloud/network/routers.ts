import { CloudError, isCloudError } from '#lib/errors.ts'
import { createFence } from '#lib/fence.ts'
import type { EdgeDriver, Zone } from '#cloud/edge/edge.driver.ts'
import type { NetworkDriver, VpcPlan } from './network.driver.ts'

/**
 * What this process knows of the routers: the plan in force per VPC. Only a memory of what the drivers said: empty after
 * a start, and then every VPC is applied once more.
 */
export type Routers = {
  /**
   * Applies what differs from what is in force; answers the attachments that are new in it. `parts` are the generations
   * of what the plan was made from, by id: subnets, security groups, route tables, gateways, elastic IPs, peerings, zones, records.
   */
  apply(
    plan: Omit<VpcPlan, 'generation'>,
    zone: Omit<Zone, 'generation'>,
    parts: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<readonly string[]>
  remove(vpc: string, signal: AbortSignal): Promise<void>
  /** Drops the memory of one VPC, since it was seen to differ. */
  distrust(vpc: string): void
  /** Whether the plan in force has this attachment. */
  attached(vpc: string, replica: string): boolean
  /** Whether a VIP or published port of the plan in force leads to this attachment. */
  serving(vpc: string, replica: string): boolean
  /** Whether the plan in force was made from this generation of a part, or a later one. */
  holds(vpc: string, part: string, generation: number): boolean
  /** Whether the plan in force is known and was made without this part, and so was every one on its way. */
  lacks(vpc: string, part: string): boolean
  /** Whether the plan in force is known and has no attachment, VIP or published port of this id, nor one on its way. */
  isFreeOf(vpc: string, id: string): boolean
}

type Held = {
  generation: number
  plan: string
  zone: string
  attachments: Set<string>
  vips: Set<string>
  /** Attachments, VIPs and parts of plans that were sent since and not answered for: they may be in force. */
  sent: Set<string>
  backends: Set<string>
  parts: ReadonlyMap<string, number>
}

export function createRouters(network: NetworkDriver, edge: EdgeDriver): Routers {
  const held = new Map<string, Held>()
  const fence = createFence()
  // The last number given to a plan, in force or not: an answer may be lost, and a call may be overtaken by a later one.
  const numbered = new Map<string, number>()
  /** What the drivers hold is not what was thought: somebody else wrote a newer one. */
  const orDistrust = async (vpc: string, work: Promise<void>): Promise<void> => {
    try {
      await work
    } catch (error) {
      if (isCloudError(error, 'conflict')) held.delete(vpc)
      throw error
    }
  }
  return {
    apply: (plan, zone, parts, signal) =>
      fence.write(plan.vpc, async () => {
        const had = held.get(plan.vpc)
        const planText = JSON.stringify(plan)
        const zoneText = JSON.stringify(zone)
        if (had && had.plan === planText && had.zone === zoneText) {
          had.parts = parts
          return []
        }
        const seen = had?.generation ?? (await network.observe(plan.vpc, signal))?.generation ?? 0
        const zones = had ? 0 : ((await edge.list(signal)).find((it) => it.vpc === plan.vpc)?.generation ?? 0)
        const generation = Math.max(seen, zones, numbered.get(plan.vpc) ?? 0) + 1
        numbered.set(plan.vpc, generation)
        const entries = [...plan.vips, ...(plan.published ?? [])]
        const [isPlan, isZone] = [had?.plan === planText, had?.zone === zoneText]
        // Not known until it is answered: a call that fails may be done all the same, and then the wish may go back.
        if (had && !isPlan) {
          had.plan = ''
          for (const it of [...plan.attachments, ...entries]) had.sent.add(it.id)
        }
        for (const id of parts.keys()) had?.sent.add(id)
        if (had && !isZone) had.zone = ''
        if (!isPlan) await orDistrust(plan.vpc, network.apply({ ...plan, generation }, signal))
        if (!isZone) await orDistrust(plan.vpc, edge.apply({ ...zone, generation }, signal))
        const attachments = new Set(plan.attachments.map((it) => it.id))
        if ((held.get(plan.vpc)?.generation ?? 0) > generation)
          throw new CloudError('conflict', 'a later plan is in force', { rule: 'lost_race' })
        // Seen to differ meanwhile, perhaps after the driver looked: what it was told now may not have repaired that.
        const isDoubted = had !== undefined && held.get(plan.vpc) !== had
        held.set(plan.vpc, {
          generation,
          plan: isDoubted ? '' : planText,
          zone: isDoubted ? '' : zoneText,
          attachments,
          vips: new Set(entries.map((it) => it.id)),
          sent: new Set(),
          backends: new Set(entries.flatMap((it) => it.backends)),
          parts,
        })
        return [...attachments].filter((id) => !had?.attachments.has(id))
      }),
    remove: (vpc, signal) =>
      fence.remove(vpc, async () => {
        held.delete(vpc)
        await network.remove(vpc, signal)
        await edge.remove(vpc, signal)
        numbered.delete(vpc)
      }),
    distrust: (vpc) => void held.delete(vpc),
    attached: (vpc, replica) => held.get(vpc)?.attachments.has(replica) ?? false,
    serving: (vpc, replica) => held.get(vpc)?.backends.has(replica) ?? false,
    holds: (vpc, part, generation) => (held.get(vpc)?.parts.get(part) ?? -1) >= generation,
    lacks(vpc, part) {
      const it = held.get(vpc)
      return it !== undefined && !it.parts.has(part) && !it.sent.has(part)
    },
    isFreeOf(vpc, id) {
      const it = held.get(vpc)
      return it !== undefined && !it.attachments.has(id) && !it.vips.has(id) && !it.sent.has(id)
    },
  }
}
