import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { createLanes, type Lanes } from '#lib/lanes.ts'
import type { Log } from '#lib/log.ts'
import { inRange, type PortRange, PUBLISHED_PORTS_DEFAULT } from '#lib/ports.ts'
import { exposedBy } from './exposed.ts'
import { createHeldPlans, type HeldPlans } from './held.ts'
import { createHostSide, hostMtu, type HostSide, type Shared } from './host-side.ts'
import { externalsOf } from './links.ts'
import type { Setting } from './look.ts'
import { type Names, namesFor } from './names.ts'
import { openPlans, type PlanFiles } from './plans.ts'

export type LinuxNetworkOptions = {
  /** Marks everything of ours on the host; 1 to 5 of a-z and 0-9. */
  readonly prefix?: string
  /** Where the plans are kept; made when absent, readable by root alone. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  /** Most flows to and from one VPC that the host tracks at a time; new ones beyond are dropped. */
  readonly flowsMax?: number
  /** Ports of the host that may be published; PUBLISHED_PORTS_DEFAULT unless told. */
  readonly publishedPorts?: PortRange
}

const FLOWS_MAX = 32_768
// Lanes that no VPC's id can be.
export const HOST_LANE = 'host'
export const HOST_PLAN_LANE = 'host plan'
export const PEERINGS_LANE = 'peerings'
export const PROBE_LANE = 'probe'
export const UNENDING = new AbortController().signal

/** What this process knows of the routers of its host, and what it changes them by. */
export type NetworkState = {
  readonly names: Names
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  readonly published: PortRange
  readonly files: PlanFiles
  readonly held: HeldPlans
  /** One turn at a time for each VPC, by its id, and for each of the lanes above. */
  readonly lane: Lanes
  readonly host: HostSide
  /** Addresses that somebody had: the host may still track flows of them. */
  readonly freed: Set<string>
  hostPlan: HostPlan | undefined
  /** Plans of the host before that one, while something may be left that was made or begun under them. */
  hostPlansBefore: readonly HostPlan[]
  /** True when the host's part was looked at since the start. */
  hostKept: boolean
  /** Bytes; that of the link by which the host is connected. */
  mtu: number
}

/** Reads what is kept; a plan that cannot be read is logged, and replaced by whoever applies it again. */
export function openState(options: LinuxNetworkOptions): NetworkState {
  const { directory, clock, log } = options
  const names = namesFor(options.prefix ?? 'arcus')
  const files = openPlans(directory)
  const held = createHeldPlans()
  if (files.broken.length) log.warn('kept network plans cannot be read', { files: files.broken })
  for (const { plan, loaded } of files.vpcs) {
    // A plan is kept when its router was made and its flows were looked at.
    held.put(plan, { loaded, swept: plan, saved: JSON.stringify({ plan, loaded }) })
  }
  return {
    names,
    directory,
    clock,
    log,
    published: options.publishedPorts ?? PUBLISHED_PORTS_DEFAULT,
    files,
    held,
    lane: createLanes(),
    host: createHostSide(names, directory, options.flowsMax ?? FLOWS_MAX, log),
    freed: new Set(),
    hostPlan: files.host,
    hostPlansBefore: [],
    hostKept: false,
    mtu: hostMtu(),
  }
}

/** What every step on a router needs. Throws `unavailable` while there is no plan of the host. */
export function settingFor({ names, hostPlan: host, mtu }: NetworkState, signal: AbortSignal): Setting {
  if (!host) throw new CloudError('unavailable', 'the host has no network plan yet')
  return { names, host, mtu, signal }
}

export const plansOf = ({ held }: NetworkState): VpcPlan[] => held.all().map((it) => it.plan)

/** What the host's part holds of all VPCs. */
export function sharedOf(state: NetworkState): Shared {
  const { names, published } = state
  const plans = plansOf(state)
  return {
    ranges: plans.flatMap((plan) =>
      plan.subnets.map((it) => ({ uplink: names.uplink(plan.index), cidr: it.cidr })),
    ),
    externals: plans.flatMap(externalsOf),
    exposed: exposedBy(plans, names.uplink).filter((it) => inRange(published, it.port)),
  }
}
