import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { HostPlan } from '#cloud/network/network.driver.ts'
import type { Log } from '#lib/log.ts'
import { cut } from './cut.ts'
import { keepDockerOpen, releaseDocker } from './docker-user.ts'
import {
  clashesText,
  clashKey,
  hostRules,
  hostSetsText,
  proxyLines,
  surroundings,
  type Clash,
  type NeighbourJson,
  type Surroundings,
} from './host.ts'
import type { LinkJson, RouteJson } from './links.ts'
import type { Names } from './names.ts'
import { CommandFailed, ipBatch, ipShow, nftLoad, run } from './run.ts'

const digest = (text: string): string => createHash('sha256').update(text).digest('base64')

// Where no default route says otherwise.
const MTU_DEFAULT = 1500
// IPv6 wants this much.
const MTU_MIN = 1280

/** The MTU of the link that leads out of the host; containers get the same. */
export function hostMtu(): number {
  try {
    for (const line of readFileSync('/proc/net/route', 'utf8').split('\n').slice(1)) {
      const [link = '', destination, , , , , , mask] = line.split('\t')
      if (destination !== '00000000' || mask !== '00000000') continue
      const mtu = Number(readFileSync(`/sys/class/net/${link}/mtu`, 'utf8'))
      return Math.max(MTU_MIN, mtu || MTU_DEFAULT)
    }
  } catch {
    // A link that has just gone.
  }
  return MTU_DEFAULT
}

/** What the host's part holds of all VPCs: the ranges behind each uplink, and the external addresses in use. */
export type Shared = { readonly ranges: readonly Clash[]; readonly externals: readonly string[] }

/** The host's own part: table, sets, proxy neighbours, the resolver's address, forwarding, Docker's chain. Calls must not overlap. */
export type HostSide = {
  /** Looks at the host and repairs what differs from the plan. Gives what it repaired. */
  keep(plan: HostPlan, shared: Shared, signal: AbortSignal): Promise<readonly string[]>
  /** Brings up to date what is shared, as far as it changed since the last time. */
  keepShared(shared: Shared, signal: AbortSignal): Promise<void>
  keepDocker(signal: AbortSignal): Promise<boolean>
  /** Ends flows into networks that the new plan does not allow any more. */
  cutRevoked(before: HostPlan | undefined, plan: HostPlan, signal: AbortSignal): Promise<void>
  remove(plan: HostPlan | undefined, signal: AbortSignal): Promise<void>
}

/** Digests of how nftables lists our table: the rules, and what the sets hold. */
type Listing = { readonly rules: string; readonly sets: string }

async function listing(table: string, signal: AbortSignal): Promise<Listing | undefined> {
  try {
    const text = await run(['nft', '-s', 'list', 'table', 'inet', table], { signal })
    // The set that counts flows changes by itself.
    const still = text.replace(/\tset flows \{[\s\S]*?\n\t\}\n/, '')
    return { rules: digest(still.replace(/elements = \{[^}]*\}/g, '')), sets: digest(still) }
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return undefined
    throw error
  }
}

// How many neighbours the kernel keeps is one number for all namespaces, of which its default of 1,024 is used up by
// some 500 machines: each has its gateway and its neighbours, and its router has it.
const NEIGHBOURS = { gc_thresh2: 16_384, gc_thresh3: 32_768 }

/** Raises a setting of the kernel to at least this; a network namespace may lack what is the host's alone. */
async function raise(setting: string, least: number): Promise<boolean> {
  const file = `/proc/sys/net/${setting}`
  if (!existsSync(file) || Number(readFileSync(file, 'utf8')) >= least) return false
  await writeFile(file, String(least))
  return true
}

/** The settings of the host's kernel that VPCs need; larger ones are left as they are. */
async function keepSettings(): Promise<string[]> {
  const repaired: string[] = []
  if (await raise('ipv4/ip_forward', 1)) repaired.push('forwarding off')
  for (const [name, least] of Object.entries(NEIGHBOURS))
    for (const family of ['ipv4', 'ipv6'])
      if (await raise(`${family}/neigh/default/${name}`, least)) repaired.push(`${family} ${name} too small`)
  return repaired
}

async function proxyNeighbours(signal: AbortSignal): Promise<NeighbourJson[]> {
  const [there] = await ipShow(undefined, ['neigh show proxy'], { signal })
  return (there ?? []) as NeighbourJson[]
}

