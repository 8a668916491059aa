import { BALANCER_PORTS, type HostPlan } from '#cloud/network/network.driver.ts'
import { contains, overlaps, parseCidr, parseIpv4 } from '#lib/cidr.ts'
import type { RouteJson } from './links.ts'
import { nftChain, nftReplace, nftSet, type Part } from './nft.ts'
import {
  EXPOSED_PASS,
  type Exposed,
  exposedElements,
  exposedSource,
  exposingChains,
  PUBLISHED_SETS,
} from './exposed.ts'

/** TCP ports that the host offers to VPCs beside DNS: load balancers; as nftables writes a range. */
export const BALANCER_RANGE = `${BALANCER_PORTS.from}-${BALANCER_PORTS.to}`

/** What the host's own routes say about where its networks are. */
export type Surroundings = {
  /** Networks the host has a route to other than the default: its own, which VPCs may not reach. */
  readonly networks: readonly string[]
  /** Links that lead out: those of a default route. */
  readonly exits: readonly string[]
  /** Connected networks with their link, to answer there for external addresses. */
  readonly connected: readonly { readonly cidr: string; readonly link: string }[]
}

// A host with more routes than this is a router of a kind that this table is not meant for; the rest is not named.
const NETWORKS_MAX = 4096

const asNetwork = (dst: string): string => (dst.includes('/') ? dst : `${dst}/32`)

/** Reads the host's main table; `isOurs` says which links are our uplinks. */
export function surroundings(routes: readonly RouteJson[], isOurs: (link: string) => boolean): Surroundings {
  const networks = new Set<string>()
  const exits = new Set<string>()
  const connected: { cidr: string; link: string }[] = []
  for (const it of routes) {
    if (!it.dev || isOurs(it.dev) || it.dev === 'lo') continue
    // Two halves in place of a default route are one too.
    if (it.dst === 'default' || it.dst.endsWith('/1')) {
      exits.add(it.dev)
      continue
    }
    const cidr = asNetwork(it.dst)
    if (networks.size < NETWORKS_MAX) networks.add(cidr)
    if (!it.gateway) connected.push({ cidr, link: it.dev })
  }
  return { networks: [...networks].toSorted(), exits: [...exits].toSorted(), connected }
}

/** Marks the proxy neighbours that are ours. */
export const PROXY_PROTOCOL = 190

export type NeighbourJson = { readonly dst: string; readonly dev: string; readonly protocol?: string }

/**
 * The commands that make the host answer for exactly those of `externals` that lie in one of its networks. Of the
 * proxy neighbours that are there only ours in `pools` are touched.
 */
export function proxyLines(
  externals: readonly string[],
  { connected }: Surroundings,
  there: readonly NeighbourJson[],
  pools: readonly string[],
): string[] {
  const networkOf = (address: string, networks: readonly string[]): number =>
    networks.findIndex((it) => {
      const cidr = parseCidr(it)
      return cidr !== undefined && contains(cidr, parseIpv4(address) ?? 0)
    })
  const cidrs = connected.map((it) => it.cidr)
  const wanted = new Map(
    externals.flatMap((it) => {
      const link = connected[networkOf(it, cidrs)]?.link
      return link ? [[it, link]] : []
    }),
  )
  const ours = there.filter((it) => it.protocol === String(PROXY_PROTOCOL) && networkOf(it.dst, pools) >= 0)
  const stale = ours.filter((it) => wanted.get(it.dst) !== it.dev)
  for (const it of ours) if (wanted.get(it.dst) === it.dev) wanted.delete(it.dst)
  return [
    ...stale.map((it) => `neigh del proxy ${it.dst} dev ${it.dev}`),
    ...[...wanted].map(([it, link]) => `neigh replace proxy ${it} dev ${link} protocol ${PROXY_PROTOCOL}`),
  ]
}

/** Networks that do not lie in one another, which interval sets want. */
export function widest(networks: readonly string[]): string[] {
  const parsed = networks.flatMap((text) => {
    const cidr = parseCidr(text)
    return cidr ? [{ text, cidr }] : []
  })
  const sorted = parsed.toSorted((a, b) => a.cidr.prefix - b.cidr.prefix)
  const kept: typeof parsed = []
  for (const it of sorted) if (!kept.some((wide) => overlaps(wide.cidr, it.cidr))) kept.push(it)
  return kept.map((it) => it.text)
}

/** A range of a VPC behind an uplink: a client from outside whose own address lies in it is translated on entry. */
export type Clash = { readonly uplink: string; readonly cidr: string }

/** The contents of the host's sets; they change more often than the rules that use them. */
export type HostSets = {
  readonly networks: readonly string[]
  readonly exits: readonly string[]
  readonly clashes: readonly Clash[]
  readonly exposed: readonly Exposed[]
}

/** Elements of the sets that every VPC adds to, by set. */
export type Shares = ReadonlyMap<string, readonly string[]>

export const sharesOf = ({ clashes, exposed }: Pick<HostSets, 'clashes' | 'exposed'>): Shares =>
  new Map([['clashes', clashes.map((it) => `"${it.uplink}" . ${it.cidr}`)], ...exposedElements(exposed)])

