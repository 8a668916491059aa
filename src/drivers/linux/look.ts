import { access } from 'node:fs/promises'
import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import type { Difference, Thing } from '#cloud/observe/finding.driver.ts'
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
import { digest, digestOf, parseTableBody, type Listed } from './listing.ts'
import { isRouterLink, UPLINK, type Names } from './names.ts'
import { keyOf, type Part } from './nft.ts'
import { ROUTER_TABLE } from './render.ts'
import { CommandFailed } from '#lib/command.ts'
import { ipShow, namespacePath, runIn } from './run.ts'
import { lookAtSettings, settingsDrift, type SeenSettings } from './settings.ts'

/** What the router of one VPC is made from, beside its plan. */
export type Setting = {
  readonly names: Names
  readonly host: HostPlan
  readonly mtu: number
  readonly signal: AbortSignal
}

/** What was loaded: the digest of our text, and of how nftables lists it, which differ in form only. */
export type Loaded = {
  readonly text: string
  readonly listing: string
  /** The same by parts, while this process runs: with it only what differs needs to be written. */
  readonly known?: { readonly parts: readonly Part[]; readonly listed: Listed }
}

export const loadedOf = (text: string, parts: readonly Part[], listed: Listed): Loaded => ({
  text: digest(text),
  listing: digestOf(listed),
  known: { parts, listed },
})

/** One VPC's router as it is. */
export type SeenRouter = {
  readonly namespace: boolean
  readonly inside: readonly LinkJson[]
  readonly insideItems: readonly SeenItem[]
  readonly hostLink: LinkJson | undefined
  readonly hostItems: readonly SeenItem[]
  readonly rules: SeenRules
  /** Undefined when nobody asked for them. */
  readonly settings: SeenSettings | undefined
}

/** The tables of a router's namespace. */
export type SeenRules = {
  /** How our rules are listed; undefined when there are none. */
  readonly listed: Listed | undefined
  /** Every other table, as nftables calls it: `ip filter`. */
  readonly others: readonly string[]
}

export const namespaceThere = (namespace: string): Promise<boolean> =>
  access(namespacePath(namespace)).then(
    () => true,
    () => false,
  )

const NO_RULES: SeenRules = { listed: undefined, others: [] }

/** Reads how nftables lists a whole ruleset: a table begins and ends at the start of a line. */
export function parseRuleset(text: string, own: string): SeenRules {
  const tables = new Map(
    [...text.matchAll(/^table (\S+ \S+) \{\n([\s\S]*?)^\}\n/gm)].map(([, name = '', body = '']) => [
      name,
      body,
    ]),
  )
  const ours = tables.get(own)
  return {
    listed: ours === undefined ? undefined : parseTableBody(ours),
    others: [...tables.keys()].filter((it) => it !== own),
  }
}

/** The rules in a router's namespace. */
export async function lookAtRules(namespace: string, signal: AbortSignal): Promise<SeenRules> {
  try {
    const text = await runIn(namespace, ['nft', '-s', 'list', 'ruleset'], { signal })
    return parseRuleset(text, `inet ${ROUTER_TABLE}`)
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return NO_RULES
    throw error
  }
}

/** Parts that are listed one by one, by a process each, since nftables lists several wrongly when asked at once; of more the whole is. */
const PARTS_MAX = 4

