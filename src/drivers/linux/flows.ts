import { BlockList, isIPv6 } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import {
  VPC_DNS_ADDRESS,
  type Attachment,
  type HostPlan,
  type PlannedGroup,
  type PlannedBalancer,
  type PlannedRoute,
  type PlannedPort,
  type PlannedRule,
  type PlannedSubnet,
  type PlannedVip,
  type VpcPlan,
} from '#cloud/network/network.driver.ts'
import { cidr, contains, parseIpv4 } from '#lib/cidr.ts'
import { canonical } from './links.ts'
import { leaving } from './render.ts'
import { run } from '#lib/command.ts'
import { runIn } from './run.ts'

/** A tracked connection of a VPC's namespace: as it was begun, and as its answers come. */
export type Flow = {
  /** `tcp`, `udp`, `icmp` or `icmpv6`; another by its number. */
  readonly protocol: string
  readonly source: string
  readonly destination: string
  readonly port: number | undefined
  /** Who answers: the real destination, after translation. */
  readonly replySource: string
  /** To whom is answered: the source as the destination sees it. */
  readonly replyDestination: string
  readonly replyPort: number | undefined
}

const NAMED = ['tcp', 'udp', 'icmp', 'icmpv6']

/** Reads what `conntrack -L` prints; lines that it cannot read are left out. */
export function parseFlows(text: string): Flow[] {
  return text.split('\n').flatMap((line) => {
    const [, name = '', number] = /^(\w+)\s+(\d+)\s/.exec(line) ?? []
    const protocol = NAMED.includes(name) ? name : number
    const parts: Record<string, string>[] = []
    for (const [, key = '', value = ''] of line.matchAll(/\b(src|dst|sport|dport)=(\S+)/g)) {
      if (key === 'src') parts.push({})
      const part = parts.at(-1)
      if (part) part[key] = value
    }
    const [begun, answer] = parts
    if (!protocol || !begun?.['src'] || !begun['dst'] || !answer?.['src'] || !answer['dst']) return []
    return [
      {
        protocol,
        source: begun['src'],
        destination: begun['dst'],
        port: begun['dport'] === undefined ? undefined : Number(begun['dport']),
        replySource: answer['src'],
        replyDestination: answer['dst'],
        replyPort: answer['sport'] === undefined ? undefined : Number(answer['sport']),
      },
    ]
  })
}

type Index = {
  readonly plan: VpcPlan
  readonly host: HostPlan
  readonly byId: ReadonlyMap<string, Attachment>
  readonly byAddress: ReadonlyMap<string, Attachment>
  readonly byFabric: ReadonlyMap<string, Attachment>
  readonly byElastic: ReadonlyMap<string, Attachment>
  readonly services: ReadonlyMap<string, PlannedVip>
  /** By the router's address for it. */
  readonly published: ReadonlyMap<string, PlannedPort>
  readonly balancers: ReadonlyMap<string, PlannedBalancer>
  /** VIPs, load balancers and gateways: the router's own. */
  readonly own: ReadonlySet<string>
  readonly egress: ReadonlyMap<string, string>
  readonly rules: ReadonlyMap<string, readonly (PlannedRule & { readonly network?: Network })[]>
  readonly ranges: readonly Network[]
}

type Network = { readonly list: BlockList; readonly isSix: boolean }

const networkOf = (cidr: string): Network => {
  const [base = '', prefix] = cidr.split('/')
  const isSix = isIPv6(base)
  const list = new BlockList()
  list.addSubnet(base, Number(prefix), isSix ? 'ipv6' : 'ipv4')
  return { list, isSix }
}

/** A list for `::/0` by itself takes IPv4 addresses too, as mapped ones. */
const holds = ({ list, isSix }: Network, address: string): boolean =>
  isIPv6(address) === isSix && list.check(address, isSix ? 'ipv6' : 'ipv4')

const serviceKey = (address: string, protocol: string, port: number | undefined): string =>
  `${address} ${protocol} ${port}`

