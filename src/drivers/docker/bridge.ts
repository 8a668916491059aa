import type { NetworkDriver, SeenVpc, VpcPlan } from '#cloud/network/network.driver.ts'
import { auditedBy, type Difference } from '#cloud/observe/finding.driver.ts'
import { cidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { createLanes } from '#lib/lanes.ts'
import { listeningPorts } from '#lib/listening.ts'
import type { Log } from '#lib/log.ts'
import type { HeldAttachment, Links, PlanChange } from './attach.ts'
import { openBridgeFiles } from './bridge-files.ts'
import { bridgeNetworks } from './bridge-networks.ts'
import {
  beyondBridges,
  type Bridge,
  bridgeOptions,
  bridgesOf,
  wayOutName,
  withWayOut,
} from './bridge-plan.ts'
import { BRIDGE_PROMISES } from './bridge-promises.ts'
import { LABEL } from './container.ts'
import { type DockerApi, dockerApi, reasonOf, statusOf } from './docker.ts'
import type { Networks } from './networks.ts'
import { type Owner, openOwner } from './owner.ts'

export type BridgeNetworkOptions = {
  /** Docker's socket. */
  readonly socket: string
  /** Where the plans are kept; made when absent. */
  readonly directory: string
  /** Marks and begins the names of everything made in Docker. */
  readonly instance: string
  /** What another folder's agent made is taken for ours, to be removed for good. */
  readonly takeOver?: boolean
  readonly log: Log
}

/** The networks of VPCs, and what containers need of them. */
export type BridgeNetwork = NetworkDriver &
  Links & {
    readonly networks: Networks
    /** Lets go of Docker; networks stay. */
    close(): void
  }

const HOST_LANE = 'host'

const differs = (what: Difference['what'], detail: string): Difference => ({
  what,
  thing: 'docker network',
  detail,
})
const NO_PLAN = differs('orphan', 'no plan is held')

/**
 * Network driver for a host where Docker is all there is: one closed bridge of Docker's for each subnet, and one more for
 * each VPC whose machines have a way out. It needs Docker's socket and nothing else: no root, no plugin, no rules.
 */
export async function bridgeNetwork(options: BridgeNetworkOptions): Promise<BridgeNetwork> {
  const { instance, socket } = options
  const log = options.log.with({ part: 'bridges' })
  const api = dockerApi(socket)
  const owner = await openOwner(options.directory, options.takeOver)
  const files = await openBridgeFiles(options.directory, log)
  const ours: Ours = { api, instance, owner }
  const lane = createLanes()
  const listeners = new Set<(change: PlanChange) => void>()
  const fabric = (): string => {
    const plan = files.host()
    if (!plan) throw new CloudError('unavailable', 'the host has no network plan yet')
    return plan.fabric
  }

  const attachment = (id: string): HeldAttachment | undefined => {
    for (const plan of files.all()) {
      const found = plan.attachments.find((it) => it.id === id)
      const subnet = found && plan.subnets.find((it) => it.id === found.subnet)
      if (found && subnet) return { vpc: plan.vpc, plan: found, subnet, reachedAt: found.address }
    }
    return undefined
  }

  /** Makes the VPC's networks what the plan wants, and who is in its way out. */
  const converge = async (plan: VpcPlan): Promise<void> => {
    const wanted = bridgesOf(instance, plan, fabric())
    const there = await bridgesThere(ours, plan.vpc)
    for (const it of there) if (!wanted.some((want) => same(want, it))) await removeBridge(api, it.name)
    for (const it of wanted) if (!there.some((other) => same(it, other))) await createBridge(ours, it)
    for (const it of await misplaced(api, instance, plan))
      if (it.wanted) await api.connectNetwork(wayOutName(instance, plan.vpc), it.container)
      else await api.disconnectNetwork(wayOutName(instance, plan.vpc), it.container)
  }

  const apply = async (plan: VpcPlan): Promise<void> => {
    const held = files.get(plan.vpc)
    if (held && plan.generation < held.generation) {
      const text = `VPC ${plan.vpc} has plan ${held.generation}, newer than ${plan.generation}`
      throw new CloudError('conflict', text, { rule: 'lost_race' })
    }
    checkPlan(plan)
    const why = beyondBridges(plan, files.all(), fabric())
    if (why !== undefined) throw new CloudError('unsupported', `the network docker-bridge refuses: ${why}`)
    await files.put(plan)
    for (const tell of listeners) tell({ vpc: plan.vpc, gone: [] })
    await converge(plan)
  }

  const observe = async (vpc: string): Promise<SeenVpc | undefined> => {
    const plan = files.get(vpc)
    const there = await bridgesThere(ours, vpc)
    if (!plan)
      return there.length ? { vpc, generation: undefined, attachments: [], drift: [NO_PLAN] } : undefined
    const wanted = bridgesOf(instance, plan, fabric())
    const names = new Set(wanted.map((it) => it.name))
    const drift: Difference[] = [
      ...wanted
        .filter((it) => !there.some((other) => same(it, other)))
        .map((it) => differs('missing', `network ${it.name} missing or changed`)),
      ...there
        .filter((it) => !names.has(it.name))
        .map((it) => differs('orphan', `network ${it.name} not in the plan`)),
      ...(await misplaced(api, instance, plan)).map((it) =>
        it.wanted
          ? differs('missing', `way out of ${it.id} missing`)
          : differs('orphan', `way out of ${it.id} not in the plan`),
      ),
    ]
    return { vpc, generation: plan.generation, attachments: plan.attachments.map((it) => it.id), drift }
  }

  const remove = async (vpc: string): Promise<void> => {
    for (const it of await bridgesThere(ours, vpc)) await removeBridge(api, it.name)
    await files.remove(vpc)
  }

  const vpcs = async (): Promise<string[]> => {
    const there = await bridgesThere(ours)
    return [...new Set([...files.all().map((it) => it.vpc), ...there.map((it) => it.vpc)])]
  }

  return {
    promises: BRIDGE_PROMISES,
    async missing() {
      const info = await api.info().catch(() => undefined)
      if (!info) return [`no Docker answers at ${socket}: start it, and be in its group`]
      return info.OSType === 'linux' ? [] : ['Docker runs no Linux containers']
    },
    listening: listeningPorts,
    applyHost: (plan) =>
      lane(HOST_LANE, async () => {
        const held = files.host()
        if (held && plan.generation < held.generation) {
          const text = `the host has plan ${held.generation}, newer than ${plan.generation}`
          throw new CloudError('conflict', text, { rule: 'lost_race' })
        }
        cidr(plan.fabric)
        if (JSON.stringify(held) !== JSON.stringify(plan)) await files.putHost(plan)
      }),
    // One lane for all: what one VPC may have depends on what the others have.
    apply: (plan) => lane(HOST_LANE, () => apply(plan)),
    observe: (vpc) => lane(HOST_LANE, () => observe(vpc)),
    list: () =>
      lane(HOST_LANE, async () => {
        const seen = await Promise.all((await vpcs()).map(observe))
        return seen.filter((it) => it !== undefined)
      }),
    remove: (vpc) => lane(HOST_LANE, () => remove(vpc)),
    purge: () =>
      lane(HOST_LANE, async () => {
        // Nothing to ask Docker for where there never was one.
        const asked = files.all().length > 0 || (await api.info().catch(() => undefined)) !== undefined
        if (asked) for (const it of await vpcs()) await remove(it)
        await files.removeAll()
      }),
    // Its lists tell everything: there is nothing of it but networks.
    ...auditedBy(
      () => Promise.resolve([]),
      () => {},
    ),
    attachment,
    hasSubnet: (subnet) => files.all().some((it) => it.subnets.some(({ id }) => id === subnet)),
    onPlan(tell) {
      listeners.add(tell)
      return () => listeners.delete(tell)
    },
    // Whoever joins a VPC makes its networks what the plan wants first.
    inForce: () => Promise.resolve(),
    createLink: (id) => Promise.reject(new CloudError('unsupported', `${id} is attached by Docker itself`)),
    plugIn: (id) => Promise.reject(new CloudError('unsupported', `restart ${id}: Docker attaches it again`)),
    giveIpv6: (id) => Promise.reject(new CloudError('unsupported', `${id} has no IPv6: Docker attaches it`)),
    removeLink: () => Promise.resolve(),
    dockerStarted: () => Promise.resolve(),
    networks: bridgeNetworks(api, instance, (vpc, then) =>
      lane(HOST_LANE, async () => {
        // Looked up in its turn: what came before may have been another plan, or the VPC's removal.
        const plan = files.get(vpc)
        if (!plan) return
        await converge(plan)
        await then?.(new Set(withWayOut(plan)))
      }),
    ),
    close: () => api.close(),
  }
}

/** Ids and ranges end in names and options of Docker's. */
function checkPlan(plan: VpcPlan): void {
  for (const id of [plan.vpc, ...plan.subnets.map((it) => it.id), ...plan.attachments.map((it) => it.id)])
    if (!isUuid(id)) throw new CloudError('invalid', `network plan: ${id.slice(0, 80)} is no id`)
  for (const it of plan.subnets) cidr(it.cidr)
}

const same = (a: Bridge, b: Bridge): boolean =>
  a.name === b.name && a.cidr === b.cidr && a.gateway === b.gateway && a.internal === b.internal

type Ours = { readonly api: DockerApi; readonly instance: string; readonly owner: Owner }

/** Docker's networks of ours, of one VPC or of all. */
async function bridgesThere({ api, instance, owner }: Ours, vpc?: string): Promise<Bridge[]> {
  const labels = [`${LABEL.instance}=${instance}`, vpc === undefined ? LABEL.vpc : `${LABEL.vpc}=${vpc}`]
  const all = await api.networks(labels)
  const known = all.filter((it) => it.Driver === 'bridge' && owner.owns(it.Labels?.[LABEL.owner]))
  return known.map((it) => {
    const subnet = it.Labels?.[LABEL.subnet]
    const [range] = it.IPAM?.Config ?? []
    return {
      name: it.Name,
      vpc: it.Labels?.[LABEL.vpc] ?? '',
      ...(subnet === undefined ? {} : { subnet }),
      cidr: range?.['Subnet'] ?? '',
      gateway: range?.['Gateway'] ?? '',
      internal: it.Internal,
    }
  })
}

async function createBridge({ api, instance, owner }: Ours, it: Bridge): Promise<void> {
  try {
    await api.createNetwork(bridgeOptions(instance, owner.label, it))
  } catch (error) {
    const status = statusOf(error)
    if (status === undefined || status === 409) throw error
    throw new CloudError('conflict', `Docker makes no network ${it.cidr}: ${reasonOf(error)}`, {}, error)
  }
}

/** Takes out who is still in it, since Docker keeps a network that is used. */
async function removeBridge(api: DockerApi, name: string): Promise<void> {
  for (const container of await api.membersOf(name)) await api.disconnectNetwork(name, container)
  await api.removeNetwork(name)
}

type Misplaced = { readonly id: string; readonly container: string; readonly wanted: boolean }

/** States of containers that never run again. */
const LAST_STATES = ['removing', 'dead']

/**
 * The VPC's containers that are in its way out and should not be, running or not, since they would be in it again once they
 * do; and the other way round those that run: the others are put in it as they start.
 */
async function misplaced(api: DockerApi, instance: string, plan: VpcPlan): Promise<Misplaced[]> {
  const wanted = new Set(withWayOut(plan))
  const out = wayOutName(instance, plan.vpc)
  const containers = await api.list([`${LABEL.instance}=${instance}`, `${LABEL.vpc}=${plan.vpc}`])
  return containers.flatMap((it) => {
    const id = it.Labels[LABEL.id] ?? ''
    const isIn = out in (it.NetworkSettings?.Networks ?? {})
    if (isIn ? LAST_STATES.includes(it.State) : it.State !== 'running') return []
    return isIn === wanted.has(id) ? [] : [{ id, container: it.Id, wanted: wanted.has(id) }]
  })
}
