import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'

/** A subnet: a range of a VPC's addresses. Goes with its VPC; blocked while workloads are in it. */
export const subnet = defineKind({
  name: 'subnet',
  spec: Type.Object(
    {
      vpc: Type.String(),
      cidr: Type.String(),
      gateway: Type.String({ format: 'ipv4' }),
      /** Position of its /64 in the VPC's /48. */
      index6: Type.Integer({ minimum: 0, maximum: 65535 }),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'error']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  immutable: ['vpc', 'cidr', 'gateway', 'index6', 'creator'],
  settleSecondsMax: 60,
  states: PART_STATES,
  claims: (r) => [
    { pool: `addresses:${r.id}`, value: r.spec.gateway, ends: 'removal' },
    { pool: `subnet-index6:${r.spec.vpc}`, value: String(r.spec.index6), ends: 'removal' },
  ],
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type Subnet = ResourceOf<typeof subnet>