function indexOf(plan: VpcPlan, host: HostPlan): Index {
  const services = new Map<string, PlannedVip>()
  for (const vip of plan.vips) {
    const addresses = [
      vip.address,
      canonical(vip.address6),
      ...(vip.external && plan.internet ? [vip.external] : []),
    ]
    for (const address of addresses) {
      for (const it of vip.ports) services.set(serviceKey(address, it.protocol, it.port), vip)
    }
  }
  return {
    plan,
    host,
    byId: new Map(plan.attachments.map((it) => [it.id, it])),
    byAddress: new Map(
      plan.attachments.flatMap(
        (it) =>
          [
            [it.address, it],
            [canonical(it.address6), it],
          ] as const,
      ),
    ),
    byFabric: new Map(plan.attachments.map((it) => [it.fabric, it])),
    byElastic: new Map(
      plan.attachments.flatMap((it) => (it.elastic && plan.internet ? [[it.elastic, it]] : [])),
    ),
    services,
    published: new Map(
      (plan.published ?? []).map((it) => [serviceKey(plan.uplink.vpc, it.protocol, it.host), it]),
    ),
    balancers: new Map((plan.balancers ?? []).map((it) => [serviceKey(it.address, 'tcp', it.port), it])),
    own: new Set([
      ...(plan.balancers ?? []).map((it) => it.address),
      ...plan.vips.flatMap((it) => [it.address, canonical(it.address6)]),
      ...plan.subnets.map((it) => it.gateway),
    ]),
    egress: new Map(leaving(plan).map((it) => [it.id, it.egress])),
    rules: new Map(
      plan.groups.map((group) => [
        group.id,
        group.rules.map((rule) =>
          typeof rule.peer === 'object' && 'cidr' in rule.peer
            ? { ...rule, network: networkOf(rule.peer.cidr) }
            : rule,
        ),
      ]),
    ),
    ranges: [...plan.subnets.map((it) => it.cidr), plan.range6].map(networkOf),
  }
}

/** True when some group of the machine lets it: `peer` is the other side's address, `port` the one that was called. */
function groupsAllow(
  index: Index,
  member: Attachment,
  direction: PlannedRule['direction'],
  peer: string,
  protocol: string,
  port: number | undefined,
): boolean {
  if (!member.groups.length) return true
  const name = protocol === 'icmpv6' ? 'icmp' : protocol
  return member.groups.some((id) =>
    (index.rules.get(id) ?? []).some((rule) => {
      if (rule.direction !== direction) return false
      if (rule.protocol !== 'any' && rule.protocol !== name) return false
      const ported = rule.protocol === 'tcp' || rule.protocol === 'udp'
      if (ported && rule.ports && !(port !== undefined && port >= rule.ports.from && port <= rule.ports.to))
        return false
      if (rule.peer === 'any') return true
      if ('cidr' in rule.peer) return rule.network !== undefined && holds(rule.network, peer)
      return index.byAddress.get(peer)?.groups.includes(rule.peer.group) === true
    }),
  )
}

/** True when the security groups of both sides let a new flow from `source` to `target`, both after translation of the destination. */
function groupsLet(
  index: Index,
  source: string,
  target: string,
  protocol: string,
  port: number | undefined,
): boolean {
  const from = index.byAddress.get(source)
  const to = index.byAddress.get(target)
  return (
    (!from || groupsAllow(index, from, 'egress', target, protocol, port)) &&
    (!to || groupsAllow(index, to, 'ingress', source, protocol, port))
  )
}

/** The same of what the edge's load balancers send, under the addresses that they have in the VPC. */
const balancersLet = (index: Index, to: Attachment, protocol: string, port: number | undefined): boolean =>
  [...index.balancers.values()].some((it) => groupsAllow(index, to, 'ingress', it.address, protocol, port))

/** Whether security groups let a new flow; for those who ask about one. */
export const allows = (
  plan: VpcPlan,
  host: HostPlan,
  flow: { source: string; target: string; protocol: string; port: number | undefined },
): boolean => groupsLet(indexOf(plan, host), flow.source, flow.target, flow.protocol, flow.port)

/** Where the table of a subnet leads an address outside the VPC; undefined: nowhere. */
export function routeTo(
  { routes }: Pick<PlannedSubnet, 'routes'>,
  address: string,
): PlannedRoute['target'] | undefined {
  if (!routes) return 'internet'
  const value = parseIpv4(address)
  if (value === undefined) return undefined
  const [route] = routes
    .map((it) => ({ ...it, network: cidr(it.cidr) }))
    .filter((it) => contains(it.network, value))
    .toSorted((a, b) => b.network.prefix - a.network.prefix)
  return route?.target
}

/** True when an address is behind a peering to which the subnet of the other end routes it. */
function isPeered({ plan }: Index, address: string, own: string): boolean {
  const value = parseIpv4(own)
  const subnet = plan.subnets.find((it) => value !== undefined && contains(cidr(it.cidr), value))
  const target = subnet && routeTo(subnet, address)
  const id = typeof target === 'object' && 'peering' in target ? target.peering : undefined
  const at = parseIpv4(address)
  return (plan.peerings ?? []).some(
    (it) => it.id === id && at !== undefined && it.ranges.some((range) => contains(cidr(range), at)),
  )
}

