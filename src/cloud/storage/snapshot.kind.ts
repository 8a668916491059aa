import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'

/** What a volume held at one moment; goes with its volume. */
export const snapshot = defineKind({
  name: 'snapshot',
  spec: Type.Object(
    {
      volume: Type.String(),
      /** Name and size of the volume when it was taken; given by the platform. */
      volumeName: Type.String(),
      sizeGib: Type.Integer({ minimum: 1 }),
      description: Type.Optional(Type.String({ maxLength: 1024 })),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['creating', 'available', 'error']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'creating' },
  immutable: ['volume', 'volumeName', 'sizeGib', 'creator'],
  settleSecondsMax: 3600,
  states: {
    creating: { advice: HOST_ADVICE },
    available: { advice: HOST_ADVICE, fine: true },
    error: { advice: HOST_ADVICE },
    deleting: { advice: HOST_ADVICE },
  },
  state: statusWord,
  refs: (r) => [{ to: r.spec.volume, onDelete: 'cascade' }],
  terms: (r) => [`volume:${r.spec.volume}`],
})
export type Snapshot = ResourceOf<typeof snapshot>
