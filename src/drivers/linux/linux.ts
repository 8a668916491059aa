import { readdir } from 'node:fs/promises'
import type {
  Attachment,
  HostPlan,
  NetworkDriver,
  PlannedSubnet,
  SeenVpc,
  VpcPlan,
} from '#cloud/network/network.driver.ts'
import { auditedBy, type Difference, type Repair } from '#cloud/observe/finding.driver.ts'
import { EVERY_PROMISE } from '#cloud/network/promises.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { giveIpv6 } from './arrival.ts'
import { makeLink, moveLink, removeLinkOf } from './attach.ts'
import { checkHostPlan, checkVpcPlan } from './check.ts'
import { cut, cutLines } from './cut.ts'
import { addressesOf, flowsOfNobody, flowsToCut, mayRevoke, readFlows } from './flows.ts'
import { exposedBy } from './exposed.ts'
import { createHeldPlans, type Held } from './held.ts'
import { createHostSide, hostMtu, type Shared } from './host-side.ts'
import { createLanes, inParallel } from '#lib/lanes.ts'
import { listeningPorts } from '#lib/listening.ts'
import { inRange, type PortRange, PUBLISHED_PORTS_DEFAULT } from '#lib/ports.ts'
import { flowRepairs, hostAddressesOf, leftovers } from './leftovers.ts'
import { externalsOf, type LinkJson } from './links.ts'
import { lookAtHost, namespaceThere, type SeenHost, type Setting } from './look.ts'
import { missingOnHost } from './missing.ts'
import { namesFor } from './names.ts'
import { openPlans } from './plans.ts'
import { makePeeringLinks } from './peerings.ts'
import { changeRules, converge, grow, lookForDrift, removeRouter } from './router.ts'
import { ipBatch, ipShow } from './run.ts'
import { type Growth, growthOf, shapeOf } from './shape.ts'

/** What Docker's network plugin is told about an attachment; all of it from the plan that is held. */
export type PlannedAttachment = {
  readonly vpc: string
  readonly plan: Attachment
  readonly subnet: PlannedSubnet
  /** Bytes; that of the link by which the host is connected. */
  readonly mtu: number
}

/** The routers of this machine, and the links by which containers are attached to them. */
export type LinuxNetwork = NetworkDriver & {
  /** From memory, at once: what is planned for an attachment; undefined when no plan has it. */
  attachment(id: string): PlannedAttachment | undefined
  /** The same by its IPv4 address in a VPC. */
  findByAddress(vpc: string, address: string): PlannedAttachment | undefined
  /** Whether a plan that is held has a subnet. */
  hasSubnet(subnet: string): boolean
  /** Calls `tell` with a VPC of which another plan is held now, in force or not, and its subnets that are gone. */
  onPlan(tell: PlanListener): () => void
  /** Ends when the plan that is held of an attachment's VPC is in force. Throws `not_found` for one that no plan has. */
  inForce(id: string, signal?: AbortSignal): Promise<void>
  /**
   * Makes an attachment's link: one end in the router and ready, the other on the host, down, under the name that is
   * given, to be moved into the container. One that is there and not yet moved is used again; one whose container's
   * end is elsewhere is replaced. Makes the router from the held plan when it is not there, and never waits for the
   * cloud. Throws `not_found` for an attachment that no plan has.
   */
  createLink(id: string, signal?: AbortSignal): Promise<{ readonly containerLink: string }>
  /**
   * Gives a running container its network again, whose link somebody took away: a new one, with its other end in the
   * namespace of process `pid` under the name and with the addresses that Docker gave it.
   */
  plugIn(id: string, pid: number, signal?: AbortSignal): Promise<void>
  /**
   * Gives a container its IPv6, address and default route, in the network namespace of this path. One that is `starting` is
   * waited for: the namespace, the link of `createLink` in it, and IPv6. Of one that is `running` they must be there.
   */
  giveIpv6(id: string, namespace: string, waits: 'starting' | 'running', signal?: AbortSignal): Promise<void>
  /** Removes an attachment's link, both ends. Fine when it is not there. */
  removeLink(id: string, signal?: AbortSignal): Promise<void>
  /** To be called when Docker has (re)started: puts our rules back into its chain. */
  dockerStarted(signal?: AbortSignal): Promise<void>
}

