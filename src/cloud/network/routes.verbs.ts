import { cidr, contains, formatCidr, parseCidr, parseIpv4 } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { authorise, ownTenant } from '#cloud/access.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { toChange } from '#cloud/found.ts'
import { internetGateway } from './internet-gateway.kind.ts'
import { natGateway } from './nat-gateway.kind.ts'
import { entry, liveVpc, needOwnName } from './network.verbs.ts'
import { peering } from './peering.kind.ts'
import { type Route, ROUTES_MAX, routeTable, type RouteTable } from './route-table.kind.ts'
import { subnet } from './subnet.kind.ts'
import type { Vpc } from './vpc.kind.ts'

/** A route before it has an id. */
export type NewRoute = Omit<Route, 'id' | 'createdAt' | 'automatic'>

export const EVERYWHERE = '0.0.0.0/0'

const GATEWAYS = ['internet-gateway', 'nat-gateway', 'peering'] as const
type Gateway = (typeof GATEWAYS)[number]
const isGateway = (target: string): target is Gateway => (GATEWAYS as readonly string[]).includes(target)

/** Whether a gateway or peering is there and can be routed to from a VPC. */
async function leadsFrom(
  { draft, caller }: Pick<VerbContext, 'draft' | 'caller'>,
  target: Gateway,
  to: string,
  from: string,
): Promise<boolean> {
  const tenant = ownTenant(caller)
  if (target === 'internet-gateway') return (await draft.get(internetGateway, tenant, to))?.spec.vpc === from
  const it =
    target === 'nat-gateway' ? await draft.get(natGateway, tenant, to) : await draft.get(peering, tenant, to)
  if (!it || it.deletedAt !== undefined) return false
  return it.spec.vpc === from || ('peer' in it.spec && it.spec.peer === from)
}

/**
 * Throws `invalid` unless every subnet is of the VPC and every route can be rendered; `had` are routes that stay as they
 * are, whose target may have gone since.
 */
async function checkRoutes(
  { draft, caller }: Pick<VerbContext, 'draft' | 'caller'>,
  spec: RouteTable['spec'],
  had: readonly Route[] = [],
): Promise<void> {
  const subnets = await draft.list(subnet, {
    tenant: ownTenant(caller),
    terms: [`vpc:${spec.vpc}`],
    deleted: false,
  })
  for (const id of spec.subnets)
    if (!subnets.some((it) => it.id === id))
      throw new CloudError('invalid', `no subnet ${id} in this VPC`, { field: 'spec.subnets' })
  const seen = new Set<string>()
  for (const [at, route] of spec.routes.entries()) {
    const field = `spec.routes.${at}`
    if (!parseCidr(route.cidr))
      throw new CloudError('invalid', 'must be an IPv4 network', { field: `${field}.cidr` })
    if (seen.size === seen.add(route.cidr).size)
      throw new CloudError('conflict', `There is a route to ${route.cidr} already`, {
        field: `${field}.cidr`,
        rule: 'in_use',
      })
    if (isGateway(route.target)) {
      const isOld = had.some((it) => it.target === route.target && it.to === route.to)
      if (
        route.to === undefined ||
        !(isOld || (await leadsFrom({ draft, caller }, route.target, route.to, spec.vpc)))
      )
        throw new CloudError('invalid', `no ${route.target} ${route.to ?? ''} that this VPC can route to`, {
          field: `${field}.to`,
        })
    } else if (route.to !== undefined)
      throw new CloudError('invalid', `is for ${GATEWAYS.join(', ')} alone`, { field: `${field}.to` })
    if (route.target !== 'address') continue
    const hop = parseIpv4(route.address ?? '')
    if (hop === undefined || !subnets.some((it) => contains(cidr(it.spec.cidr), hop)))
      throw new CloudError('invalid', 'must be an address in the VPC', { field: `${field}.address` })
  }
}

export async function createRouteTable(
  context: VerbContext,
  input: { name: string; labels?: Record<string, string>; spec: RouteTable['spec'] },
): Promise<RouteTable> {
  const { draft, caller } = context
  authorise(caller, 'write', 'vpc:update', { kind: 'route-table', name: input.name })
  const tenant = ownTenant(caller)
  await liveVpc(context, input.spec.vpc)
  needPromise(context, 'routes', 'route tables')
  await checkRoutes(context, input.spec)
  if (input.spec.main && (await draft.claimed('main-route-table-of', input.spec.vpc)))
    throw new CloudError('conflict', 'The VPC has a main route table already', { rule: 'in_use' })
  await draft.guard(`routes:${input.spec.vpc}`, input.spec.vpc)
  return draft.create(routeTable, { tenant, ...input })
}

/** A table without subnets whose name is its own in its VPC, and the route that says what holds anyway. */
export async function createNamedTable(
  context: VerbContext,
  { name, vpc, main }: { readonly name: string; readonly vpc: string; readonly main: boolean },
): Promise<RouteTable> {
  const routes = localsOf(context.draft, await liveVpc(context, vpc))
  const made = await createRouteTable(context, {
    name,
    spec: { vpc, subnets: [], routes, ...(main ? { main } : {}) },
  })
  await needOwnName(context, routeTable, made, { vpc, title: 'Route table' })
  return made
}

const tableOf = async (context: VerbContext, id: string): Promise<RouteTable> =>
  await toChange(context, routeTable, id, 'Route table')

/** Changes a table; checked whole, and apart from whatever else is done with routes of its VPC. */
export async function changeRoutes(
  context: VerbContext,
  it: RouteTable,
  change: Partial<Pick<RouteTable['spec'], 'routes' | 'subnets'>>,
): Promise<RouteTable> {
  const spec = { ...it.spec, ...change }
  await context.draft.guard(`routes:${spec.vpc}`, spec.vpc)
  await checkRoutes(context, spec, it.spec.routes)
  return context.draft.edit(routeTable, it, { spec })
}