const fill = (table: string, set: string, elements: readonly string[]): string[] => [
  `flush ${set === 'published' ? 'map' : 'set'} inet ${table} ${set}`,
  ...(elements.length ? [`add element inet ${table} ${set} { ${elements.join(', ')} }`] : []),
]

/** Those of `all` that `known` lacks, by set. */
export const beyond = (all: Shares, known: Shares): Shares =>
  new Map(
    [...all].map(([set, elements]) => {
      const there = new Set(known.get(set))
      return [set, elements.filter((it) => !there.has(it))]
    }),
  )

/** A transaction that takes elements out of sets and puts others in; empty when there is nothing to do. */
export const sharesText = (table: string, gone: Shares, added: Shares): string => {
  const lines = (verb: string, shares: Shares): string[] =>
    [...shares].flatMap(([set, elements]) =>
      elements.length ? [`${verb} element inet ${table} ${set} { ${elements.join(', ')} }\n`] : [],
    )
  return [...lines('delete', gone), ...lines('add', added)].join('')
}

/** A transaction that makes the host's sets what they should be. */
export const hostSetsText = (table: string, sets: HostSets): string =>
  [
    ...fill(table, 'networks', widest(sets.networks)),
    ...fill(
      table,
      'exits',
      sets.exits.map((it) => `"${it}"`),
    ),
    ...[...sharesOf(sets)].flatMap(([set, elements]) => fill(table, set, elements)),
    '',
  ].join('\n')

const forwarding = (prefix: string, flowsMax: number): Part[] => {
  const uplinks = `"${prefix}-u*"`
  return [
    nftChain('prerouting', [
      'type filter hook prerouting priority raw; policy accept;',
      `iifname != ${uplinks} accept`,
      // What comes from a VPC has one of the addresses that lead to it, and is IPv4.
      'meta nfproto ipv6 drop',
      'fib saddr . iif oif missing drop',
    ]),
    nftChain('flow_limit', [
      'type filter hook prerouting priority mangle; policy accept;',
      // The host's table of flows is one for all.
      `iifname ${uplinks} ct state new add @flows { iif ct count over ${flowsMax} } drop`,
    ]),
    nftChain('forward', [
      'type filter hook forward priority filter - 5; policy accept;',
      `iifname ${uplinks} goto from_vpc`,
      `oifname ${uplinks} goto into_vpc`,
    ]),
    nftChain('from_vpc', [
      'ct state established,related accept',
      `oifname ${uplinks} goto into_vpc`,
      'ip daddr @allowed accept',
      // A link that appeared since the sets were filled is closed, not open.
      'oifname != @exits drop',
      'ip daddr @networks drop',
    ]),
    nftChain('into_vpc', [
      'ct state established,related accept',
      `ct state new add @flows { oif ct count over ${flowsMax} } drop`,
      'ip daddr @external accept',
      EXPOSED_PASS,
      'drop',
    ]),
  ]
}

/**
 * The host's table: between VPCs, the host and the outside. A drop in it is final; an accept is not, which is why
 * Docker's own chain needs one too.
 */
export function hostRules(prefix: string, plan: HostPlan, flowsMax: number): string {
  const uplinks = `"${prefix}-u*"`
  const pools = plan.external.filter((it) => it.masquerade).map((it) => it.cidr)
  const list = (networks: readonly string[]): (readonly [string])[] => widest(networks).map((it) => [it])
  return nftReplace(prefix, [
    nftSet('external', 'ipv4_addr', list(plan.external.map((it) => it.cidr)), 'interval'),
    nftSet('pools', 'ipv4_addr', list(pools), 'interval'),
    nftSet('allowed', 'ipv4_addr', list(plan.allowed), 'interval'),
    nftSet('networks', 'ipv4_addr', [], 'interval'),
    nftSet('exits', 'ifname', []),
    nftSet('clashes', 'ifname . ipv4_addr', [], 'interval'),
    ...PUBLISHED_SETS,
    ...exposingChains(uplinks, plan.fabric),
    `  set flows { type iface_index; flags dynamic; size 65535; }`,
    ...forwarding(prefix, flowsMax),
    nftChain('input', [
      'type filter hook input priority filter - 5; policy accept;',
      `iifname ${uplinks} goto from_vpc_in`,
      // Fabric addresses are for the platform alone, the resolver's for VPCs.
      `iifname != "lo" ip daddr ${plan.fabric} drop`,
    ]),
    nftChain('from_vpc_in', [
      'ct state established,related accept',
      `ip daddr ${plan.resolver} meta l4proto { tcp, udp } th dport 53 accept`,
      `ip daddr ${plan.resolver} tcp dport ${BALANCER_RANGE} accept`,
      'drop',
    ]),
    nftChain('postrouting', [
      'type nat hook postrouting priority srcnat - 5; policy accept;',
      exposedSource(uplinks),
      // Load balancers by the resolver's, so that routers tell what they send from the rest of the platform.
      `oifname ${uplinks} ip saddr ${plan.resolver} ip daddr ${plan.fabric} accept`,
      // The platform shows itself to a VPC by its end of the uplink, whatever address a process is bound to.
      `oifname ${uplinks} ip daddr ${plan.fabric} masquerade`,
      'oifname . ip saddr @clashes masquerade',
      `oifname != ${uplinks} ip saddr @pools masquerade`,
    ]),
  ])
}