/** Whether the tables would lead a flow of a machine out of its VPC in the way it went. */
function leavesBy(
  index: Index,
  client: Attachment,
  { source, destination, replyDestination }: Flow,
): boolean {
  const { plan } = index
  const subnet = plan.subnets.find((it) => it.id === client.subnet)
  const target = subnet && routeTo(subnet, destination)
  if (target === 'internet') return plan.internet && replyDestination === index.egress.get(client.id)
  if (typeof target !== 'object') return false
  if ('nat' in target) return plan.internet && replyDestination === target.nat
  // By another machine, or into another VPC.
  return replyDestination === source && ('address' in target || isPeered(index, destination, source))
}

/** Whether the plan would let the flow begin, in the way it did. */
function isAllowed(index: Index, flow: Flow): boolean {
  const { host } = index
  const { protocol, source, destination, replySource } = flow
  const client = index.byAddress.get(source)
  const isInRange = (address: string): boolean => index.ranges.some((it) => holds(it, address))
  if (destination === VPC_DNS_ADDRESS)
    return client !== undefined && flow.replyDestination === client.fabric && replySource === host.resolver
  if (!client && isInRange(source) && !index.own.has(source)) return false
  // From another VPC: what is the VPC's own it reaches by a peering alone.
  if (!client && !index.own.has(source) && isInRange(destination) && !isPeered(index, source, destination))
    return false
  const behind = index.byFabric.get(destination)
  if (behind) {
    const isBalanced = source === host.resolver
    return (
      replySource === behind.address && (!isBalanced || balancersLet(index, behind, protocol, flow.replyPort))
    )
  }
  const service = index.services.get(serviceKey(destination, protocol, flow.port))
  const published = index.published.get(serviceKey(destination, protocol, flow.port))
  const groups = (): boolean => groupsLet(index, source, replySource, protocol, flow.replyPort)
  // A connection may end on a machine that takes no new ones; datagrams have no end and go elsewhere.
  const isServed = (by: { readonly backends: readonly string[] }): boolean => {
    const answering = index.byAddress.get(replySource)
    return answering !== undefined && (protocol !== 'udp' || by.backends.includes(answering.id))
  }
  if (service) {
    const isOwn = replySource === service.address || replySource === canonical(service.address6)
    // Datagrams that lead nowhere are not tracked.
    if (isOwn) return protocol !== 'udp' && !service.backends.some((id) => index.byId.has(id))
    return isServed(service) && groups()
  }
  if (published) return flow.replyPort === published.container && isServed(published) && groups()
  const balancer = index.balancers.get(serviceKey(destination, protocol, flow.port))
  if (balancer) {
    const isThere = replySource === host.resolver && flow.replyPort === balancer.at
    if (!isThere) return false
    if (!client)
      return flow.replyDestination === index.plan.uplink.vpc && isPeered(index, source, destination)
    if (flow.replyDestination !== client.fabric) return false
    return groupsAllow(index, client, 'egress', destination, protocol, flow.port)
  }
  const elastic = index.byElastic.get(destination)
  if (elastic) return replySource === elastic.address && groups()
  if (replySource !== destination) return false
  if (index.own.has(destination)) return true
  if (index.byAddress.has(destination)) return groups()
  if (isInRange(destination)) return false
  return client !== undefined && leavesBy(index, client, flow) && groups()
}

const holders = (plan: VpcPlan): Map<string, string> =>
  new Map([
    ...plan.attachments.flatMap((it) =>
      [it.address, canonical(it.address6), it.fabric, ...(it.elastic ? [it.elastic] : [])].map(
        (at) => [at, it.id] as const,
      ),
    ),
    ...plan.vips.flatMap((it) =>
      [it.address, canonical(it.address6), ...(it.external ? [it.external] : [])].map(
        (at) => [at, it.id] as const,
      ),
    ),
    ...(plan.balancers ?? []).map((it) => [it.address, it.id] as const),
  ])

/** Rules that security groups with members in `before` have and those of `plan` do not, as groups; empty when none was taken away. */
function revokedRules(before: VpcPlan, plan: VpcPlan): PlannedGroup[] {
  const now = new Map(plan.groups.map((it) => [it.id, new Set(it.rules.map((rule) => JSON.stringify(rule)))]))
  const used = new Set(before.attachments.flatMap((it) => it.groups))
  return before.groups.flatMap(({ id, rules }) => {
    if (!used.has(id)) return []
    const gone = rules.filter((it) => !now.get(id)?.has(JSON.stringify(it)))
    return gone.length ? [{ id, rules: gone }] : []
  })
}

const withoutGroups = (plan: VpcPlan): string => JSON.stringify({ ...plan, generation: 0, groups: [] })

