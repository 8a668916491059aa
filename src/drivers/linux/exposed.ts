import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import { listeningPorts } from '#lib/listening.ts'
import { portKey } from '#lib/ports.ts'
import type { Flow } from './flows.ts'
import type { HostGap, Shared } from './host-side.ts'
import { nftChain, nftSet, type Part } from './nft.ts'

// The host's part of published ports: it translates the address alone, to the VPC's end of the uplink.

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
  nftSet('published', 'inet_proto . inet_service : ipv4_addr', []),
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
export function exposingChains(uplinks: string, fabric: string): Part[] {
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
const loopbackSetting = (uplink: string): string => `ipv4/conf/${uplink}/route_localnet`

/** Without the ports that a program of the host listens on: what it has is its own, whoever came first. */
export async function openOf(
  shared: Shared,
): Promise<{ readonly of: Shared; readonly taken: readonly Exposed[] }> {
  if (!shared.exposed.length) return { of: shared, taken: [] }
  const listening = new Set((await listeningPorts()).map(portKey))
  const [taken, exposed] = [true, false].map((isTaken) =>
    shared.exposed.filter((it) => listening.has(portKey(it)) === isTaken),
  )
  return { of: { ...shared, exposed: exposed ?? [] }, taken: taken ?? [] }
}

export const ownAddresses = (): ReadonlySet<string> =>
  new Set(Object.values(networkInterfaces()).flatMap((it) => it?.map(({ address }) => address) ?? []))

export const wordsOf = (it: Exposed): string => `published port ${it.port}/${it.protocol}`

/** A port that a program of the host has; which one, the command tells. */
export const takenGap = (it: Exposed): HostGap => ({
  difference: {
    what: 'missing',
    thing: 'rule',
    detail: `${wordsOf(it)} not open: a program of the host listens on it`,
  },
  command: `ss -lnp${it.protocol.charAt(0)} 'sport = :${it.port}'`,
})

/** Uplinks by which ports are published, and that do not take answers for 127.0.0.1. */
export const loopbackGaps = (exposed: readonly Exposed[]): HostGap[] =>
  [...new Set(exposed.map((it) => it.uplink))].flatMap((uplink) => {
    const file = `/proc/sys/net/${loopbackSetting(uplink)}`
    if (!existsSync(file) || readFileSync(file, 'utf8').trim() === '1') return []
    const detail = `setting net.${loopbackSetting(uplink).replaceAll('/', '.')} is 0, not 1`
    return [{ difference: { what: 'drift', thing: 'setting', detail }, fix: () => writeFile(file, '1') }]
  })
