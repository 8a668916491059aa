import { ALL, PLATFORM } from '#engine/resource.ts'
import { again, gone, type Look, type Reconcile, settled } from '#engine/reconcile.ts'
import type { Draft } from '#engine/draft.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import type { Settings } from '#cloud/context.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import { addressClosed } from '#cloud/observe/usage.kind.ts'
import { elasticIp, type ElasticIp } from './elastic-ip.kind.ts'
import { internetGateway } from './internet-gateway.kind.ts'
import { loadBalancer } from './load-balancer.kind.ts'
import { natGateway, type NatGateway } from './nat-gateway.kind.ts'
import type { NetworkDriver } from './network.driver.ts'
import { otherOf, peering, type Peering } from './peering.kind.ts'
import { rangesOf } from './peering.verbs.ts'
import { planHost, planVpc, planZone, type World } from './plan.ts'
import { provider, type Provider } from './provider.kind.ts'
import { routeTable, type RouteTable } from './route-table.kind.ts'
import type { Routers } from './routers.ts'
import { securityGroup, type SecurityGroup } from './security-group.kind.ts'
import { subnet, type Subnet } from './subnet.kind.ts'
import { vpc, type Vpc } from './vpc.kind.ts'
import type { Peered } from './ways.ts'
import { record, type ZoneRecord } from './record.kind.ts'
import { type PrivateZone, zone } from './zone.kind.ts'

const TEARDOWN_MS = 500
/** The last thing in a VPC wakes it when it goes; this is for when that was missed. */
const EMPTYING_MS = 10_000
const NETWORK_WAIT_MS = 500

async function readWorld(draft: Draft, it: Vpc): Promise<World> {
  const query = { tenant: it.tenant, terms: [`vpc:${it.id}`] }
  const live = { ...query, deleted: false }
  const [subnets, workloads, replicas, groups, routeTables, providers] = await Promise.all([
    draft.list(subnet, query),
    draft.list(workload, query),
    draft.list(replica, query),
    draft.list(securityGroup, query),
    draft.list(routeTable, query),
    draft.list(provider, { tenant: PLATFORM }),
  ])
  const [internetGateways, natGateways, elasticIps, peered, zones, records, balancers] = await Promise.all([
    draft.list(internetGateway, live),
    draft.list(natGateway, live),
    draft.list(elasticIp, live),
    readPeered(draft, it),
    draft.list(zone, live),
    draft.list(record, live),
    draft.list(loadBalancer, live),
  ])
  const parts = { subnets, workloads, replicas, groups, routeTables }
  const ways = { internetGateways, natGateways, elasticIps, peered, zone: zones[0], records, balancers }
  return { vpc: it, ...parts, ...ways, provider: providers[0] }
}

/** The accepted peerings of a VPC, each with what is behind it. */
async function readPeered(draft: Draft, it: Vpc): Promise<Peered[]> {
  const all = await draft.list(peering, { tenant: it.tenant, terms: [`vpc:${it.id}`], deleted: false })
  const accepted = all.filter((one) => one.spec.decision === 'accepted')
  return await Promise.all(
    accepted.map(async (one) => {
      const other = otherOf(one, it.id)
      return { peering: one, vpc: other, ranges: await rangesOf(draft, it.tenant, other) }
    }),
  )
}

/** What leads into a VPC from outside, and follows the same resources as its router. */
export type Frontage = {
  apply(world: Pick<World, 'vpc' | 'workloads' | 'replicas' | 'balancers'>, look: Look): Promise<void>
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
    const parts = [
      ...world.subnets,
      ...world.groups,
      ...world.routeTables,
      ...world.natGateways,
      ...world.elasticIps,
      ...world.peered.map((one) => one.peering),
      ...(world.zone ? [world.zone] : []),
      ...world.records,
      ...world.balancers,
    ]
    const generations = new Map(parts.map((one) => [one.id, one.generation]))
    for (const id of await routers.apply(plan, planZone(world, plan), generations, signal))
      draft.wake(`replica/${id}`)
    await frontage.apply(world, look)
    for (const one of parts)
      if (one.observed !== one.generation || one.deletedAt !== undefined) draft.wake(`${one.kind}/${one.id}`)
    if (it.deletedAt !== undefined) return again(EMPTYING_MS, waitsFor)
    return settled({ state: 'active' })
  }

