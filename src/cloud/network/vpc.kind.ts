import { isDeepStrictEqual } from 'node:util'
import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { changed, event, turnOf } from '#cloud/inside/event.kind.ts'
import { HOST_ADVICE } from '#cloud/states.ts'

/** What of the wish is told, and how it is called. */
const TOLD = {
  vpn: 'vpc.services.changed',
  deployments: 'vpc.deployments.changed',
  natAddress: 'vpc.addresses.changed',
} as const

/** A VPC: an address space and router of its own; nothing crosses between two of them unless it leaves by an external address or they are peered. */
export const vpc = defineKind({
  name: 'vpc',
  spec: Type.Object(
    {
      /**
       * Whether anything in it may have a way out by itself; off means none but by gateways that its route tables lead to,
       * DNS of outside names included.
       */
      internet: Type.Boolean(),
      /** Number that names its links and transit addresses on the host; given at creation. */
      index: Type.Integer({ minimum: 0, maximum: 131071 }),
      /** Random ULA /48, in the form fd00:1:2::/48. */
      range6: Type.String(),
      /** External address that outbound connections of attachments without their own leave by; set when first needed. */
      natAddress: Type.Optional(Type.String({ format: 'ipv4' })),
      /** Who may log in to its VPN; without it nobody. */
      vpn: Type.Optional(
        Type.Object(
          {
            enabled: Type.Boolean(),
            /** Its own VPN users. */
            vpnUsers: Type.Boolean(),
            /** Users of the platform who may act in its tenant. */
            users: Type.Boolean(),
            /** Asked with the name and password by POST; answers 200 for yes. */
            webhook: Type.Optional(Type.String({ pattern: '^https?://', maxLength: 2048 })),
          },
          { additionalProperties: false },
        ),
      ),
      /** Tag of a deployment → the version that it means now. */
      deployments: Type.Optional(
        Type.Record(
          Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$' }),
          Type.String({ minLength: 1, maxLength: 128 }),
          { maxProperties: 100 },
        ),
      ),
      /** The range that its subnets lie in; absent: they may be anywhere. */
      cidr: Type.Optional(Type.String()),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'error']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  immutable: ['index', 'range6', 'cidr', 'creator'],
  settleSecondsMax: 60,
  states: {
    pending: { advice: HOST_ADVICE },
    active: { advice: HOST_ADVICE, fine: true },
    deleting: { advice: `\`arcus explain\` names what is still in it and why. ${HOST_ADVICE}` },
  },
  claims: (r) => [
    { pool: 'vpc-index', value: String(r.spec.index), ends: 'removal' },
    ...(r.spec.natAddress ? [{ pool: 'external', value: r.spec.natAddress, ends: 'removal' as const }] : []),
  ],
  events(before, after) {
    const { from, to } = turnOf(before, after)
    const of = to ?? from
    if (!of) return []
    return (Object.keys(TOLD) as (keyof typeof TOLD)[])
      .filter((field) => !isDeepStrictEqual(from?.spec[field], to?.spec[field]))
      .map((field) => event(TOLD[field], of.id, { ...changed(from, to, field), vpcs: [of.id] }))
  },
})
export type Vpc = ResourceOf<typeof vpc>
