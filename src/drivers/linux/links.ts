import { SocketAddress } from 'node:net'
import type {
  Attachment,
  HostPlan,
  PlannedRoute,
  PlannedSubnet,
  VpcPlan,
} from '#cloud/network/network.driver.ts'
import type { Difference, Thing } from '#cloud/observe/finding.driver.ts'
import { cidr } from '#lib/cidr.ts'
import { peeringLink, routerLink, UPLINK } from './names.ts'
import { PUBLISHED_MARK } from './published.ts'

/**
 * One thing that `ip` can set: `slot` is what there can be one of (the route to an address in a table), `value` what
 * it is now. `set` makes it so whether the slot is empty or filled with something else.
 */
export type Item = {
  readonly slot: string
  readonly value: string
  readonly set: string
  /** For people. */
  readonly words: string
  /** The attachment whose link it hangs on. */
  readonly of?: string
}

/** What is there: by slot its value, and the command that takes it away. */
export type SeenItem = {
  readonly slot: string
  readonly value: string
  readonly unset: string
  readonly words: string
  /** The link that it hangs on. */
  readonly link?: string
}

export type Change = { readonly drift: readonly Difference[]; readonly lines: readonly string[] }

const RULE_LOCAL = 100
const RULE_PUBLISHED = 150
const RULE_REFUSAL = 151
const RULE_BALANCED = 160
const RULE_SUBNET = 200
/** Routes of what the edge answers to peered VPCs. */
const BALANCED_TABLE = 81
// Of what holds in a subnet's table where no route of its own does: below all of these.
const METRIC_LAST = 9999
// The gateway of every machine's IPv6, on each link.
export const GATEWAY6 = 'fe80::1'

/** Addresses whose form is remembered: one plan names each many times, and to parse them costs more than all the rest. */
const FORMS_MAX = 10_000
const forms = new Map<string, string>()

/** An address or network as the kernel writes it. */
export function canonical(address: string): string {
  if (!address.includes(':')) return address
  const known = forms.get(address)
  if (known !== undefined) return known
  const [host = '', prefix] = address.split('/')
  const text = new SocketAddress({ address: host, family: 'ipv6' }).address
  const form = prefix === undefined ? text : `${text}/${prefix}`
  if (forms.size >= FORMS_MAX) forms.clear()
  forms.set(address, form)
  return form
}

const withPrefix = (dst: string): string =>
  dst.includes('/') || dst === 'default' ? dst : `${dst}/${dst.includes(':') ? 128 : 32}`

const destination = (network: string): string => (network === '0.0.0.0/0' ? 'default' : canonical(network))

/** The table of a subnet's routes: the number of its first address, which no two subnets of a VPC share. */
export const tableOf = (subnet: PlannedSubnet): number => cidr(subnet.cidr).base

const slotOfRoute = (table: string, dst: string, metric: number): string =>
  `route ${table} ${dst}${metric === METRIC_LAST ? ' last' : ''}`

const address = (link: string, value: string, of?: string, options = ''): Item => ({
  slot: `address ${link} ${value}`,
  value: '',
  set: `addr replace ${value} dev ${link}${options}`,
  words: `address ${value} on ${link}`,
  ...(of !== undefined && { of }),
})

function route(
  dst: string,
  target: string,
  { table = 'main', metric = 0, of }: { table?: string; metric?: number; of?: string } = {},
): Item {
  const isKind = target === 'unreachable' || target === 'blackhole'
  const where = table === 'main' ? '' : ` table ${table}`
  return {
    slot: slotOfRoute(table, dst, metric),
    value: target,
    set: `route replace ${isKind ? `${target} ${dst}` : `${dst} ${target}`}${where}${metric ? ` metric ${metric}` : ''} proto static`,
    words: `route to ${dst}${table === 'main' ? '' : ` in table ${table}`}`,
    ...(of !== undefined && { of }),
  }
}

const up = (link: string, of?: string): Item => ({
  slot: `up ${link}`,
  value: '',
  set: `link set dev ${link} up`,
  words: `link ${link} up`,
  ...(of !== undefined && { of }),
})

