import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE } from '#cloud/states.ts'

/** The installation's own settings, one of a kind: external addresses, DNS, and the tunnel provider's access. */
export const provider = defineKind({
  name: 'provider',
  scope: 'platform',
  spec: Type.Object(
    {
      externalCidr: Type.String(),
      externalGateway: Type.String({ format: 'ipv4' }),
      peeringCidr: Type.String(),
      nameservers: Type.Array(Type.String({ format: 'ipv4' })),
      ndots: Type.Union([Type.Integer({ minimum: 0, maximum: 15 }), Type.Null()]),
      cloudflareAccountId: Type.Union([Type.String(), Type.Null()]),
      /** Empty when none is set. */
      cloudflareToken: Type.String(),
      cloudflareDomain: Type.Union([Type.String(), Type.Null()]),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['cloudflareToken'],
  states: {
    pending: { advice: HOST_ADVICE },
    active: { advice: HOST_ADVICE, fine: true },
  },
  claims: () => [{ pool: 'singleton', value: 'provider', ends: 'deletion' }],
})
export type Provider = ResourceOf<typeof provider>
