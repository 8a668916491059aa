import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PART_STATES } from '#cloud/states.ts'
import { CONTENT_LENGTH_MAX, PRIORITY_MAX, RECORD_TYPES } from './record-content.ts'
import { Ttl } from './zone.kind.ts'

/**
 * A record of a private zone, made by hand. Its name is one below the zone (`www`), that whole, or `@` for the zone itself.
 * Those that are kept for instances are no resources: see zone-entries.ts.
 */
export const record = defineKind({
  name: 'record',
  spec: Type.Object(
    {
      zone: Type.String(),
      vpc: Type.String(),
      type: Type.Enum([...RECORD_TYPES]),
      content: Type.String({ minLength: 1, maxLength: CONTENT_LENGTH_MAX }),
      ttlSeconds: Ttl,
      /** Of MX and SRV, the least first. */
      priority: Type.Optional(Type.Integer({ minimum: 0, maximum: PRIORITY_MAX })),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'error']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  immutable: ['zone', 'vpc', 'type', 'creator'],
  settleSecondsMax: 60,
  states: PART_STATES,
  refs: (r) => [{ to: r.spec.zone, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`, `zone:${r.spec.zone}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type ZoneRecord = ResourceOf<typeof record>
