import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import {
  type Route as OneRoute,
  routeTable,
  type RouteTable as Resource,
} from '#cloud/network/route-table.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { INVALID_INPUT } from './errors.ts'
import { byId } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, reading, removing, shownDone, vpcOf } from './reads.ts'
import { NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

/** Targets as this dialect calls them. */
const TARGETS = {
  local: 'local',
  igw: 'internet-gateway',
  nat: 'nat-gateway',
  peering: 'peering',
} as const
type Target = keyof typeof TARGETS

const Target = Type.Enum(['local', 'igw', 'nat', 'peering'])
const Route = Type.Object({
  id: Uuid,
  route_table_id: Uuid,
  destination_cidr: Type.String(),
  target_type: Target,
  target_id: Type.Optional(Uuid),
  target_name: Type.Optional(
    Type.String({ description: 'What it leads to, of a route that only another dialect can make.' }),
  ),
  created_at: Timestamp,
})
const Association = Type.Object({ id: Uuid, route_table_id: Uuid, subnet_id: Uuid, created_at: Timestamp })
const RouteTable = Type.Object({
  id: Uuid,
  vpc_id: Uuid,
  name: Type.String(),
  is_main: Type.Boolean(),
  routes: Type.Optional(Type.Array(Route)),
  associations: Type.Optional(Type.Array(Association)),
  created_at: Timestamp,
})

/** Routes that this dialect has no word for say in `target_name` what they are. */
function targetOf({
  target,
  to,
  address,
}: OneRoute): Pick<Static<typeof Route>, 'target_type' | 'target_name'> {
  const known = (Object.keys(TARGETS) as Target[]).find((it) => TARGETS[it] === target)
  if (known) return { target_type: known, ...(to === undefined ? {} : { target_id: to }) }
  return { target_type: target === 'internet' ? 'igw' : 'local', target_name: address ?? target }
}

const encodeRoute = (it: OneRoute, table: Resource): Static<typeof Route> => ({
  id: it.id ?? NIL,
  route_table_id: table.id,
  destination_cidr: it.cidr,
  ...targetOf(it),
  created_at: timestamp(it.createdAt ?? table.createdAt),
})

/** A subnet is in one table, so that its id is that of the association too. */
const encode = (it: Resource): Static<typeof RouteTable> => ({
  id: it.id,
  vpc_id: it.spec.vpc,
  name: it.name,
  is_main: it.spec.main ?? false,
  routes: it.spec.routes.map((one) => encodeRoute(one, it)),
  associations: it.spec.subnets.map((id) => ({
    id,
    route_table_id: it.id,
    subnet_id: id,
    created_at: timestamp(it.updatedAt),
  })),
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'Route tables',
  path: '/route-tables',
  kind: routeTable,
  noun: 'Route table',
  answer: RouteTable,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof routeTable.spec, typeof routeTable.status, typeof RouteTable>

const { tag } = FAMILY
const one = { tag, params: { id: Uuid }, refuses: [404] as const }

export function routeTableRoutes(frame: Frame): void {
  const { cloud } = frame
  listing(frame, FAMILY, { id: 'listRouteTables', summary: 'Route tables of a VPC', vpcId: 'required' })
  reading(frame, FAMILY, { id: 'getRouteTable', summary: 'Read a route table with routes and associations' })
  operation(frame, {
    tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createRouteTable',
    summary: 'Make a route table, in which nothing leads out',
    body: Type.Object({ vpc_id: Uuid, name: Text(255), is_main: Type.Optional(Type.Boolean()) }),
    answer: RouteTable,
    status: 201,
    refuses: [404, 409],
    async run({ caller, body: { vpc_id: id, name, is_main: main = false } }) {
      const vpc = await vpcOf(frame, caller, id)
      const made = await cloud.act(caller, 'route_table.create', (verbs) =>
        verbs.createNamedTable({ vpc, name, main }),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  removing(frame, FAMILY, {
    id: 'deleteRouteTable',
    summary: 'Delete a table other than the main one; its subnets go by that then',
    act: 'route_table.delete',
    refusals: { conflict: INVALID_INPUT },
  })
  routes(frame)
  associations(frame)
}

function routes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/route-tables/:id/routes',
    id: 'addRoute',
    summary: 'Add a route; the longest prefix counts',
    body: Type.Object({
      destination_cidr: Text(18),
      target_type: Target,
      target_id: Type.Optional(Type.String({ format: 'uuid', description: 'Not for local.' })),
    }),
    answer: Route,
    status: 201,
    refuses: [404, 409],
    async run({ caller, params, body: { destination_cidr: cidr, target_type: target, target_id: to } }) {
      if (target !== 'local' && to === undefined)
        throw new CloudError('invalid', `is required for ${target}`, { field: 'target_id' })
      const { table, route } = await cloud.act(caller, 'route_table.add_route', (verbs) =>
        verbs.addRoute(params.id, {
          cidr,
          target: TARGETS[target],
          ...(to === undefined || target === 'local' ? {} : { to }),
        }),
      )
      return encodeRoute(route, table)
    },
  })
  const remove = async (caller: Caller, id: string, route: string): Promise<void> => {
    await cloud.act(caller, 'route_table.remove_route', (verbs) => verbs.removeRoute(id, route))
  }
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/route-tables/:id/routes',
    id: 'removeRoute',
    summary: 'Remove the route that the query names',
    query: { route_id: Uuid },
    status: 204,
    run: async ({ caller, params, query }) => await remove(caller, params.id, query.route_id),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/route-tables/:id/routes/:routeId',
    id: 'removeRouteByPath',
    summary: 'Remove a route',
    params: { id: Uuid, routeId: Uuid },
    status: 204,
    run: async ({ caller, params }) => await remove(caller, params.id, params.routeId),
  })
}

function associations(frame: Frame): void {
  const { cloud } = frame
  const associate = async (caller: Caller, table: string, id: string): Promise<void> => {
    const { id: within } = await byId(cloud, caller, subnet, id, 'Subnet')
    await cloud.act(caller, 'route_table.associate', (verbs) => verbs.associateSubnet(table, within))
  }
  const disassociate = async (caller: Caller, table: string, id: string): Promise<void> => {
    const { id: within } = await byId(cloud, caller, subnet, id, 'Subnet')
    await cloud.act(caller, 'route_table.disassociate', (verbs) => verbs.disassociateSubnet(table, within))
  }
  const body = Type.Object({ subnet_id: Uuid })
  for (const [path, id] of [
    ['associate', 'associateRouteTable'],
    ['associations', 'associateRouteTableSdk'],
  ] as const)
    operation(frame, {
      ...one,
      method: 'POST',
      path: `/route-tables/:id/${path}`,
      id,
      summary: 'Let a subnet go by this table, and no other; a repeat is fine',
      body,
      run: async ({ caller, params, body: { subnet_id: of } }) => await associate(caller, params.id, of),
    })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/route-tables/:id/disassociate',
    id: 'disassociateRouteTable',
    summary: 'Let a subnet go by the main table; a repeat is fine',
    body,
    run: async ({ caller, params, body: { subnet_id: of } }) => await disassociate(caller, params.id, of),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/route-tables/:id/associations/:subnetId',
    id: 'disassociateRouteTableSdk',
    summary: 'Let a subnet go by the main table; a repeat is fine',
    params: { id: Uuid, subnetId: Uuid },
    run: async ({ caller, params }) => await disassociate(caller, params.id, params.subnetId),
  })
}
