import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { HostPlan } from '#cloud/network/network.driver.ts'
import type { Difference } from '#cloud/observe/finding.driver.ts'
import type { Log } from '#lib/log.ts'
import { cut, cutLines } from './cut.ts'
import {
  type Exposed,
  exposedCut,
  exposedElement,
  loopbackGaps,
  openOf,
  ownAddresses,
  strayFlows,
  takenGap,
  wordsOf,
} from './exposed.ts'
import { keepDockerOpen, missingInDocker, releaseDocker } from './docker-user.ts'
import {
  beyond,
  hostRules,
  hostSetsText,
  proxyLines,
  sharesOf,
  sharesText,
  surroundings,
  type Clash,
  type NeighbourJson,
  type Shares,
  type Surroundings,
} from './host.ts'
import type { LinkJson, RouteJson } from './links.ts'
import type { Names } from './names.ts'
import { CommandFailed, run } from '#lib/command.ts'
import { trackedFlows } from './leftovers.ts'
import { ipBatch, ipShow, nftLoad } from './run.ts'

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
export type Shared = {
  readonly ranges: readonly Clash[]
  readonly externals: readonly string[]
  readonly exposed: readonly Exposed[]
}

/**
 * Something of the host's own part that is to be made. With a `difference` somebody else changed it; without one it is only
 * not done yet: a new plan, a network that appeared, a first look after a start.
 */
export type HostGap = {
  readonly difference?: Difference
  /** Absent: it is for a person, with this command. */
  readonly fix?: (signal: AbortSignal) => Promise<unknown>
  readonly command?: string
}

/** The host's own part: table, sets, proxy neighbours, the resolver's address, forwarding, Docker's chain. Calls must not overlap. */
export type HostSide = {
  /** Looks at the host; changes nothing. */
  look(plan: HostPlan, shared: Shared, signal: AbortSignal): Promise<readonly HostGap[]>
  /** Looks at the host and repairs what differs from the plan. */
  keep(plan: HostPlan, shared: Shared, signal: AbortSignal): Promise<void>
  /** Brings up to date what is shared, as far as it changed since the last time. */
  keepShared(shared: Shared, signal: AbortSignal): Promise<void>
  keepDocker(signal: AbortSignal): Promise<void>
  /** Ends flows into networks that the new plan does not allow any more, and one of those before did. */
  cutRevoked(before: readonly HostPlan[], plan: HostPlan, signal: AbortSignal): Promise<void>
  remove(plan: HostPlan | undefined, signal: AbortSignal): Promise<void>
}

/** Digests of how nftables lists our table: the rules, and what the sets hold. */
type Listing = { readonly rules: string; readonly sets: string }

/** The elements of a set that is filled apart; those of the others belong to the rules. */
const FILLED_SET =
  /(\t(?:set|map) (?:networks|exits|clashes|published|published_to) \{[^}]*?)\s*elements = \{[^}]*\}/g

async function listing(table: string, signal: AbortSignal): Promise<Listing | undefined> {
  try {
    const text = await run(['nft', '-s', 'list', 'table', 'inet', table], { signal })
    // The set that counts flows changes by itself.
    const still = text.replace(/\tset flows \{[\s\S]*?\n\t\}\n/, '')
    const rules = still.replace(FILLED_SET, '$1')
    return { rules: digest(rules), sets: digest(still) }
  } catch (error) {
    if (error instanceof CommandFailed && !error.missing) return undefined
    throw error
  }
}

// How many neighbours the kernel keeps is one number for all namespaces, of which its default of 1,024 is used up by
// some 500 machines: each has its gateway and its neighbours, and its router has it.
const NEIGHBOURS = { gc_thresh2: 16_384, gc_thresh3: 32_768 }

/** The settings of the host's kernel that VPCs need, where they are smaller; larger ones are left as they are. */
function settingGaps(): HostGap[] {
  const wanted = [
    ['ipv4/ip_forward', 1] as const,
    ...Object.entries(NEIGHBOURS).flatMap(([name, least]) =>
      ['ipv4', 'ipv6'].map((family) => [`${family}/neigh/default/${name}`, least] as const),
    ),
  ]
  return wanted.flatMap(([name, least]) => {
    const file = `/proc/sys/net/${name}`
    // A network namespace may lack what is the host's alone.
    const value = existsSync(file) ? Number(readFileSync(file, 'utf8')) : least
    if (value >= least) return []
    const detail = `setting net.${name.replaceAll('/', '.')} is ${value}, less than ${least}`
    return [
      { difference: { what: 'drift', thing: 'setting', detail }, fix: () => writeFile(file, String(least)) },
    ]
  })
}