function subnetTable(
  plan: VpcPlan,
  subnet: PlannedSubnet,
  routes: readonly PlannedRoute[],
  links: ReadonlySet<string>,
): Item[] {
  const table = String(tableOf(subnet))
  const targetOf = ({ target }: PlannedRoute): { target: string; of?: string } => {
    if (target === 'blackhole') return { target }
    if (target === 'internet')
      return { target: plan.internet ? `via ${plan.uplink.host} dev ${UPLINK}` : 'unreachable' }
    if ('nat' in target) return { target: `via ${plan.uplink.host} dev ${UPLINK}` }
    if ('peering' in target) {
      const link = peeringLink(target.peering)
      return links.has(link) ? { target: `dev ${link}` } : { target: 'unreachable' }
    }
    const hop = plan.attachments.find((it) => it.address === target.address)
    const link = hop && routerLink(hop.id)
    // Until the machine is there, what is behind it cannot be reached.
    return hop && link && links.has(link)
      ? { target: `via ${target.address} dev ${link} onlink`, of: hop.id }
      : { target: 'unreachable' }
  }
  const isByLink = ({ target }: PlannedRoute): boolean =>
    typeof target === 'object' && ('peering' in target || 'address' in target)
  return [
    {
      slot: `rule ${RULE_SUBNET} from ${subnet.cidr} lookup ${table}`,
      value: '',
      set: `rule add pref ${RULE_SUBNET} from ${subnet.cidr} lookup ${table}`,
      words: `rule for subnet ${subnet.cidr}`,
    },
    ...routes.map((it) => {
      const { target, of } = targetOf(it)
      return route(destination(it.cidr), target, { table, ...(of !== undefined && { of }) })
    }),
    // A route goes with its link; what is behind it then takes no wider route, also before anybody looks.
    ...[...new Set([...routes.filter(isByLink).map((it) => destination(it.cidr)), 'default'])].map((it) =>
      route(it, 'unreachable', { table, metric: METRIC_LAST }),
    ),
  ]
}

/** The way back of what came in by published ports, and of the router's refusals there: out by the uplink, whatever else holds. */
function publishedWay({ uplink }: VpcPlan): Item[] {
  const table = String(PUBLISHED_MARK)
  const rule = (pref: number, selector: string, set: string): Item => ({
    slot: `rule ${pref} ${selector} lookup ${table}`,
    value: '',
    set: `rule add pref ${pref} ${set} lookup ${table}`,
    words: `rule for answers of published ports`,
  })
  const mark = `fwmark 0x${PUBLISHED_MARK.toString(16)}`
  return [
    rule(RULE_PUBLISHED, `from all ${mark}`, mark),
    rule(RULE_REFUSAL, `from ${uplink.vpc}/32`, `from ${uplink.vpc}`),
    route('default', `via ${uplink.host} dev ${UPLINK}`, { table }),
  ]
}

/** The way of what the edge answers to who called a load balancer by a peering; whether they may is asked of what they send. */
function balancedWay({ peerings = [] }: VpcPlan, { resolver }: HostPlan, links: ReadonlySet<string>): Item[] {
  const table = String(BALANCED_TABLE)
  return [
    {
      slot: `rule ${RULE_BALANCED} from ${resolver}/32 lookup ${table}`,
      value: '',
      set: `rule add pref ${RULE_BALANCED} from ${resolver} lookup ${table}`,
      words: 'rule for answers of load balancers',
    },
    ...peerings.flatMap(({ id, ranges }) =>
      links.has(peeringLink(id))
        ? ranges.map((it) => route(canonical(it), `dev ${peeringLink(id)}`, { table }))
        : [],
    ),
  ]
}

const linkItems = (it: Attachment, gateway: string): Item[] => {
  const link = routerLink(it.id)
  return [
    up(link, it.id),
    address(link, `${gateway}/32`, it.id),
    address(link, `${GATEWAY6}/64`, it.id, ' nodad'),
    route(`${it.address}/32`, `dev ${link}`, { of: it.id }),
    route(`${canonical(it.address6)}/128`, `dev ${link}`, { of: it.id }),
  ]
}

