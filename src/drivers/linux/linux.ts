import { readdir, readFile } from 'node:fs/promises'
import type {
  Attachment,
  HostPlan,
  NetworkDriver,
  PlannedSubnet,
  SeenVpc,
  VpcPlan,
} from '#cloud/network/network.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { checkHostPlan, checkVpcPlan } from './check.ts'
import { cutFlows, flowsToCut, mayRevoke, readFlows } from './flows.ts'
import { proxiesFor, type Clash } from './host.ts'
import { createHostSide, hostMtu } from './host-side.ts'
import { createLanes, inParallel } from './lanes.ts'
import { externalsOf, itemsInside, type LinkJson } from './links.ts'
import { missingOnHost } from './missing.ts'
import { namesFor, routerLink } from './names.ts'
import { openPlans } from './plans.ts'
import { converge, driftOf, namespaceThere, removeRouter, type Loaded, type Setting } from './router.ts'
import { CommandFailed, ipBatch, ipShow, run } from './run.ts'

/** What Docker's network plugin is told about an attachment; all of it from the plan that is held. */
export type PlannedAttachment = {
  readonly vpc: string
  readonly plan: Attachment
  readonly subnet: PlannedSubnet
  readonly mtu: number
}

/** The routers of this machine, and the links by which containers are attached to them. */
export type LinuxNetwork = NetworkDriver & {
  /** From memory, at once: what is planned for an attachment; undefined when no plan has it. */
  attachment(id: string): PlannedAttachment | undefined
  /** The same by its IPv4 address in a VPC. */
  findByAddress(vpc: string, address: string): PlannedAttachment | undefined
  /**
   * Makes an attachment's link: one end in the router and ready, the other on the host under the name that is given,
   * to be moved into the container. Idempotent; makes the router from the held plan when it is not there, and never
   * waits for the cloud. Throws `not_found` for an attachment that no plan has.
   */
  createLink(id: string, signal?: AbortSignal): Promise<{ readonly containerLink: string }>
  /** Removes an attachment's link, both ends. Fine when it is not there. */
  removeLink(id: string, signal?: AbortSignal): Promise<void>
  /** To be called when Docker has (re)started: puts our rules back into its chain. */
  dockerStarted(signal?: AbortSignal): Promise<void>
}

export type LinuxNetworkOptions = {
  /** Marks everything of ours on the host; 1 to 5 of a-z and 0-9. */
  readonly prefix?: string
  /** Where the plans are kept; made when absent, readable by root alone. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  /** Most flows that the host tracks for one VPC in each direction. */
  readonly flowsMax?: number
}

const FLOWS_MAX = 32_768
const LOOKS_AT_ONCE_MAX = 4
const HOST_LANE = 'host'
const NEVER = new AbortController().signal

type Held = {
  plan: VpcPlan
  readonly byId: ReadonlyMap<string, Attachment>
  readonly byAddress: ReadonlyMap<string, Attachment>
  readonly subnets: ReadonlyMap<string, PlannedSubnet>
  /** What this process loaded; undefined until it did. */
  loaded: Loaded | undefined
  /** The plan that the flows were last compared with. */
  swept: VpcPlan | undefined
  /** The plan that was in force before the one that is being applied. */
  before: VpcPlan | undefined
}

const hold = (plan: VpcPlan, old?: Held): Held => ({
  plan,
  byId: new Map(plan.attachments.map((it) => [it.id, it])),
  byAddress: new Map(plan.attachments.map((it) => [it.address, it])),
  subnets: new Map(plan.subnets.map((it) => [it.id, it])),
  loaded: old?.loaded,
  swept: old?.swept,
  before: old?.before ?? old?.plan,
})

/**
 * Network driver of a Linux host: each VPC is a network namespace that is its router. Needs root. On the host itself it
 * keeps one nftables table, an uplink and routes per VPC, the resolver's address on `lo`, two rules in Docker's
 * `DOCKER-USER`, and switches `net.ipv4.ip_forward` on; every other kernel setting is made inside the namespaces.
 * Calls are serialised per VPC.
 */
