import type { PublishedPort } from '#cloud/compute/workload.kind.ts'
import type { Model } from './model.ts'
import type { Row } from './rows.ts'
import type { World } from './world.ts'

/** A loop that is up looks for what is late every second. */
const LATE_MS = 10_000

function doubles(what: string, values: readonly (readonly [string, string])[]): string[] {
  const holders = new Map<string, string>()
  return values.flatMap(([value, holder]) => {
    const other = holders.get(value)
    holders.set(value, holder)
    return other === undefined || other === holder
      ? []
      : [`${what} ${value} is held by ${other} and ${holder}`]
  })
}

/** Nothing that must be unique is held twice, in the records; addresses until the record goes, names until deletion is asked. */
export function doubleClaims(rows: readonly Row[]): string[] {
  const of = (kind: string): Row[] => rows.filter((row) => row.kind === kind)
  const live = rows.filter((row) => row.deletedAt === null)
  const held = (
    of_: readonly Row[],
    value: (row: Row) => string | number | undefined,
  ): (readonly [string, string])[] =>
    of_.flatMap((row) => {
      const it = value(row)
      return it === undefined ? [] : [[String(it), `${row.kind} ${row.id}`] as const]
    })
  return [
    ...doubles('address', [
      ...held(of('replica'), (row) => `${row.spec.subnet}/${row.spec.address}`),
      ...held(of('workload'), (row) => `${row.spec.subnet}/${row.spec.vip}`),
      ...held(of('subnet'), (row) => `${row.id}/${row.spec.gateway}`),
    ]),
    ...doubles(
      'fabric address',
      held(of('replica'), (row) => row.spec.fabric),
    ),
    ...doubles(
      'slot',
      held(of('replica'), (row) => `${row.spec.workload}/${row.spec.index}`),
    ),
    ...doubles('external address', [
      ...held(of('workload'), (row) => row.spec.externalAddress),
      ...held(of('vpc'), (row) => row.spec.natAddress),
    ]),
    ...doubles(
      'host port',
      of('workload').flatMap((row) =>
        ((row.spec.published ?? []) as PublishedPort[]).map(
          (it) => [`${it.host}/${it.protocol}`, row.id] as const,
        ),
      ),
    ),
    ...doubles(
      'hostname',
      held(
        live.filter((row) => row.kind === 'tunnel'),
        (row) => row.spec.hostname,
      ),
    ),
    ...doubles(
      'VPC number',
      held(of('vpc'), (row) => row.spec.index),
    ),
    ...doubles(
      'name',
      held(live, (row) => {
        if (['vpc', 'registry-credential', 'volume'].includes(row.kind))
          return `${row.kind} ${row.tenant}/${row.name}`
        if (row.kind === 'tunnel') return `${row.kind} ${row.tenant}/${row.name}`
        if (row.kind === 'subnet' || row.kind === 'workload') return `${row.kind} ${row.spec.vpc}/${row.name}`
        return row.kind === 'tenant' ? `tenant ${row.name}` : undefined
      }),
    ),
  ]
}

/** Nothing that must be unique is given out twice in the network that is in force. */
export function doublesInForce({ network }: Pick<World, 'network'>): string[] {
  const plans = [...network.plans.values()]
  const attached = plans.flatMap((plan) => plan.attachments.map((it) => ({ plan, it })))
  return [
    ...doubles(
      'fabric address in force',
      attached.map(({ plan, it }) => [it.fabric, `${plan.vpc} ${it.id}`]),
    ),
    ...doubles(
      'address in force',
      attached.map(({ plan, it }) => [`${plan.vpc}/${it.address}`, it.id]),
    ),
    ...doubles(
      'external address in force',
      plans.flatMap((plan) =>
        plan.vips.flatMap((it) =>
          it.external === undefined ? [] : [[it.external, `${plan.vpc} ${it.id}`] as const],
        ),
      ),
    ),
    ...doubles(
      'transit network in force',
      plans.map((plan) => [plan.uplink.host, plan.vpc]),
    ),
  ]
}

