import { createHash } from 'node:crypto'
import { access } from 'node:fs/promises'
import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import {
  difference,
  itemsInside,
  itemsOnHost,
  seenLinks,
  seenRoutes,
  seenRules,
  strayLinks,
  type Change,
  type LinkJson,
  type RouteJson,
  type RuleJson,
  type SeenItem,
} from './links.ts'
import { isRouterLink, routerLink, UPLINK, type Names } from './names.ts'
import { ROUTER_TABLE, vpcRules } from './render.ts'
import { CommandFailed, ipBatch, ipShow, nftLoad, run, runIn, tolerant } from './run.ts'

/** What the router of one VPC is made from, beside its plan. */
export type Setting = {
  readonly names: Names
  readonly host: HostPlan
  readonly mtu: number
  readonly signal: AbortSignal
}

/** What was loaded: the digest of our text, and of how nftables lists it, which differ in form only. */
export type Loaded = { readonly text: string; readonly listing: string }

/** One VPC's router as it is. */
export type SeenRouter = {
  readonly namespace: boolean
  readonly inside: readonly LinkJson[]
  readonly insideItems: readonly SeenItem[]
  readonly hostLink: LinkJson | undefined
  readonly hostItems: readonly SeenItem[]
  /** Digest of the listed rules; undefined when there are none. */
  readonly listing: string | undefined
}

const digest = (text: string): string => createHash('sha256').update(text).digest('base64')

export const namespaceThere = (namespace: string): Promise<boolean> =>
  access(`/run/netns/${namespace}`).then(
    () => true,
    () => false,
  )

async function listing(namespace: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    return digest(await runIn(namespace, ['nft', '-s', 'list', 'table', 'inet', ROUTER_TABLE], { signal }))
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return undefined
    throw error
  }
}

async function lookInside(
  namespace: string,
  signal: AbortSignal,
): Promise<Pick<SeenRouter, 'inside' | 'insideItems'> | undefined> {
  if (!(await namespaceThere(namespace))) return undefined
  try {
    const [addr, route, rule] = await ipShow(namespace, ['addr show', 'route show table all', 'rule show'], {
      signal,
    })
    const links = (addr ?? []) as LinkJson[]
    return {
      inside: links,
      insideItems: [
        ...seenLinks(links),
        ...seenRoutes((route ?? []) as RouteJson[]),
        ...seenRules((rule ?? []) as RuleJson[]),
      ],
    }
  } catch (error) {
    // A name without a namespace behind it.
    if (error instanceof CommandFailed && /network namespace/.test(error.stderr)) return undefined
    throw error
  }
}

async function lookOnHost(
  { names, signal }: Setting,
  plan: VpcPlan,
): Promise<Pick<SeenRouter, 'hostLink' | 'hostItems'>> {
  const uplink = names.uplink(plan.index)
  // Without the link neither is answered.
  const lines = [`addr show dev ${uplink}`, `route show dev ${uplink}`]
  const [links, routes] = await ipShow(undefined, lines, { signal, lenient: true })
  const [hostLink] = (links ?? []) as LinkJson[]
  return {
    hostLink,
    hostItems: [
      ...seenLinks(hostLink ? [hostLink] : []),
      // Which link a route hangs on is left out of the answer, since it was asked for.
      ...seenRoutes(((routes ?? []) as RouteJson[]).map((it) => ({ ...it, dev: uplink }))),
    ],
  }
}

/** Looks at everything of one VPC: three processes at once, some milliseconds. */
export async function lookAtRouter(setting: Setting, plan: VpcPlan): Promise<SeenRouter> {
  const namespace = setting.names.namespace(plan.vpc)
  const there = await namespaceThere(namespace)
  const [inside, onHost, rules] = await Promise.all([
    lookInside(namespace, setting.signal),
    lookOnHost(setting, plan),
    there ? listing(namespace, setting.signal) : undefined,
  ])
  return {
    namespace: inside !== undefined,
    inside: inside?.inside ?? [],
    insideItems: inside?.insideItems ?? [],
    ...onHost,
    listing: rules,
  }
}

/** What differs between a plan and what is there. */
export type Gap = {
  readonly drift: readonly string[]
  readonly namespace: boolean
  readonly uplink: boolean
  readonly rules: boolean
  readonly strays: readonly string[]
  readonly inside: Change
  readonly onHost: Change
}

const isPair = (inside: LinkJson | undefined, outside: LinkJson | undefined): boolean =>
  inside !== undefined &&
  outside !== undefined &&
  inside.link_index === outside.ifindex &&
  outside.link_index === inside.ifindex

/** Compares a VPC's router with its plan; pure but for what it was given. */
export function gapOf(
  setting: Setting,
  plan: VpcPlan,
  text: string,
  loaded: Loaded | undefined,
  seen: SeenRouter,
): Gap {
  const uplink = !isPair(
    seen.inside.find((it) => it.ifname === UPLINK),
    seen.hostLink,
  )
  const links = new Set(seen.inside.map((it) => it.ifname).filter(isRouterLink))
  // What hung on a broken uplink goes with it.
  const insideItems = uplink ? seen.insideItems.filter((it) => it.link !== UPLINK) : seen.insideItems
  const inside = difference(itemsInside(plan, setting.host, links), insideItems)
  const onHost = difference(itemsOnHost(plan, setting.names.uplink(plan.index)), uplink ? [] : seen.hostItems)
  const strays = strayLinks(plan, seen.inside)
  const rules = seen.listing === undefined || loaded?.listing !== seen.listing || loaded.text !== digest(text)
  const words = seen.namespace
    ? [
        ...(seen.listing === undefined
          ? ['rules flushed']
          : rules
            ? [loaded ? 'rules changed' : 'rules not known']
            : []),
        ...(uplink ? ['uplink missing'] : [...onHost.drift]),
        ...inside.drift,
        ...strays.map((it) => `link ${it} of no attachment`),
      ]
    : ['namespace missing']
  return { drift: words, namespace: !seen.namespace, uplink, rules, strays, inside, onHost }
}