/** How some parts of a router's rules are listed; those that are not there are left out. */
export async function lookAtParts(
  namespace: string,
  parts: readonly Part[],
  signal: AbortSignal,
): Promise<Listed> {
  const list = async ({ kind, name }: Part): Promise<Listed> =>
    parseTableBody(
      await runIn(namespace, ['nft', '-s', 'list', kind, 'inet', ROUTER_TABLE, name], { signal }),
    )
  const seen =
    parts.length > PARTS_MAX
      ? [(await lookAtRules(namespace, signal)).listed ?? []]
      : await Promise.all(parts.map(list))
  const keys = new Set(parts.map(keyOf))
  return new Map(seen.flatMap((it) => [...it]).filter(([key]) => keys.has(key)))
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

/** Links and routes of the host, by link: one look for all VPCs. */
export type SeenHost = {
  readonly links: ReadonlyMap<string, LinkJson>
  readonly routes: ReadonlyMap<string, readonly RouteJson[]>
}

/** Looks at all links and routes of the host at once. */
export async function lookAtHost(signal: AbortSignal): Promise<SeenHost> {
  const [links, routes] = await ipShow(undefined, ['addr show', 'route show table main'], { signal })
  return {
    links: new Map(((links ?? []) as LinkJson[]).map((it) => [it.ifname, it])),
    routes: Map.groupBy((routes ?? []) as RouteJson[], (it) => it.dev ?? ''),
  }
}

async function lookOnHost(
  { names, signal }: Setting,
  plan: VpcPlan,
  host: SeenHost | undefined,
): Promise<Pick<SeenRouter, 'hostLink' | 'hostItems'>> {
  const uplink = names.uplink(plan.index)
  const itemsOf = (hostLink: LinkJson | undefined, routes: readonly RouteJson[]) => ({
    hostLink,
    hostItems: [...seenLinks(hostLink ? [hostLink] : []), ...seenRoutes(routes)],
  })
  if (host) return itemsOf(host.links.get(uplink), host.routes.get(uplink) ?? [])
  // Without the link neither is answered.
  const lines = [`addr show dev ${uplink}`, `route show dev ${uplink}`]
  const [links, routes] = await ipShow(undefined, lines, { signal, lenient: true })
  // Which link a route hangs on is left out of the answer, since it was asked for.
  return itemsOf(
    (links as LinkJson[] | undefined)?.[0],
    ((routes ?? []) as RouteJson[]).map((it) => ({ ...it, dev: uplink })),
  )
}

/**
 * Looks at everything of one VPC: three processes at once, some milliseconds. `thorough`: at the kernel's settings too, by
 * one more; `host`: seen before, by one less.
 */
export async function lookAtRouter(
  setting: Setting,
  plan: VpcPlan,
  { thorough, host }: { readonly thorough: boolean; readonly host?: SeenHost | undefined },
): Promise<SeenRouter> {
  const namespace = setting.names.namespace(plan.vpc)
  const there = await namespaceThere(namespace)
  const [inside, onHost, rules, settings] = await Promise.all([
    lookInside(namespace, setting.signal),
    lookOnHost(setting, plan, host),
    there ? lookAtRules(namespace, setting.signal) : NO_RULES,
    there && thorough ? lookAtSettings(namespace, setting.signal) : undefined,
  ])
  return {
    namespace: inside !== undefined,
    inside: inside?.inside ?? [],
    insideItems: inside?.insideItems ?? [],
    ...onHost,
    rules,
    settings,
  }
}

/** What differs between a plan and what is there. */
export type Gap = {
  readonly drift: readonly Difference[]
  readonly namespace: boolean
  readonly uplink: boolean
  readonly rules: boolean
  readonly settings: boolean
  /** Tables that are not ours. */
  readonly tables: readonly string[]
  readonly strays: readonly string[]
  readonly inside: Change
  readonly onHost: Change
}

const isPair = (inside: LinkJson | undefined, outside: LinkJson | undefined): boolean =>
  inside !== undefined &&
  outside !== undefined &&
  inside.link_index === outside.ifindex &&
  outside.link_index === inside.ifindex

/** Compares a VPC's router with its plan; without a text, only with the rules that were loaded last. Pure but for what it was given. */
export function gapOf(
  setting: Setting,
  plan: VpcPlan,
  text: string | undefined,
  loaded: Loaded | undefined,
  seen: SeenRouter,
): Gap {
  const uplink = !isPair(
    seen.inside.find((it) => it.ifname === UPLINK),
    seen.hostLink,
  )
  const links = new Set(seen.inside.map((it) => it.ifname).filter((it) => it !== UPLINK))
  const strays = strayLinks(plan, seen.inside)
  // What hangs on a broken uplink, or on a link that is not the router's, goes with it.
  const going = new Set([...(uplink ? [UPLINK] : []), ...strays])
  const insideItems = seen.insideItems.filter((it) => it.link === undefined || !going.has(it.link))
  const inside = difference(itemsInside(plan, setting.host, links), insideItems)
  const onHost = difference(itemsOnHost(plan, setting.names.uplink(plan.index)), uplink ? [] : seen.hostItems)
  const { listed, others } = seen.rules
  const listing = listed && digestOf(listed)
  const rules =
    listing === undefined ||
    loaded?.listing !== listing ||
    (text !== undefined && loaded.text !== digest(text))
  const settings = seen.settings ? settingsDrift(seen.settings) : []
  const drift: Difference[] = seen.namespace
    ? [
        ...(rules ? [rulesDiffer(listing, loaded)] : []),
        ...others.map((it) => orphan('table', `table ${it} not in the plan`)),
        ...(uplink ? [missing('link', 'uplink missing')] : onHost.drift),
        ...inside.drift,
        ...strays.map((it) =>
          orphan('link', isRouterLink(it) ? `link ${it} of no attachment` : `link ${it} not in the plan`),
        ),
        ...settings,
      ]
    : [missing('namespace', 'namespace missing')]
  return {
    drift,
    namespace: !seen.namespace,
    uplink,
    rules,
    settings: settings.length > 0,
    tables: others,
    strays,
    inside,
    onHost,
  }
}

const missing = (thing: Thing, detail: string): Difference => ({ what: 'missing', thing, detail })
const orphan = (thing: Thing, detail: string): Difference => ({ what: 'orphan', thing, detail })

function rulesDiffer(listing: string | undefined, loaded: Loaded | undefined): Difference {
  if (listing === undefined) return missing('table', 'rules flushed')
  return { what: 'drift', thing: 'table', detail: loaded ? 'rules changed' : 'rules not known' }
}