/** Makes the resolver's address the only one of ours on `lo`; without one there is none. */
async function keepResolver(
  prefix: string,
  resolver: string | undefined,
  signal: AbortSignal,
): Promise<string[]> {
  const label = `lo:${prefix}`
  const [links] = await ipShow(undefined, ['addr show dev lo'], { signal })
  const there = ((links ?? []) as LinkJson[]).flatMap((it) => it.addr_info ?? [])
  const ours = there.filter((it) => it.label === label).map((it) => it.local)
  const lines = ours.filter((it) => it !== resolver).map((it) => `addr del ${it}/32 dev lo`)
  if (resolver !== undefined && !ours.includes(resolver))
    lines.push(`addr replace ${resolver}/32 dev lo label ${label}`)
  await ipBatch(undefined, lines, { signal })
  return lines.length ? ['resolver address missing'] : []
}

export function createHostSide(names: Names, directory: string, flowsMax: number, log: Log): HostSide {
  const { table, prefix } = names
  let around: Surroundings = { networks: [], exits: [], connected: [] }
  let pools: readonly string[] = []
  // The digest of the rules' text that was loaded, and how nftables listed it then.
  let rules = ''
  let listed: Listing | undefined
  // What was put into the sets: the digest of it all, and the ranges, which change alone.
  let sets = ''
  let ranges: ReadonlySet<string> = new Set()
  let proxies = ''

  const setsText = (of: Shared): string => hostSetsText(table, { ...around, clashes: of.ranges })

  /** Makes the table right; gives what was not, as far as it was seen and not only changed by us. */
  async function keepRules(plan: HostPlan, of: Shared, signal: AbortSignal): Promise<string[]> {
    const text = hostRules(prefix, plan, flowsMax)
    const filling = setsText(of)
    const there = await listing(table, signal)
    const sameRules = there !== undefined && there.rules === listed?.rules && rules === digest(text)
    if (sameRules && there.sets === listed?.sets && sets === digest(filling)) return []
    const known = listed?.sets !== '' && sets === digest(filling)
    await nftLoad(undefined, (sameRules ? '' : text) + filling, { signal })
    rules = digest(text)
    sets = digest(filling)
    ranges = new Set(of.ranges.map(clashKey))
    listed = await listing(table, signal)
    if (sameRules) return known ? ['sets changed'] : []
    return [there === undefined ? 'rules missing' : 'rules changed']
  }

  /** Changes only what differs, since every new VPC comes by here. */
  async function keepRanges(of: Shared, signal: AbortSignal): Promise<void> {
    const wanted = new Set(of.ranges.map(clashKey))
    const text = clashesText(
      table,
      [...ranges].filter((it) => !wanted.has(it)),
      [...wanted].filter((it) => !ranges.has(it)),
    )
    if (!text.trim()) return
    try {
      await nftLoad(undefined, text, { signal })
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error
      // Somebody changed the set, or took the table away.
      await nftLoad(undefined, setsText(of), { signal })
    }
    ranges = wanted
    sets = digest(setsText(of))
    // How nftables lists the sets now is not known until somebody looks.
    if (listed) listed = { ...listed, sets: '' }
  }

  async function keepProxies(externals: readonly string[], signal: AbortSignal): Promise<string[]> {
    const there = await proxyNeighbours(signal)
    const lines = proxyLines(externals, around, there, pools)
    await ipBatch(undefined, lines, { signal })
    proxies = externals.join()
    return lines.length ? ['proxy neighbours changed'] : []
  }

  return {
    async keep(plan, shared, signal) {
      const [routes] = await ipShow(undefined, ['route show table main'], { signal })
      around = surroundings((routes ?? []) as RouteJson[], names.isUplink)
      pools = plan.external.map((it) => it.cidr)
      const repaired = [
        ...(await keepSettings()),
        ...(await keepRules(plan, shared, signal)),
        ...(await keepResolver(prefix, plan.resolver, signal)),
        ...(await keepProxies(shared.externals, signal)),
        ...((await keepDockerOpen(prefix, signal)) ? ["Docker's chain without our rules"] : []),
      ]
      if (repaired.length) log.info('host network brought up to date', { repaired })
      return repaired
    },
    async keepShared(shared, signal) {
      await keepRanges(shared, signal)
      if (proxies !== shared.externals.join()) await keepProxies(shared.externals, signal)
    },
    keepDocker: (signal) => keepDockerOpen(prefix, signal),
    async cutRevoked(before, plan, signal) {
      const revoked = (before?.allowed ?? []).filter((it) => !plan.allowed.includes(it))
      const from = (before?.external ?? []).map((it) => it.cidr)
      const lines = revoked.flatMap((to) => from.map((it) => `-D -s ${it} -d ${to}`))
      await cut(undefined, lines, directory, signal)
    },
    async remove(plan, signal) {
      pools = plan?.external.map((it) => it.cidr) ?? pools
      await keepProxies([], signal)
      await releaseDocker(prefix, signal)
      await nftLoad(undefined, `table inet ${table}\ndelete table inet ${table}\n`, { signal })
      await keepResolver(prefix, undefined, signal)
      rules = sets = proxies = ''
      listed = undefined
      ranges = new Set()
    },
  }
}
