import { isDeepStrictEqual } from 'node:util'
import type {
  Attachment,
  HostPlan,
  NetworkDriver,
  PlannedSubnet,
  VpcPlan,
} from '#cloud/network/network.driver.ts'
import { EVERY_PROMISE } from '#cloud/network/promises.driver.ts'
import { auditedBy } from '#cloud/observe/finding.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { inParallel } from '#lib/lanes.ts'
import { listeningPorts } from '#lib/listening.ts'
import { giveIpv6 } from './arrival.ts'
import { makeLink, moveLink, removeLinkOf } from './attach.ts'
import { bring, keepHost } from './bring.ts'
import { checkHostPlan, checkVpcPlan } from './check.ts'
import type { Held } from './held.ts'
import { flowRepairs, hostAddressesOf } from './leftovers.ts'
import { namespaceThere } from './look.ts'
import { missingOnHost } from './missing.ts'
import { list, lookAround, LOOKS_AT_ONCE_MAX, observe, orphans, vethLinks } from './observe.ts'
import { removeRouter } from './router.ts'
import { ipBatch } from './run.ts'
import {
  HOST_LANE,
  HOST_PLAN_LANE,
  type LinuxNetworkOptions,
  openState,
  plansOf,
  PROBE_LANE,
  settingFor,
  sharedOf,
  UNENDING,
} from './state.ts'

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

/**
 * Network driver of a Linux host: each VPC is a network namespace that is its router. Needs root. On the host itself it
 * keeps one nftables table, an uplink and routes per VPC, the resolver's address on `lo`, two rules in Docker's
 * `DOCKER-USER`, switches `net.ipv4.ip_forward` on and raises `neigh.default.gc_thresh2` and `3` where they are small
 * (a purge leaves these as they are, since others may count on them by then); every other kernel setting is made inside
 * the namespaces. Calls are serialised per VPC.
 */
export function linuxNetwork(options: LinuxNetworkOptions): LinuxNetwork {
  const state = openState(options)
  const { names, log, clock, files, lane, host, held, published, freed } = state
  const listeners = new Set<PlanListener>()

  /** Ends what the host tracks of addresses that nobody has any more. */
  const endFreed = (signal: AbortSignal): Promise<void> =>
    lane(HOST_LANE, async () => {
      for (const it of await flowRepairs(plansOf(state), freed, state.directory, signal))
        await it.fix?.(signal)
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
    checkVpcPlan(plan, settingFor(state, signal).host, published)
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
    await bring(state, now, signal)
    if (old) await endFreed(signal)
    log.debug('VPC applied', { vpc: plan.vpc, generation: plan.generation, ms: clock.now() - started })
  }

  async function applyHost(plan: HostPlan, signal: AbortSignal): Promise<void> {
    checkHostPlan(plan)
    const old = state.hostPlan
    if (old && plan.generation < old.generation) {
      const text = `the host has plan ${old.generation}, newer than ${plan.generation}`
      throw new CloudError('conflict', text, { rule: 'lost_race' })
    }
    if (old && !isDeepStrictEqual(old, plan)) state.hostPlansBefore = [...state.hostPlansBefore, old]
    const before = state.hostPlansBefore
    state.hostPlan = plan
    await keepHost(state, signal)
    await host.cutRevoked(before, plan, signal)
    await files.saveHost(plan)
    if (before.some((it) => it.fabric !== plan.fabric || it.resolver !== plan.resolver))
      await inParallel(held.all(), LOOKS_AT_ONCE_MAX, ({ plan: { vpc } }) =>
        lane(vpc, async () => {
          const it = held.get(vpc)
          if (it) await bring(state, it, signal)
        }),
      )
    state.hostPlansBefore = []
  }

  async function remove(vpc: string, signal: AbortSignal): Promise<void> {
    const links = await vethLinks(signal)
    const uplink = links.find((it) => names.isUplink(it.ifname) && it.ifalias === vpc)?.ifname
    await removeRouter(names, vpc, uplink, signal)
    const old = held.get(vpc)
    for (const it of old ? hostAddressesOf(old.plan) : []) freed.add(it)
    held.remove(vpc)
    told(vpc, old)
    await lane(HOST_LANE, () => host.keepShared(sharedOf(state), signal))
    await endFreed(signal)
    await files.removeVpc(vpc)
  }

  async function purge(signal: AbortSignal): Promise<void> {
    const all = [...plansOf(state).map((it) => it.vpc), ...(await orphans(state, signal))]
    for (const vpc of all) await lane(vpc, () => remove(vpc, signal))
    const ours = (await vethLinks(signal)).map((it) => it.ifname)
    const left = ours.filter((it) => names.isUplink(it) || names.isContainerLink(it))
    for (const it of left) await ipBatch(undefined, [`link del ${it}`], { signal })
    await lane(HOST_LANE, () => host.remove(state.hostPlan, signal))
    state.hostPlan = undefined
    state.hostPlansBefore = []
    state.hostKept = false
    await files.removeAll()
  }

  const planned = (it: Held | undefined, plan: Attachment | undefined): PlannedAttachment | undefined => {
    const subnet = plan && it?.subnets.get(plan.subnet)
    return it && plan && subnet ? { vpc: it.plan.vpc, plan, subnet, mtu: state.mtu } : undefined
  }

  const unknown = (id: string): CloudError => new CloudError('not_found', `no plan has the attachment ${id}`)

  /** The plan of an attachment's VPC, brought into force where it is not. */
  async function heldInForce(id: string, vpc: string, signal: AbortSignal): Promise<Held> {
    const it = held.get(vpc)
    if (!it?.byId.has(id)) throw unknown(id)
    // After a start it is not known what has become of the router, or of the host's part; and rules come before what they are for.
    const inForce = it.brought && it.inForce === it.plan
    if (!inForce || !(await namespaceThere(names.namespace(vpc)))) await bring(state, it, signal)
    return it
  }

  async function createLink(
    id: string,
    vpc: string,
    signal: AbortSignal,
  ): Promise<{ containerLink: string }> {
    const { plan } = await heldInForce(id, vpc, signal)
    return { containerLink: await makeLink(settingFor(state, signal), plan, id) }
  }

  return {
    promises: EVERY_PROMISE,
    // One after another: each tries in a namespace of the same name.
    missing: (signal) => lane(PROBE_LANE, () => missingOnHost(names.prefix, signal)),
    listening: listeningPorts,
    applyHost: (plan, signal) => lane(HOST_PLAN_LANE, () => applyHost(plan, signal)),
    apply: (plan, signal) => lane(plan.vpc, () => apply(plan, signal)),
    observe: (vpc, signal) => lane(vpc, () => observe(state, vpc, signal)),
    list: (signal) => list(state, signal),
    remove: (vpc, signal) => lane(vpc, () => remove(vpc, signal)),
    purge,
    ...auditedBy(
      (signal) => lookAround(state, signal),
      (finding, error) => log.warn('what was found cannot be mended', { ...finding, error }),
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
