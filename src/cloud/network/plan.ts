import { type Replica, serves } from '#cloud/compute/replica.kind.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { Settings } from '#cloud/context.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { inRange } from '#lib/ports.ts'
import { address6Of, cidr6Of, macOf, uplinkOf } from './addresses.driver.ts'
import type {
  Attachment,
  HostPlan,
  PlannedBalancer,
  PlannedGroup,
  PlannedPort,
  PlannedSubnet,
  PlannedVip,
  VpcPlan,
} from './network.driver.ts'
import type { ElasticIp } from './elastic-ip.kind.ts'
import type { InternetGateway } from './internet-gateway.kind.ts'
import type { LoadBalancer } from './load-balancer.kind.ts'
import type { NatGateway } from './nat-gateway.kind.ts'
import type { Provider } from './provider.kind.ts'
import type { RouteTable } from './route-table.kind.ts'
import type { SecurityGroup } from './security-group.kind.ts'
import type { ZoneRecord } from './record.kind.ts'
import type { Subnet } from './subnet.kind.ts'
import type { Vpc } from './vpc.kind.ts'
import { discoveredAs, suffixOf } from './discovery.ts'
import { entriesOf } from './zone-entries.ts'
import type { PrivateZone } from './zone.kind.ts'
import { externalOf, hasWayOut, type Peered, peeringsOf, routesOf } from './ways.ts'

/** Everything a VPC's router and DNS are derived from. */
export type World = {
  readonly vpc: Vpc
  readonly subnets: readonly Subnet[]
  readonly workloads: readonly Workload[]
  readonly replicas: readonly Replica[]
  readonly groups: readonly SecurityGroup[]
  readonly routeTables: readonly RouteTable[]
  /** Those that are attached to it, associated in it, in it, or of it, and not on their way out. */
  readonly internetGateways: readonly InternetGateway[]
  readonly elasticIps: readonly ElasticIp[]
  readonly natGateways: readonly NatGateway[]
  /** Its private zone, if it has one that is not on its way out, and the records in it. */
  readonly zone: PrivateZone | undefined
  readonly records: readonly ZoneRecord[]
  /** Those that are not on their way out. */
  readonly balancers: readonly LoadBalancer[]
  /** Its accepted peerings. */
  readonly peered: readonly Peered[]
  readonly provider: Provider | undefined
}

/** What the VPC's router must do; the driver's generation is the caller's to add. */
export function planVpc(world: World, settings: Settings): Omit<VpcPlan, 'generation'> {
  const { vpc } = world
  const workloads = new Map(world.workloads.map((it) => [it.id, it]))
  const places = new Map(
    world.subnets.map((it) => [it.id, { index6: it.spec.index6, planned: planSubnet(it, world) }]),
  )
  const attachments = world.replicas.flatMap((it) => {
    const place = places.get(it.spec.subnet)
    if (!place || it.status.released) return []
    return [planAttachment(it, workloads.get(it.spec.workload), place, world)]
  })
  const peerings = peeringsOf(world)
  const published = world.workloads
    .filter((it) => places.has(it.spec.subnet) && !isOver(it, world.replicas))
    .flatMap((it) => planPublished(it, world.replicas, settings))
  const balancers = balancersOf(world, places)
  return {
    vpc: vpc.id,
    tenant: vpc.tenant,
    index: vpc.spec.index,
    internet: hasWayOut(world),
    range6: vpc.spec.range6,
    uplink: uplinkOf(settings.fabric, vpc.spec.index),
    subnets: [...places.values()].map((it) => it.planned),
    attachments,
    vips: world.workloads
      .filter((it) => places.has(it.spec.subnet) && !isOver(it, world.replicas))
      .flatMap((it) =>
        it.spec.vip === undefined ? [] : planVip(it, it.spec.vip, world.replicas, places, vpc),
      ),
    groups: world.groups.filter((it) => it.deletedAt === undefined).map(planGroup),
    ...(peerings.length ? { peerings } : {}),
    ...(published.length ? { published } : {}),
    ...(balancers.length ? { balancers } : {}),
  }
}

const balancersOf = ({ balancers }: World, places: ReadonlyMap<string, unknown>): PlannedBalancer[] =>
  balancers.flatMap(({ id, spec: { subnet, address, port, at } }) =>
    subnet !== undefined && address !== undefined && places.has(subnet)
      ? [{ id, subnet, address, port, at }]
      : [],
  )

function planSubnet(it: Subnet, world: World): PlannedSubnet {
  const routes = routesOf(it, world)
  return {
    id: it.id,
    cidr: it.spec.cidr,
    gateway: it.spec.gateway,
    cidr6: cidr6Of(world.vpc.spec.range6, it.spec.index6),
    ...(routes ? { routes } : {}),
  }
}