/** Told of a VPC of which another plan is held, or none any more, and of the subnets that went with the one before. */
export type PlanListener = (change: { readonly vpc: string; readonly gone: readonly string[] }) => void

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
const LOOKS_AT_ONCE_MAX = 4
/** Repairs of one VPC that are kept to be told; the oldest is forgotten. */
const REPAIRED_MAX = 32
// Lanes that no VPC's id can be.
const HOST_LANE = 'host'
const HOST_PLAN_LANE = 'host plan'
const PEERINGS_LANE = 'peerings'
const NO_HOST_PLAN: readonly Difference[] = [
  { what: 'missing', thing: 'file', detail: 'the host has no network plan' },
]
const NO_PLAN: readonly Difference[] = [{ what: 'orphan', thing: 'namespace', detail: 'no plan is held' }]
const UNENDING = new AbortController().signal

/**
 * Network driver of a Linux host: each VPC is a network namespace that is its router. Needs root. On the host itself it
 * keeps one nftables table, an uplink and routes per VPC, the resolver's address on `lo`, two rules in Docker's
 * `DOCKER-USER`, switches `net.ipv4.ip_forward` on and raises `neigh.default.gc_thresh2` and `3` where they are small
 * (a purge leaves these as they are, since others may count on them by then); every other kernel setting is made inside
 * the namespaces. Calls are serialised per VPC.
 */
