import { CloudError } from '#lib/errors.ts'
import type { Port } from '#lib/ports.ts'
import type { HostPlan, NetworkDriver, SeenVpc, VpcPlan } from '#cloud/network/network.driver.ts'
import type { Difference } from '#cloud/observe/finding.driver.ts'
import { type Littered, simulatedAudit } from './audit.ts'
import { EVERY_PROMISE, type NetworkPromise } from '#cloud/network/promises.driver.ts'

/** Called before each verb; throws to inject a fault. */
export type Fault = (verb: string, id: string) => void | Promise<void>

const noFault: Fault = () => {}

export type SimulatedNetwork = NetworkDriver &
  Littered & {
    readonly plans: ReadonlyMap<string, VpcPlan>
    host(): HostPlan | undefined
    /** Somebody changed a router behind our back; the next apply puts it right. */
    meddle(vpc: string, difference: Difference): void
    /** A program of the host listens on a port. */
    occupy(port: Port): void
    /** Somebody removed a router behind our back, or made one that no VPC has. */
    vanish(vpc: string): void
    intrude(plan: VpcPlan): void
  }

/** Routers that exist only as their plans: for tests and benchmarks, no packet moves. */
export function simulatedNetwork(
  fault: Fault = noFault,
  promises: readonly NetworkPromise[] = EVERY_PROMISE,
): SimulatedNetwork {
  const plans = new Map<string, VpcPlan>()
  const drifts = new Map<string, readonly Difference[]>()
  const { litter, ...audited } = simulatedAudit(fault)
  const occupied: Port[] = []
  let host: HostPlan | undefined
  const seen = (plan: VpcPlan): SeenVpc => ({
    vpc: plan.vpc,
    generation: plan.generation,
    attachments: plan.attachments.map((it) => it.id),
    drift: drifts.get(plan.vpc) ?? [],
  })
  return {
    promises,
    plans,
    host: () => host,
    litter,
    ...audited,
    vanish(vpc) {
      plans.delete(vpc)
      drifts.delete(vpc)
    },
    occupy: (port) => void occupied.push(port),
    intrude: (plan) => void plans.set(plan.vpc, plan),
    meddle: (vpc, difference) => void drifts.set(vpc, [...(drifts.get(vpc) ?? []), difference]),
    async missing() {
      await fault('missing', '')
      return []
    },
    async listening() {
      await fault('listening', '')
      return [...occupied]
    },
    async applyHost(plan) {
      await fault('applyHost', '')
      host = plan
    },
    async apply(plan) {
      await fault('apply', plan.vpc)
      const held = plans.get(plan.vpc)
      if (held && held.generation > plan.generation)
        throw new CloudError('conflict', `generation ${plan.generation} is older than ${held.generation}`, {
          rule: 'lost_race',
        })
      plans.set(plan.vpc, plan)
      drifts.delete(plan.vpc)
    },
    async observe(vpc) {
      await fault('observe', vpc)
      const plan = plans.get(vpc)
      return plan && seen(plan)
    },
    async list() {
      await fault('list', '')
      return [...plans.values()].map(seen)
    },
    async remove(vpc) {
      await fault('remove', vpc)
      plans.delete(vpc)
      drifts.delete(vpc)
    },
    async purge() {
      await fault('purge', '')
      plans.clear()
      drifts.clear()
      host = undefined
    },
  }
}
