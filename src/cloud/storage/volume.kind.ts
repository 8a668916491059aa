import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'

export const VOLUME_GIB_MAX = 16_000

/** A file system of a size of its own, that one workload at a time mounts in its containers. */
export const volume = defineKind({
  name: 'volume',
  spec: Type.Object(
    {
      /** What is written to it cannot pass this. It may grow. */
      sizeGib: Type.Integer({ minimum: 1, maximum: VOLUME_GIB_MAX }),
      /** Snapshot whose content it began with; empty without. */
      from: Type.Optional(Type.String()),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['creating', 'available', 'in-use', 'growing', 'error']),
    message: Type.Optional(Type.String()),
    /** What it has by now. */
    sizeGib: Type.Optional(Type.Integer()),
    /** Who uses it. */
    workload: Type.Optional(Type.String()),
  }),
  initial: { state: 'creating' },
  immutable: ['from', 'creator'],
  settleSecondsMax: 3600,
  states: {
    creating: { advice: HOST_ADVICE },
    available: { advice: HOST_ADVICE, fine: true },
    'in-use': { advice: HOST_ADVICE, fine: true },
    growing: { advice: 'It grows once nothing that runs uses it: stop its instance, or detach it' },
    error: { advice: HOST_ADVICE },
    deleting: { advice: HOST_ADVICE },
  },
  state: statusWord,
  claims: (r) => [
    {
      pool: `volume-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Volume with this name already exists',
    },
  ],
  terms: (r) => (r.spec.from === undefined ? [] : [`from:${r.spec.from}`]),
  // It waits to go until what is made of it is made.
  wakes: (r) => (r.spec.from === undefined ? [] : [`snapshot/${r.spec.from}`]),
})
export type Volume = ResourceOf<typeof volume>
