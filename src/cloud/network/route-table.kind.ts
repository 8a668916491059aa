import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'

/** Routes of one table. */
export const ROUTES_MAX = 200

const Route = Type.Object(
  {
    /** For who takes single routes away; no two of a table are alike. */
    id: Type.Optional(Type.String()),
    /** In milliseconds since 1970, of one that was added by itself. */
    createdAt: Type.Optional(Type.Integer()),
    cidr: Type.String(),
    /**
     * Where it leads: out as if there were no table, nowhere (dropped), to an attachment's address in the VPC, to a gateway
     * or peering named by `to` (nowhere while that is not there), or `local`, which says what holds anyway: addresses of
     * the VPC's own subnets are found before any route.
     */
    target: Type.Enum([
      'internet',
      'blackhole',
      'address',
      'internet-gateway',
      'nat-gateway',
      'peering',
      'local',
    ]),
    address: Type.Optional(Type.String({ format: 'ipv4' })),
    to: Type.Optional(Type.String()),
    /** Made when its gateway was attached or its peering accepted, and taken away with that. */
    automatic: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

/**
 * A route table: where traffic of its subnets goes, the longest prefix first. A VPC's main table is that of the subnets
 * that are in no other. A subnet without any sends everything else to the uplink.
 */
export const routeTable = defineKind({
  name: 'route-table',
  spec: Type.Object(
    {
      vpc: Type.String(),
      subnets: Type.Array(Type.String()),
      routes: Type.Array(Route, { maxItems: ROUTES_MAX }),
      /** Of which a VPC has one at most; it goes with its VPC alone. */
      main: Type.Optional(Type.Boolean()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({ state: Type.Enum(['pending', 'active']) }),
  initial: { state: 'pending' },
  immutable: ['vpc', 'main'],
  settleSecondsMax: 60,
  states: PART_STATES,
  claims: (r) => [
    ...r.spec.subnets.map((id) => ({ pool: 'route-table-of', value: id, ends: 'deletion' as const })),
    ...(r.spec.main
      ? [
          {
            pool: 'main-route-table-of',
            value: r.spec.vpc,
            ends: 'deletion' as const,
            refusal: 'The VPC has a main route table already',
          },
        ]
      : []),
  ],
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'cascade' },
    ...r.spec.subnets.map((to) => ({ to, onDelete: 'block' as const })),
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type RouteTable = ResourceOf<typeof routeTable>
export type Route = RouteTable['spec']['routes'][number]
