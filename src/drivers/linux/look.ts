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
import { isRouterLink, UPLINK, type Names } from './names.ts'
import { ROUTER_TABLE } from './render.ts'
import { CommandFailed, ipShow, runIn } from './run.ts'

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

export const digest = (text: string): string => createHash('sha256').update(text).digest('base64')

export const namespaceThere = (namespace: string): Promise<boolean> =>
  access(`/run/netns/${namespace}`).then(
    () => true,
    () => false,
  )

/** Digest of how nftables lists a router's rules; undefined when there are none. */
export async function listing(namespace: string, signal: AbortSignal): Promise<string | undefined> {
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
