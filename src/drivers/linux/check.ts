import { isIPv6 } from 'node:net'
import {
  BALANCER_PORTS,
  type HostPlan,
  type PlannedRoute,
  type VpcPlan,
} from '#cloud/network/network.driver.ts'
import { cidr, contains, overlaps, parseCidr, parseIpv4, type Cidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { inRange, portKey, type PortRange, PUBLISHED_PORTS_DEFAULT } from '#lib/ports.ts'
import { canonical } from './links.ts'

// What is checked here becomes text that root's programs read: nothing but the exact form passes.
const ID = /^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i
const INDEX_MAX = 999_999
// This network, loopback, link-local, multicast and beyond.
const RESERVED = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'].map(cidr)

const refuse = (what: string, value: unknown): never => {
  throw new CloudError('invalid', `network plan: ${what}: ${String(value).slice(0, 80)}`)
}

function four(what: string, text: string): number {
  return parseIpv4(text) ?? refuse(`${what} is no IPv4 address`, text)
}

function six(what: string, text: string): string {
  if (!isIPv6(text) || text.includes('%')) refuse(`${what} is no IPv6 address`, text)
  return canonical(text)
}

function network(what: string, text: string): Cidr {
  return parseCidr(text) ?? refuse(`${what} is no IPv4 network`, text)
}

function network6(what: string, text: string): void {
  const [base = '', prefix = '', ...rest] = text.split('/')
  six(what, base)
  if (rest.length || !/^\d{1,3}$/.test(prefix) || Number(prefix) > 128)
    refuse(`${what} is no IPv6 network`, text)
}

const anyNetwork = (what: string, text: string): void => {
  if (text.includes(':')) network6(what, text)
  else network(what, text)
}

const id = (what: string, text: string): string => (ID.test(text) ? text : refuse(`${what} is no id`, text))

function unique(what: string, values: readonly (string | number)[]): void {
  const seen = new Set<string | number>()
  for (const it of values) if (seen.size === seen.add(it).size) refuse(`${what} twice`, it)
}

const inside = (what: string, outer: Cidr, text: string): void => {
  if (!contains(outer, four(what, text))) refuse(`${what} is outside its network`, text)
}

const port = (what: string, value: number): void => {
  if (!Number.isInteger(value) || value < 1 || value > 65535) refuse(`${what} is no port`, value)
}

/** Refuses a host plan that is not exact (`invalid`). */
export function checkHostPlan(plan: HostPlan): void {
  const fabric = network('fabric', plan.fabric)
  inside('resolver', fabric, plan.resolver)
  const pools = plan.external.map((it) => network('external range', it.cidr))
  for (const pool of pools) if (overlaps(pool, fabric)) refuse('external range overlaps fabric', plan.fabric)
  for (const it of plan.allowed) network('allowed network', it)
}

function checkTarget(plan: VpcPlan, target: Exclude<PlannedRoute['target'], string>): void {
  if ('address' in target) four('next hop', target.address)
  else if ('nat' in target) four('address of a NAT gateway', target.nat)
  else if (!plan.peerings?.some((it) => it.id === target.peering))
    refuse('route to an unknown peering', target.peering)
}

function checkPeerings(plan: VpcPlan, host: HostPlan): void {
  const own = plan.subnets.map((it) => network('subnet', it.cidr))
  const taken = [network('fabric', host.fabric), ...RESERVED, ...own]
  for (const it of plan.peerings ?? []) {
    id('peering', it.id)
    if (!isUuid(it.vpc) || it.vpc === plan.vpc) refuse('no other VPC', it.vpc)
    for (const range of it.ranges)
      if (taken.some((other) => overlaps(other, network('range', range))))
        refuse('range behind a peering overlaps', range)
  }
  unique(
    'peering',
    (plan.peerings ?? []).map((it) => it.id),
  )
}

function checkSubnets(plan: VpcPlan, host: HostPlan): void {
  const ranges = plan.subnets.map((it) => network('subnet', it.cidr))
  const fabric = network('fabric', host.fabric)
  ranges.forEach((range, index) => {
    const subnet = plan.subnets[index]
    if (!subnet) return
    id('subnet', subnet.id)
    inside('gateway', range, subnet.gateway)
    network6('subnet', subnet.cidr6)
    if (overlaps(range, fabric)) refuse('subnet overlaps the fabric', subnet.cidr)
    if (RESERVED.some((it) => overlaps(it, range)))
      refuse('subnet in a range that hosts do not have', subnet.cidr)
    if (ranges.some((other, at) => at < index && overlaps(other, range)))
      refuse('subnet overlaps another', subnet.cidr)
    for (const route of subnet.routes ?? []) {
      network('route', route.cidr)
      const { target } = route
      if (typeof target === 'object') checkTarget(plan, target)
      else if (target !== 'internet' && target !== 'blackhole') refuse('unknown target of a route', target)
    }
    unique(
      'route',
      (subnet.routes ?? []).map((it) => it.cidr),
    )
  })
  unique(
    'subnet',
    plan.subnets.map((it) => it.id),
  )
}

function checkAttachments(plan: VpcPlan, host: HostPlan): void {
  const subnets = new Map(plan.subnets.map((it) => [it.id, network('subnet', it.cidr)]))
  const fabric = network('fabric', host.fabric)
  for (const it of plan.attachments) {
    id('attachment', it.id)
    inside('address', subnets.get(it.subnet) ?? refuse('unknown subnet', it.subnet), it.address)
    six('address', it.address6)
    if (!MAC.test(it.mac)) refuse('no MAC address', it.mac)
    inside('fabric address', fabric, it.fabric)
    if (it.egress !== undefined) four('egress', it.egress)
    if (it.elastic !== undefined) four('elastic IP', it.elastic)
    // A group that the plan does not have allows nothing.
    for (const group of it.groups) id('security group', group)
  }
  const all = [...plan.attachments, ...plan.vips]
  unique(
    'id',
    plan.attachments.map((it) => it.id),
  )
  const balancers = (plan.balancers ?? []).map((it) => it.address)
  unique('address', [
    ...all.map((it) => it.address),
    ...balancers,
    ...new Set(plan.subnets.map((it) => it.gateway)),
  ])
  unique(
    'address',
    all.map((it) => six('address', it.address6)),
  )
  unique('fabric address', [...plan.attachments.map((it) => it.fabric), plan.uplink.host, plan.uplink.vpc])
}

function checkVips(plan: VpcPlan): void {
  const subnets = new Map(plan.subnets.map((it) => [it.id, network('subnet', it.cidr)]))
  const attachments = new Set(plan.attachments.map((it) => it.id))
  for (const it of plan.vips) {
    id('VIP', it.id)
    inside('VIP', subnets.get(it.subnet) ?? refuse('unknown subnet', it.subnet), it.address)
    six('VIP', it.address6)
    if (it.external !== undefined) four('external address', it.external)
    for (const { protocol, port: number } of it.ports) {
      if (protocol !== 'tcp' && protocol !== 'udp') refuse('unknown protocol', protocol)
      port('VIP', number)
    }
    unique(
      'port of a VIP',
      it.ports.map(({ protocol, port: number }) => `${protocol}/${number}`),
    )
    for (const backend of it.backends)
      if (!attachments.has(backend)) refuse('backend is no attachment', backend)
    unique('backend', it.backends)
  }
  unique(
    'external address',
    [...plan.vips.map((it) => it.external), ...plan.attachments.map((it) => it.elastic)].filter(
      (it) => it !== undefined,
    ),
  )
}

function checkBalancers(plan: VpcPlan): void {
  const subnets = new Map(plan.subnets.map((it) => [it.id, network('subnet', it.cidr)]))
  const all = plan.balancers ?? []
  for (const it of all) {
    id('load balancer', it.id)
    inside('load balancer', subnets.get(it.subnet) ?? refuse('unknown subnet', it.subnet), it.address)
    port('load balancer', it.port)
    port('port of the edge', it.at)
    if (it.at < BALANCER_PORTS.from || it.at > BALANCER_PORTS.to)
      refuse('port of the edge that is not for load balancers', it.at)
  }
  unique(
    'load balancer',
    all.map((it) => it.id),
  )
  unique(
    'port of the edge',
    all.map((it) => it.at),
  )
}

function checkGroups(plan: VpcPlan): void {
  unique(
    'security group',
    plan.groups.map((it) => id('security group', it.id)),
  )
  for (const rule of plan.groups.flatMap((it) => it.rules)) {
    if (!['ingress', 'egress'].includes(rule.direction)) refuse('unknown direction', rule.direction)
    if (!['tcp', 'udp', 'icmp', 'any'].includes(rule.protocol)) refuse('unknown protocol', rule.protocol)
    if (rule.ports) {
      port('rule', rule.ports.from)
      port('rule', rule.ports.to)
      if (rule.ports.from > rule.ports.to) refuse('ports from greater to smaller', rule.ports.from)
    }
    if (rule.peer === 'any') continue
    if (typeof rule.peer !== 'object') refuse('unknown peer', rule.peer)
    if ('cidr' in rule.peer) anyNetwork('peer', rule.peer.cidr)
    else id('peer', rule.peer.group)
  }
}

/** Which ports are the VPC's the records decide; that it is one that may be published is checked here. */
function checkPublished(plan: VpcPlan, range: PortRange): void {
  const attachments = new Set(plan.attachments.map((it) => it.id))
  for (const it of plan.published ?? []) {
    id('workload', it.id)
    if (it.protocol !== 'tcp' && it.protocol !== 'udp') refuse('unknown protocol', it.protocol)
    port('published port', it.host)
    port('port of a container', it.container)
    if (!inRange(range, it.host)) refuse(`host port outside of ${range.from} to ${range.to}`, it.host)
    for (const backend of it.backends)
      if (!attachments.has(backend)) refuse('backend is no attachment', backend)
    unique('backend', it.backends)
  }
  unique(
    'published port',
    (plan.published ?? []).map((it) => portKey({ protocol: it.protocol, port: it.host })),
  )
}

/** Refuses a VPC's plan that is not exact or contradicts itself (`invalid`). */
export function checkVpcPlan(
  plan: VpcPlan,
  host: HostPlan,
  range: PortRange = PUBLISHED_PORTS_DEFAULT,
): void {
  if (!isUuid(plan.vpc)) refuse('VPC is no UUID', plan.vpc)
  if (!Number.isInteger(plan.index) || plan.index < 0 || plan.index > INDEX_MAX)
    refuse('no index', plan.index)
  if (!Number.isSafeInteger(plan.generation)) refuse('no generation', plan.generation)
  network6('range', plan.range6)
  const fabric = network('fabric', host.fabric)
  inside('uplink', fabric, plan.uplink.host)
  inside('uplink', fabric, plan.uplink.vpc)
  if (
    Math.floor(four('uplink', plan.uplink.host) / 2) !== Math.floor(four('uplink', plan.uplink.vpc) / 2) ||
    plan.uplink.host === plan.uplink.vpc
  ) {
    refuse('the ends of the uplink are no /31', plan.uplink.host)
  }
  checkSubnets(plan, host)
  checkAttachments(plan, host)
  checkVips(plan)
  checkBalancers(plan)
  checkGroups(plan)
  checkPeerings(plan, host)
  checkPublished(plan, range)
}
