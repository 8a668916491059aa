import type { EdgeDriver, Zone } from '#cloud/edge/edge.driver.ts'
import type { NetworkDriver, VpcPlan } from './network.driver.ts'

/**
 * What this process knows of the routers: the plan in force per VPC. Only a memory of what the drivers said: empty after
 * a start, and then every VPC is applied once more.
 */
export type Routers = {
  /** Applies what differs from what is in force; answers the attachments that are new in it. */
  apply(
    plan: Omit<VpcPlan, 'generation'>,
    zone: Omit<Zone, 'generation'>,
    signal: AbortSignal,
  ): Promise<readonly string[]>
  remove(vpc: string, signal: AbortSignal): Promise<void>
  /** Drops the memory of one VPC, since it was seen to differ. */
  distrust(vpc: string): void
  /** Whether the plan in force has this attachment. */
  attached(vpc: string, replica: string): boolean
  /** Whether a VIP of the plan in force leads to this attachment. */
  serving(vpc: string, replica: string): boolean
  hasSubnet(vpc: string, subnet: string): boolean
}

type Held = {
  generation: number
  plan: string
  zone: string
  attachments: Set<string>
  backends: Set<string>
  subnets: Set<string>
}

export function createRouters(network: NetworkDriver, edge: EdgeDriver): Routers {
  const held = new Map<string, Held>()
  return {
    async apply(plan, zone, signal) {
      const had = held.get(plan.vpc)
      const planText = JSON.stringify(plan)
      const zoneText = JSON.stringify(zone)
      if (had && had.plan === planText && had.zone === zoneText) return []
      const seen = had?.generation ?? (await network.observe(plan.vpc, signal))?.generation ?? 0
      const zones = had ? 0 : ((await edge.list(signal)).find((it) => it.vpc === plan.vpc)?.generation ?? 0)
      const generation = Math.max(seen, zones) + 1
      if (had?.plan !== planText) await network.apply({ ...plan, generation }, signal)
      if (had?.zone !== zoneText) await edge.apply({ ...zone, generation }, signal)
      const attachments = new Set(plan.attachments.map((it) => it.id))
      held.set(plan.vpc, {
        generation,
        plan: planText,
        zone: zoneText,
        attachments,
        backends: new Set(plan.vips.flatMap((it) => it.backends)),
        subnets: new Set(plan.subnets.map((it) => it.id)),
      })
      return [...attachments].filter((id) => !had?.attachments.has(id))
    },
    async remove(vpc, signal) {
      held.delete(vpc)
      await network.remove(vpc, signal)
      await edge.remove(vpc, signal)
    },
    distrust: (vpc) => void held.delete(vpc),
    attached: (vpc, replica) => held.get(vpc)?.attachments.has(replica) ?? false,
    serving: (vpc, replica) => held.get(vpc)?.backends.has(replica) ?? false,
    hasSubnet: (vpc, subnet) => held.get(vpc)?.subnets.has(subnet) ?? false,
  }
}
