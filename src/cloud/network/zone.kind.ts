import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PLACED_STATES, placedWord } from '#cloud/states.ts'

/** Seconds that an answer may be kept: what a record asks for is brought between these. */
export const TTL_SECONDS_MIN = 60
export const TTL_SECONDS_MAX = 86_400
export const Ttl = Type.Integer({ minimum: TTL_SECONDS_MIN, maximum: TTL_SECONDS_MAX })

/**
 * The private zone of a VPC, of which it has one at most; its name is the domain. Its records are answered to the VPC's own
 * machines alone, and what is below it and not there does not exist for them. Goes with its VPC.
 */
export const zone = defineKind({
  name: 'zone',
  spec: Type.Object(
    {
      vpc: Type.String(),
      /** Of records that name none, and of those that are kept for instances. */
      defaultTtlSeconds: Ttl,
      description: Type.Optional(Type.String({ maxLength: 1024 })),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'failed']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  immutable: ['vpc', 'creator'],
  settleSecondsMax: 60,
  states: PLACED_STATES,
  state: placedWord,
  claims: (r) => [
    { pool: 'zone-of', value: r.spec.vpc, ends: 'deletion', refusal: 'The VPC has a zone already' },
    {
      pool: `zone-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Zone with this name already exists',
    },
  ],
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type PrivateZone = ResourceOf<typeof zone>
