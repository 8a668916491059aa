import {
  VPC_DNS_ADDRESS,
  type Attachment,
  type HostPlan,
  type PlannedPeering,
  type PlannedRoute,
  type VpcPlan,
} from '#cloud/network/network.driver.ts'
import { cidr } from '#lib/cidr.ts'
import { groupChains } from './groups.ts'
import { BALANCER_RANGE, widest } from './host.ts'
import { canonical } from './links.ts'
import { peeringLink, UPLINK } from './names.ts'
import { nftChain, nftReplace, nftSet, type Element, type Part } from './nft.ts'
import { publishing } from './published.ts'

/** The table of a VPC's router, inside its namespace. */
export const ROUTER_TABLE = 'arcus'

/** The attachments that may leave, each with the external address that it leaves by. */
export const leaving = (plan: VpcPlan): readonly (Attachment & { readonly egress: string })[] =>
  plan.internet ? plan.attachments.flatMap((it) => (it.egress ? [{ ...it, egress: it.egress }] : [])) : []

/** Routes of tables that lead to a machine of the VPC, which therefore may send for the addresses behind it. */
const relays = (plan: VpcPlan): { link: Attachment; cidr: string }[] => {
  const byAddress = new Map(plan.attachments.map((it) => [it.address, it]))
  const found = new Map<string, { link: Attachment; cidr: string }>()
  for (const { cidr, target } of plan.subnets.flatMap((it) => it.routes ?? [])) {
    const link = typeof target === 'object' && 'address' in target ? byAddress.get(target.address) : undefined
    if (link) found.set(`${link.id} ${cidr}`, { link, cidr })
  }
  return [...found.values()]
}

/** By a peering comes only what is behind it, and it goes only to the VPC's own subnets. */
const fromPeer = ({ id, ranges }: PlannedPeering, own: readonly string[]): string[] => {
  const link = `iifname "${peeringLink(id)}"`
  if (!own.length || !ranges.length) return [`${link} drop`]
  return [
    `${link} meta nfproto ipv6 drop`,
    `${link} ip saddr != { ${widest(ranges).join(', ')} } drop`,
    `${link} ip daddr != { ${own.join(', ')} } drop`,
  ]
}

function spoofing(plan: VpcPlan, host: HostPlan, linkOf: (id: string) => string): Part {
  const own = plan.subnets.map((it) => it.cidr)
  const behind = (plan.peerings ?? []).flatMap((it) => it.ranges)
  const elsewhere = [host.fabric, '169.254.0.0/16', '127.0.0.0/8', '224.0.0.0/3']
  const forbidden = [...own, ...widest(behind), ...elsewhere].join(', ')
  return nftChain('spoofing', [
    'type filter hook prerouting priority raw; policy accept;',
    ...(plan.peerings ?? []).flatMap((it) => fromPeer(it, own)),
    ...publishing(plan).entry,
    ...relays(plan).map(
      ({ link, cidr }) => `iifname "${linkOf(link.id)}" ip saddr ${cidr} ip saddr != { ${forbidden} } accept`,
    ),
    'fib saddr . iif oif missing drop',
  ])
}

