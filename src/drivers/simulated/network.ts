import { CloudError } from '#lib/errors.ts'
import type { HostPlan, NetworkDriver, SeenVpc, VpcPlan } from '#cloud/network/network.driver.ts'

/** Called before each verb; throws to inject a fault. */
export type Fault = (verb: string, id: string) => void | Promise<void>

const noFault: Fault = () => {}

/** Routers that exist only as their plans: for tests and benchmarks, no packet moves. */
export function simulatedNetwork(fault: Fault = noFault): NetworkDriver & {
  readonly plans: ReadonlyMap<string, VpcPlan>
  host(): HostPlan | undefined
} {
  const plans = new Map<string, VpcPlan>()
  let host: HostPlan | undefined
  const seen = (plan: VpcPlan): SeenVpc => ({
    vpc: plan.vpc,
    generation: plan.generation,
    attachments: plan.attachments.map((it) => it.id),
    drift: [],
  })
  return {
    plans,
    host: () => host,
    async missing() {
      await fault('missing', '')
      return []
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
    },
    async purge() {
      await fault('purge', '')
      plans.clear()
      host = undefined
    },
  }
}
