import { isDeepStrictEqual } from 'node:util'
import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import { authoriseFirst } from '#cloud/access.ts'
import { checkSpec } from '#engine/shape.ts'
import type { Unbound } from '#cloud/bound.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { toChange } from '#cloud/found.ts'
import { type Given, known, text } from '#cloud/given.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import { elasticIp, type ElasticIp } from './elastic-ip.kind.ts'
import type { Named } from './gateway.verbs.ts'
import * as gateway from './gateway.verbs.ts'
import { BALANCER_PORTS } from './network.driver.ts'
import { internetGateway, type InternetGateway } from './internet-gateway.kind.ts'
import { natGateway, type NatGateway } from './nat-gateway.kind.ts'
import { createVpc, deleteVpc, existingVpc, type NewVpc } from './network.verbs.ts'
import * as peerings from './peering.verbs.ts'
import { peering, type Peering } from './peering.kind.ts'
import * as routes from './routes.verbs.ts'
import * as rules from './rules.verbs.ts'
import { type Route, routeTable, type RouteTable } from './route-table.kind.ts'
import type { SecurityGroup, SecurityRule } from './security-group.kind.ts'
import { subnet, type Subnet } from './subnet.kind.ts'
import * as balancers from './balancer.verbs.ts'
import { type LoadBalancer, loadBalancer } from './load-balancer.kind.ts'
import { record, type ZoneRecord } from './record.kind.ts'
import { type PrivateZone, zone } from './zone.kind.ts'
import * as zones from './zone.verbs.ts'
import type { Vpc } from './vpc.kind.ts'

/** Where a VPC's traffic goes and what of it passes: gateways, elastic IPs, peerings, route tables, security groups, names. What each refuses its function says. */
export type WayVerbs = {
  /** A VPC whose ways its route tables decide: with a main one, in which nothing leads out, and no internet by itself. */
  createRoutedVpc(input: Omit<NewVpc, 'internet'>): Promise<{ vpc: Vpc; table: RouteTable }>
  /** Takes its subnets, workloads and NAT gateways along, detaches its internet gateway and frees elastic IPs; peerings and kinds in `hold` block. */
  deleteVpc(id: string, how?: { hold?: readonly string[] }): Promise<Vpc>
  /** Takes it out of its route table first; refused `conflict` while workloads or NAT gateways are in it. */
  deleteSubnet(id: string): Promise<Subnet>
  createInternetGateway(input: Named & { readonly vpc?: string }): Promise<InternetGateway>
  attachInternetGateway(id: string, vpc: string): Promise<InternetGateway>
  detachInternetGateway(id: string): Promise<InternetGateway>
  createElasticIp(input: Named): Promise<ElasticIp>
  associateElasticIp(id: string, workload: string): Promise<ElasticIp>
  disassociateElasticIp(id: string): Promise<ElasticIp>
  createNatGateway(
    input: Named & { readonly subnet: string; readonly elasticIp: string },
  ): Promise<NatGateway>
  createPeering(input: Named & { readonly vpc: string; readonly peer: string }): Promise<Peering>
  decidePeering(id: string, decision: 'accepted' | 'rejected'): Promise<Peering>
  createRouteTable(input: Named & { readonly spec: RouteTable['spec'] }): Promise<RouteTable>
  createNamedTable(input: Parameters<typeof routes.createNamedTable>[1]): Promise<RouteTable>
  addRoute(table: string, route: routes.NewRoute): Promise<{ table: RouteTable; route: Route }>
  /** By its id or destination. */
  removeRoute(table: string, route: string): Promise<RouteTable>
  createNamedGroup(input: Parameters<typeof rules.createNamedGroup>[1]): Promise<SecurityGroup>
  addSecurityRule(group: string, rule: rules.NewRule): Promise<{ group: SecurityGroup; rule: SecurityRule }>
  removeSecurityRule(rule: string): Promise<SecurityGroup>
  attachSecurityGroup(workload: string, group: string): Promise<Workload>
  detachSecurityGroup(workload: string, group: string): Promise<Workload>
  associateSubnet(table: string, subnet: string): Promise<RouteTable>
  disassociateSubnet(table: string, subnet: string): Promise<RouteTable>
  createBalancer(input: balancers.NewBalancer): Promise<LoadBalancer>
  addTarget(balancer: string, target: balancers.NewTarget): Promise<LoadBalancer>
  removeTarget(balancer: string, workload: string): Promise<LoadBalancer>
  createZone(input: zones.NewZone): Promise<PrivateZone>
  createRecord(input: zones.NewRecord): Promise<ZoneRecord>
  updateRecord(id: string, change: zones.RecordChange): Promise<ZoneRecord>
  deleteRecord(id: string): Promise<ZoneRecord>
}

