import type { VpcPlan } from '#cloud/network/network.driver.ts'
import type { Difference } from '#cloud/observe/finding.driver.ts'
import { digestOf, foretell } from './listing.ts'
import {
  gapOf,
  loadedOf,
  lookAtParts,
  lookAtRules,
  lookAtRouter,
  namespaceThere,
  type Gap,
  type Loaded,
  type SeenHost,
  type SeenRouter,
  type Setting,
} from './look.ts'
import { routerLink, UPLINK, type Names } from './names.ts'
import { keyOf, nftChange, nftReplace, type Part } from './nft.ts'
import { ROUTER_TABLE, vpcParts, vpcRules } from './render.ts'
import { CommandFailed, run, tolerant } from '#lib/command.ts'
import { ipBatch, ipIn, nftLoad } from './run.ts'
import { makeSettings } from './settings.ts'
import type { Growth } from './shape.ts'
import { endIp, ipLines } from './standing-ip.ts'

/** The group of the links of a router, which can be removed at once: the kernel takes as long for one as for all. */
export const LINK_GROUP = 97
const STRAY_GROUP = 98

async function makeNamespace(namespace: string, signal: AbortSignal): Promise<void> {
  await endIp(namespace)
  // A name that is left of a namespace that is gone.
  if (await namespaceThere(namespace)) await run(['ip', 'netns', 'del', namespace], { signal })
  await run(['ip', 'netns', 'add', namespace], { signal })
}

const strayLines = (strays: readonly string[]): string[] =>
  strays.length
    ? [...strays.map((it) => `link set dev ${it} group ${STRAY_GROUP}`), `link del group ${STRAY_GROUP}`]
    : []

/** The links and what hangs on them, inside and on the host. */
async function makeLinks(setting: Setting, plan: VpcPlan, gap: Gap, seen: SeenRouter): Promise<void> {
  const { names, mtu, signal } = setting
  const namespace = names.namespace(plan.vpc)
  const uplink = names.uplink(plan.index)
  const isInside = seen.inside.some((it) => it.ifname === UPLINK)
  if (gap.uplink && isInside) await ipBatch(namespace, [`link del ${UPLINK}`], { signal })
  await ipBatch(
    undefined,
    [
      ...(gap.uplink && seen.hostLink && !isInside ? [`link del ${uplink}`] : []),
      ...(gap.uplink
        ? [
            `link add name ${uplink} mtu ${mtu} type veth peer name ${UPLINK} netns ${namespace}`,
            `link set dev ${uplink} addrgenmode none alias ${plan.vpc}`,
          ]
        : []),
      ...gap.onHost.lines,
    ],
    { signal },
  )
  await ipBatch(
    namespace,
    [
      ...(gap.uplink
        ? [`link set dev ${UPLINK} mtu ${mtu} addrgenmode none alias ${plan.vpc} group ${LINK_GROUP}`]
        : []),
      ...strayLines(gap.strays),
      ...gap.inside.lines,
    ],
    { signal },
  )
}

/** Makes what is there what the plan wants; gives what is loaded then. */
async function close(
  setting: Setting,
  plan: VpcPlan,
  parts: readonly Part[],
  gap: Gap,
  seen: SeenRouter,
): Promise<Loaded> {
  const text = nftReplace(ROUTER_TABLE, parts)
  const { signal } = setting
  const namespace = setting.names.namespace(plan.vpc)
  if (gap.namespace) await makeNamespace(namespace, signal)
  const load = gap.namespace || gap.rules
  // Rules before anything new can pass.
  await Promise.all([
    load || gap.tables.length
      ? nftLoad(namespace, [...gap.tables.map((it) => `delete table ${it}`), load ? text : ''].join('\n'), {
          signal,
        })
      : undefined,
    gap.uplink || gap.settings ? makeSettings(namespace, signal) : undefined,
  ])
  const [rules] = await Promise.all([
    load ? lookAtRules(namespace, signal) : seen.rules,
    makeLinks(setting, plan, gap, seen),
  ])
  return loadedOf(text, parts, rules.listed ?? new Map<string, string>())
}

/**
 * Makes of the rules in force those of a plan that differs from the one before in nothing else, by writing only what is not
 * the same, in one transaction; gives what is loaded then. Looks at nothing but what it wrote: what somebody else changed
 * in the rest is found by the next look. Undefined where the whole router has to be looked at.
 */
