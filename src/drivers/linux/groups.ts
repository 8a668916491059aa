import { createHash } from 'node:crypto'
import type { PlannedGroup, PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { cidr, contains, parseIpv4 } from '#lib/cidr.ts'
import { canonical } from './links.ts'
import { nftChain, nftSet, type Part } from './nft.ts'

type Direction = PlannedRule['direction']
type Range = { readonly from: number; readonly to: number }

const FAMILIES = {
  ip: { type: 'ipv4_addr', nfproto: 'ipv4', bits: 32, suffix: '' },
  ip6: { type: 'ipv6_addr', nfproto: 'ipv6', bits: 128, suffix: '_6' },
} as const
type Family = keyof typeof FAMILIES
const ICMP = { ip: 'icmp', ip6: 'ipv6-icmp' } as const
const PORTS_ALL: Range = { from: 0, to: 65535 }
const HEXTETS = 8
const HEXTET_BITS = 16

/** An IPv6 network without the bits of its hosts, which two texts of one network may differ in. */
function masked6(address: string, prefix: number): string {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const words = (text = ''): number[] => (text ? text.split(':').map((it) => Number.parseInt(it, 16)) : [])
  const [first, last] = [words(head), words(tail)]
  const zeros = Array.from({ length: tail === undefined ? 0 : HEXTETS - first.length - last.length }, () => 0)
  const all = [...first, ...zeros, ...last].map((word, at) => {
    const kept = Math.min(HEXTET_BITS, Math.max(0, prefix - at * HEXTET_BITS))
    return (word & (0xffff << (HEXTET_BITS - kept))).toString(16)
  })
  return canonical(all.join(':'))
}

/**
 * Rules of a group that are looked up in one and the same way: by protocol and port and, with a `field`, by the other
 * side's network. Those are of one length, so that no two overlap, as sets want it.
 */
type Lookup = {
  readonly name: string
  /** What is matched before, one for each rule of nftables that it comes to. */
  readonly before: readonly string[]
  readonly field?: Family
  readonly icmp: readonly Family[]
}

const ANYONE: Lookup = { name: 'any', before: [''], icmp: ['ip', 'ip6'] }

/** How a rule's other side is looked up, and as what; undefined for a group that is not of this VPC and has no members here. */
function lookupOf(
  { peer, direction }: PlannedRule,
  groups: ReadonlySet<string>,
): { readonly lookup: Lookup; readonly network?: string } | undefined {
  const side = direction === 'ingress' ? 'saddr' : 'daddr'
  if (peer === 'any') return { lookup: ANYONE }
  if ('group' in peer) {
    const { group } = peer
    const before = [`ip ${side} @members_${group} `, `ip6 ${side} @members_${group}_6 `]
    return groups.has(group) ? { lookup: { ...ANYONE, name: `of_${group}`, before } } : undefined
  }
  const family: Family = peer.cidr.includes(':') ? 'ip6' : 'ip'
  const { nfproto, bits, suffix } = FAMILIES[family]
  const [address = '', length] = peer.cidr.split('/')
  const prefix = Number(length)
  const name = `net_${prefix}${suffix}`
  if (prefix === 0) return { lookup: { name, before: [`meta nfproto ${nfproto} `], icmp: [family] } }
  const network = family === 'ip6' ? masked6(address, prefix) : address
  return {
    lookup: { name, before: [''], field: family, icmp: [family] },
    network: prefix === bits ? network : `${network}/${prefix}`,
  }
}

function protocolsOf({ protocol }: PlannedRule, { icmp }: Lookup): readonly string[] {
  return protocol === 'icmp' ? icmp.map((it) => ICMP[it]) : [protocol]
}

/** The same ports as ranges of which no two overlap. */
function merged(ranges: readonly Range[]): Range[] {
  const all: Range[] = []
  for (const it of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = all.at(-1)
    if (last && it.from <= last.to + 1) all.splice(-1, 1, { from: last.from, to: Math.max(last.to, it.to) })
    else all.push(it)
  }
  return all
}

/** The rules of one direction of a group: its chain, and the sets that this looks up. */
function groupParts(group: PlannedGroup, direction: Direction, groups: ReadonlySet<string>): Part[] {
  const chain = `${direction}_${group.id}`
  const side = direction === 'ingress' ? 'saddr' : 'daddr'
  const pass = direction === 'ingress' ? 'accept' : 'goto groups_ingress'
  const lookups = new Map<string, Lookup>()
  // By look-up: networks of which everything passes, and ranges of ports by network and protocol.
  const whole = new Map<string, Set<string>>()
  const services = new Map<string, Map<string, Range[]>>()
  for (const rule of group.rules) {
    const found = rule.direction === direction ? lookupOf(rule, groups) : undefined
    if (!found) continue
    const { lookup, network } = found
    lookups.set(lookup.name, lookup)
    if (rule.protocol === 'any') {
      whole.set(lookup.name, (whole.get(lookup.name) ?? new Set<string>()).add(network ?? ''))
      continue
    }
    const byKey = services.get(lookup.name) ?? new Map<string, Range[]>()
    services.set(lookup.name, byKey)
    const range = (rule.protocol !== 'icmp' && rule.ports) || PORTS_ALL
    for (const protocol of protocolsOf(rule, lookup)) {
      const key = network === undefined ? protocol : `${network} . ${protocol}`
      const ranges = byKey.get(key)
      if (ranges) ranges.push(range)
      else byKey.set(key, [range])
    }
  }
  const sets: Part[] = []
  const lines: string[] = []
  for (const [name, { before, field }] of [...lookups].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const types = field ? [FAMILIES[field].type] : []
    const fields = field ? [`${field} ${side}`] : []
    const networks = whole.get(name)
    const byKey = services.get(name)
    const add = (set: string, operand: string, type: string, elements: readonly string[]): void => {
      sets.push(
        nftSet(
          set,
          type,
          elements.map((it) => [it]),
          'interval',
        ),
      )
      lines.push(...before.map((it) => `${it}${operand} @${set} ${pass}`))
    }
    if (networks && field) add(`${chain}_${name}_whole`, fields.join(), types.join(), [...networks])
    if (networks && !field) lines.push(...before.map((it) => `${it}${pass}`))
    if (!byKey) continue
    add(
      `${chain}_${name}`,
      [...fields, 'meta l4proto', 'th dport'].join(' . '),
      [...types, 'inet_proto', 'inet_service'].join(' . '),
      [...byKey].flatMap(([key, ranges]) =>
        merged(ranges).map(({ from, to }) => `${key} . ${from === to ? from : `${from}-${to}`}`),
      ),
    )
  }
  return [...sets, nftChain(chain, lines)]
}

/** A name for a combination of groups; that of a single one is its own, of none no id's. */
const combinationOf = (groups: readonly string[]): string =>
  groups.length > 1 ? createHash('sha256').update(groups.join()).digest('hex') : (groups[0] ?? '')

/**
 * Security groups: the chains `groups_egress` and `groups_ingress`, through which every new flow goes in that order, and what they
 * lead to; and `groups_balanced` for what goes to load balancers, `groups_balancing` for what comes from them. An address is looked up once per direction and leads to
 * the chain of its combination of groups, whose rules are sets: the cost of a packet is that of its own groups, however
 * many rules, groups and machines there are.
 */
export function groupChains(plan: VpcPlan): Part[] {
  const known = new Set(plan.groups.map((it) => it.id))
  const combinations = new Map<string, readonly string[]>()
  const of = new Map<string, string>()
  for (const it of plan.attachments) {
    if (!it.groups.length) continue
    const groups = [...new Set(it.groups)].filter((id) => known.has(id)).toSorted()
    const name = combinationOf(groups)
    combinations.set(name, groups)
    of.set(it.id, name)
  }
  const members = new Map<string, VpcPlan['attachments'][number][]>(plan.groups.map((it) => [it.id, []]))
  for (const it of plan.attachments) for (const id of new Set(it.groups)) members.get(id)?.push(it)
  return [
    ...[...members].flatMap(([id, all]) => [
      nftSet(
        `members_${id}`,
        'ipv4_addr',
        all.map((it) => [it.address]),
      ),
      nftSet(
        `members_${id}_6`,
        'ipv6_addr',
        all.map((it) => [canonical(it.address6)]),
      ),
    ]),
    ...(['ingress', 'egress'] as const).flatMap((direction) => {
      const led = plan.attachments.flatMap((it) => {
        const name = of.get(it.id)
        return name === undefined ? [] : [{ it, verdict: `goto ${direction}_of_${name}` }]
      })
      return [
        ...plan.groups.flatMap((group) => groupParts(group, direction, known)),
        ...[...combinations].map(([name, groups]) =>
          nftChain(`${direction}_of_${name}`, [...groups.map((id) => `jump ${direction}_${id}`), 'drop']),
        ),
        nftSet(
          `${direction}_of`,
          'ipv4_addr : verdict',
          led.map(({ it, verdict }) => [it.address, verdict]),
        ),
        nftSet(
          `${direction}_of6`,
          'ipv6_addr : verdict',
          led.map(({ it, verdict }) => [canonical(it.address6), verdict]),
        ),
        nftChain(
          `groups_${direction}`,
          direction === 'ingress'
            ? ['ip daddr vmap @ingress_of', 'ip6 daddr vmap @ingress_of6', 'accept']
            : ['ip saddr vmap @egress_of', 'ip6 saddr vmap @egress_of6', 'goto groups_ingress'],
        ),
      ]
    }),
    ...(plan.balancers?.length ? balancedChains(plan, of, combinations) : []),
  ]
}

/**
 * A rule of egress for load balancers, by the address and port that were called, which the packet has no more and which
 * cannot be looked up together: none where it is for another group, IPv6 or something else than TCP.
 */
function balancedLine({ direction, protocol, ports, peer }: PlannedRule): string[] {
  const other = typeof peer === 'object' && ('group' in peer || peer.cidr.includes(':'))
  if (direction !== 'egress' || other || (protocol !== 'any' && protocol !== 'tcp')) return []
  const to = peer === 'any' ? '' : `ct original ip daddr ${peer.cidr} `
  const range =
    protocol === 'tcp' && ports ? `meta l4proto tcp ct original proto-dst ${ports.from}-${ports.to} ` : ''
  return [`${to}${range}accept`]
}

/**
 * A rule of ingress for load balancers, which show the platform's address and stand for their own: it has to let one of
 * them, and a group lets none.
 */
function balancingLine({ direction, protocol, ports, peer }: PlannedRule, own: readonly string[]): string[] {
  if (direction !== 'ingress' || (protocol !== 'any' && protocol !== 'tcp')) return []
  const isLet = peer === 'any' || ('cidr' in peer && own.some((it) => isWithin(it, peer.cidr)))
  if (!isLet) return []
  return [
    protocol === 'tcp' && ports ? `tcp dport ${ports.from}-${ports.to} accept` : 'meta l4proto tcp accept',
  ]
}

/** Whether an IPv4 address is in a network, which may be one of IPv6. */
export function isWithin(address: string, network: string): boolean {
  const value = parseIpv4(address)
  return !network.includes(':') && value !== undefined && contains(cidr(network), value)
}

/** What leads to the rules of egress for load balancers, and of ingress from them; who is in no group may call all, and be called. */
function balancedChains(
  { attachments, groups: all, balancers = [] }: VpcPlan,
  of: ReadonlyMap<string, string>,
  combinations: ReadonlyMap<string, readonly string[]>,
): Part[] {
  const own = balancers.map((it) => it.address)
  const chains = (word: string, side: string, linesOf: (rule: PlannedRule) => string[]): Part[] => [
    ...all.map(({ id, rules }) => nftChain(`${word}_${id}`, rules.flatMap(linesOf))),
    ...[...combinations].map(([name, groups]) =>
      nftChain(`${word}_of_${name}`, [...groups.map((id) => `jump ${word}_${id}`), 'drop']),
    ),
    nftSet(
      `${word}_of`,
      'ipv4_addr : verdict',
      attachments.flatMap((it) => {
        const name = of.get(it.id)
        return name === undefined ? [] : [[it.address, `goto ${word}_of_${name}`] as const]
      }),
    ),
    nftChain(`groups_${word}`, [`ip ${side} vmap @${word}_of`, 'accept']),
  ]
  return [
    ...chains('balancing', 'daddr', (rule) => balancingLine(rule, own)),
    ...chains('balanced', 'saddr', balancedLine),
  ]
}
