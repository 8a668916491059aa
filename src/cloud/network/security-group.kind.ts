import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'

/** Rules of one group. */
export const RULES_MAX = 1000

const Rule = Type.Object(
  {
    /** For who takes single rules away; no two of a group are alike. */
    id: Type.Optional(Type.String()),
    /** In milliseconds since 1970, of one that was added by itself. */
    createdAt: Type.Optional(Type.Integer()),
    /** Where lists show it, the lowest first. Every rule allows, so that their order decides nothing. */
    priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
    direction: Type.Enum(['ingress', 'egress']),
    /** `arp` says what holds anyway: neighbours are always found. */
    protocol: Type.Enum(['tcp', 'udp', 'icmp', 'any', 'arp']),
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
    {
      vpc: Type.String(),
      rules: Type.Array(Rule, { maxItems: RULES_MAX }),
      description: Type.Optional(Type.String({ maxLength: 1024 })),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({ state: Type.Enum(['pending', 'active']) }),
  initial: { state: 'pending' },
  immutable: ['vpc', 'creator'],
  settleSecondsMax: 60,
  states: PART_STATES,
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type SecurityGroup = ResourceOf<typeof securityGroup>
export type SecurityRule = SecurityGroup['spec']['rules'][number]
