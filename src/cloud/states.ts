import type { StateWord } from '#engine/kind.ts'

/** For what only the host can bring on: nothing a tenant could do differently helps. */
export const HOST_ADVICE =
  'It is tried again by itself; an administrator sees with `arcus doctor` and `arcus leaks` what the host lacks'

/** States of what lies in a VPC and is in force as soon as the VPC's router was made from it. */
export const PART_STATES: Readonly<Record<string, StateWord>> = {
  pending: { advice: `\`arcus explain vpc\` says what its VPC waits for. ${HOST_ADVICE}` },
  active: { advice: HOST_ADVICE, fine: true },
  deleting: { advice: '`arcus explain` names what still uses it; that has to go first' },
}