export const WAY_VERBS: Unbound<WayVerbs> = {
  createRoutedVpc: (context) => async (input) => {
    needPromise(context, 'gateways', 'gateways')
    const made = await createVpc(context, { ...input, internet: false })
    return { vpc: made, table: routes.createMainTable(context, made) }
  },
  deleteVpc: (context) => async (id, how) => await deleteRouted(context, id, how),
  deleteSubnet: (context) => async (id) => await deleteSubnet(context, id),
  createInternetGateway: (context) => async (input) => await gateway.createInternetGateway(context, input),
  attachInternetGateway: (context) => async (id, to) => await gateway.attachInternetGateway(context, id, to),
  detachInternetGateway: (context) => async (id) => await gateway.detachInternetGateway(context, id),
  createElasticIp: (context) => async (input) => await gateway.createElasticIp(context, input),
  associateElasticIp: (context) => async (id, to) => await gateway.associateElasticIp(context, id, to),
  disassociateElasticIp: (context) => async (id) => await gateway.disassociateElasticIp(context, id),
  createNatGateway: (context) => async (input) => await gateway.createNatGateway(context, input),
  createPeering: (context) => async (input) => await peerings.createPeering(context, input),
  decidePeering: (context) => async (id, decision) => await peerings.decidePeering(context, id, decision),
  createRouteTable: (context) => async (input) => await routes.createRouteTable(context, input),
  createNamedTable: (context) => async (input) => await routes.createNamedTable(context, input),
  addRoute: (context) => async (table, route) => await routes.addRoute(context, table, route),
  removeRoute: (context) => async (table, route) => await routes.removeRoute(context, table, route),
  createNamedGroup: (context) => async (input) => await rules.createNamedGroup(context, input),
  addSecurityRule: (context) => async (group, rule) => await rules.addRule(context, group, rule),
  removeSecurityRule: (context) => async (rule) => await rules.removeRule(context, rule),
  attachSecurityGroup: (context) => async (of, group) => await rules.setMembership(context, of, group, true),
  detachSecurityGroup: (context) => async (of, group) => await rules.setMembership(context, of, group, false),
  associateSubnet: (context) => async (table, id) => await routes.associateSubnet(context, table, id),
  disassociateSubnet: (context) => async (table, id) => await routes.disassociateSubnet(context, table, id),
  createBalancer: (context) => async (input) => await balancers.createBalancer(context, input),
  addTarget: (context) => async (id, target) => await balancers.addTarget(context, id, target),
  removeTarget: (context) => async (id, of) => await balancers.removeTarget(context, id, of),
  createZone: (context) => async (input) => await zones.createZone(context, input),
  createRecord: (context) => async (input) => await zones.createRecord(context, input),
  updateRecord: (context) => async (id, change) => await zones.updateRecord(context, id, change),
  deleteRecord: (context) => async (id) => await zones.deleteRecord(context, id),
}