export function linuxNetwork(options: LinuxNetworkOptions): LinuxNetwork {
  const { log, clock } = options
  const names = namesFor(options.prefix ?? 'arcus')
  const files = openPlans(options.directory)
  const lane = createLanes()
  const host = createHostSide(names, options.flowsMax ?? FLOWS_MAX, log)
  const held = new Map<string, Held>()
  const vpcOf = new Map<string, string>()
  let hostPlan = files.host
  let mtu = hostMtu()
  if (files.broken.length) log.warn('kept network plans cannot be read', { files: files.broken })

  function keepHeld(next: Held): void {
    const old = held.get(next.plan.vpc)
    for (const id of old?.byId.keys() ?? [])
      if (!next.byId.has(id) && vpcOf.get(id) === next.plan.vpc) vpcOf.delete(id)
    for (const id of next.byId.keys()) vpcOf.set(id, next.plan.vpc)
    held.set(next.plan.vpc, next)
  }
  for (const plan of files.vpcs) keepHeld(hold(plan))

  const settingFor = (signal: AbortSignal): Setting => {
    if (!hostPlan) throw new CloudError('unavailable', 'the host has no network plan yet')
    return { names, host: hostPlan, surroundings: host.surroundings, mtu, signal }
  }

  const clashes = (): Clash[] =>
    [...held.values()].flatMap(({ plan }) =>
      plan.subnets.map((it) => ({ uplink: names.uplink(plan.index), cidr: it.cidr })),
    )

  const keepHost = (signal: AbortSignal): Promise<void> =>
    lane(HOST_LANE, async () => {
      if (!hostPlan) return
      mtu = hostMtu()
      await host.keep(hostPlan, clashes(), signal)
    })

  /** Ends the flows that the plan in force does not allow any more. */
  async function sweep(it: Held, setting: Setting): Promise<void> {
    const { plan, before, swept } = it
    if (swept && !mayRevoke(swept, plan)) {
      it.swept = plan
      it.before = undefined
      return
    }
    const namespace = names.namespace(plan.vpc)
    const cut = flowsToCut(await readFlows(namespace, setting.signal), swept ?? before, plan, setting.host)
    await cutFlows(namespace, cut, setting.signal)
    if (cut.length)
      log.info('flows ended that are not allowed any more', { vpc: plan.vpc, flows: cut.length })
    it.swept = plan
    it.before = undefined
  }

  async function bring(it: Held, signal: AbortSignal): Promise<void> {
    const setting = settingFor(signal)
    it.loaded = await converge(setting, it.plan, it.loaded)
    await lane(HOST_LANE, () => host.keepClashes(clashes(), signal))
    await sweep(it, setting)
  }

  async function apply(plan: VpcPlan, signal: AbortSignal): Promise<void> {
    const started = clock.now()
    const old = held.get(plan.vpc)
    if (old && plan.generation < old.plan.generation) {
      throw new CloudError(
        'conflict',
        `VPC ${plan.vpc} has plan ${old.plan.generation}, newer than ${plan.generation}`,
        { rule: 'lost_race' },
      )
    }
    checkVpcPlan(plan, settingFor(signal).host)
    for (const other of held.values()) {
      if (other.plan.vpc !== plan.vpc && other.plan.index === plan.index) {
        throw new CloudError('conflict', `index ${plan.index} belongs to VPC ${other.plan.vpc}`)
      }
    }
    const next = hold(plan, old)
    keepHeld(next)
    await bring(next, signal)
    if (!old || JSON.stringify(old.plan) !== JSON.stringify(plan)) await files.saveVpc(plan)
    log.debug('VPC applied', { vpc: plan.vpc, generation: plan.generation, ms: clock.now() - started })
  }

  async function applyHost(plan: HostPlan, signal: AbortSignal): Promise<void> {
    checkHostPlan(plan)
    if (hostPlan && plan.generation < hostPlan.generation) {
      throw new CloudError(
        'conflict',
        `the host has plan ${hostPlan.generation}, newer than ${plan.generation}`,
        {
          rule: 'lost_race',
        },
      )
    }
    hostPlan = plan
    await keepHost(signal)
    await files.saveHost(plan)
  }

  async function observe(vpc: string, signal: AbortSignal): Promise<SeenVpc | undefined> {
    const it = held.get(vpc)
    if (it && hostPlan) {
      const drift = await driftOf(settingFor(signal), it.plan, it.loaded)
      return { vpc, generation: it.plan.generation, attachments: [...it.byId.keys()], drift }
    }
    if (!(await namespaceThere(names.namespace(vpc)))) return undefined
    return { vpc, generation: undefined, attachments: [], drift: ['no plan is held'] }
  }

  /** Everything of ours that no plan is held for: by the id that is written on the link, else by what the name tells. */
  async function orphans(signal: AbortSignal): Promise<string[]> {
    const known = new Set([...held.keys()].map((it) => names.namespace(it)))
    const [links = []] = (await ipShow(undefined, ['link show type veth'], { signal })) as LinkJson[][]
    const aliases = links.filter((it) => names.isUplink(it.ifname)).flatMap((it) => it.ifalias ?? [])
    const byNamespace = new Map(aliases.map((it) => [names.namespace(it), it]))
    const all = [...(await readdir('/run/netns').catch(() => [])), ...byNamespace.keys()]
    const unknown = new Set(all.filter((it) => names.vpcOf(it) !== undefined && !known.has(it)))
    return [...unknown].map((it) => byNamespace.get(it) ?? names.vpcOf(it) ?? '')
  }

  async function list(signal: AbortSignal): Promise<readonly SeenVpc[]> {
    await keepHost(signal)
    const all = [...held.keys(), ...(await orphans(signal))]
    const seen = await inParallel(all, LOOKS_AT_ONCE_MAX, (vpc) => lane(vpc, () => observe(vpc, signal)))
    return seen.filter((it) => it !== undefined)
  }

  async function remove(vpc: string, signal: AbortSignal): Promise<void> {
    const it = held.get(vpc)
    const plan = it?.plan
    const [links = []] = (await ipShow(undefined, ['link show type veth'], { signal })) as LinkJson[][]
    const uplink = links.find((link) => names.isUplink(link.ifname) && link.ifalias === vpc)?.ifname
    const proxies = plan ? proxiesFor(externalsOf(plan), host.surroundings) : []
    await removeRouter(names, vpc, uplink, proxies, signal)
    for (const id of it?.byId.keys() ?? []) vpcOf.delete(id)
    held.delete(vpc)
    await lane(HOST_LANE, () => host.keepClashes(clashes(), signal))
    await files.removeVpc(vpc)
  }

  async function purge(signal: AbortSignal): Promise<void> {
    for (const vpc of [...held.keys(), ...(await orphans(signal))]) await lane(vpc, () => remove(vpc, signal))
    const [links = []] = (await ipShow(undefined, ['link show type veth'], { signal })) as LinkJson[][]
    const ours = links.map((it) => it.ifname).filter((it) => names.isUplink(it) || names.isContainerLink(it))
    await ipBatch(
      undefined,
      ours.map((it) => `link del ${it}`),
      { signal },
    )
    await lane(HOST_LANE, () => host.remove(signal))
    hostPlan = undefined
    await files.removeAll()
  }

  const planned = (vpc: string, plan: Attachment | undefined): PlannedAttachment | undefined => {
    const subnet = plan && held.get(vpc)?.subnets.get(plan.subnet)
    return plan && subnet ? { vpc, plan, subnet, mtu } : undefined
  }

  async function createLink(
    id: string,
    vpc: string,
    signal: AbortSignal,
  ): Promise<{ containerLink: string }> {
    const it = held.get(vpc)
    const plan = it?.byId.get(id)
    if (!it || !plan) throw new CloudError('not_found', `no plan has the attachment ${id}`)
    const namespace = names.namespace(vpc)
    if (!it.loaded || !(await namespaceThere(namespace))) await bring(it, signal)
    const link = routerLink(id)
    const containerLink = names.containerLink(id)
    const add = `link add name ${containerLink} mtu ${mtu} type veth peer name ${link} netns ${namespace}`
    try {
      await ipBatch(undefined, [add], { signal })
    } catch (error) {
      if (!(error instanceof CommandFailed) || !/File exists/.test(error.stderr)) throw error
      if (!(await isWhole(containerLink))) {
        await tolerant(ipBatch(namespace, [`link del ${link}`], { signal }))
        await tolerant(ipBatch(undefined, [`link del ${containerLink}`], { signal }))
        await ipBatch(undefined, [add], { signal })
      }
    }
    const items = itemsInside(it.plan, settingFor(signal).host, new Set([link])).filter(
      (item) => item.of === id,
    )
    await ipBatch(
      namespace,
      [
        `link set dev ${link} mtu ${mtu} addrgenmode none alias ${id}`,
        // The machine asks for each of its neighbours once; the default lets it wait for up to 0.8 s.
        `ntable change name arp_cache dev ${link} proxy_delay 0`,
        ...items.map((item) => item.set),
      ],
      { signal },
    )
    return { containerLink }
  }

  /** True when the container's end is still here to be moved, and so the pair is one that nobody uses yet. */
  const isWhole = (containerLink: string): Promise<boolean> =>
    readFile(`/sys/class/net/${containerLink}/ifindex`).then(
      () => true,
      () => false,
    )

  async function tolerant(work: Promise<unknown>): Promise<void> {
    try {
      await work
    } catch (error) {
      if (!(error instanceof CommandFailed) || error.missing) throw error
    }
  }

  return {
    missing: (signal) => missingOnHost(names.prefix, signal),
    applyHost,
    apply: (plan, signal) => lane(plan.vpc, () => apply(plan, signal)),
    observe: (vpc, signal) => lane(vpc, () => observe(vpc, signal)),
    list,
    remove: (vpc, signal) => lane(vpc, () => remove(vpc, signal)),
    purge,
    attachment: (id) => {
      const vpc = vpcOf.get(id)
      return vpc === undefined ? undefined : planned(vpc, held.get(vpc)?.byId.get(id))
    },
    findByAddress: (vpc, address) => planned(vpc, held.get(vpc)?.byAddress.get(address)),
    createLink: async (id, signal = NEVER) => {
      const vpc = vpcOf.get(id)
      if (vpc === undefined) throw new CloudError('not_found', `no plan has the attachment ${id}`)
      return lane(vpc, () => createLink(id, vpc, signal))
    },
    removeLink: async (id, signal = NEVER) => {
      const vpc = vpcOf.get(id)
      await lane(vpc ?? HOST_LANE, async () => {
        // Either end takes the other with it; which one can be found depends on where the container's is now.
        if (vpc) await tolerant(ipBatch(names.namespace(vpc), [`link del ${routerLink(id)}`], { signal }))
        else await tolerant(run(['ip', 'link', 'del', names.containerLink(id)], { signal }))
      })
    },
    dockerStarted: async (signal = NEVER) => {
      await lane(HOST_LANE, () => host.keepDocker(signal))
    },
  }
}
