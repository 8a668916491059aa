import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { HostPlan } from '#cloud/network/network.driver.ts'
import type { Log } from '#lib/log.ts'
import { keepDockerOpen, releaseDocker } from './docker-user.ts'
import {
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

/** How nftables lists our table, without the set that counts flows and changes by itself. */
async function listing(table: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const text = await run(['nft', '-s', 'list', 'table', 'inet', table], { signal })
    return digest(text.replace(/\tset flows \{[\s\S]*?\n\t\}\n/, ''))
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return undefined
    throw error
  }
}

async function keepForwarding(): Promise<boolean> {
  const file = '/proc/sys/net/ipv4/ip_forward'
  if (readFileSync(file, 'utf8').trim() === '1') return false
  await writeFile(file, '1')
  return true
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

export function createHostSide(names: Names, flowsMax: number, log: Log): HostSide {
  const { table, prefix } = names
  let around: Surroundings = { networks: [], exits: [], connected: [] }
  let pools: readonly string[] = []
  // What was loaded or set last: digests of our texts, and of how nftables lists them.
  let rules = ''
  let sets = ''
  let listed = ''
  let proxies = ''

  const setsText = (ranges: readonly Clash[]): string => hostSetsText(table, { ...around, clashes: ranges })

  async function load(text: string, filling: string, signal: AbortSignal): Promise<void> {
    await nftLoad(undefined, text + filling, { signal })
    sets = digest(filling)
    listed = (await listing(table, signal)) ?? ''
  }

  async function keepRules(plan: HostPlan, { ranges }: Shared, signal: AbortSignal): Promise<string[]> {
    const text = hostRules(prefix, plan, flowsMax)
    const filling = setsText(ranges)
    const there = await listing(table, signal)
    const isSame = there !== undefined && there === listed && rules === digest(text)
    if (isSame && sets === digest(filling)) return []
    await load(isSame ? '' : text, filling, signal)
    rules = digest(text)
    if (isSame) return ['networks changed']
    return [there === undefined ? 'rules missing' : 'rules changed']
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
        ...((await keepForwarding()) ? ['forwarding off'] : []),
        ...(await keepRules(plan, shared, signal)),
        ...(await keepResolver(prefix, plan.resolver, signal)),
        ...(await keepProxies(shared.externals, signal)),
        ...((await keepDockerOpen(prefix, signal)) ? ["Docker's chain without our rules"] : []),
      ]
      if (repaired.length) log.info('host network brought up to date', { repaired })
      return repaired
    },
    async keepShared({ ranges, externals }, signal) {
      const filling = setsText(ranges)
      if (sets !== digest(filling)) await load('', filling, signal)
      if (proxies !== externals.join()) await keepProxies(externals, signal)
    },
    keepDocker: (signal) => keepDockerOpen(prefix, signal),
    async cutRevoked(before, plan, signal) {
      const revoked = (before?.allowed ?? []).filter((it) => !plan.allowed.includes(it))
      const from = (before?.external ?? []).map((it) => it.cidr)
      const lines = revoked.flatMap((to) => from.map((it) => `-D -s ${it} -d ${to}`))
      if (lines.length) await run(['conntrack', '-R', '-'], { signal, input: `${lines.join('\n')}\n` })
    },
    async remove(plan, signal) {
      pools = plan?.external.map((it) => it.cidr) ?? pools
      await keepProxies([], signal)
      await releaseDocker(prefix, signal)
      await nftLoad(undefined, `table inet ${table}\ndelete table inet ${table}\n`, { signal })
      await keepResolver(prefix, undefined, signal)
      rules = sets = listed = proxies = ''
    },
  }
}
