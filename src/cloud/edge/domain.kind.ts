import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { changedState, event, turnOf } from '#cloud/inside/event.kind.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'

/**
 * A DNS domain that a tenant may use; `name` is the domain in lower case. An administrator approves it, or the tenant
 * proves by a TXT record that it is theirs. Only a domain that is verified is held against everybody else.
 */
export const domain = defineKind({
  name: 'domain',
  version: 2,
  upgrades: {
    1: () => ({ spec: { proof: 'admin' }, status: { state: 'verified' } }),
  },
  spec: Type.Object(
    {
      proof: Type.Enum(['admin', 'dns']),
      /** What the TXT record of `_arcus.<domain>` must be, behind `arcus-domain=`; for `dns`. */
      challenge: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'verified', 'error']),
    /** What to do, and when it is looked at again. */
    message: Type.Optional(Type.String()),
    verifiedAt: Type.Optional(Type.Integer()),
  }),
  initial: { state: 'pending' },
  immutable: ['proof', 'challenge'],
  states: {
    pending: {
      advice:
        'Add the TXT record that its message names to the DNS of the domain; it is looked for by itself',
    },
    verified: { advice: HOST_ADVICE, fine: true },
    error: {
      advice:
        'Set the DNS of the domain right, or ask an administrator who holds it; it is looked for again by itself',
    },
    deleting: { advice: '`arcus explain` names what is still below it; that has to go first' },
  },
  state: statusWord,
  claims: (r) => [
    r.spec.proof === 'admin'
      ? { pool: 'domain', value: r.name, ends: 'deletion', refusal: 'Domain already exists' }
      : { pool: `domain:${r.tenant}`, value: r.name, ends: 'deletion', refusal: 'Domain already exists' },
  ],
  terms: (r) => [`state:${r.status.state}`],
  events(before, after) {
    const { from, to, isWish } = turnOf(before, after)
    const of = to ?? from
    if (!of || (!isWish && from?.status.state === to?.status.state)) return []
    const turn = { ...changedState(from, to), of: of.name }
    const isVerified = from && to && to.status.state === 'verified'
    return [event(isVerified ? 'domain.verified' : 'domain.changed', of.id, turn)]
  },
})
export type Domain = ResourceOf<typeof domain>

/** Whether tunnels, routes and certificates may be below it. */
export const isUsable = (it: Domain): boolean => it.spec.proof === 'admin' || it.status.state === 'verified'
