import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { HostPlan } from '#cloud/network/network.driver.ts'
import type { Log } from '#lib/log.ts'
import { keepDockerOpen, releaseDocker } from './docker-user.ts'
import { hostRules, hostSetsText, surroundings, type Clash, type Surroundings } from './host.ts'
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

/** The host's own part: table, sets, the resolver's address, forwarding, Docker's chain. Calls must not overlap. */
export type HostSide = {
  readonly surroundings: Surroundings
  /** Looks at the host and repairs what differs from the plan; `clashes` are the ranges of all VPCs. Gives what it repaired. */
  keep(plan: HostPlan, clashes: readonly Clash[], signal: AbortSignal): Promise<readonly string[]>
  /** Brings the sets up to date, where they are not. */
  keepClashes(clashes: readonly Clash[], signal: AbortSignal): Promise<void>
  keepDocker(signal: AbortSignal): Promise<boolean>
  remove(signal: AbortSignal): Promise<void>
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

export function createHostSide(names: Names, flowsMax: number, log: Log): HostSide {
  const { table, prefix } = names
  const label = `lo:${prefix}`
  let around: Surroundings = { networks: [], exits: [], connected: [] }
  // What is loaded: the digests of our texts, and of how nftables lists them.
  let rules = ''
  let sets = ''
  let listed = ''

  const setsText = (clashes: readonly Clash[]): string => hostSetsText(table, { ...around, clashes })

  async function keepRules(
    plan: HostPlan,
    clashes: readonly Clash[],
    signal: AbortSignal,
  ): Promise<string[]> {
    const text = hostRules(prefix, plan, flowsMax)
    const filling = setsText(clashes)
    const there = await listing(table, signal)
    const isSame = there !== undefined && there === listed && rules === digest(text)
    if (isSame && sets === digest(filling)) return []
    await nftLoad(undefined, isSame ? filling : text + filling, { signal })
    rules = digest(text)
    sets = digest(filling)
    listed = (await listing(table, signal)) ?? ''
    return [
      there === undefined ? 'host rules missing' : isSame ? 'host networks changed' : 'host rules changed',
    ]
  }

  async function keepResolver(plan: HostPlan, signal: AbortSignal): Promise<string[]> {
    const [links = []] = (await ipShow(undefined, ['addr show dev lo'], { signal })) as LinkJson[][]
    const there = (links[0]?.addr_info ?? []).filter((it) => (it as { label?: string }).label === label)
    const lines = there
      .filter((it) => it.local !== plan.resolver)
      .map((it) => `addr del ${it.local}/32 dev lo`)
    if (!there.some((it) => it.local === plan.resolver))
      lines.push(`addr replace ${plan.resolver}/32 dev lo label ${label}`)
    await ipBatch(undefined, lines, { signal })
    return lines.length ? ['resolver address missing'] : []
  }

  return {
    get surroundings() {
      return around
    },
    async keep(plan, clashes, signal) {
      const [routes = []] = (await ipShow(undefined, ['route show table main'], { signal })) as RouteJson[][]
      around = surroundings(routes, names.isUplink)
      const repaired = [
        ...((await keepForwarding()) ? ['forwarding off'] : []),
        ...(await keepRules(plan, clashes, signal)),
        ...(await keepResolver(plan, signal)),
        ...((await keepDockerOpen(prefix, signal)) ? ["Docker's chain without our rules"] : []),
      ]
      if (repaired.length) log.info('host network brought up to date', { repaired })
      return repaired
    },
    async keepClashes(clashes, signal) {
      const filling = setsText(clashes)
      if (!rules || sets === digest(filling)) return
      await nftLoad(undefined, filling, { signal })
      sets = digest(filling)
      listed = (await listing(table, signal)) ?? ''
    },
    keepDocker: (signal) => keepDockerOpen(prefix, signal),
    async remove(signal) {
      await releaseDocker(prefix, signal)
      await nftLoad(undefined, `table inet ${table}\ndelete table inet ${table}\n`, { signal })
      const [links = []] = (await ipShow(undefined, ['addr show dev lo'], { signal })) as LinkJson[][]
      const there = (links[0]?.addr_info ?? []).filter((it) => (it as { label?: string }).label === label)
      await ipBatch(
        undefined,
        there.map((it) => `addr del ${it.local}/32 dev lo`),
        { signal },
      )
      rules = sets = listed = ''
    },
  }
}
