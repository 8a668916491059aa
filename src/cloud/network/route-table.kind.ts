import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'

const Route = Type.Object(
  {
    cidr: Type.String(),
    /** Where it leads: out by the VPC's uplink, nowhere (dropped), or an attachment's address in the VPC. */
    target: Type.Enum(['internet', 'blackhole', 'address']),
    address: Type.Optional(Type.String({ format: 'ipv4' })),
  },
  { additionalProperties: false },
)

/** A route table: where traffic of its subnets goes, the longest prefix first. A subnet without one sends everything else to the uplink. */
export const routeTable = defineKind({
  name: 'route-table',
  spec: Type.Object(
    { vpc: Type.String(), subnets: Type.Array(Type.String()), routes: Type.Array(Route, { maxItems: 200 }) },
    { additionalProperties: false },
  ),
  status: Type.Object({ state: Type.Enum(['pending', 'active']) }),
  initial: { state: 'pending' },
  immutable: ['vpc'],
  settleSecondsMax: 60,
  states: PART_STATES,
  claims: (r) =>
    r.spec.subnets.map((id) => ({ pool: 'route-table-of', value: id, ends: 'deletion' as const })),
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'cascade' },
    ...r.spec.subnets.map((to) => ({ to, onDelete: 'block' as const })),
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type RouteTable = ResourceOf<typeof routeTable>
