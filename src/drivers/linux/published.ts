import type { Attachment, PlannedPort, VpcPlan } from '#cloud/network/network.driver.ts'
import { UPLINK } from './names.ts'
import { nftChain, nftSet, type Element, type Part } from './nft.ts'

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
  readonly parts: readonly Part[]
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
  const chains = plan.published.flatMap((it) => {
    const to = it.backends.flatMap((id) => byId.get(id) ?? [])
    // With nobody ready it stays at the router itself, which refuses at once.
    if (!to.length) return []
    const chain = `port_${it.protocol}_${it.host}`
    elements.push([`${it.protocol} . ${it.host}`, `goto ${chain}`])
    return [nftChain(chain, [`ct mark set ${PUBLISHED_MARK}`, leadTo(it, to)])]
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