/** VIPs: each a chain that picks a backend, reached by address, protocol and port. */
function balancing(plan: VpcPlan, host: HostPlan): Part[] {
  const byId = new Map(plan.attachments.map((it) => [it.id, it]))
  const four: Element[] = []
  const six: Element[] = []
  const hairpins = new Map<string, string>()
  const hairpins6 = new Map<string, string>()
  const chains: Part[] = []
  for (const vip of plan.vips) {
    const chain = `vip_${vip.id}`
    const backends = vip.backends.flatMap((id) => byId.get(id) ?? [])
    const keys = vip.ports.map(({ protocol, port }) => `${protocol} . ${port}`)
    const pick = (family: 'ip' | 'ip6', addresses: string[]): string =>
      addresses.length === 1
        ? `dnat ${family} to ${addresses[0]}`
        : `dnat ${family} to numgen inc mod ${addresses.length} map { ${addresses.map((it, at) => `${at} : ${it}`).join(', ')} }`
    // With nobody ready the external address leads to the VIP itself, an address of the namespace, which refuses at once.
    const four0 = backends.length ? backends.map((it) => it.address) : [vip.address]
    const external = vip.external && plan.internet ? [vip.external] : []
    for (const key of keys) {
      for (const address of backends.length ? [vip.address, ...external] : external) {
        four.push([`${address} . ${key}`, `goto ${chain}`])
      }
      if (backends.length) six.push([`${canonical(vip.address6)} . ${key}`, `goto ${chain}_6`])
    }
    chains.push(nftChain(chain, [pick('ip', four0)]))
    if (backends.length)
      chains.push(
        nftChain(`${chain}_6`, [
          pick(
            'ip6',
            backends.map((it) => canonical(it.address6)),
          ),
        ]),
      )
    for (const backend of backends) {
      hairpins.set(`${backend.address} . ${backend.address}`, vip.address)
      const six0 = canonical(backend.address6)
      hairpins6.set(`${six0} . ${six0}`, canonical(vip.address6))
    }
  }
  for (const it of plan.balancers ?? []) {
    four.push([`${it.address} . tcp . ${it.port}`, `goto edge${it.at}`])
    chains.push(nftChain(`edge${it.at}`, [`meta l4proto tcp dnat ip to ${host.resolver}:${it.at}`]))
  }
  for (const it of plan.attachments) {
    const self = `${it.address} . ${it.address}`
    if (it.elastic !== undefined && !hairpins.has(self)) hairpins.set(self, it.elastic)
  }
  return [
    ...chains,
    nftSet('vips', 'ipv4_addr . inet_proto . inet_service : verdict', four),
    nftSet('vips6', 'ipv6_addr . inet_proto . inet_service : verdict', six),
    nftSet('hairpins', 'ipv4_addr . ipv4_addr : ipv4_addr', [...hairpins]),
    nftSet('hairpins6', 'ipv6_addr . ipv6_addr : ipv6_addr', [...hairpins6]),
  ]
}

/** Routes of a subnet that lead out by the uplink; the first that holds an address is the one that decides. */
const outRoutes = (routes: readonly PlannedRoute[]): { cidr: string; nat?: string }[] =>
  routes
    .flatMap(({ cidr: network, target }) =>
      target === 'internet'
        ? [{ cidr: network }]
        : typeof target === 'object' && 'nat' in target
          ? [{ cidr: network, nat: target.nat }]
          : [],
    )
    .toSorted((a, b) => cidr(b.cidr).prefix - cidr(a.cidr).prefix)

/**
 * Subnets whose machines leave by a NAT gateway: for each a chain that lets them, and one that translates them, both by the
 * longest route. The routes themselves are the kernel's; what does not lead to the uplink never comes here.
 */
function natWays(plan: VpcPlan): Part[] {
  const ways = plan.subnets.flatMap(({ id, cidr, routes: all = [] }) => {
    const routes = outRoutes(all)
    return routes.some((one) => one.nat !== undefined) ? [{ cidr, id, routes }] : []
  })
  return [
    ...ways.flatMap(({ id, routes }) => [
      nftChain(
        `way_${id}`,
        routes.map((it) => `ip daddr ${it.cidr} goto ${it.nat === undefined ? 'own_way' : 'groups_egress'}`),
      ),
      nftChain(
        `from_${id}`,
        routes.map(
          (it) => `ip daddr ${it.cidr} ${it.nat === undefined ? 'goto own_source' : `snat ip to ${it.nat}`}`,
        ),
      ),
    ]),
    nftSet(
      'ways',
      'ipv4_addr : verdict',
      ways.map((it) => [it.cidr, `goto way_${it.id}`]),
      'interval',
    ),
    nftSet(
      'sources',
      'ipv4_addr : verdict',
      ways.map((it) => [it.cidr, `goto from_${it.id}`]),
      'interval',
    ),
  ]
}

const OWN_WAY = nftChain('own_way', [
  'ip saddr != @leaving reject with icmpx admin-prohibited',
  'goto groups_egress',
])
const OWN_SOURCE = nftChain('own_source', ['snat ip to ip saddr map @egress_by'])

/** What goes to the edge to be balanced. */
const toBalancers = ({ balancers }: VpcPlan, { resolver }: HostPlan): string[] =>
  balancers?.length
    ? [`ip daddr ${resolver} tcp dport ${BALANCER_RANGE} ct status dnat goto groups_balanced`]
    : []

/** What the edge sends on to targets; nothing of it while there is no load balancer. */
const fromBalancers = ({ balancers }: VpcPlan, { resolver }: HostPlan): string =>
  `ct original ip saddr ${resolver} ${balancers?.length ? 'goto groups_balancing' : 'drop'}`

