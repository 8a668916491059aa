import { createHash } from 'node:crypto'
import type { PlannedPeering, VpcPlan } from '#cloud/network/network.driver.ts'
import type { LinkJson } from './links.ts'
import { namespaceThere, type Setting } from './look.ts'
import { peeringLink } from './names.ts'
import { LINK_GROUP } from './router.ts'
import { tolerant } from '#lib/command.ts'
import { ipBatch, ipShow } from './run.ts'

/** Both ends have one address, so that neither has to ask for the other's. */
const peeringMac = (peering: string): string =>
  [
    '02',
    ...[...createHash('sha256').update(peering).digest().subarray(0, 5)].map((byte) =>
      byte.toString(16).padStart(2, '0'),
    ),
  ].join(':')

const missingOf = async (
  namespace: string,
  plan: VpcPlan,
  signal: AbortSignal,
): Promise<PlannedPeering[]> => {
  const [links] = await ipShow(namespace, ['link show'], { signal })
  const there = new Set(((links ?? []) as LinkJson[]).map((it) => it.ifname))
  return (plan.peerings ?? []).filter((it) => !there.has(peeringLink(it.id)))
}

/**
 * Makes the links of a VPC's peerings that are not there, as far as the other router is; gives the VPCs at their other
 * ends, whose routers do not have them up yet. Calls must not overlap.
 */
export async function makePeeringLinks(
  { names, mtu, signal }: Setting,
  plan: VpcPlan,
): Promise<readonly string[]> {
  if (!plan.peerings?.length) return []
  const namespace = names.namespace(plan.vpc)
  const made: string[] = []
  for (const it of await missingOf(namespace, plan, signal)) {
    const other = names.namespace(it.vpc)
    if (!(await namespaceThere(other))) continue
    const link = peeringLink(it.id)
    const mac = peeringMac(it.id)
    // What has this name there has its other end nowhere, or in a router that is gone.
    await tolerant(ipBatch(other, [`link del ${link}`], { signal }))
    const end = (where: string): string => `name ${link} mtu ${mtu} address ${mac} netns ${where}`
    await ipBatch(undefined, [`link add ${end(namespace)} type veth peer ${end(other)}`], { signal })
    for (const where of [namespace, other])
      await ipBatch(
        where,
        [`link set dev ${link} arp off addrgenmode none alias ${it.id} group ${LINK_GROUP}`],
        { signal },
      )
    made.push(it.vpc)
  }
  return made
}
