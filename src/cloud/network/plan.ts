import { type Replica, serves } from '#cloud/compute/replica.kind.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { Settings } from '#cloud/context.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { address6Of, cidr6Of, macOf, uplinkOf } from './addresses.driver.ts'
import type {
  Attachment,
  HostPlan,
  PlannedGroup,
  PlannedSubnet,
  PlannedVip,
  VpcPlan,
} from './network.driver.ts'
import type { Provider } from './provider.kind.ts'
import type { RouteTable } from './route-table.kind.ts'
import type { SecurityGroup } from './security-group.kind.ts'
import type { Subnet } from './subnet.kind.ts'
import type { Vpc } from './vpc.kind.ts'

/** Everything a VPC's router and DNS are derived from. */
export type World = {
  readonly vpc: Vpc
  readonly subnets: readonly Subnet[]
  readonly workloads: readonly Workload[]
  readonly replicas: readonly Replica[]
  readonly groups: readonly SecurityGroup[]
  readonly routeTables: readonly RouteTable[]
  readonly provider: Provider | undefined
}

/** The suffix of a VPC's names: `<pod>.<vpc>.internal`. */
export const suffixOf = (vpcName: string): string => `${vpcName}.internal`

/** What the VPC's router must do; the driver's generation is the caller's to add. */
export function planVpc(world: World, settings: Settings): Omit<VpcPlan, 'generation'> {
  const { vpc } = world
  const known = new Map(world.subnets.map((it) => [it.id, it]))
  const workloads = new Map(world.workloads.map((it) => [it.id, it]))
  const attachments = world.replicas
    .filter((it) => known.has(it.spec.subnet) && !it.status.released)
    .map((it) => planAttachment(it, workloads.get(it.spec.workload), known, vpc))
  return {
    vpc: vpc.id,
    tenant: vpc.tenant,
    index: vpc.spec.index,
    internet: vpc.spec.internet,
    range6: vpc.spec.range6,
    uplink: uplinkOf(settings.fabric, vpc.spec.index),
    subnets: world.subnets.map((it) => planSubnet(it, world)),
    attachments,
    vips: world.workloads
      .filter((it) => known.has(it.spec.subnet) && !isOver(it, world.replicas))
      .flatMap((it) =>
        it.spec.vip === undefined ? [] : planVip(it, it.spec.vip, world.replicas, known, vpc),
      ),
    groups: world.groups.filter((it) => it.deletedAt === undefined).map(planGroup),
  }
}

function planSubnet(it: Subnet, { vpc, routeTables }: World): PlannedSubnet {
  const table = routeTables.find(
    (table) => table.deletedAt === undefined && table.spec.subnets.includes(it.id),
  )
  const routes = table?.spec.routes.map((route) => ({
    cidr: route.cidr,
    target: route.target === 'address' ? { address: route.address ?? '' } : route.target,
  }))
  return {
    id: it.id,
    cidr: it.spec.cidr,
    gateway: it.spec.gateway,
    cidr6: cidr6Of(vpc.spec.range6, it.spec.index6),
    ...(routes ? { routes } : {}),
  }
}

function planAttachment(
  it: Replica,
  workload: Workload | undefined,
  subnets: ReadonlyMap<string, Subnet>,
  vpc: Vpc,
): Attachment {
  const egress =
    workload?.spec.egress && vpc.spec.internet
      ? (workload.spec.externalAddress ?? vpc.spec.natAddress)
      : undefined
  return {
    id: it.id,
    subnet: it.spec.subnet,
    address: it.spec.address,
    address6: address6Of(vpc.spec.range6, subnets.get(it.spec.subnet)?.spec.index6 ?? 0, it.spec.address),
    mac: macOf(it.spec.address),
    fabric: it.spec.fabric,
    ...(egress === undefined ? {} : { egress }),
    groups: workload?.spec.securityGroups ?? [],
  }
}

/** On its way out, with nothing behind its VIP any more: its addresses are to be free. */
const isOver = (it: Workload, replicas: readonly Replica[]): boolean =>
  it.deletedAt !== undefined && !replicas.some((replica) => replica.spec.workload === it.id)

function planVip(
  it: Workload,
  address: string,
  replicas: readonly Replica[],
  subnets: ReadonlyMap<string, Subnet>,
  vpc: Vpc,
): PlannedVip {
  return {
    id: it.id,
    subnet: it.spec.subnet,
    address,
    address6: address6Of(vpc.spec.range6, subnets.get(it.spec.subnet)?.spec.index6 ?? 0, address),
    ports: it.spec.ports,
    backends: replicas.filter((replica) => serves(replica, it.id)).map((replica) => replica.id),
    ...(it.spec.externalAddress && vpc.spec.internet ? { external: it.spec.externalAddress } : {}),
  }
}

function planGroup(it: SecurityGroup): PlannedGroup {
  return {
    id: it.id,
    rules: it.spec.rules.map((rule) => ({
      direction: rule.direction,
      protocol: rule.protocol,
      ...(rule.fromPort === undefined
        ? {}
        : { ports: { from: rule.fromPort, to: rule.toPort ?? rule.fromPort } }),
      peer:
        rule.group !== undefined
          ? { group: rule.group }
          : rule.cidr !== undefined
            ? { cidr: rule.cidr }
            : 'any',
    })),
  }
}

/** The VPC's names: every workload under its own name and `<name>.<vpc>.internal`, both giving the VIP. */
export function planZone(world: World, plan: Omit<VpcPlan, 'generation'>): Omit<Zone, 'generation'> {
  const suffix = suffixOf(world.vpc.name)
  const names: Record<string, { a: string[]; aaaa: string[] }> = {}
  const vips = new Map(plan.vips.map((it) => [it.id, it]))
  for (const it of world.workloads) {
    const vip = vips.get(it.id)
    if (!vip || it.deletedAt !== undefined) continue
    const addresses = { a: [vip.address], aaaa: [vip.address6] }
    names[it.name] = addresses
    names[`${it.name}.${suffix}`] = addresses
  }
  return {
    vpc: world.vpc.id,
    callers: plan.attachments.map((it) => it.fabric),
    names,
    suffixes: [suffix, 'internal'],
    nameservers: world.provider?.spec.nameservers ?? [],
    forward: world.vpc.spec.internet,
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