/** A subnet, security group, route table or record is in force when its VPC's router was made from it. */
export const reconcilePart =
  (routers: Routers): Reconcile<Subnet | SecurityGroup | RouteTable | ZoneRecord> =>
  async (it, look) => {
    if (it.deletedAt !== undefined) return gone
    const wait = await routerWait(routers, look, it, [it.spec.vpc])
    return wait === undefined ? settled({ state: 'active' as const }) : again(NETWORK_WAIT_MS, wait)
  }

/** What a part of a VPC's router waits for, in words. */
async function routerWait(
  routers: Routers,
  { draft, why }: Look,
  it: { readonly id: string; readonly tenant: string; readonly generation: number },
  vpcs: readonly string[],
): Promise<string | undefined> {
  for (const id of vpcs) {
    if (routers.holds(id, it.id, it.generation)) continue
    draft.wake(`${vpc.name}/${id}`)
    const inVpc = await draft.get(vpc, it.tenant, id)
    const cause = inVpc && (await why(inVpc))
    return `waits for the router of VPC ${inVpc?.name ?? '(gone)'}${cause ? `: ${cause}` : ''}`
  }
  return undefined
}

/** The first of these VPCs whose router still has a part that is to go, in words; undefined when none has. */
async function routerLeft(
  routers: Routers,
  { draft, why }: Look,
  it: { readonly id: string; readonly tenant: string },
  vpcs: readonly string[],
): Promise<string | undefined> {
  for (const id of vpcs) {
    const inVpc = await draft.get(vpc, it.tenant, id)
    if (!inVpc || routers.lacks(id, it.id)) continue
    draft.wake(`${vpc.name}/${id}`)
    const cause = await why(inVpc)
    return `waits for the router of VPC ${inVpc.name} to let go of it${cause ? `: ${cause}` : ''}`
  }
  return undefined
}

/** A NAT gateway or zone is active, and a peering that was accepted, when every router it is in was made from it. */
export const reconcilePlaced =
  (routers: Routers): Reconcile<NatGateway | Peering | PrivateZone> =>
  async (it, look) => {
    const vpcs = 'peer' in it.spec ? [it.spec.vpc, it.spec.peer] : [it.spec.vpc]
    if (it.deletedAt !== undefined) {
      const left = await routerLeft(routers, look, it, vpcs)
      return left === undefined ? gone : again(NETWORK_WAIT_MS, left)
    }
    const { decision } = 'peer' in it.spec ? it.spec : { decision: 'accepted' }
    if (decision === 'pending') return settled({ state: 'pending-acceptance' as const })
    if (decision === 'rejected') return settled({ state: 'rejected' as const })
    const wait = await routerWait(routers, look, it, vpcs)
    if (wait === undefined) return settled({ state: 'active' as const })
    // Tried on, but told as what it has come to.
    const isLate = it.overdue !== undefined || it.status.state === 'failed'
    if (isLate) return again(NETWORK_WAIT_MS, wait, { state: 'failed' as const, message: wait })
    const state = it.status.state === 'active' ? ('active' as const) : ('pending' as const)
    return again(NETWORK_WAIT_MS, wait, { state })
  }

/** An elastic IP is associated when the router of its workload's VPC has it, and free when the one before let go of it. */
export const reconcileElasticIp =
  (routers: Routers): Reconcile<ElasticIp> =>
  async (it, look) => {
    const before = it.status.vpc === undefined || it.status.vpc === it.spec.vpc ? [] : [it.status.vpc]
    const isGoing = it.deletedAt !== undefined
    const left = await routerLeft(
      routers,
      look,
      it,
      isGoing && it.spec.vpc !== undefined ? [...before, it.spec.vpc] : before,
    )
    if (left !== undefined) return again(NETWORK_WAIT_MS, left)
    if (isGoing) {
      look.draft.record(addressClosed(it, it.spec.address))
      return gone
    }
    if (it.spec.vpc === undefined) return settled({ state: 'allocated' })
    // Kept before it is asked for, so that it is known where to look when it is taken back meanwhile.
    const status = { state: it.status.state, vpc: it.spec.vpc }
    const wait = await routerWait(routers, look, it, [it.spec.vpc])
    return wait === undefined
      ? settled({ ...status, state: 'associated' })
      : again(NETWORK_WAIT_MS, wait, status)
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
