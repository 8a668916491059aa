import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { PlannedPeering, PlannedRoute, PlannedSubnet } from './network.driver.ts'
import type { World } from './plan.ts'
import type { Peering } from './peering.kind.ts'
import type { Route, RouteTable } from './route-table.kind.ts'
import type { Subnet } from './subnet.kind.ts'

/** A live peering as one of its VPCs sees it: the other one, with the ranges that are behind it. */
export type Peered = { readonly peering: Peering; readonly vpc: string; readonly ranges: readonly string[] }

/** Whether anything of a VPC can have a way out: by itself, or by a gateway. */
export const hasWayOut = ({
  vpc,
  internetGateways,
  natGateways,
}: Pick<World, 'vpc' | 'internetGateways' | 'natGateways'>): boolean =>
  vpc.spec.internet || internetGateways.length > 0 || natGateways.length > 0

/** The table that decides for a subnet: the one it is in, else its VPC's main one; undefined when there is neither. */
function tableFor(subnet: string, tables: readonly RouteTable[]): RouteTable | undefined {
  const live = tables.filter((it) => it.deletedAt === undefined)
  return live.find((it) => it.spec.subnets.includes(subnet)) ?? live.find((it) => it.spec.main)
}

function targetOf(route: Route, world: World): PlannedRoute['target'] {
  switch (route.target) {
    case 'address':
      return { address: route.address ?? '' }
    case 'internet':
      return world.vpc.spec.internet || !hasWayOut(world) ? 'internet' : 'blackhole'
    case 'internet-gateway':
      return world.internetGateways.some((it) => it.id === route.to) ? 'internet' : 'blackhole'
    case 'nat-gateway': {
      const nat = world.natGateways.find((it) => it.id === route.to)
      return nat ? { nat: nat.spec.address } : 'blackhole'
    }
    case 'peering':
      return route.to !== undefined && world.peered.some((it) => it.peering.id === route.to)
        ? { peering: route.to }
        : 'blackhole'
    default:
      return 'blackhole'
  }
}

/**
 * The routes of a subnet; undefined where everything outside goes to the uplink. A route to what is not there drops. In a
 * VPC without internet of its own a subnet without a table has no routes, whatever gateways others use.
 */
export function routesOf(subnet: Subnet, world: World): readonly PlannedRoute[] | undefined {
  const table = tableFor(subnet.id, world.routeTables)
  if (!table) return world.vpc.spec.internet || !hasWayOut(world) ? undefined : []
  return table.spec.routes
    .filter((it) => it.target !== 'local')
    .map((it) => ({ cidr: it.cidr, target: targetOf(it, world) }))
}

/** Whether machines of a subnet are routed out under addresses of their own somewhere. */
const leadsOut = ({ routes }: PlannedSubnet, { vpc }: World): boolean =>
  routes ? routes.some((it) => it.target === 'internet') : vpc.spec.internet

/**
 * The addresses by which a replica leaves and is reached: an elastic IP is the source of all replicas of its workload and
 * leads to the one with the lowest index; without one the workload's or the VPC's external address is the source, where
 * the workload is given a way out.
 */
export function externalOf(
  replica: { readonly index: number },
  of: Workload | undefined,
  subnet: PlannedSubnet,
  world: World,
): { readonly egress?: string; readonly elastic?: string } {
  const own = of && world.elasticIps.find((it) => it.spec.workload === of.id)
  if (own) {
    const first = Math.min(
      ...world.replicas.filter((it) => it.spec.workload === of.id).map((it) => it.spec.index),
    )
    const isReached = replica.index === first && leadsOut(subnet, world)
    return { egress: own.spec.address, ...(isReached && { elastic: own.spec.address }) }
  }
  const { vpc } = world
  const egress =
    of?.spec.egress && vpc.spec.internet ? (of.spec.externalAddress ?? vpc.spec.natAddress) : undefined
  return egress === undefined ? {} : { egress }
}

/** The links to other VPCs. */
export const peeringsOf = ({ peered }: World): readonly PlannedPeering[] =>
  peered.map(({ peering, vpc, ranges }) => ({ id: peering.id, vpc, ranges }))
