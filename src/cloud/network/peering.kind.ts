import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PLACED_STATES, placedWord } from '#cloud/states.ts'

/** The pair of a peering's VPCs, whoever asked. */
const pairOf = (a: string, b: string): string => [a, b].toSorted().join(' ')

/**
 * A peering of two VPCs of one tenant: once accepted, a link between their routers. Packets pass where both sides route
 * to it, IPv4 alone and between the two VPCs alone: neither is a way further.
 */
export const peering = defineKind({
  name: 'peering',
  spec: Type.Object(
    {
      /** The VPC that asked. */
      vpc: Type.String(),
      /** The one that accepts or rejects. */
      peer: Type.String(),
      decision: Type.Enum(['pending', 'accepted', 'rejected']),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending-acceptance', 'pending', 'active', 'rejected', 'failed']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending-acceptance' },
  immutable: ['vpc', 'peer'],
  settleSecondsMax: 60,
  states: {
    ...PLACED_STATES,
    'pending-acceptance': { advice: 'It waits to be accepted or rejected', fine: true },
    rejected: { advice: 'It was rejected; delete it and ask again', fine: true },
  },
  state: (it) =>
    it.deletedAt === undefined && it.observed < it.generation && it.spec.decision === 'pending'
      ? 'pending-acceptance'
      : placedWord(it),
  claims: (r) =>
    r.spec.decision === 'rejected'
      ? []
      : [
          {
            pool: 'peering-of',
            value: pairOf(r.spec.vpc, r.spec.peer),
            ends: 'deletion',
            refusal: 'The two VPCs have a peering already',
          },
        ],
  refs: (r) =>
    [r.spec.vpc, r.spec.peer].map((to) => ({
      to,
      onDelete: r.spec.decision === 'rejected' ? 'cascade' : 'block',
    })),
  terms: (r) => [`vpc:${r.spec.vpc}`, `vpc:${r.spec.peer}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`, `vpc/${r.spec.peer}`],
})
export type Peering = ResourceOf<typeof peering>

/** The other VPC of a peering. */
export const otherOf = (it: Peering, vpc: string): string =>
  it.spec.vpc === vpc ? it.spec.peer : it.spec.vpc