async function deleteRouted(
  context: VerbContext,
  id: string,
  how: { hold?: readonly string[] } = {},
): Promise<Vpc> {
  const { draft, caller } = context
  authoriseFirst(caller, 'write', 'vpc:delete')
  const it = await existingVpc(context, id)
  if (it.deletedAt === undefined) {
    // What would keep it from going, and does not go with it.
    await gateway.freeElasticIps(context, { vpc: it.id })
    await peerings.removeFailed(context, it)
    if (!how.hold?.includes(internetGateway.name))
      for (const one of await draft.list(internetGateway, { tenant: it.tenant, terms: [`vpc:${it.id}`] }))
        gateway.detached(context, one)
  }
  return await deleteVpc(context, id, how)
}

async function deleteSubnet(context: VerbContext, id: string): Promise<Subnet> {
  const it = await toChange(context, subnet, id, 'Subnet')
  await routes.leaveTable(context, it.id)
  context.draft.mark(it)
  return it
}

/** A resource of one of these kinds as the native API is asked for it; undefined for another kind. */
export async function createWay(
  context: VerbContext,
  kind: AnyKind,
  common: Named,
  spec: Given,
): Promise<Resource | undefined> {
  switch (kind.name) {
    case internetGateway.name:
      known(spec, ['vpc'], ['creator'])
      return await gateway.createInternetGateway(context, {
        ...common,
        ...(spec['vpc'] === undefined ? {} : { vpc: text(spec, 'vpc') }),
      })
    case elasticIp.name: {
      known(spec, ['workload'], ['address', 'vpc', 'creator'])
      const made = await gateway.createElasticIp(context, common)
      return spec['workload'] === undefined
        ? made
        : await gateway.associateElasticIp(context, made.id, text(spec, 'workload'))
    }
    case natGateway.name:
      known(spec, ['subnet', 'elasticIp'], ['vpc', 'address', 'privateAddress', 'creator'])
      return await gateway.createNatGateway(context, {
        ...common,
        subnet: text(spec, 'subnet'),
        elasticIp: text(spec, 'elasticIp'),
      })
    case peering.name:
      known(spec, ['vpc', 'peer'], ['decision'])
      return await peerings.createPeering(context, {
        ...common,
        vpc: text(spec, 'vpc'),
        peer: text(spec, 'peer'),
      })
    case loadBalancer.name: {
      known(spec, ['vpc', 'port', 'algorithm', 'targets'], ['subnet', 'address', 'at', 'creator'])
      const given = {
        algorithm: 'round-robin',
        ...spec,
        targets: withIds(spec['targets'] ?? []),
        at: BALANCER_PORTS.from,
      }
      const { vpc, port, algorithm, targets } = shapeOf<LoadBalancer['spec']>(kind, given)
      const made = await balancers.createBalancer(context, { ...common, vpc, port, algorithm })
      return await balancers.setTargets(context, made, targets)
    }
    case zone.name: {
      known(spec, ['vpc', 'defaultTtlSeconds', 'description'], ['creator'])
      const { vpc, ...more } = shapeOf(kind, { defaultTtlSeconds: zones.TTL_SECONDS_DEFAULT, ...spec })
      return await zones.createZone(context, { ...common, vpc: text({ vpc }, 'vpc'), ...more })
    }
    case record.name: {
      known(spec, ['zone', 'type', 'content', 'ttlSeconds', 'priority'], ['vpc', 'creator'])
      const given = { ttlSeconds: zones.TTL_SECONDS_DEFAULT, ...spec, vpc: '' }
      const { zone: of, type, content, priority } = shapeOf<ZoneRecord['spec']>(kind, given)
      return await zones.createRecord(context, {
        ...common,
        zone: of,
        type,
        content,
        ...(spec['ttlSeconds'] === undefined ? {} : { ttlSeconds: given.ttlSeconds }),
        ...(priority === undefined ? {} : { priority }),
      })
    }
    default:
      return undefined
  }
}

/** Targets as a caller names them, in the form that they are kept in. */
const withIds = (targets: unknown): unknown =>
  Array.isArray(targets)
    ? targets.map((it: unknown) => (typeof it === 'object' ? { id: '', weight: 1, ...it } : it))
    : targets

