import type { Attachment, PlannedPort, VpcPlan } from '#cloud/network/network.driver.ts'
import { portKey } from '#lib/ports.ts'
import type { Flow } from './flows.ts'
import { UPLINK } from './names.ts'
import { nftChain, nftSet, type Element } from './nft.ts'

/**
 * Published ports: the host translates the address alone, to the VPC's end of the uplink, and the VPC's router picks the
 * machine and its port. So the host's part changes only when a port is published or taken back.
 */

/** On flows that came in by a published port, and on the packets that answer them; also their table of routes. */
export const PUBLISHED_MARK = 80

/** Rules of a VPC's router for its published ports; empty without any. */
type Publishing = {
  /** Of the chain that drops what does not belong to the link it came by: a VPC need not have a way to who asks. */
  readonly entry: readonly string[]
  /** Of the chain that translates destinations. */
  readonly translation: readonly string[]
  readonly parts: readonly string[]
}

const NONE: Publishing = { entry: [], translation: [], parts: [] }

function leadTo(it: PlannedPort, to: readonly Attachment[]): string {
  const [first] = to
  const map = to.map(({ address }, at) => `${at} : ${address}`).join(', ')
  const target = to.length === 1 ? first?.address : `numgen inc mod ${to.length} map { ${map} } `
  return `meta l4proto ${it.protocol} dnat ip to ${target}:${it.container}`
}

/** What of a VPC's rules is for its published ports. */
export function publishing(plan: VpcPlan): Publishing {
  if (!plan.published?.length) return NONE
  const byId = new Map(plan.attachments.map((it) => [it.id, it]))
  const arriving = `iifname "${UPLINK}" ip daddr ${plan.uplink.vpc}`
  const elements: Element[] = []
  const chains = plan.published.flatMap((it, index) => {
    const to = it.backends.flatMap((id) => byId.get(id) ?? [])
    // With nobody ready it stays at the router itself, which refuses at once.
    if (!to.length) return []
    elements.push([`${it.protocol} . ${it.host}`, `goto port${index}`])
    return [nftChain(`port${index}`, [`ct mark set ${PUBLISHED_MARK}`, leadTo(it, to)])]
  })
  return {
    entry: [`${arriving} accept`],
    translation: [`${arriving} meta l4proto . th dport vmap @published`],
    parts: [
      ...chains,
      nftSet('published', 'inet_proto . inet_service : verdict', elements),
      nftChain('answers', [
        'type filter hook prerouting priority mangle; policy accept;',
        // Back the way it came, whether or not the machine has a way out.
        `ct direction reply ct mark ${PUBLISHED_MARK} meta mark set ct mark`,
      ]),
    ],
  }
}

/** A port of the host that leads to a VPC's end of an uplink. */
export type Exposed = {
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  readonly to: string
  readonly uplink: string
}

/** The ports that VPCs publish, each once: of the plan that comes last. */
export function exposedBy(plans: readonly VpcPlan[], uplinkOf: (index: number) => string): Exposed[] {
  const all = plans.flatMap((plan) =>
    (plan.published ?? []).map(({ protocol, host: port }) => {
      const it = { protocol, port, to: plan.uplink.vpc, uplink: uplinkOf(plan.index) }
      return [portKey(it), it] as const
    }),
  )
  return [...new Map(all).values()]
}

/** The two sets of the host by which ports lead to VPCs: where each goes, and what may go there. */
export const PUBLISHED_SETS = [
  '  map published { type inet_proto . inet_service : ipv4_addr; }',
  nftSet('published_to', 'ipv4_addr . inet_proto . inet_service', []),
]

export const exposedElement = (it: Exposed): string => `${it.protocol} . ${it.port} : ${it.to}`

export const exposedElements = (all: readonly Exposed[]): ReadonlyMap<string, readonly string[]> =>
  new Map([
    ['published', all.map(exposedElement)],
    ['published_to', all.map((it) => `${it.to} . ${it.protocol} . ${it.port}`)],
  ])

const INTO = 'ip daddr . meta l4proto . th dport @published_to'

/** The host's chains that translate what is sent to an address of its own. No machine of a VPC gets there. */
export function exposingChains(uplinks: string, fabric: string): string[] {
  const lead = `ip daddr != ${fabric} fib daddr type local dnat ip to meta l4proto . th dport map @published`
  return [
    nftChain('published_in', [
      // After others that publish on this host: what they have is theirs.
      'type nat hook prerouting priority dstnat + 5; policy accept;',
      `iifname != ${uplinks} ${lead}`,
    ]),
    nftChain('published_out', ['type nat hook output priority -95; policy accept;', lead]),
  ]
}

/** Of the host's chain for what goes into VPCs: only what was translated here. */
export const EXPOSED_PASS = `ct status dnat ${INTO} accept`

/**
 * Of the host's chain that translates sources: security groups and machines see who asks. Only the host itself shows its
 * end of the uplink, as do clients whose address the VPC has too, by the rules after this one.
 */
export const exposedSource = (uplinks: string): string =>
  `oifname ${uplinks} ${INTO} fib saddr type != local oifname . ip saddr != @clashes accept`

/** What ends the flows that the host tracks of ports that lead elsewhere now, or nowhere. */
export const exposedCut = (elements: Iterable<string>): string[] =>
  [...elements].flatMap((element) => {
    const [, protocol, port, to] = /^(\w+) \. (\d+) : (\S+)$/.exec(element) ?? []
    return to === undefined ? [] : [`-D -p ${protocol} --dport ${port} -r ${to}`]
  })

/**
 * Flows of datagrams to this host at ports that are published now, of clients that went on asking before: the host takes
 * them for its own for as long as they do.
 */
export function strayFlows(
  flows: readonly Flow[],
  elements: Iterable<string>,
  ownAddresses: ReadonlySet<string>,
): Flow[] {
  const ports = new Set([...elements].flatMap((it) => /^udp \. (\d+) :/.exec(it)?.[1] ?? []))
  return flows.filter(
    ({ protocol, port, destination, replySource }) =>
      protocol === 'udp' &&
      ports.has(String(port)) &&
      replySource === destination &&
      ownAddresses.has(destination),
  )
}

/** What is sent from 127.0.0.1 is answered to there: an uplink has to take it. Nothing else from a VPC reaches the host. */
export const loopbackSetting = (uplink: string): string => `ipv4/conf/${uplink}/route_localnet`
