import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE } from '#cloud/states.ts'

const ACME_ADVICE =
  'What the authority said has to be set right: its directory must be reachable from this machine, and the account binding its own. It is tried again by itself'

/** The installation's account at a certificate authority that speaks ACME (RFC 8555); one of a kind. */
export const acme = defineKind({
  name: 'acme',
  scope: 'platform',
  spec: Type.Object(
    {
      /** URL of the authority's directory. Its terms of service are agreed to by naming it here. */
      directory: Type.String({ pattern: '^https://[^\\s]+$', maxLength: 2048 }),
      /** Whom the authority tells of trouble. */
      email: Type.Optional(Type.String({ maxLength: 320, pattern: '^[^\\s@]+@[^\\s@]+$' })),
      /** `http-01`: port 80 of each hostname must reach the edge. `dns-01`: TXT records through the provider's Cloudflare token; needed for wildcards. */
      challenge: Type.Enum(['http-01', 'dns-01']),
      /** Of an account that exists there already (external account binding). */
      keyId: Type.Optional(Type.String({ maxLength: 1024 })),
      /** Its key; empty when there is none. */
      hmacKey: Type.String({ maxLength: 1024 }),
      /** PEM of a private authority that signed the directory's own certificate. */
      trust: Type.Optional(Type.String({ maxLength: 65_536 })),
      /** Tunnels and routes without a certificate get theirs here instead of from the installation's own authority. */
      byDefault: Type.Boolean(),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'error']),
    message: Type.Optional(Type.String()),
    /** URL of the account, and the directory it is an account of. */
    account: Type.Optional(Type.String()),
    directory: Type.Optional(Type.String()),
    key: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  secret: ['hmacKey'],
  secretStatus: ['key'],
  settleSecondsMax: 300,
  states: {
    pending: { advice: ACME_ADVICE },
    active: { advice: ACME_ADVICE, fine: true },
    deleting: { advice: HOST_ADVICE },
  },
  claims: () => [
    { pool: 'singleton', value: 'acme', ends: 'deletion', refusal: 'There is an ACME authority already' },
  ],
})
export type Acme = ResourceOf<typeof acme>