/** True for flows that some rule of these groups lets; `plan` says who is a member. */
function letBy(groups: readonly PlannedGroup[], plan: VpcPlan, host: HostPlan): (flow: Flow) => boolean {
  const index = indexOf({ ...plan, groups }, host)
  const isLet = (
    member: Attachment | undefined,
    direction: PlannedRule['direction'],
    peer: string,
    flow: Flow,
  ) =>
    member !== undefined &&
    member.groups.length > 0 &&
    groupsAllow(index, member, direction, peer, flow.protocol, flow.replyPort)
  // What goes to a load balancer is judged by its address and port.
  const called = (flow: Flow): Flow =>
    index.balancers.has(serviceKey(flow.destination, flow.protocol, flow.port))
      ? { ...flow, replySource: flow.destination, replyPort: flow.port }
      : flow
  const callersOf = (flow: Flow): readonly string[] =>
    flow.source === host.resolver ? [...index.balancers.values()].map((it) => it.address) : [flow.source]
  return (flow) =>
    isLet(index.byAddress.get(flow.source), 'egress', called(flow).replySource, called(flow)) ||
    callersOf(flow).some((it) => isLet(index.byAddress.get(flow.replySource), 'ingress', it, flow))
}

/**
 * Those of `flows` that the plan does not allow, or whose addresses belonged to another machine or VIP in the plan before.
 * With `allowed` all of them are ones that `before` allowed: where only rules differ, those that were taken away tell which of the
 * flows are concerned.
 */
export function flowsToCut(
  flows: readonly Flow[],
  before: VpcPlan | undefined,
  plan: VpcPlan,
  host: HostPlan,
  allowed = false,
): Flow[] {
  const concerned =
    allowed && before && withoutGroups(before) === withoutGroups(plan)
      ? flows.filter(letBy(revokedRules(before, plan), plan, host))
      : flows
  if (!concerned.length) return []
  const index = indexOf(plan, host)
  const now = holders(plan)
  const freed = new Set<string>()
  for (const [address, id] of before ? holders(before) : []) if (now.get(address) !== id) freed.add(address)
  return concerned.filter((flow) => endsOf(flow).some((it) => freed.has(it)) || !isAllowed(index, flow))
}

/** False when nothing that `before` allowed can be forbidden by `plan`, so that no flow has to be looked at. */
export function mayRevoke(before: VpcPlan, plan: VpcPlan): boolean {
  const kept = <T extends { readonly id: string }>(old: readonly T[], next: readonly T[]): boolean => {
    const texts = new Map(next.map((it) => [it.id, JSON.stringify(it)]))
    return old.every((it) => texts.get(it.id) === JSON.stringify(it))
  }
  return (
    before.internet !== plan.internet ||
    !kept(before.subnets, plan.subnets) ||
    !kept(before.attachments, plan.attachments) ||
    !keptVips(before, plan) ||
    revokedRules(before, plan).length > 0 ||
    !kept(before.balancers ?? [], plan.balancers ?? []) ||
    !kept(before.peerings ?? [], plan.peerings ?? []) ||
    !(before.published ?? []).every((it) => plan.published?.some((other) => isDeepStrictEqual(it, other)))
  )
}

/** True when every VIP is as it was, or leads to more machines than before and to those of before still. */
function keptVips(before: VpcPlan, plan: VpcPlan): boolean {
  const next = new Map(plan.vips.map((it) => [it.id, it]))
  return before.vips.every((it) => {
    const now = next.get(it.id)
    if (now === undefined || isDeepStrictEqual(it, now)) return now !== undefined
    return (
      isDeepStrictEqual({ ...it, backends: [] }, { ...now, backends: [] }) &&
      it.backends.every((id) => now.backends.includes(id))
    )
  })
}

/** The tracked connections of a namespace, or of the host. */
export async function readFlows(namespace: string | undefined, signal: AbortSignal): Promise<Flow[]> {
  const command = ['conntrack', '-L']
  return parseFlows(
    await (namespace === undefined ? run(command, { signal }) : runIn(namespace, command, { signal })),
  )
}

/** The addresses of a flow, as it was begun and as its answers come. */
export const endsOf = (it: Flow): string[] => [it.source, it.destination, it.replySource, it.replyDestination]

/** Those of `flows` that have an address inside `ranges` which nobody of `known` has: what was freed and not ended. */
export function flowsOfNobody(
  flows: readonly Flow[],
  ranges: readonly string[],
  known: ReadonlySet<string>,
): Flow[] {
  const networks = ranges.map(networkOf)
  return flows.filter((flow) =>
    endsOf(flow).some((it) => !known.has(it) && networks.some((network) => holds(network, it))),
  )
}

/** Every address inside a VPC's ranges and the fabric that its router may have flows of. */
export const addressesOf = (plan: VpcPlan): Set<string> =>
  new Set([
    ...holders(plan).keys(),
    ...plan.subnets.map((it) => it.gateway),
    plan.uplink.host,
    plan.uplink.vpc,
  ])