function planAttachment(
  it: Replica,
  workload: Workload | undefined,
  { index6, planned }: { readonly index6: number; readonly planned: PlannedSubnet },
  world: World,
): Attachment {
  return {
    id: it.id,
    subnet: it.spec.subnet,
    address: it.spec.address,
    address6: address6Of(world.vpc.spec.range6, index6, it.spec.address),
    mac: macOf(it.spec.address),
    fabric: it.spec.fabric,
    ...externalOf(it.spec, workload, planned, world),
    groups: workload?.spec.securityGroups ?? [],
  }
}

/** On its way out, with nothing behind its VIP any more: its addresses are to be free. */
const isOver = (it: Workload, replicas: readonly Replica[]): boolean =>
  it.deletedAt !== undefined && !replicas.some((replica) => replica.spec.workload === it.id)

const readyOf = (it: Workload, replicas: readonly Replica[]): string[] =>
  replicas.filter((replica) => serves(replica, it.id)).map((replica) => replica.id)

/** What was published while the range was wider stays closed. */
const planPublished = (it: Workload, replicas: readonly Replica[], settings: Settings): PlannedPort[] =>
  (it.spec.published ?? [])
    .filter(({ host }) => inRange(settings.publishedPorts, host))
    .map((port) => ({ id: it.id, ...port, backends: readyOf(it, replicas) }))

function planVip(
  it: Workload,
  address: string,
  replicas: readonly Replica[],
  places: ReadonlyMap<string, { readonly index6: number }>,
  vpc: Vpc,
): PlannedVip {
  return {
    id: it.id,
    subnet: it.spec.subnet,
    address,
    address6: address6Of(vpc.spec.range6, places.get(it.spec.subnet)?.index6 ?? 0, address),
    ports: it.spec.ports,
    backends: readyOf(it, replicas),
    ...(it.spec.externalAddress && vpc.spec.internet ? { external: it.spec.externalAddress } : {}),
  }
}

function planGroup(it: SecurityGroup): PlannedGroup {
  return {
    id: it.id,
    rules: it.spec.rules.flatMap(({ protocol, ...rule }) =>
      protocol === 'arp'
        ? []
        : [
            {
              direction: rule.direction,
              protocol,
              ...(rule.fromPort === undefined
                ? {}
                : { ports: { from: rule.fromPort, to: rule.toPort ?? rule.fromPort } }),
              peer:
                rule.group !== undefined
                  ? { group: rule.group }
                  : rule.cidr !== undefined
                    ? { cidr: rule.cidr }
                    : 'any',
            },
          ],
    ),
  }
}

/**
 * The VPC's names: every workload under its own name and `<name>.<vpc>.internal`, both giving the VIP, or an instance's
 * address; and the records of its private zone.
 */
export function planZone(world: World, plan: Omit<VpcPlan, 'generation'>): Omit<Zone, 'generation'> {
  const suffix = suffixOf(world.vpc.name)
  const names: Record<string, { a: string[]; aaaa: string[] }> = {}
  const vips = new Map(plan.vips.map((it) => [it.id, it]))
  const attached = new Map(plan.attachments.map((it) => [it.id, it]))
  for (const it of world.workloads) {
    if (it.deletedAt !== undefined) continue
    const vip = vips.get(it.id)
    // An instance is known by its own address, as long as it has one.
    const own = it.spec.instance ? world.replicas.filter((one) => one.spec.workload === it.id) : []
    const leads = vip ? [vip] : own.flatMap((one) => attached.get(one.id) ?? [])
    for (const name of leads.length ? discoveredAs(it, world.vpc.name) : []) {
      const { a, aaaa } = names[name] ?? { a: [], aaaa: [] }
      names[name] = {
        a: [...a, ...leads.map((one) => one.address)],
        aaaa: [...aaaa, ...leads.map((one) => one.address6)],
      }
    }
  }
  const { zone } = world
  const records = zone ? entriesOf(zone, world).flatMap((it) => it.served ?? []) : []
  return {
    vpc: world.vpc.id,
    callers: plan.attachments.map((it) => it.fabric),
    names,
    ...(records.length ? { records } : {}),
    suffixes: [...new Set([...(zone ? [zone.name] : []), suffix, 'internal'])],
    nameservers: world.provider?.spec.nameservers ?? [],
    forward: plan.internet,
  }
}

/** What the VPCs of the host share. Its generation follows the provider configuration's revision. */
export function planHost(provider: Provider | undefined, settings: Settings): HostPlan {
  return {
    generation: provider ? provider.revision + 1 : 0,
    fabric: settings.fabric,
    resolver: settings.resolver,
    external: [
      { cidr: settings.externalCidr, masquerade: true },
      ...(provider && provider.spec.externalCidr !== settings.externalCidr
        ? [{ cidr: provider.spec.externalCidr, masquerade: false }]
        : []),
    ],
    allowed: settings.allowedNetworks,
  }
}