/** Everything `ip` should show inside a VPC's namespace, given the links of attachments that are there. */
export function itemsInside(plan: VpcPlan, host: HostPlan, links: ReadonlySet<string>): Item[] {
  const gateways = new Map(plan.subnets.map((it) => [it.id, it.gateway]))
  const viaHost = `via ${plan.uplink.host} dev ${UPLINK}`
  return [
    up('lo'),
    up(UPLINK),
    ...plan.vips.flatMap((it) => [
      address('lo', `${it.address}/32`),
      address('lo', `${canonical(it.address6)}/128`, undefined, ' nodad'),
    ]),
    ...(plan.balancers ?? []).map((it) => address('lo', `${it.address}/32`)),
    address(UPLINK, `${plan.uplink.vpc}/31`),
    // Without these, proxy ARP answers for addresses that nobody has and their packets leave by the uplink.
    ...plan.subnets.map((it) => route(it.cidr, 'unreachable')),
    route(canonical(plan.range6), 'unreachable'),
    route(`${host.resolver}/32`, viaHost),
    ...(plan.internet ? [route('default', viaHost)] : []),
    // The VPC's own addresses first, then the subnet's table, then the default.
    {
      slot: `rule ${RULE_LOCAL} from all lookup main suppress 0`,
      value: '',
      set: `rule add pref ${RULE_LOCAL} lookup main suppress_prefixlength 0`,
      words: 'rule for addresses of the VPC',
    },
    ...plan.attachments
      .filter((it) => links.has(routerLink(it.id)))
      .flatMap((it) => linkItems(it, gateways.get(it.subnet) ?? '')),
    ...(plan.peerings ?? []).map((it) => peeringLink(it.id)).flatMap((it) => (links.has(it) ? [up(it)] : [])),
    ...plan.subnets.flatMap((it) => (it.routes ? subnetTable(plan, it, it.routes, links) : [])),
    ...(plan.published?.length ? publishedWay(plan) : []),
    ...(plan.balancers?.length && plan.peerings?.length ? balancedWay(plan, host, links) : []),
  ]
}

/** External addresses that lead to the VPC, or that it sends from. */
export const externalsOf = (plan: VpcPlan): string[] => {
  if (!plan.internet) return []
  const targets = plan.subnets.flatMap((it) => it.routes ?? []).map((it) => it.target)
  const all = [
    ...plan.vips.map((it) => it.external),
    ...plan.attachments.flatMap((it) => [it.egress, it.elastic]),
    ...targets.map((it) => (typeof it === 'object' && 'nat' in it ? it.nat : undefined)),
  ]
  return [...new Set(all)].filter((it) => it !== undefined)
}

/** Everything of one VPC on the host: its uplink, and the routes to what is reached by it. */
export function itemsOnHost(plan: VpcPlan, uplink: string): Item[] {
  const target = `via ${plan.uplink.vpc} dev ${uplink} src ${plan.uplink.host}`
  return [
    up(uplink),
    address(uplink, `${plan.uplink.host}/31`),
    ...plan.attachments.map((it) => route(`${it.fabric}/32`, target)),
    ...externalsOf(plan).map((it) => route(`${it}/32`, target)),
  ]
}

export type LinkJson = {
  readonly ifindex: number
  readonly ifname: string
  readonly link_index?: number
  readonly ifalias?: string
  readonly flags: readonly string[]
  readonly mtu: number
  readonly addr_info?: readonly {
    readonly local: string
    readonly prefixlen: number
    readonly label?: string
  }[]
}
export type RouteJson = {
  readonly type?: string
  readonly dst: string
  readonly gateway?: string
  readonly dev?: string
  readonly table?: string
  readonly protocol?: string
  readonly metric?: number
  readonly prefsrc?: string
  readonly flags: readonly string[]
  readonly pref?: string
}
export type RuleJson = {
  readonly priority: number
  readonly src: string
  readonly srclen?: number
  readonly fwmark?: string
  readonly table?: string
  readonly suppress_prefixlen?: number
}

/** The addresses and states of links, in the words of Item. */
export function seenLinks(links: readonly LinkJson[]): SeenItem[] {
  return links.flatMap((link) => [
    ...(link.flags.includes('UP')
      ? [
          {
            slot: `up ${link.ifname}`,
            value: '',
            unset: '',
            words: `link ${link.ifname} up`,
            link: link.ifname,
          },
        ]
      : []),
    ...(link.addr_info ?? [])
      .filter((it) => it.local !== '127.0.0.1' && it.local !== '::1')
      .map((it) => {
        const value = `${it.local}/${it.prefixlen}`
        return {
          slot: `address ${link.ifname} ${value}`,
          value: '',
          unset: `addr del ${value} dev ${link.ifname}`,
          words: `address ${value} on ${link.ifname}`,
          link: link.ifname,
        }
      }),
  ])
}