const ON = ['ipv4/ip_forward', 'ipv4/conf/all/proxy_arp', 'ipv6/conf/all/forwarding']
const OFF = [
  'ipv4/conf/all/rp_filter',
  'ipv4/conf/default/rp_filter',
  'ipv4/conf/all/send_redirects',
  'ipv4/conf/default/send_redirects',
  'ipv4/conf/all/accept_redirects',
  'ipv4/conf/default/accept_redirects',
  'ipv6/conf/all/disable_ipv6',
  'ipv6/conf/default/disable_ipv6',
  'ipv6/conf/all/accept_ra',
  'ipv6/conf/default/accept_ra',
  'ipv6/conf/all/accept_redirects',
  'ipv6/conf/default/accept_redirects',
  // A flow that was cut must not come back from its middle, in the direction that is still allowed.
  'netfilter/nf_conntrack_tcp_loose',
]

const settings = (
  namespace: string,
  names: readonly string[],
  value: string,
  signal: AbortSignal,
): Promise<string> =>
  runIn(namespace, ['tee', ...names.map((it) => `/proc/sys/net/${it}`)], { signal, input: value })

async function makeNamespace(namespace: string, text: string, signal: AbortSignal): Promise<void> {
  // A name that is left of a namespace that is gone.
  if (await namespaceThere(namespace)) await run(['ip', 'netns', 'del', namespace], { signal })
  await run(['ip', 'netns', 'add', namespace], { signal })
  // Rules before anything can pass; and the settings of connection tracking are there once a rule has used it.
  await nftLoad(namespace, text, { signal })
  await settings(namespace, ON, '1', signal)
  await settings(namespace, OFF, '0', signal)
}

/** Makes what is there what the plan wants; gives what is loaded then. */
export async function close(
  setting: Setting,
  plan: VpcPlan,
  text: string,
  gap: Gap,
  seen: SeenRouter,
  loaded: Loaded | undefined,
): Promise<Loaded> {
  const { names, mtu, signal } = setting
  const namespace = names.namespace(plan.vpc)
  const uplink = names.uplink(plan.index)
  let now = loaded
  if (gap.namespace) await makeNamespace(namespace, text, signal)
  if (gap.namespace || gap.rules) {
    if (!gap.namespace) await nftLoad(namespace, text, { signal })
    now = { text: digest(text), listing: (await listing(namespace, signal)) ?? '' }
  }
  if (gap.uplink) {
    if (seen.inside.some((it) => it.ifname === UPLINK))
      await ipBatch(namespace, [`link del ${UPLINK}`], { signal })
    await ipBatch(
      undefined,
      [
        ...(seen.hostLink && !seen.inside.some((it) => it.ifname === UPLINK) ? [`link del ${uplink}`] : []),
        `link add name ${uplink} mtu ${mtu} type veth peer name ${UPLINK} netns ${namespace}`,
        `link set dev ${uplink} addrgenmode none alias ${plan.vpc}`,
      ],
      { signal },
    )
  }
  await ipBatch(
    namespace,
    [
      ...(gap.uplink ? [`link set dev ${UPLINK} mtu ${mtu} addrgenmode none alias ${plan.vpc}`] : []),
      ...gap.strays.map((it) => `link del ${it}`),
      ...gap.inside.lines,
    ],
    { signal },
  )
  await ipBatch(undefined, gap.onHost.lines, { signal })
  if (!now) throw new Error('rules of a VPC were neither loaded nor known')
  return now
}

// The links of containers come and go by themselves while we look.
const ATTEMPTS_MAX = 3

/** Makes a VPC's router what its plan says, whatever was there before; gives what is loaded. */
export async function converge(setting: Setting, plan: VpcPlan, loaded: Loaded | undefined): Promise<Loaded> {
  const text = vpcRules(plan, setting.host, routerLink)
  for (let attempt = 1; ; attempt++) {
    const seen = await lookAtRouter(setting, plan)
    const gap = gapOf(setting, plan, text, loaded, seen)
    if (loaded && !gap.drift.length) return loaded
    try {
      return await close(setting, plan, text, gap, seen, loaded)
    } catch (error) {
      if (!(error instanceof CommandFailed) || error.missing || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/** The words in which a VPC's router differs from its plan. */
export async function driftOf(
  setting: Setting,
  plan: VpcPlan,
  loaded: Loaded | undefined,
): Promise<readonly string[]> {
  const seen = await lookAtRouter(setting, plan)
  return gapOf(setting, plan, vpcRules(plan, setting.host, routerLink), loaded, seen).drift
}

/** Takes away a VPC's namespace with all that is in it, and its uplink. */
export async function removeRouter(
  names: Names,
  vpc: string,
  uplink: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const namespace = names.namespace(vpc)
  // The namespace itself is torn down some time after its name; its links are to be gone when this returns.
  const links = (await lookInside(namespace, signal))?.inside.map((it) => it.ifname) ?? []
  const ours = links.filter((it) => it === UPLINK || isRouterLink(it))
  await tolerant(
    ipBatch(
      namespace,
      ours.map((it) => `link del ${it}`),
      { signal },
    ),
  )
  if (uplink) await tolerant(run(['ip', 'link', 'del', uplink], { signal }))
  await tolerant(run(['ip', 'netns', 'del', namespace], { signal }))
  if (await namespaceThere(namespace)) throw new Error(`namespace ${namespace} cannot be removed`)
}