/** One more route, with an id of its own. Refused `conflict` (rule in_use) for a destination that has one. */
export async function addRoute(
  context: VerbContext,
  table: string,
  route: NewRoute,
): Promise<{ table: RouteTable; route: Route }> {
  const it = await tableOf(context, table)
  if (it.spec.routes.length >= ROUTES_MAX)
    throw new CloudError('exhausted', `A route table has at most ${ROUTES_MAX} routes`, { rule: 'capacity' })
  const made = entry(context.draft, route)
  return { table: await changeRoutes(context, it, { routes: [...it.spec.routes, made] }), route: made }
}

/** Takes a route out of a table, by its id or destination; `not_found` when there is none. */
export async function removeRoute(context: VerbContext, table: string, route: string): Promise<RouteTable> {
  const it = await tableOf(context, table)
  const routes = it.spec.routes.filter((one) => one.id !== route && one.cidr !== route)
  if (routes.length === it.spec.routes.length) throw new CloudError('not_found', 'Route not found')
  return await changeRoutes(context, it, { routes })
}

/** Puts a subnet into a table, and out of the one that it was in. A repeat does nothing. */
export async function associateSubnet(context: VerbContext, table: string, id: string): Promise<RouteTable> {
  const it = await tableOf(context, table)
  if (it.spec.subnets.includes(id)) return it
  await leaveTable(context, id)
  return await changeRoutes(context, it, { subnets: [...it.spec.subnets, id] })
}

/** Takes a subnet out of the table that it is in, if it is in one. */
export async function leaveTable(context: VerbContext, id: string): Promise<void> {
  const claim = await context.draft.claimed('route-table-of', id)
  const before = claim && (await context.draft.get(routeTable, ownTenant(context.caller), claim.owner))
  if (before && before.deletedAt === undefined) await without(context, before, id)
}

/** Takes a subnet out of a table, so that its VPC's main one decides. A repeat does nothing. */
export async function disassociateSubnet(
  context: VerbContext,
  table: string,
  id: string,
): Promise<RouteTable> {
  const it = await tableOf(context, table)
  return it.spec.subnets.includes(id) ? await without(context, it, id) : it
}

const without = async (context: VerbContext, it: RouteTable, id: string): Promise<RouteTable> =>
  await changeRoutes(context, it, { subnets: it.spec.subnets.filter((one) => one !== id) })

/** Refuses to delete a VPC's main table by itself (`conflict`, rule wrong_state). */
export function checkTableRemoval(it: RouteTable): void {
  if (it.spec.main)
    throw new CloudError('conflict', 'The main route table goes with its VPC alone', { rule: 'wrong_state' })
}

const tablesOf = async ({ draft, caller }: VerbContext, vpc: string): Promise<RouteTable[]> =>
  await draft.list(routeTable, { tenant: ownTenant(caller), terms: [`vpc:${vpc}`], deleted: false })

/** Routes of a VPC's tables that lead to a gateway. */
export async function routesTo(context: VerbContext, vpc: string, gateway: string): Promise<Route[]> {
  const tables = await tablesOf(context, vpc)
  return tables.flatMap((it) => it.spec.routes).filter((it) => it.to === gateway)
}

/** The main table that a VPC begins with when its route tables decide its ways: nothing leads out of it. */
export function createMainTable({ draft, caller }: VerbContext, of: Vpc): RouteTable {
  return draft.create(routeTable, {
    tenant: ownTenant(caller),
    name: 'main',
    spec: { vpc: of.id, subnets: [], routes: localsOf(draft, of), main: true },
  })
}

/** What a table of a VPC with a range begins with. */
const localsOf = (draft: Draft, { spec }: Vpc): Route[] =>
  spec.cidr === undefined ? [] : [entry(draft, { cidr: formatCidr(cidr(spec.cidr)), target: 'local' })]

/** A main table that leads where a VPC without one leads, for what is to be added to it. */
async function mainTable(context: VerbContext, of: Vpc): Promise<RouteTable> {
  const there = (await tablesOf(context, of.id)).find((it) => it.spec.main)
  if (there) return there
  const { draft } = context
  const made = createMainTable(context, of)
  if (!of.spec.internet) return made
  const out: Route = entry(draft, { cidr: EVERYWHERE, target: 'internet' })
  return draft.edit(routeTable, made, { spec: { ...made.spec, routes: [...made.spec.routes, out] } })
}

/** Adds a route of its own to a VPC's main table, unless there is one to the same destination. */
export async function addAutomatic(context: VerbContext, of: Vpc, route: Route): Promise<void> {
  const { draft } = context
  await draft.guard(`routes:${of.id}`, of.id)
  const it = await mainTable(context, of)
  if (it.spec.routes.some((one) => one.cidr === route.cidr)) return
  const routes = [...it.spec.routes, entry(draft, { ...route, automatic: true })]
  draft.edit(routeTable, it, { spec: { ...it.spec, routes } })
}

/** Takes away what was added for a gateway or peering. */
export async function removeAutomatic(context: VerbContext, vpc: string, gateway: string): Promise<void> {
  await context.draft.guard(`routes:${vpc}`, vpc)
  for (const it of await tablesOf(context, vpc)) {
    const routes = it.spec.routes.filter((one) => !(one.automatic && one.to === gateway))
    if (routes.length < it.spec.routes.length)
      context.draft.edit(routeTable, it, { spec: { ...it.spec, routes } })
  }
}