export async function changeRules(
  { names, host, signal }: Setting,
  plan: VpcPlan,
  loaded: Loaded | undefined,
): Promise<Loaded | undefined> {
  if (!loaded?.known) return undefined
  const namespace = names.namespace(plan.vpc)
  const listedNext = foretell(loaded.known.parts, loaded.known.listed)
  const parts = vpcParts(plan, host, routerLink)
  const change = nftChange(ROUTER_TABLE, loaded.known.parts, parts)
  // Whoever asks for the same once more wants to know that it is so.
  if (!change?.text) return undefined
  const keys = new Set(parts.map(keyOf))
  const listed = new Map([...loaded.known.listed].filter(([key]) => key === '' || keys.has(key)))
  const toList: Part[] = []
  for (const it of change.parts) {
    const next = listedNext(it)
    if (next === undefined) toList.push(it)
    else listed.set(keyOf(it), next)
  }
  try {
    await nftLoad(namespace, change.text, { signal })
    const seen = await lookAtParts(namespace, toList, signal)
    if (seen.size < toList.length) return undefined
    for (const [key, it] of seen) listed.set(key, it)
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return undefined
    throw error
  }
  return loadedOf(nftReplace(ROUTER_TABLE, parts), parts, listed)
}

/** Makes what came to the shape of a router; false when there is something in its way, and the whole router is to be looked at. */
export async function grow(
  { names, signal }: Setting,
  vpc: string,
  { inside, onHost }: Growth,
): Promise<boolean> {
  try {
    await Promise.all([
      ipLines(undefined, onHost, { signal }),
      ipLines(names.namespace(vpc), inside, { signal }),
    ])
    return true
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return false
    throw error
  }
}

// The links of containers come and go by themselves while we look.
const ATTEMPTS_MAX = 3

/**
 * Makes a VPC's router what its plan says, whatever was there before; gives what is loaded, whether it is all new, and
 * whether the rules that were there were others than those that were loaded last. `thorough`: the kernel's settings too,
 * which nothing but a hand changes. `before`: the plan that was in force; how the router differed from it, before anything
 * was done, is given as drift.
 */
export async function converge(
  setting: Setting,
  plan: VpcPlan,
  loaded: Loaded | undefined,
  { thorough, before }: { readonly thorough: boolean; readonly before?: VpcPlan | undefined },
): Promise<{
  readonly loaded: Loaded
  readonly made: boolean
  readonly strange: boolean
  readonly drift: readonly Difference[]
}> {
  const parts = vpcParts(plan, setting.host, routerLink)
  const text = nftReplace(ROUTER_TABLE, parts)
  let drift: readonly Difference[] = []
  let strange = false
  for (let attempt = 1; ; attempt++) {
    const seen = await lookAtRouter(setting, plan, { thorough })
    const gap = gapOf(setting, plan, text, loaded, seen)
    const { listed } = seen.rules
    if (loaded && listed && !gap.drift.length)
      return { loaded: loadedOf(text, parts, listed), made: false, strange, drift }
    if (attempt === 1) strange = seen.namespace && !(listed && digestOf(listed) === loaded?.listing)
    if (before && attempt === 1) drift = gapOf(setting, before, undefined, loaded, seen).drift
    try {
      return { loaded: await close(setting, plan, parts, gap, seen), made: gap.namespace, strange, drift }
    } catch (error) {
      if (!(error instanceof CommandFailed) || error.missing || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/** How a VPC's router differs from its plan, and how many flows it tracks. */
export async function lookForDrift(
  setting: Setting,
  plan: VpcPlan,
  loaded: Loaded | undefined,
  host?: SeenHost,
): Promise<{ readonly drift: readonly Difference[]; readonly flows: number }> {
  const seen = await lookAtRouter(setting, plan, { thorough: true, host })
  const { drift } = gapOf(setting, plan, vpcRules(plan, setting.host, routerLink), loaded, seen)
  return { drift, flows: seen.settings?.flows ?? 0 }
}

/** Takes away a VPC's namespace with all that is in it, and its uplink. */
export async function removeRouter(
  names: Names,
  vpc: string,
  uplink: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const namespace = names.namespace(vpc)
  await endIp(namespace)
  // The namespace itself is torn down some time after its name; its links are to be gone when this returns.
  if (await namespaceThere(namespace)) {
    await tolerant(run([...ipIn(namespace), 'link', 'del', 'group', String(LINK_GROUP)], { signal }))
    await tolerant(run(['ip', 'netns', 'del', namespace], { signal }))
    if (await namespaceThere(namespace)) throw new Error(`namespace ${namespace} cannot be removed`)
  }
  if (uplink) await tolerant(run(['ip', 'link', 'del', uplink], { signal }))
}
