import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** Who may log in to a VPC's VPN with a password; `name` is the user name. */
export const vpnUser = defineKind({
  name: 'vpn-user',
  spec: Type.Object(
    {
      vpc: Type.String(),
      /** argon2id in PHC form, made from the `password` that is given. */
      passwordHash: Type.String(),
      /** Of the last login that was let in, in milliseconds since 1970; given by the platform. */
      lastLoginAt: Type.Optional(Type.Integer()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['passwordHash'],
  immutable: ['vpc'],
  claims: (r) => [
    {
      pool: `vpn-user-name:${r.spec.vpc}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'VPN user with this name already exists',
    },
  ],
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
})
export type VpnUser = ResourceOf<typeof vpnUser>
