import { again, gone, type Look, type Reconcile, settled } from '#engine/reconcile.ts'
import { replica, serves } from '#cloud/compute/replica.kind.ts'
import type { LoadBalancer } from '#cloud/network/load-balancer.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import type { FrontDriver } from './front.driver.ts'
import type { Fronts } from './fronts.ts'

const EDGE_WAIT_MS = 1000

/** What the edge last saw of the targets of load balancers. Only a memory: empty until it was asked. */
export type TargetHealth = {
  /** By the id of a load balancer and a replica; undefined for what was not looked at. */
  of(balancer: string, replica: string): boolean | undefined
  /** Asks the edge; answers the load balancers of which it sees something else than before. */
  pull(signal: AbortSignal): Promise<readonly string[]>
}

export function createTargetHealth(front: Pick<FrontDriver, 'health'>): TargetHealth {
  let held: Awaited<ReturnType<FrontDriver['health']>> = {}
  return {
    of: (balancer, one) => held[balancer]?.[one],
    async pull(signal) {
      const before = held
      held = await front.health(signal)
      return Object.keys(held).filter((id) => JSON.stringify(held[id]) !== JSON.stringify(before[id]))
    },
  }
}

/** What of a VPC's router a load balancer needs to know. */
type Placing = {
  holds(vpc: string, part: string, generation: number): boolean
  lacks(vpc: string, part: string): boolean
}

/** A load balancer is active when the edge balances and the router of its VPC leads there; it is gone when neither does any more. */
export const reconcileBalancer =
  (fronts: Fronts, routers: Placing, health: TargetHealth): Reconcile<LoadBalancer> =>
  async (it, look) => {
    const { draft } = look
    const { id, generation } = it
    const of = it.spec.vpc
    const isGoing = it.deletedAt !== undefined
    const isDone = isGoing
      ? fronts.serves(of, id) === false && routers.lacks(of, id)
      : fronts.holds(of, id, generation) && routers.holds(of, id, generation)
    if (!isDone) {
      draft.wake(`${vpc.name}/${of}`)
      return again(EDGE_WAIT_MS, await whyNot(it, look))
    }
    if (isGoing) return gone
    return settled({ state: 'active', healthy: await healthyOf(it, look, health) })
  }

async function whyNot({ tenant, spec, deletedAt }: LoadBalancer, { draft, why }: Look): Promise<string> {
  const inVpc = await draft.get(vpc, tenant, spec.vpc)
  const cause = inVpc && (await why(inVpc))
  const end = deletedAt === undefined ? '' : ' to let go of it'
  return `waits for the edge and the router of VPC ${inVpc?.name ?? '(gone)'}${end}${cause ? `: ${cause}` : ''}`
}

/** Of each target whether somebody of it can be connected to; of one that does not run that nobody can. */
async function healthyOf(
  { id, tenant, spec }: LoadBalancer,
  { draft }: Look,
  health: TargetHealth,
): Promise<LoadBalancer['status']['healthy']> {
  if (!spec.targets.length) return {}
  const replicas = await draft.list(replica, { tenant, terms: [`vpc:${spec.vpc}`], deleted: false })
  return Object.fromEntries(
    spec.targets.flatMap((target) => {
      const ready = replicas.filter((it) => serves(it, target.workload))
      const seen = ready.flatMap((it) => health.of(id, it.id) ?? [])
      return ready.length && !seen.length ? [] : [[target.id, seen.includes(true)]]
    }),
  )
}
