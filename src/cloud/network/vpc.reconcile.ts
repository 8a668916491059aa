import { ALL, PLATFORM } from '#engine/resource.ts'
import { again, gone, type Look, type Reconcile, settled } from '#engine/reconcile.ts'
import type { Draft } from '#engine/draft.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import type { Settings } from '#cloud/context.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import { addressClosed } from '#cloud/observe/usage.kind.ts'
import type { NetworkDriver } from './network.driver.ts'
import { planHost, planVpc, planZone, type World } from './plan.ts'
import { provider, type Provider } from './provider.kind.ts'
import { routeTable, type RouteTable } from './route-table.kind.ts'
import type { Routers } from './routers.ts'
import { securityGroup, type SecurityGroup } from './security-group.kind.ts'
import { subnet, type Subnet } from './subnet.kind.ts'
import { vpc, type Vpc } from './vpc.kind.ts'

const TEARDOWN_MS = 500
/** The last thing in a VPC wakes it when it goes; this is for when that was missed. */
const EMPTYING_MS = 10_000
const NETWORK_WAIT_MS = 500

async function readWorld(draft: Draft, it: Vpc): Promise<World> {
  const query = { tenant: it.tenant, terms: [`vpc:${it.id}`] }
  const [subnets, workloads, replicas, groups, routeTables, providers] = await Promise.all([
    draft.list(subnet, query),
    draft.list(workload, query),
    draft.list(replica, query),
    draft.list(securityGroup, query),
    draft.list(routeTable, query),
    draft.list(provider, { tenant: PLATFORM }),
  ])
  return { vpc: it, subnets, workloads, replicas, groups, routeTables, provider: providers[0] }
}

/** What leads into a VPC from outside, and follows the same resources as its router. */
export type Frontage = {
  apply(world: Pick<World, 'vpc' | 'workloads' | 'replicas'>, look: Look): Promise<void>
  remove(vpc: string, signal: AbortSignal): Promise<void>
}

/** Keeps a VPC's router, DNS and front like its resources; wakes replicas whose attachment has just become real. */
export const reconcileVpc =
  (routers: Routers, frontage: Frontage, network: NetworkDriver, settings: Settings): Reconcile<Vpc> =>
  async (it, look) => {
    const { draft, dependents, waitsFor, signal } = look
    const world = await readWorld(draft, it)
    if (it.deletedAt !== undefined && dependents === 0) {
      await frontage.remove(it.id, signal)
      await routers.remove(it.id, signal)
      if (await network.observe(it.id, signal))
        return again(TEARDOWN_MS, 'waits for its router on the host to go')
      if (it.spec.natAddress !== undefined) draft.record(addressClosed(it, it.spec.natAddress))
      return gone
    }
    const plan = planVpc(world, settings)
    const parts = [...world.subnets, ...world.groups, ...world.routeTables]
    const generations = new Map(parts.map((one) => [one.id, one.generation]))
    for (const id of await routers.apply(plan, planZone(world, plan), generations, signal))
      draft.wake(`replica/${id}`)
    await frontage.apply(world, look)
    for (const one of parts)
      if (one.observed !== one.generation || one.deletedAt !== undefined) draft.wake(`${one.kind}/${one.id}`)
    if (it.deletedAt !== undefined) return again(EMPTYING_MS, waitsFor)
    return settled({ state: 'active' })
  }

/** A subnet, security group or route table is in force when its VPC's router was made from it. */
export const reconcilePart =
  (routers: Routers): Reconcile<Subnet | SecurityGroup | RouteTable> =>
  async (it, { draft, why }) => {
    if (it.deletedAt !== undefined) return gone
    if (routers.holds(it.spec.vpc, it.id, it.generation)) return settled({ state: 'active' as const })
    draft.wake(`${vpc.name}/${it.spec.vpc}`)
    const inVpc = await draft.get(vpc, it.tenant, it.spec.vpc)
    const cause = inVpc && (await why(inVpc))
    return again(
      NETWORK_WAIT_MS,
      `waits for the router of VPC ${inVpc?.name ?? '(gone)'}${cause ? `: ${cause}` : ''}`,
    )
  }

/** Keeps the host's own part like the provider configuration and lets every VPC, tunnel and certificate follow it. */
export const reconcileProvider =
  (network: NetworkDriver, settings: Settings): Reconcile<Provider> =>
  async (it, { draft, signal }) => {
    await network.applyHost(planHost(it, settings), signal)
    if (it.observed !== it.generation) {
      for (const one of await draft.list(vpc, { tenant: ALL })) draft.wake(`vpc/${one.id}`)
      for (const one of await draft.list(tunnel, { tenant: ALL })) draft.wake(`tunnel/${one.id}`)
      const failed = { tenant: ALL, terms: ['state:error'], deleted: false }
      for (const one of await draft.list(certificate, failed)) draft.wake(`certificate/${one.id}`)
    }
    return settled({})
  }
