import type { Attachment, PlannedSubnet, VpcPlan } from '#cloud/network/network.driver.ts'
import type { Difference } from '#cloud/observe/finding.driver.ts'
import type { Loaded } from './look.ts'
import type { Shape } from './shape.ts'

/** One VPC's plan in memory, with what this process knows of its router. */
export type Held = {
  readonly plan: VpcPlan
  readonly byId: ReadonlyMap<string, Attachment>
  readonly byAddress: ReadonlyMap<string, Attachment>
  readonly subnets: ReadonlyMap<string, PlannedSubnet>
  /** The rules that were loaded last; undefined when that is not known. */
  loaded: Loaded | undefined
  /** The plan that the router's flows were last compared with. */
  swept: VpcPlan | undefined
  /** True while its flows may be others than those that `swept` allowed: rules were written, and not looked at since. */
  unswept: boolean
  /** True when this process has made the router, or seen that it is right. */
  brought: boolean
  /** The last look found it changed by somebody else: the next one leaves nothing out. */
  suspect: boolean
  /** The plan that this process last brought the router to; undefined while that is not known. */
  inForce: VpcPlan | undefined
  /** What `ip` shows of the router when it is as this process brought it last; undefined while that is not known. */
  shape: Shape | undefined
  /** What was found changed by somebody else and repaired by the way, and nobody was told of yet. */
  repaired: readonly Difference[]
  /** What is in the file. */
  saved: string | undefined
}

/** The plans in memory, found by VPC or by attachment. */
export type HeldPlans = {
  get(vpc: string): Held | undefined
  /** The one that was put last comes last. */
  all(): Held[]
  /** Puts a plan in the place of the one before; what is known of the router stays. */
  put(plan: VpcPlan, known?: Partial<Pick<Held, 'loaded' | 'swept' | 'saved'>>): Held
  remove(vpc: string): void
  /** The VPC whose plan has this attachment. */
  vpcOf(attachment: string): string | undefined
}

export function createHeldPlans(): HeldPlans {
  const plans = new Map<string, Held>()
  const vpcOf = new Map<string, string>()
  const forget = (it: Held | undefined): void => {
    for (const id of it?.byId.keys() ?? []) if (vpcOf.get(id) === it?.plan.vpc) vpcOf.delete(id)
  }
  return {
    get: (vpc) => plans.get(vpc),
    all: () => [...plans.values()],
    put(plan, known) {
      const old = plans.get(plan.vpc)
      const next: Held = {
        plan,
        byId: new Map(plan.attachments.map((it) => [it.id, it])),
        byAddress: new Map(plan.attachments.map((it) => [it.address, it])),
        subnets: new Map(plan.subnets.map((it) => [it.id, it])),
        loaded: known?.loaded ?? old?.loaded,
        swept: known?.swept ?? old?.swept,
        unswept: old?.unswept ?? false,
        brought: old?.brought ?? false,
        suspect: old?.suspect ?? false,
        inForce: old?.inForce,
        shape: old?.shape,
        repaired: old?.repaired ?? [],
        saved: known?.saved ?? old?.saved,
      }
      forget(old)
      for (const id of next.byId.keys()) vpcOf.set(id, plan.vpc)
      // Last, as the one that was put last.
      plans.delete(plan.vpc)
      plans.set(plan.vpc, next)
      return next
    },
    remove(vpc) {
      forget(plans.get(vpc))
      plans.delete(vpc)
    },
    vpcOf: (attachment) => vpcOf.get(attachment),
  }
}