const filter = (plan: VpcPlan, host: HostPlan): Part[] => [
  nftChain('input', [
    'type filter hook input priority filter; policy accept;',
    // To a VIP or a published port with nobody ready. Refused here they are not tracked, so that the next goes to who is ready then.
    'meta l4proto udp reject',
  ]),
  nftChain('forward', [
    'type filter hook forward priority filter; policy drop;',
    'ct state established,related accept',
    'ct state invalid drop',
    `iifname "${UPLINK}" goto from_uplink`,
    `oifname "${UPLINK}" goto to_uplink`,
    'goto groups_egress',
  ]),
  nftChain('from_uplink', [
    `oifname "${UPLINK}" drop`,
    'ct status & dnat == 0 drop',
    fromBalancers(plan, host),
    // The platform itself: health checks, tunnels. What it may do is decided there.
    'ct original ip daddr @fabric accept',
    'goto groups_ingress',
  ]),
  nftChain('to_uplink', [
    'meta nfproto ipv6 reject with icmpx admin-prohibited',
    `ip daddr ${host.resolver} meta l4proto { tcp, udp } th dport 53 ct status dnat accept`,
    ...toBalancers(plan, host),
    `ip daddr { ${host.fabric}, 169.254.0.0/16 } reject with icmpx admin-prohibited`,
    'ip saddr vmap @ways',
    'goto own_way',
  ]),
]

const translation = (plan: VpcPlan, host: HostPlan): Part[] => [
  nftChain('prerouting', [
    'type nat hook prerouting priority dstnat; policy accept;',
    `iifname != "${UPLINK}" ip daddr ${VPC_DNS_ADDRESS} meta l4proto { tcp, udp } th dport 53 dnat ip to ${host.resolver}`,
    `iifname "${UPLINK}" ip saddr { ${plan.uplink.host}, ${host.resolver} } dnat ip to ip daddr map @fabric_in`,
    ...publishing(plan).translation,
    'ip daddr . meta l4proto . th dport vmap @vips',
    'ip6 daddr . meta l4proto . th dport vmap @vips6',
    'dnat ip to ip daddr map @elastic_in',
  ]),
  nftChain('postrouting', [
    'type nat hook postrouting priority srcnat; policy accept;',
    // A machine that reaches itself through a VIP must not see its own address as the client's.
    'snat ip to ip saddr . ip daddr map @hairpins',
    'snat ip6 to ip6 saddr . ip6 daddr map @hairpins6',
    // The resolver knows who asks by the fabric address.
    `oifname "${UPLINK}" ip daddr ${host.resolver} snat ip to ip saddr map @fabric_out`,
    // Who comes by a peering has no address that the host knows; the router's own is let through to load balancers alone.
    ...(plan.balancers?.length && plan.peerings?.length
      ? [
          `oifname "${UPLINK}" ip daddr ${host.resolver} tcp dport ${BALANCER_RANGE} ct status dnat snat ip to ${plan.uplink.vpc}`,
        ]
      : []),
    `oifname "${UPLINK}" ip saddr vmap @sources`,
    `oifname "${UPLINK}" goto own_source`,
  ]),
]

/**
 * The parts of the table of a VPC's router. Everything that goes from one machine to another, to the host or comes from there
 * passes its forward hook.
 */
export function vpcParts(plan: VpcPlan, host: HostPlan, linkOf: (attachment: string) => string): Part[] {
  const all = plan.attachments
  const out = leaving(plan)
  return [
    nftSet(
      'fabric',
      'ipv4_addr',
      all.map((it) => [it.fabric]),
    ),
    nftSet(
      'fabric_in',
      'ipv4_addr : ipv4_addr',
      all.map((it) => [it.fabric, it.address]),
    ),
    nftSet(
      'fabric_out',
      'ipv4_addr : ipv4_addr',
      all.map((it) => [it.address, it.fabric]),
    ),
    nftSet(
      'leaving',
      'ipv4_addr',
      out.map((it) => [it.address]),
    ),
    nftSet(
      'egress_by',
      'ipv4_addr : ipv4_addr',
      out.map((it) => [it.address, it.egress]),
    ),
    nftSet(
      'elastic_in',
      'ipv4_addr : ipv4_addr',
      plan.internet ? all.flatMap((it) => (it.elastic === undefined ? [] : [[it.elastic, it.address]])) : [],
    ),
    ...balancing(plan, host),
    ...groupChains(plan),
    OWN_WAY,
    OWN_SOURCE,
    ...natWays(plan),
    ...publishing(plan).parts,
    spoofing(plan, host, linkOf),
    ...filter(plan, host),
    ...translation(plan, host),
  ]
}

/** The rules of a VPC's router as one nftables transaction that replaces those before it. */
export const vpcRules = (plan: VpcPlan, host: HostPlan, linkOf: (attachment: string) => string): string =>
  nftReplace(ROUTER_TABLE, vpcParts(plan, host, linkOf))