/**
 * Carries out lines of `proxyLines`. A link that begins to answer for others does so at once: the kernel's default lets who
 * asks wait for up to 0.8 s.
 */
async function changeProxies(lines: readonly string[], signal: AbortSignal): Promise<void> {
  const added = lines.flatMap((it) => / replace proxy \S+ dev (\S+) /.exec(it)?.[1] ?? [])
  const prompt = [...new Set(added)].map((it) => `ntable change name arp_cache dev ${it} proxy_delay 0`)
  await ipBatch(undefined, [...prompt, ...lines], { signal })
}

async function proxyNeighbours(signal: AbortSignal): Promise<NeighbourJson[]> {
  const [there] = await ipShow(undefined, ['neigh show proxy'], { signal })
  return (there ?? []) as NeighbourJson[]
}

/** The resolver's address is the only one of ours on `lo`; without one there is none. */
async function resolverGaps(
  prefix: string,
  resolver: string | undefined,
  signal: AbortSignal,
): Promise<HostGap[]> {
  const label = `lo:${prefix}`
  const [links] = await ipShow(undefined, ['addr show dev lo'], { signal })
  const there = ((links ?? []) as LinkJson[]).flatMap((it) => it.addr_info ?? [])
  const ours = there.filter((it) => it.label === label).map((it) => it.local)
  const gap = (what: Difference['what'], address: string, line: string): HostGap => ({
    difference: {
      what,
      thing: 'address',
      detail: `address ${address} on lo ${what === 'orphan' ? 'not in the plan' : 'missing'}`,
    },
    fix: (stop) => ipBatch(undefined, [line], { signal: stop }),
  })
  return [
    ...ours.filter((it) => it !== resolver).map((it) => gap('orphan', it, `addr del ${it}/32 dev lo`)),
    ...(resolver !== undefined && !ours.includes(resolver)
      ? [gap('missing', resolver, `addr replace ${resolver}/32 dev lo label ${label}`)]
      : []),
  ]
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
  let shares: Shares = new Map()
  let proxies = ''

  const setsText = (of: Shared): string =>
    hostSetsText(table, { ...around, clashes: of.ranges, exposed: of.exposed })

  /** Ends what went where ports lead no more, for as long as it was begun so the host would go on to send it there. */
  async function turnTo(of: Shared, signal: AbortSignal): Promise<void> {
    const next = sharesOf({ clashes: of.ranges, exposed: of.exposed })
    const gone = beyond(shares, next).get('published') ?? []
    const added = beyond(next, shares).get('published') ?? []
    const flows = added.some((it) => it.startsWith('udp')) ? await trackedFlows(signal) : []
    const strays = cutLines(flows, strayFlows(flows, added, ownAddresses()))
    await cut(undefined, [...exposedCut(gone), ...strays], directory, signal)
    shares = next
  }

  async function rulesGaps(plan: HostPlan, of: Shared, signal: AbortSignal): Promise<HostGap[]> {
    const text = hostRules(prefix, plan, flowsMax)
    const filling = setsText(of)
    const there = await listing(table, signal)
    const isLoaded = rules === digest(text)
    const sameRules = there !== undefined && there.rules === listed?.rules && isLoaded
    if (sameRules && there.sets === listed?.sets && sets === digest(filling)) return []
    const isChanged = sameRules && listed?.sets !== '' && sets === digest(filling)
    const fix = async (stop: AbortSignal): Promise<void> => {
      await nftLoad(undefined, (sameRules ? '' : text) + filling, { signal: stop })
      rules = digest(text)
      sets = digest(filling)
      await turnTo(of, stop)
      listed = await listing(table, stop)
    }
    if (!there)
      return [{ difference: { what: 'missing', thing: 'table', detail: `table inet ${table} missing` }, fix }]
    const drift = (what: string): HostGap[] => [
      {
        difference: { what: 'drift', thing: 'table', detail: `${what} of table inet ${table} changed` },
        fix,
      },
    ]
    if (!sameRules) return isLoaded && listed ? drift('rules') : [{ fix }]
    return isChanged ? drift('sets') : [{ fix }]
  }

  /** Changes only what differs, since every new VPC comes by here. */
  async function keepShares(of: Shared, signal: AbortSignal): Promise<void> {
    const wanted = sharesOf({ clashes: of.ranges, exposed: of.exposed })
    const text = sharesText(table, beyond(shares, wanted), beyond(wanted, shares))
    if (!text) return
    try {
      await nftLoad(undefined, text, { signal })
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error
      // Somebody changed the set, or took the table away.
      await nftLoad(undefined, setsText(of), { signal })
    }
    await turnTo(of, signal)
    sets = digest(setsText(of))
    // How nftables lists the sets now is not known until somebody looks.
    if (listed) listed = { ...listed, sets: '' }
  }

  /** Ports that somebody of the host began or ended to listen on since the sets were filled. */
  function exposureGaps(of: Shared, taken: readonly Exposed[]): HostGap[] {
    const known = shares.get('published')
    if (!known) return []
    const isOpen = (it: Exposed): boolean => known.includes(exposedElement(it))
    const fix = (signal: AbortSignal): Promise<void> => keepShares(of, signal)
    return [
      ...taken.map((it): HostGap => {
        const detail = `${wordsOf(it)} open, though a program of the host listens on it`
        return isOpen(it) ? { difference: { what: 'drift', thing: 'rule', detail }, fix } : takenGap(it)
      }),
      ...of.exposed
        .filter((it) => !isOpen(it))
        .map((it): HostGap => {
          const detail = `${wordsOf(it)} not open`
          return { difference: { what: 'missing', thing: 'rule', detail }, fix }
        }),
    ]
  }

  async function proxyGaps(externals: readonly string[], signal: AbortSignal): Promise<HostGap[]> {
    const lines = proxyLines(externals, around, await proxyNeighbours(signal), pools)
    return lines.map((line) => {
      const [, verb, , address = ''] = line.split(' ')
      const detail = `proxy neighbour ${address} ${verb === 'del' ? 'not in the plan' : 'missing'}`
      return {
        difference: { what: verb === 'del' ? 'orphan' : 'missing', thing: 'neighbour', detail },
        fix: (stop) => changeProxies([line], stop),
      }
    })
  }

  async function keepProxies(externals: readonly string[], signal: AbortSignal): Promise<void> {
    await changeProxies(proxyLines(externals, around, await proxyNeighbours(signal), pools), signal)
    proxies = externals.join()
  }

  async function look(plan: HostPlan, wanted: Shared, signal: AbortSignal): Promise<HostGap[]> {
    const { of, taken } = await openOf(wanted)
    const [routes] = await ipShow(undefined, ['route show table main'], { signal })
    around = surroundings((routes ?? []) as RouteJson[], names.isUplink)
    pools = plan.external.map((it) => it.cidr)
    const docker = await missingInDocker(prefix, signal)
    return [
      ...settingGaps(),
      ...loopbackGaps(of.exposed),
      ...(await rulesGaps(plan, of, signal)),
      ...exposureGaps(of, taken),
      ...(await resolverGaps(prefix, plan.resolver, signal)),
      ...(await proxyGaps(of.externals, signal)),
      ...(docker.length
        ? [
            {
              difference: {
                what: 'missing',
                thing: 'rule',
                detail: "rules for VPCs in Docker's chain DOCKER-USER missing",
              } as const,
              fix: (stop: AbortSignal) => keepDockerOpen(prefix, stop),
            },
          ]
        : []),
    ]
  }

  return {
    look,
    async keep(plan, shared, signal) {
      const gaps = await look(plan, shared, signal)
      for (const { fix } of gaps) await fix?.(signal)
      proxies = shared.externals.join()
      const repaired = gaps.flatMap((it) => (it.fix && it.difference?.detail) ?? [])
      if (repaired.length) log.info('host network brought up to date', { repaired })
    },
    async keepShared(shared, signal) {
      const { of } = await openOf(shared)
      for (const { fix } of loopbackGaps(of.exposed)) await fix?.(signal)
      await keepShares(of, signal)
      if (proxies !== shared.externals.join()) await keepProxies(shared.externals, signal)
    },
    keepDocker: (signal) => keepDockerOpen(prefix, signal),
    async cutRevoked(before, plan, signal) {
      const revoked = new Set(before.flatMap((it) => it.allowed)).difference(new Set(plan.allowed))
      const from = new Set(before.flatMap((it) => it.external.map((pool) => pool.cidr)))
      const lines = [...revoked].flatMap((to) => [...from].map((it) => `-D -s ${it} -d ${to}`))
      await cut(undefined, lines, directory, signal)
    },
    async remove(plan, signal) {
      pools = plan?.external.map((it) => it.cidr) ?? pools
      await keepProxies([], signal)
      await releaseDocker(prefix, signal)
      await nftLoad(undefined, `table inet ${table}\ndelete table inet ${table}\n`, { signal })
      for (const { fix } of await resolverGaps(prefix, undefined, signal)) await fix?.(signal)
      rules = sets = proxies = ''
      listed = undefined
      shares = new Map()
    },
  }
}
