import type { PlannedGroup, PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { nftChain, nftSet } from './nft.ts'

type Direction = PlannedRule['direction']

function protocolOf({ protocol, ports }: PlannedRule): string {
  if (protocol === 'any') return ''
  if (protocol === 'icmp') return 'meta l4proto { icmp, ipv6-icmp } '
  if (!ports) return `meta l4proto ${protocol} `
  return `${protocol} dport ${ports.from === ports.to ? ports.from : `${ports.from}-${ports.to}`} `
}

/** One rule of a group as rules of nftables: none, one, or one for each family. */
function ruleLines(rule: PlannedRule, indexOf: ReadonlyMap<string, number>): string[] {
  const side = rule.direction === 'ingress' ? 'saddr' : 'daddr'
  const pass = `${protocolOf(rule)}${rule.direction === 'ingress' ? 'accept' : 'goto groups_ingress'}`
  if (rule.peer === 'any') return [pass]
  if ('cidr' in rule.peer)
    return [`${rule.peer.cidr.includes(':') ? 'ip6' : 'ip'} ${side} ${rule.peer.cidr} ${pass}`]
  const peer = indexOf.get(rule.peer.group)
  // A group that is not of this VPC has no members here.
  return peer === undefined
    ? []
    : [`ip ${side} @members${peer} ${pass}`, `ip6 ${side} @members${peer}_6 ${pass}`]
}

const groupChain = (
  group: PlannedGroup,
  index: number,
  direction: Direction,
  indexOf: Map<string, number>,
): string =>
  nftChain(
    `${direction}${index}`,
    group.rules.filter((it) => it.direction === direction).flatMap((it) => ruleLines(it, indexOf)),
  )

/**
 * Security groups: the chains `groups_egress` and `groups_ingress`, through which every new flow goes in that order, and what they
 * lead to. An address is looked up once per direction and leads to the chain of its combination of groups, so that
 * the cost of a packet is that of its own groups, however many there are.
 */
export function groupChains(plan: VpcPlan): string[] {
  const indexOf = new Map(plan.groups.map((it, index) => [it.id, index]))
  const combinations = new Map<string, number[]>()
  const maps = { egress: [] as [string, string][], ingress: [] as [string, string][] }
  const maps6 = { egress: [] as [string, string][], ingress: [] as [string, string][] }
  for (const it of plan.attachments) {
    const groups = [...new Set(it.groups.flatMap((id) => indexOf.get(id) ?? []))].toSorted((a, b) => a - b)
    if (!it.groups.length) continue
    const key = groups.join('_') || 'none'
    combinations.set(key, groups)
    for (const direction of ['egress', 'ingress'] as const) {
      maps[direction].push([it.address, `goto ${direction}_of_${key}`])
      maps6[direction].push([it.address6, `goto ${direction}_of_${key}`])
    }
  }
  const members = plan.groups.flatMap((group, index) => {
    const of = plan.attachments.filter((it) => it.groups.includes(group.id))
    return [
      nftSet(
        `members${index}`,
        'ipv4_addr',
        of.map((it) => [it.address]),
      ),
      nftSet(
        `members${index}_6`,
        'ipv6_addr',
        of.map((it) => [it.address6]),
      ),
    ]
  })
  return [
    ...members,
    ...(['ingress', 'egress'] as const).flatMap((direction) => [
      ...plan.groups.map((group, index) => groupChain(group, index, direction, indexOf)),
      ...[...combinations].map(([key, groups]) =>
        nftChain(`${direction}_of_${key}`, [...groups.map((index) => `jump ${direction}${index}`), 'drop']),
      ),
      nftSet(`${direction}_of`, 'ipv4_addr : verdict', maps[direction]),
      nftSet(`${direction}_of6`, 'ipv6_addr : verdict', maps6[direction]),
      nftChain(
        `groups_${direction}`,
        direction === 'ingress'
          ? ['ip daddr vmap @ingress_of', 'ip6 daddr vmap @ingress_of6', 'accept']
          : ['ip saddr vmap @egress_of', 'ip6 saddr vmap @egress_of6', 'goto groups_ingress'],
      ),
    ]),
  ]
}
