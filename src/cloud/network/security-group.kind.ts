import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'

const Rule = Type.Object(
  {
    direction: Type.Enum(['ingress', 'egress']),
    protocol: Type.Enum(['tcp', 'udp', 'icmp', 'any']),
    /** First and last port, both included; absent for every port and for icmp and any. */
    fromPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535 })),
    toPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535 })),
    /** The other side: a CIDR of either family, or the id of a security group of the same VPC. Absent: anyone. */
    cidr: Type.Optional(Type.String()),
    group: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
)

/**
 * A security group: a stateful list of what may pass. A member of at least one group gets only what some group of its
 * allows, in each direction; a member of none gets everything.
 */
export const securityGroup = defineKind({
  name: 'security-group',
  spec: Type.Object(
    { vpc: Type.String(), rules: Type.Array(Rule, { maxItems: 1000 }) },
    { additionalProperties: false },
  ),
  status: Type.Object({ state: Type.Enum(['pending', 'active']) }),
  initial: { state: 'pending' },
  immutable: ['vpc'],
  settleSecondsMax: 60,
  states: PART_STATES,
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type SecurityGroup = ResourceOf<typeof securityGroup>