/** A spec, seen to have its kind's shape. */
function shapeOf<S = PrivateZone['spec']>(kind: AnyKind, spec: unknown): S {
  checkSpec(kind, spec)
  return spec as S
}

/** What of their specs callers may change; each change is a verb of its own. */
const CHANGEABLE: Readonly<Record<string, readonly string[]>> = {
  [internetGateway.name]: ['vpc'],
  [elasticIp.name]: ['workload'],
  [natGateway.name]: [],
  [peering.name]: ['decision'],
  [routeTable.name]: ['routes', 'subnets'],
  [loadBalancer.name]: ['algorithm', 'targets'],
  [zone.name]: ['defaultTtlSeconds', 'description'],
  [record.name]: ['content', 'ttlSeconds', 'priority'],
}

/** The change of a spec of one of these kinds as the native API is asked for it; undefined for another kind. */
export async function changeWay(
  context: VerbContext,
  kind: AnyKind,
  it: Resource,
  given: unknown,
): Promise<Resource | undefined> {
  const changeable = CHANGEABLE[it.kind]
  if (!changeable) return undefined
  const spec =
    it.kind === loadBalancer.name
      ? { ...(given as Given), targets: withIds((given as Given)['targets']) }
      : given
  checkSpec(kind, spec)
  const [had, wanted] = [it.spec, spec] as Record<string, unknown>[]
  const changed = Object.keys({ ...had, ...wanted }).filter(
    (field) => !isDeepStrictEqual(had?.[field], wanted?.[field]),
  )
  for (const field of changed)
    if (!changeable.includes(field))
      throw new CloudError('invalid', 'cannot be changed', { field: `spec.${field}` })
  if (!changed.length) return it
  switch (it.kind) {
    case internetGateway.name: {
      const [from, to] = [(it as InternetGateway).spec.vpc, (spec as InternetGateway['spec']).vpc]
      const detached = from === undefined ? it : await gateway.detachInternetGateway(context, it.id)
      return to === undefined ? detached : await gateway.attachInternetGateway(context, it.id, to)
    }
    case elasticIp.name: {
      const [from, to] = [(it as ElasticIp).spec.workload, (spec as ElasticIp['spec']).workload]
      const freed = from === undefined ? it : await gateway.disassociateElasticIp(context, it.id)
      return to === undefined ? freed : await gateway.associateElasticIp(context, it.id, to)
    }
    case peering.name: {
      const { decision } = spec as Peering['spec']
      if (decision === 'pending')
        throw new CloudError('conflict', 'What was decided cannot be taken back; delete the peering', {
          rule: 'wrong_state',
        })
      return await peerings.decidePeering(context, it.id, decision)
    }
    case loadBalancer.name: {
      const { algorithm, targets } = spec as LoadBalancer['spec']
      const now = await balancers.setTargets(context, it as LoadBalancer, targets)
      return context.draft.edit(loadBalancer, now, { spec: { ...now.spec, algorithm } })
    }
    case zone.name:
      return context.draft.edit(zone, it as PrivateZone, { spec: spec as PrivateZone['spec'] })
    case record.name:
      return await zones.updateRecord(context, it.id, spec as ZoneRecord['spec'])
    default:
      return await routes.changeRoutes(context, it as RouteTable, spec as RouteTable['spec'])
  }
}

/** Throws where one of these kinds cannot be deleted as it is, and undoes what it did elsewhere. */
export async function removeWay(context: VerbContext, it: Resource): Promise<void> {
  if (it.kind === internetGateway.name) gateway.checkDetached(it as InternetGateway)
  if (it.kind === elasticIp.name) gateway.checkRelease(it as ElasticIp)
  if (it.kind === routeTable.name) routes.checkTableRemoval(it as RouteTable)
  if (it.kind === peering.name) await peerings.unroutePeering(context, it as Peering)
}