export function linuxNetwork(options: LinuxNetworkOptions): LinuxNetwork {
  const { log, clock } = options
  const names = namesFor(options.prefix ?? 'arcus')
  const files = openPlans(options.directory)
  const lane = createLanes()
  const host = createHostSide(names, options.directory, options.flowsMax ?? FLOWS_MAX, log)
  const held = createHeldPlans()
  const published = options.publishedPorts ?? PUBLISHED_PORTS_DEFAULT
  let hostPlan = files.host
  let hostKept = false
  const freed = new Set<string>()
  const listeners = new Set<PlanListener>()
  let mtu = hostMtu()
  if (files.broken.length) log.warn('kept network plans cannot be read', { files: files.broken })
  for (const { plan, loaded } of files.vpcs) {
    // A plan is kept when its router was made and its flows were looked at.
    held.put(plan, { loaded, swept: plan, saved: JSON.stringify({ plan, loaded }) })
  }

  const settingFor = (signal: AbortSignal): Setting => {
    if (!hostPlan) throw new CloudError('unavailable', 'the host has no network plan yet')
    return { names, host: hostPlan, mtu, signal }
  }

  /** What the host's part holds of all VPCs. */
  const shared = (): Shared => {
    return {
      ranges: plans().flatMap((plan) =>
        plan.subnets.map((it) => ({ uplink: names.uplink(plan.index), cidr: it.cidr })),
      ),
      externals: plans().flatMap(externalsOf),
      exposed: exposedBy(plans(), names.uplink).filter((it) => inRange(published, it.port)),
    }
  }

  /** Looks at the host's part and puts it right; with `once`, only if nobody has since the start. */
  const keepHost = (signal: AbortSignal, once = false): Promise<void> =>
    lane(HOST_LANE, async () => {
      if (!hostPlan || (once && hostKept)) return
      mtu = hostMtu()
      await host.keep(hostPlan, shared(), signal)
      hostKept = true
    })

  /** Ends the flows that the plan does not allow any more; with `allowed` those there are were allowed by the plan swept last. */
  async function sweep(it: Held, setting: Setting, allowed: boolean): Promise<void> {
    if (!allowed || !it.swept || mayRevoke(it.swept, it.plan)) {
      const namespace = names.namespace(it.plan.vpc)
      const flows = await readFlows(namespace, setting.signal)
      const gone = flowsToCut(flows, it.swept, it.plan, setting.host, allowed)
      await cut(namespace, cutLines(flows, gone), options.directory, setting.signal)
      if (gone.length)
        log.info('flows ended that are not allowed any more', { vpc: it.plan.vpc, flows: gone.length })
    }
    it.swept = it.plan
    it.unswept = false
  }

  /**
   * Makes the links of a router's peerings that are missing. The routers at their other ends are brought up after this
   * one, since each waits for its own turn alone.
   */
  async function bringPeerings(it: Held, setting: Setting): Promise<boolean> {
    if (!it.plan.peerings?.length) return false
    const made = await lane(PEERINGS_LANE, () => makePeeringLinks(setting, it.plan))
    for (const vpc of made) {
      const bringOther = async (): Promise<void> => {
        const other = held.get(vpc)
        if (other) await bring(other, UNENDING)
      }
      void lane(vpc, bringOther).catch((error: unknown) =>
        log.warn('the other side of a peering was not brought up', { vpc, error: messageOf(error) }),
      )
    }
    return made.length > 0
  }

  /** Makes a router what the held plan says, and keeps the plan when it is. */
  async function bring(it: Held, signal: AbortSignal): Promise<void> {
    await keepHost(signal, true)
    const setting = settingFor(signal)
    const shape = shapeOf(it.plan, setting.host, names.uplink(it.plan.index))
    const allowed = !it.unswept
    const was = it.loaded?.text
    it.unswept = true
    const growth = it.shape && !it.suspect ? growthOf(it.shape, shape) : undefined
    if (!growth || !(await changeOnly(it, setting, growth))) {
      it.shape = undefined
      await bringWhole(it, setting)
      it.shape = shape
    }
    // Ports that lead to another machine, or to none, are the host's too.
    await lane(HOST_LANE, () => host.keepShared(shared(), signal))
    // What another version of this program had loaded may have let more.
    const isKnown = it.brought || was === undefined || was === it.loaded?.text
    await sweep(it, setting, allowed && isKnown)
    it.brought = true
    it.suspect = false
    const { plan } = it
    const { text = '', listing = '' } = it.loaded ?? {}
    const kept = { plan, loaded: { text, listing } }
    const saved = JSON.stringify(kept)
    if (it.saved === saved) return
    await files.saveVpc(kept)
    it.saved = saved
  }

  /** Brings a router to a plan that has other rules than the one in force and more of the rest; false when that cannot be. */
  async function changeOnly(it: Held, setting: Setting, growth: Growth): Promise<boolean> {
    const { inForce } = it
    if (!inForce) return false
    // Not known until it is answered: a call that is broken off may be done all the same.
    it.inForce = undefined
    const loaded = await changeRules(setting, it.plan, it.loaded)
    it.loaded = loaded ?? it.loaded
    // Rules before anything new can pass.
    const has = loaded !== undefined && (await grow(setting, it.plan.vpc, growth))
    if (has) it.inForce = it.plan
    else if (!loaded) it.inForce = inForce
    return has
  }

  /** Looks at a router and makes it what the held plan says, whatever was there before. */
  async function bringWhole(it: Held, setting: Setting): Promise<void> {
    // Drift that a look has shown is told already.
    const before = it.suspect ? undefined : it.inForce
    it.inForce = undefined
    const { loaded, made, drift } = await converge(setting, it.plan, it.loaded, {
      thorough: it.suspect || !it.brought,
      before,
    })
    it.loaded = loaded
    if (await bringPeerings(it, setting))
      await converge(setting, it.plan, it.loaded, { thorough: false, before: undefined })
    it.inForce = it.plan
    it.repaired = [...it.repaired, ...drift].slice(-REPAIRED_MAX)
    if (it.suspect) it.swept = undefined
    // A router that has just been made has no flows yet.
    if (made) it.swept = it.plan
  }

  const plans = (): VpcPlan[] => held.all().map((it) => it.plan)

  /** Ends what the host tracks of addresses that nobody has any more. */
  const endFreed = (signal: AbortSignal): Promise<void> =>
    lane(HOST_LANE, async () => {
      for (const it of await flowRepairs(plans(), freed, options.directory, signal)) await it.fix?.(signal)
    })

  /** Tells that another plan is held than `old`. */
  const told = (vpc: string, old: Held | undefined): void => {
    const now = held.get(vpc)
    const gone = [...(old?.subnets.keys() ?? [])].filter((it) => !now?.subnets.has(it))
    for (const tell of listeners) tell({ vpc, gone })
  }

  async function apply(plan: VpcPlan, signal: AbortSignal): Promise<void> {
    const started = clock.now()
    const old = held.get(plan.vpc)
    if (old && plan.generation < old.plan.generation) {
      const text = `VPC ${plan.vpc} has plan ${old.plan.generation}, newer than ${plan.generation}`
      throw new CloudError('conflict', text, { rule: 'lost_race' })
    }
    checkVpcPlan(plan, settingFor(signal).host, published)
    const namespace = names.namespace(plan.vpc)
    for (const { plan: other } of held.all()) {
      if (other.vpc === plan.vpc) continue
      if (other.index === plan.index)
        throw new CloudError('conflict', `index ${plan.index} belongs to VPC ${other.vpc}`)
      if (names.namespace(other.vpc) === namespace)
        throw new CloudError('conflict', `namespace ${namespace} belongs to VPC ${other.vpc}`)
    }
    const kept = new Set(hostAddressesOf(plan))
    for (const it of old ? hostAddressesOf(old.plan) : []) if (!kept.has(it)) freed.add(it)
    const now = held.put(plan)
    told(plan.vpc, old)
    await bring(now, signal)
    if (old) await endFreed(signal)
    log.debug('VPC applied', { vpc: plan.vpc, generation: plan.generation, ms: clock.now() - started })
  }

  async function applyHost(plan: HostPlan, signal: AbortSignal): Promise<void> {
    checkHostPlan(plan)
    const old = hostPlan
    if (old && plan.generation < old.generation) {
      const text = `the host has plan ${old.generation}, newer than ${plan.generation}`
      throw new CloudError('conflict', text, { rule: 'lost_race' })
    }
    hostPlan = plan
    await keepHost(signal)
    await host.cutRevoked(old, plan, signal)
    await files.saveHost(plan)
    if (!old || (old.fabric === plan.fabric && old.resolver === plan.resolver)) return
    await inParallel(held.all(), LOOKS_AT_ONCE_MAX, ({ plan: { vpc } }) =>
      lane(vpc, async () => {
        const it = held.get(vpc)
        if (it) await bring(it, signal)
      }),
    )
  }

  async function observe(vpc: string, signal: AbortSignal, onHost?: SeenHost): Promise<SeenVpc | undefined> {
    const it = held.get(vpc)
    if (it) {
      const drift = hostPlan ? await driftOf(it, settingFor(signal), onHost) : NO_HOST_PLAN
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
    const seen = await readFlows(names.namespace(it.plan.vpc), setting.signal)
    const gone = flowsOfNobody(seen, ranges, known)
    if (!gone.length) return drift
    const detail = `${gone.length} tracked flows of addresses that nobody has any more`
    return [...drift, { what: 'orphan', thing: 'flow', detail }]
  }

  const vethLinks = async (signal: AbortSignal): Promise<LinkJson[]> => {
    const [links] = await ipShow(undefined, ['link show type veth'], { signal })
    return (links ?? []) as LinkJson[]
  }

  /** Everything of ours that no plan is held for: by the id that is written on the link, else by what the name tells. */
  async function orphans(signal: AbortSignal): Promise<string[]> {
    const known = new Set(held.all().map((it) => names.namespace(it.plan.vpc)))
    const uplinks = (await vethLinks(signal)).filter((it) => names.isUplink(it.ifname))
    const byNamespace = new Map(uplinks.flatMap(({ ifalias: id }) => (id ? [[names.namespace(id), id]] : [])))
    const all = new Set([...(await readdir('/run/netns').catch(() => [])), ...byNamespace.keys()])
    return [...all].flatMap((it) => {
      const name = names.vpcOf(it)
      return name === undefined || known.has(it) ? [] : [byNamespace.get(it) ?? name]
    })
  }

  async function list(signal: AbortSignal): Promise<readonly SeenVpc[]> {
    const all = [...held.all().map((it) => it.plan.vpc), ...(await orphans(signal))]
    const onHost = await lookAtHost(signal)
    const seen = await inParallel(all, LOOKS_AT_ONCE_MAX, (vpc) =>
      lane(vpc, () => observe(vpc, signal, onHost)),
    )
    return seen.filter((it) => it !== undefined)
  }

  async function remove(vpc: string, signal: AbortSignal): Promise<void> {
    const links = await vethLinks(signal)
    const uplink = links.find((it) => names.isUplink(it.ifname) && it.ifalias === vpc)?.ifname
    await removeRouter(names, vpc, uplink, signal)
    const old = held.get(vpc)
    for (const it of old ? hostAddressesOf(old.plan) : []) freed.add(it)
    held.remove(vpc)
    told(vpc, old)
    await lane(HOST_LANE, () => host.keepShared(shared(), signal))
    await endFreed(signal)
    await files.removeVpc(vpc)
  }

  async function purge(signal: AbortSignal): Promise<void> {
    const all = [...held.all().map((it) => it.plan.vpc), ...(await orphans(signal))]
    for (const vpc of all) await lane(vpc, () => remove(vpc, signal))
    const ours = (await vethLinks(signal)).map((it) => it.ifname)
    const left = ours.filter((it) => names.isUplink(it) || names.isContainerLink(it))
    for (const it of left) await ipBatch(undefined, [`link del ${it}`], { signal })
    await lane(HOST_LANE, () => host.remove(hostPlan, signal))
    hostPlan = undefined
    hostKept = false
    await files.removeAll()
  }

  /** The host's own part, and what is left over. What differs in a VPC its list tells. */
  async function look(signal: AbortSignal): Promise<readonly Repair[]> {
    const links = await vethLinks(signal)
    const given = { names, directory: options.directory, freed, links, now: clock.now(), signal }
    const left = await leftovers({ ...given, plans })
    const gaps = await lane(HOST_LANE, async () =>
      hostPlan ? await host.look(hostPlan, shared(), signal) : [],
    )
    const ofHost = gaps.flatMap(({ difference, command }): Repair[] => {
      if (!difference) return []
      return command === undefined
        ? [{ finding: { ...difference, mend: 'driver' }, fix: keepHost }]
        : [{ finding: { ...difference, mend: { command } } }]
    })
    const repaired = held.all().flatMap((it) =>
      it.repaired.map((difference) => ({
        finding: { ...difference, of: { kind: 'vpc' as const, id: it.plan.vpc }, mend: 'driver' as const },
        // It is: only to be told.
        fix: async () => await Promise.resolve(void (it.repaired = [])),
      })),
    )
    return [...ofHost, ...left, ...repaired]
  }

  const planned = (it: Held | undefined, plan: Attachment | undefined): PlannedAttachment | undefined => {
    const subnet = plan && it?.subnets.get(plan.subnet)
    return it && plan && subnet ? { vpc: it.plan.vpc, plan, subnet, mtu } : undefined
  }

  const unknown = (id: string): CloudError => new CloudError('not_found', `no plan has the attachment ${id}`)

  /** The plan of an attachment's VPC, brought into force where it is not. */
  async function heldInForce(id: string, vpc: string, signal: AbortSignal): Promise<Held> {
    const it = held.get(vpc)
    if (!it?.byId.has(id)) throw unknown(id)
    // After a start it is not known what has become of the router, or of the host's part; and rules come before what they are for.
    const inForce = it.brought && it.inForce === it.plan
    if (!inForce || !(await namespaceThere(names.namespace(vpc)))) await bring(it, signal)
    return it
  }

  async function createLink(
    id: string,
    vpc: string,
    signal: AbortSignal,
  ): Promise<{ containerLink: string }> {
    const { plan } = await heldInForce(id, vpc, signal)
    return { containerLink: await makeLink(settingFor(signal), plan, id) }
  }

  return {
    promises: EVERY_PROMISE,
    missing: (signal) => missingOnHost(names.prefix, signal),
    listening: listeningPorts,
    applyHost: (plan, signal) => lane(HOST_PLAN_LANE, () => applyHost(plan, signal)),
    apply: (plan, signal) => lane(plan.vpc, () => apply(plan, signal)),
    observe: (vpc, signal) => lane(vpc, () => observe(vpc, signal)),
    list,
    remove: (vpc, signal) => lane(vpc, () => remove(vpc, signal)),
    purge,
    ...auditedBy(look, (finding, error) =>
      log.warn('what was found cannot be mended', { ...finding, error }),
    ),
    attachment: (id) => {
      const it = held.get(held.vpcOf(id) ?? '')
      return planned(it, it?.byId.get(id))
    },
    findByAddress: (vpc, address) => {
      const it = held.get(vpc)
      return planned(it, it?.byAddress.get(address))
    },
    hasSubnet: (subnet) => held.all().some((it) => it.subnets.has(subnet)),
    onPlan(tell) {
      listeners.add(tell)
      return () => listeners.delete(tell)
    },
    inForce: async (id, signal = UNENDING) => {
      const vpc = held.vpcOf(id)
      if (vpc === undefined) throw unknown(id)
      await lane(vpc, () => heldInForce(id, vpc, signal))
    },
    createLink: async (id, signal = UNENDING) => {
      const vpc = held.vpcOf(id)
      if (vpc === undefined) throw unknown(id)
      return await lane(vpc, () => createLink(id, vpc, signal))
    },
    plugIn: async (id, pid, signal = UNENDING) => {
      const vpc = held.vpcOf(id)
      if (vpc === undefined) throw unknown(id)
      await lane(vpc, async () => {
        const { containerLink } = await createLink(id, vpc, signal)
        const it = planned(held.get(vpc), held.get(vpc)?.byId.get(id))
        if (!it) throw unknown(id)
        await moveLink(containerLink, pid, it, signal)
      })
    },
    giveIpv6: async (id, namespace, waits, signal = UNENDING) => {
      const plan = held.get(held.vpcOf(id) ?? '')?.byId.get(id)
      if (!plan) throw unknown(id)
      // In no lane: it waits for Docker, and touches nothing of the router.
      await giveIpv6({ containerLink: names.containerLink(id), namespace, plan, waits }, clock, signal)
    },
    removeLink: async (id, signal = UNENDING) => {
      const vpc = held.vpcOf(id)
      await lane(vpc ?? HOST_LANE, () => removeLinkOf(names, vpc, id, signal))
    },
    dockerStarted: async (signal = UNENDING) => {
      await lane(HOST_LANE, () => host.keepDocker(signal))
    },
  }
}
