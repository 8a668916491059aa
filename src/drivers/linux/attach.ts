import { access } from 'node:fs/promises'
import {
  type Attachment,
  CONTAINERS_LINK,
  type PlannedSubnet,
  type VpcPlan,
} from '#cloud/network/network.driver.ts'
import { cidr } from '#lib/cidr.ts'
import { ipv6Lines } from './arrival.ts'
import { itemsInside } from './links.ts'
import type { Setting } from './look.ts'
import { routerLink, type Names } from './names.ts'
import { LINK_GROUP } from './router.ts'
import { CommandFailed, run, tolerant } from '#lib/command.ts'
import { ipLines } from './standing-ip.ts'

/** True when the container's end is still on the host, and so the pair is one that nobody uses yet. */
const isHere = (containerLink: string): Promise<boolean> =>
  access(`/sys/class/net/${containerLink}`).then(
    () => true,
    () => false,
  )

/** Makes an attachment's link in a router that is there, and gives the name of the container's end, on the host and down. */
export async function makeLink(setting: Setting, plan: VpcPlan, id: string): Promise<string> {
  const { names, mtu, signal } = setting
  const namespace = names.namespace(plan.vpc)
  const link = routerLink(id)
  const containerLink = names.containerLink(id)
  // From inside, so that one process does it all. The other end goes to the namespace that we are in ourselves.
  const add = `link add name ${link} mtu ${mtu} type veth peer name ${containerLink} mtu ${mtu} netns ${process.pid}`
  const items = itemsInside(plan, setting.host, new Set([link])).filter((it) => it.of === id)
  const ready = [
    `link set dev ${link} mtu ${mtu} addrgenmode none alias ${id} group ${LINK_GROUP}`,
    // The machine asks for each of its neighbours; the default lets it wait for up to 0.8 s.
    `ntable change name arp_cache dev ${link} proxy_delay 0`,
    ...items.map((it) => it.set),
  ]
  try {
    await ipLines(namespace, [add, ...ready], { signal })
  } catch (error) {
    if (!(error instanceof CommandFailed) || !/File exists/.test(error.stderr)) throw error
    const isNew = !(await isHere(containerLink))
    // The other end is in a container that is on its way out.
    if (isNew) await tolerant(ipLines(namespace, [`link del ${link}`], { signal }))
    await ipLines(namespace, [...(isNew ? [add] : []), ...ready], { signal })
  }
  return containerLink
}

/** Puts a link's end, which is on the host, into the network namespace of a process and sets it up as Docker does. */
export async function moveLink(
  containerLink: string,
  pid: number,
  { plan, subnet }: { readonly plan: Attachment; readonly subnet: PlannedSubnet },
  signal: AbortSignal,
): Promise<void> {
  await run(['ip', 'link', 'set', 'dev', containerLink, 'netns', String(pid)], { signal })
  const lines = [
    `link set dev ${containerLink} name ${CONTAINERS_LINK}`,
    `link set dev ${CONTAINERS_LINK} address ${plan.mac}`,
    `addr replace ${plan.address}/${cidr(subnet.cidr).prefix} dev ${CONTAINERS_LINK}`,
    `link set dev ${CONTAINERS_LINK} up`,
    `route replace default via ${subnet.gateway} dev ${CONTAINERS_LINK}`,
    ...ipv6Lines(plan),
  ]
  const command = ['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', '-batch', '-']
  await run(command, { signal, input: `${lines.join('\n')}\n` })
}

/**
 * Removes an attachment's link. Either end takes the other with it; the router's is where the plan says, the
 * container's is on the host until it is moved.
 */
export async function removeLinkOf(
  names: Names,
  vpc: string | undefined,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  if (vpc) await tolerant(ipLines(names.namespace(vpc), [`link del ${routerLink(id)}`], { signal }))
  else await tolerant(run(['ip', 'link', 'del', names.containerLink(id)], { signal }))
}
