import type { ServedRecord } from '#cloud/edge/edge.driver.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import type { Attachment, NetworkDriver, PlannedBalancer, VpcPlan } from '#cloud/network/network.driver.ts'
import type { NetworkPromise } from '#cloud/network/promises.driver.ts'
import { planner, uuid, type Machine, type Planner } from '../world.ts'

/** A machine in a VPC, and its place there. */
export type Placed = Machine & { readonly at: Attachment }

export type MachineName = 'a1' | 'a2' | 'a3' | 'b1' | 'b2' | 'c1'

/** What a driver brings to be put to the test. */
export type Stage = {
  /** With the host's plan applied. */
  readonly network: NetworkDriver
  /** Puts a machine in the place of an attachment, known in its VPC by the names given. */
  attach(attachment: Attachment, name: string, names: readonly string[]): Promise<Machine>
  /** Who the machines ask for names. */
  readonly resolver: string
  /** Answers for names, from now until it is disposed of: name to addresses for each VPC. */
  serveNames(vpcs: readonly VpcNames[]): Promise<AsyncDisposable>
  /** Balances from now until it is disposed of, looking at targets many times a second. Of a driver that has load balancers. */
  balance?(it: PlannedBalancer, targets: readonly Origin[], least?: true): Promise<Balanced>
  /** Every address by which somebody elsewhere might try to reach it. */
  addressesOf(placed: Placed): readonly string[]
  /** Of a driver that has a router for each VPC in a namespace of its own. */
  readonly routers?: {
    /** Its name for `ip netns`. */
    namespace(vpc: string): string
    /** The host's end of its uplink. */
    uplink(index: number): string
    /** Makes the link of an attachment anew, for the machine of this name. */
    plugIn(attachment: string, machine: string): Promise<void>
    unplug(attachment: string): Promise<void>
  }
}

export type Balanced = AsyncDisposable & { change(targets: readonly Origin[]): Promise<void> }

export type VpcNames = {
  readonly vpc: string
  readonly callers: readonly string[]
  readonly suffix: string
  readonly names: Readonly<Record<string, readonly string[]>>
  /** Its private zone. */
  readonly zone?: { readonly domain: string; readonly records: readonly ServedRecord[] }
}

/** What the host of the sandbox has around it. */
export type Surroundings = { readonly internet: Machine; readonly lan: Machine; readonly host: Machine }

/**
 * Three VPCs on one host. The first two have internet and machines with and without a way out, the third has none and is
 * another tenant's. `a3` is in a subnet of its own where the driver has several.
 */
export type Scene = Surroundings &
  Stage &
  Planner & {
    readonly promises: ReadonlySet<NetworkPromise>
    readonly signal: AbortSignal
    readonly machines: Readonly<Record<MachineName, Placed>>
    /** The plans as they are at the beginning of each promise, by number. */
    readonly plans: Readonly<Record<1 | 2 | 3, VpcPlan>>
    /** Applies a VPC's plan with differences. */
    change(number: 1 | 2 | 3, more: Partial<VpcPlan>): Promise<VpcPlan>
    /** Takes every change back. */
    reset(): Promise<void>
  }

/** The external address of `a1`, and of what leaves the others. */
export const EXTERNAL = '100.72.0.10'
export const EGRESS = '100.72.0.1'

/** Names as a cloud gives them: the workload's, alone and with its VPC's. */
const namesOf = (workload: string, vpc: string): string[] => [workload, `${workload}.${vpc}.internal`]

export const NAMES: Readonly<Record<MachineName, readonly string[]>> = {
  a1: namesOf('web', 'one'),
  a2: namesOf('web', 'one'),
  a3: namesOf('client', 'one'),
  b1: namesOf('web', 'two'),
  b2: namesOf('other', 'two'),
  c1: namesOf('alone', 'three'),
}

/** The VIPs of the first VPC, by last octet. */
export const VIP = { web: 100, empty: 101, single: 102, datagrams: 103 } as const

function plansOf({ vpcPlan, attachment, vip }: Planner, promises: ReadonlySet<NetworkPromise>) {
  const a1 = attachment(1, 5, { egress: EXTERNAL })
  const a2 = attachment(1, 6, { egress: EGRESS })
  const a3 = attachment(1, 7, { in: promises.has('subnets') ? 2 : 1 })
  const b1 = attachment(2, 5, { egress: '100.72.0.2' })
  const b2 = attachment(2, 6)
  const c1 = attachment(3, 5, { egress: '100.72.0.3' })
  const external = promises.has('external-address')
  const vips = [
    vip(1, VIP.web, { backends: [a1.id, a2.id] }),
    vip(1, VIP.empty, external ? { external: '100.72.0.11' } : {}),
    vip(1, VIP.single, { backends: [a1.id], ...(external ? { external: EXTERNAL } : {}) }),
    vip(1, VIP.datagrams, { backends: [a1.id, a2.id], ports: [{ protocol: 'udp', port: 53 }] }),
  ]
  const plans = {
    1: vpcPlan(1, { attachments: [a1, a2, a3], vips: promises.has('vip') ? vips : [] }),
    2: vpcPlan(2, { attachments: [b1, b2] }),
    3: vpcPlan(3, { attachments: [c1], internet: false, tenant: uuid(2) }),
  }
  return { plans, attachments: { a1, a2, a3, b1, b2, c1 } }
}

/** Sets the scene; `machines` listen on TCP 80 and 81 and UDP 53 and 54. */
export async function setScene(stage: Stage, around: Surroundings, signal: AbortSignal): Promise<Scene> {
  const { network } = stage
  const promises = new Set(network.promises)
  const plans = planner({
    distinct: !promises.has('same-ranges'),
    subnets: promises.has('subnets') ? [1, 2] : [1],
  })
  const { plans: base, attachments } = plansOf(plans, promises)
  for (const it of Object.values(base)) await network.apply(it, signal)
  const placed = await Promise.all(
    Object.entries(attachments).map(async ([name, at]) => {
      const machine = await stage.attach(at, name, NAMES[name as MachineName])
      for (const port of [80, 81]) await machine.listen(port)
      for (const port of [53, 54]) await machine.listen(port, { protocol: 'udp' })
      return [name, { ...machine, at }] as const
    }),
  )
  let generation = 1
  const changed = new Set<1 | 2 | 3>()
  const change: Scene['change'] = async (number, more) => {
    const plan = { ...base[number], ...more, generation: ++generation }
    changed.add(number)
    await network.apply(plan, signal)
    return plan
  }
  return {
    ...stage,
    ...around,
    ...plans,
    promises,
    signal,
    machines: Object.fromEntries(placed) as Record<MachineName, Placed>,
    plans: base,
    change,
    async reset() {
      for (const number of changed) await change(number, {})
      changed.clear()
    },
  }
}