/** The sum of a size over replicas, each counted at the size its workload has. */
function sizes(live: readonly Row[], field: 'cpuMillicores' | 'memoryMib'): number {
  const workloads = new Map(live.filter((row) => row.kind === 'workload').map((row) => [row.id, row]))
  const replicas = live.filter((row) => row.kind === 'replica')
  return replicas.reduce((total, row) => total + (workloads.get(row.spec.workload)?.spec[field] ?? 0), 0)
}

const QUOTAS: Readonly<Record<string, (live: readonly Row[]) => number>> = {
  vpcs: (live) => live.filter((row) => row.kind === 'vpc').length,
  subnets: (live) => live.filter((row) => row.kind === 'subnet').length,
  workloads: (live) => live.filter((row) => row.kind === 'workload').length,
  replicas: (live) => live.filter((row) => row.kind === 'replica').length,
  cpuMillicores: (live) => sizes(live, 'cpuMillicores'),
  memoryMib: (live) => sizes(live, 'memoryMib'),
  externalAddresses: (live) =>
    live.filter((row) => row.kind === 'workload' && row.spec.externalAddress).length,
  publishedPorts: (live) =>
    live.reduce((sum, row) => sum + (row.kind === 'workload' ? (row.spec.published?.length ?? 0) : 0), 0),
}

/** Remembers per tenant and quota how much may be used: the quota, or what was used when it was lowered below that. */
export type Bounds = Map<string, number>

/** Pools hold what there is, and no more than is allowed. */
export function quotas(rows: readonly Row[], world: World, bounds: Bounds): string[] {
  const pools = new Map(world.rows.pools().map((it) => [it.name, it]))
  const found: string[] = []
  for (const tenant of rows.filter((row) => row.kind === 'tenant')) {
    const live = rows.filter((row) => row.tenant === tenant.id && row.deletedAt === null)
    for (const [what, count] of Object.entries(QUOTAS)) {
      const name = `quota:${tenant.id}:${what}`
      const pool = pools.get(name)
      const max = tenant.spec.quotas[what] as number
      const used = count(live)
      if (pool?.used !== used) found.push(`${name} says ${pool?.used}, and there are ${used}`)
      if (pool?.max !== max) found.push(`${name} allows ${pool?.max}, and the tenant ${max}`)
      const bound = Math.max(max, bounds.get(name) ?? max)
      if (used > bound) found.push(`${name}: ${used} are used of ${bound}`)
      bounds.set(name, Math.max(max, used))
    }
  }
  return found
}

/** What should have settled by now says so. */
export const late = (rows: readonly Row[], now: number): string[] =>
  rows
    .filter((row) => row.settleBy !== null && row.settleBy < now - LATE_MS && !row.overdue)
    .map((row) => `${row.kind} ${row.name} (${row.id}) is late and does not say why`)

/** All that must hold at every moment. */
export function always(world: World, model: Model, bounds: Bounds): string[] {
  const rows = world.rows.all()
  return [
    ...doubleClaims(rows),
    ...doublesInForce(world),
    ...quotas(rows, world, bounds),
    ...world.rows.stray(),
    ...model.differences(rows),
    ...world.ledger.wrongs,
  ]
}

/** Where growth ends: nothing but an administrator or a deletion helps. */
const FULL = /quota for|No address is free|fabric address left/

/** What has not yet come to rest although everything works; reality compared with the records, both ways. */
export function unsettled(world: World): string[] {
  const rows = world.rows.all()
  const found: string[] = []
  for (const row of rows) {
    const name = `${row.kind} ${row.name} (${row.id})`
    const why = world.rows.queued(`${row.kind}/${row.id}`) ?? 'nothing is queued'
    if (row.deletedAt !== null) found.push(`${name} is still going: ${why}`)
    else if (row.observed !== row.generation && !(row.kind === 'workload' && FULL.test(why)))
      found.push(`${name} has not settled: ${why}`)
  }
  return found.length ? found : [...misplaced(world, rows)]
}

