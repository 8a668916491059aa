import type { Resource } from '#engine/resource.ts'
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

/** The same of what may turn out not to be possible, and is tried again. */
export const PLACED_STATES: Readonly<Record<string, StateWord>> = {
  ...PART_STATES,
  // What it turns into when it takes too long.
  failed: { advice: `\`arcus explain vpc\` says what its VPC waits for. ${HOST_ADVICE}` },
  deleting: { advice: `\`arcus explain\` names the VPC whose router still has it. ${HOST_ADVICE}` },
}

/** The word of what is placed in a router: `failed` when that took longer than it may. */
export const placedWord = (it: Resource<unknown, { readonly state: string }>): string =>
  it.deletedAt !== undefined
    ? 'deleting'
    : it.observed < it.generation && it.status.state !== 'failed'
      ? 'pending'
      : it.status.state

/** The state that a kind's status tells of, until deletion is asked. */
export const statusWord = (it: Resource<unknown, { readonly state: string }>): string =>
  it.deletedAt === undefined ? it.status.state : 'deleting'

const SEE_CERTIFICATE = '`arcus explain certificate` says what its certificate waits for'

/** States of what leads from a hostname into the cloud. */
export const LEADING_STATES: Readonly<Record<string, StateWord>> = {
  pending: { advice: `${SEE_CERTIFICATE}, \`arcus explain vpc\` what its VPC does. ${HOST_ADVICE}` },
  active: { advice: HOST_ADVICE, fine: true },
  error: {
    advice: `${SEE_CERTIFICATE}; what Cloudflare refuses an administrator sets right in the configuration of the provider or at Cloudflare. It is tried again by itself`,
  },
  deleting: { advice: HOST_ADVICE },
}
