import { readdir } from 'node:fs/promises'
import type { SeenVpc } from '#cloud/network/network.driver.ts'
import type { Difference, Repair } from '#cloud/observe/finding.driver.ts'
import { inParallel } from '#lib/lanes.ts'
import { keepHost } from './bring.ts'
import { addressesOf, flowsOfNobody, readFlows } from './flows.ts'
import type { Held } from './held.ts'
import { leftovers } from './leftovers.ts'
import type { LinkJson } from './links.ts'
import { lookAtHost, namespaceThere, type SeenHost, type Setting } from './look.ts'
import { lookForDrift } from './router.ts'
import { ipShow } from './run.ts'
import { HOST_LANE, type NetworkState, plansOf, settingFor, sharedOf } from './state.ts'

export const LOOKS_AT_ONCE_MAX = 4
const NO_HOST_PLAN: readonly Difference[] = [
  { what: 'missing', thing: 'file', detail: 'the host has no network plan' },
]
const NO_PLAN: readonly Difference[] = [{ what: 'orphan', thing: 'namespace', detail: 'no plan is held' }]

/** How a VPC's router is; undefined when there is neither a plan of it nor a namespace. */
export async function observe(
  state: NetworkState,
  vpc: string,
  signal: AbortSignal,
  onHost?: SeenHost,
): Promise<SeenVpc | undefined> {
  const { held, names } = state
  const it = held.get(vpc)
  if (it) {
    const drift = state.hostPlan ? await driftOf(it, settingFor(state, signal), onHost) : NO_HOST_PLAN
    it.suspect ||= drift.length > 0
    return { vpc, generation: it.plan.generation, attachments: [...it.byId.keys()], drift }
  }
  if (!(await namespaceThere(names.namespace(vpc)))) return undefined
  return { vpc, generation: undefined, attachments: [], drift: NO_PLAN }
}

/** How a router and its flows differ from the plan. */
async function driftOf(it: Held, setting: Setting, onHost?: SeenHost): Promise<readonly Difference[]> {
  const { drift, flows } = await lookForDrift(setting, it.plan, it.loaded, onHost)
  if (!flows) return drift
  const ranges = [...it.plan.subnets.map((subnet) => subnet.cidr), it.plan.range6, setting.host.fabric]
  const known = addressesOf(it.plan).add(setting.host.resolver)
  const seen = await readFlows(setting.names.namespace(it.plan.vpc), setting.signal)
  const gone = flowsOfNobody(seen, ranges, known)
  if (!gone.length) return drift
  const detail = `${gone.length} tracked flows of addresses that nobody has any more`
  return [...drift, { what: 'orphan', thing: 'flow', detail }]
}

/** Every veth link of the host. */
export const vethLinks = async (signal: AbortSignal): Promise<LinkJson[]> => {
  const [links] = await ipShow(undefined, ['link show type veth'], { signal })
  return (links ?? []) as LinkJson[]
}

/** Everything of ours that no plan is held for: by the id that is written on the link, else by what the name tells. */
export async function orphans({ held, names }: NetworkState, signal: AbortSignal): Promise<string[]> {
  const known = new Set(held.all().map((it) => names.namespace(it.plan.vpc)))
  const uplinks = (await vethLinks(signal)).filter((it) => names.isUplink(it.ifname))
  const byNamespace = new Map(uplinks.flatMap(({ ifalias: id }) => (id ? [[names.namespace(id), id]] : [])))
  const all = new Set([...(await readdir('/run/netns').catch(() => [])), ...byNamespace.keys()])
  return [...all].flatMap((it) => {
    const name = names.vpcOf(it)
    return name === undefined || known.has(it) ? [] : [byNamespace.get(it) ?? name]
  })
}

/** All routers, also those that no plan is held for. */
export async function list(state: NetworkState, signal: AbortSignal): Promise<readonly SeenVpc[]> {
  const all = [...plansOf(state).map((it) => it.vpc), ...(await orphans(state, signal))]
  const onHost = await lookAtHost(signal)
  const seen = await inParallel(all, LOOKS_AT_ONCE_MAX, (vpc) =>
    state.lane(vpc, () => observe(state, vpc, signal, onHost)),
  )
  return seen.filter((it) => it !== undefined)
}

/** The host's own part, and what is left over. What differs in a VPC its list tells. */
export async function lookAround(state: NetworkState, signal: AbortSignal): Promise<readonly Repair[]> {
  const { names, directory, freed, clock, lane, host, held } = state
  const links = await vethLinks(signal)
  const given = { names, directory, freed, links, now: clock.now(), signal }
  const left = await leftovers({ ...given, plans: () => plansOf(state) })
  const gaps = await lane(HOST_LANE, async () =>
    state.hostPlan ? await host.look(state.hostPlan, sharedOf(state), signal) : [],
  )
  const ofHost = gaps.flatMap(({ difference, command }): Repair[] => {
    if (!difference) return []
    return command === undefined
      ? [{ finding: { ...difference, mend: 'driver' }, fix: (stop) => keepHost(state, stop) }]
      : [{ finding: { ...difference, mend: { command } } }]
  })
  const repaired = held.all().flatMap(({ plan: { vpc }, repaired: all }) =>
    all.map((difference) => ({
      finding: { ...difference, of: { kind: 'vpc' as const, id: vpc }, mend: 'driver' as const },
      // It is: only to be told. Of the plan that is held by now, and beside what was repaired meanwhile.
      async fix() {
        const it = await Promise.resolve(held.get(vpc))
        if (it) it.repaired = it.repaired.filter((one) => one !== difference)
      },
    })),
  )
  return [...ofHost, ...left, ...repaired]
}