function* misplaced(world: World, rows: readonly Row[]): Generator<string> {
  const of = (kind: string): Row[] => rows.filter((row) => row.kind === kind)
  const replicas = of('replica')
  const vpcs = of('vpc')
  const ids = (list: Iterable<string>): string => [...list].toSorted().join()
  if (ids(world.network.plans.keys()) !== ids(vpcs.map((it) => it.id)))
    yield 'routers are not those of the VPCs'
  if (ids(world.edge.zones.keys()) !== ids(vpcs.map((it) => it.id))) yield 'zones are not those of the VPCs'
  const { fronts, certificates } = world.front
  if (ids(certificates.keys()) !== ids(of('certificate').map((it) => it.id)))
    yield 'certificates at the front door are not those of tunnels'
  for (const it of vpcs) {
    const routes = fronts.get(it.id)?.routes ?? []
    const tunnels = of('tunnel').filter((row) => row.spec.vpc === it.id)
    if (ids(routes.map((one) => one.id)) !== ids(tunnels.map((row) => row.id)))
      yield `what the front door has of VPC ${it.id} are not its tunnels`
    for (const { id, origins } of routes) {
      const of_ = tunnels.find((row) => row.id === id)?.spec.workload as string | undefined
      const ready = replicas.filter((row) => row.spec.workload === of_ && row.status.ready)
      if (ids(origins.map((one) => one.id)) !== ids(ready.map((row) => row.id)))
        yield `tunnel ${id} does not lead to what is ready`
    }
    const plan = world.network.plans.get(it.id)
    const inside = (row: Row): boolean => row.spec.vpc === it.id
    if (!plan) continue
    if (ids(plan.attachments.map((one) => one.id)) !== ids(replicas.filter(inside).map((row) => row.id)))
      yield `attachments of VPC ${it.id} are not its replicas`
    if (
      ids(plan.subnets.map((one) => one.id)) !==
      ids(
        of('subnet')
          .filter(inside)
          .map((row) => row.id),
      )
    )
      yield `subnets in the router of VPC ${it.id} are not its own`
    for (const workload of of('workload').filter(inside)) {
      const mine = replicas.filter((row) => row.spec.workload === workload.id)
      const ready = mine.filter((row) => row.status.ready)
      const vip = plan.vips.find((one) => one.id === workload.id)
      if (ids(vip?.backends ?? []) !== ids(ready.map((row) => row.id)))
        yield `the VIP of ${workload.id} does not lead to what is ready`
      const published = (plan.published ?? []).filter((one) => one.id === workload.id)
      if (published.some((one) => ids(one.backends) !== ids(ready.map((row) => row.id))))
        yield `a port of ${workload.id} does not lead to what is ready`
      const claimed = (workload.spec.published ?? []) as PublishedPort[]
      if (ids(published.map((one) => `${one.host}`)) !== ids(claimed.map((one) => `${one.host}`)))
        yield `the ports of ${workload.id} in force are not its own`
      if (mine.some((row) => row.spec.attempt !== workload.spec.attempt))
        yield `a replica of ${workload.id} is of another attempt`
      if (!world.edge.zones.get(it.id)?.names[workload.name])
        yield `${workload.name} has no name in VPC ${it.id}`
    }
  }
  for (const row of replicas) {
    const wish = world.compute.wishes.get(row.id)
    if (row.spec.stopped === true) {
      if (wish) yield `replica ${row.id} is stopped and has a container`
      continue
    }
    if (!wish) yield `replica ${row.id} has no container`
    else if (wish.attempt !== row.spec.attempt + (row.spec.starts ?? 0))
      yield `the container of replica ${row.id} is of another attempt`
    const workload = rows.find((it) => it.id === row.spec.workload)
    for (const field of ['cpuMillicores', 'memoryMib', 'image', 'healing'] as const)
      if (wish && wish[field] !== workload?.spec[field])
        yield `the container of replica ${row.id} has ${field} ${wish[field]}, and is to have ${workload?.spec[field]}`
  }
  const awake = replicas.filter((row) => row.spec.stopped !== true).length
  if (world.compute.wishes.size !== awake)
    yield `${world.compute.wishes.size} containers for ${awake} replicas that are to run`
}