/** The routes that the kernel did not make itself. */
export function seenRoutes(routes: readonly RouteJson[]): SeenItem[] {
  return routes
    .filter((it) => it.protocol !== 'kernel' && it.table !== 'local' && it.type !== 'multicast')
    .map((it) => {
      const table = it.table ?? 'main'
      const dst = withPrefix(it.dst)
      const metric = it.metric ?? 0
      const kind = it.type ?? 'unicast'
      const target =
        kind === 'unicast'
          ? [
              it.gateway && `via ${it.gateway}`,
              it.dev && `dev ${it.dev}`,
              it.prefsrc && `src ${it.prefsrc}`,
              it.flags.includes('onlink') && 'onlink',
            ]
              .filter(Boolean)
              .join(' ')
          : kind
      const device = kind === 'unicast' && it.dev ? ` dev ${it.dev}` : ''
      const six = dst === 'default' && it.pref ? '::/0' : dst
      return {
        slot: slotOfRoute(table, six, metric),
        value: target,
        unset: `route del ${kind === 'unicast' ? '' : `${kind} `}${six}${device} table ${table}${metric ? ` metric ${metric}` : ''}`,
        words: `route to ${six}${table === 'main' ? '' : ` in table ${table}`}`,
        ...(kind === 'unicast' && it.dev && { link: it.dev }),
      }
    })
}

/** The policy rules other than the kernel's three. */
export function seenRules(rules: readonly RuleJson[]): SeenItem[] {
  return rules
    .filter((it) => ![0, 32766, 32767].includes(it.priority))
    .map((it) => {
      const mark = it.fwmark === undefined ? '' : ` fwmark ${it.fwmark}`
      const from = `${it.src === 'all' ? 'all' : `${it.src}/${it.srclen ?? 32}`}${mark}`
      const suppress = it.suppress_prefixlen === undefined ? '' : ` suppress ${it.suppress_prefixlen}`
      return {
        slot: `rule ${it.priority} from ${from} lookup ${it.table ?? ''}${suppress}`,
        value: '',
        unset: `rule del pref ${it.priority} from ${from} lookup ${it.table ?? 'main'}`,
        words: `rule ${it.priority} from ${from}`,
      }
    })
}

/** What the kernel puts into every namespace when its modules are there; it cannot be removed. */
const KERNELS_LINK = /^(lo|(tunl|gre|gretap|erspan|ip_vti|ip6_vti|sit|ip6tnl|ip6gre)0)$/

/** Links of a namespace that the plan does not have. */
export const strayLinks = (plan: VpcPlan, links: readonly LinkJson[]): string[] => {
  const planned = new Set([
    UPLINK,
    ...plan.attachments.map((it) => routerLink(it.id)),
    ...(plan.peerings ?? []).map((it) => peeringLink(it.id)),
  ])
  return links.map((it) => it.ifname).filter((it) => !KERNELS_LINK.test(it) && !planned.has(it))
}

const THINGS: Readonly<Record<string, Thing>> = {
  up: 'link',
  address: 'address',
  route: 'route',
  rule: 'rule',
}
const thingOf = (slot: string): Thing => THINGS[slot.slice(0, slot.indexOf(' '))] ?? 'link'

/** What has to be done so that `seen` becomes `wanted`, and how it differs in words. */
export function difference(wanted: readonly Item[], seen: readonly SeenItem[]): Change {
  const wantedBySlot = new Map(wanted.map((it) => [it.slot, it]))
  const seenBySlot = new Map(seen.map((it) => [it.slot, it]))
  const extra = seen.filter((it) => !wantedBySlot.has(it.slot) && !it.slot.startsWith('up '))
  const drift: Difference[] = []
  const lines: string[] = []
  for (const it of wantedBySlot.values()) {
    const there = seenBySlot.get(it.slot)
    if (there?.value === it.value) continue
    const thing = thingOf(it.slot)
    drift.push(
      there
        ? { what: 'drift', thing, detail: `${it.words} changed` }
        : { what: 'missing', thing, detail: `${it.words} missing` },
    )
    lines.push(it.set)
  }
  for (const it of extra) {
    drift.push({ what: 'orphan', thing: thingOf(it.slot), detail: `${it.words} not in the plan` })
    lines.push(it.unset)
  }
  return { drift, lines }
}
