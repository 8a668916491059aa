import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

export const ROLES = ['owner', 'editor', 'viewer'] as const
export type Role = (typeof ROLES)[number]

/** A person who logs in; `name` is the user name. */
export const user = defineKind({
  name: 'user',
  scope: 'platform',
  spec: Type.Object(
    {
      /** argon2id in PHC form; sealed and shown nowhere like every secret. */
      passwordHash: Type.String(),
      /** Runs the installation: may name every tenant. */
      admin: Type.Boolean(),
      /** Tenants the user was made for, each with a role; a membership is one more. */
      memberships: Type.Array(
        Type.Object({ tenant: Type.String(), role: Type.Enum([...ROLES]) }, { additionalProperties: false }),
      ),
      /** What the person is called; the user name by default. */
      fullName: Type.Optional(Type.String({ maxLength: 100 })),
      /** Name of a role that counts in every tenant the user belongs to, given by an administrator. */
      role: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
      /** The tenant that a new login acts in; else the first. */
      defaultTenant: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['passwordHash'],
  claims: (r) => [
    { pool: 'user-name', value: r.name, ends: 'deletion', refusal: 'User with this name already exists' },
  ],
  terms: (r) => r.spec.memberships.map((it) => `member:${it.tenant}`),
})
export type User = ResourceOf<typeof user>
