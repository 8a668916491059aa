import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** A user's place in a tenant, with the name of the role that counts there. Goes with either of them. */
export const membership = defineKind({
  name: 'membership',
  spec: Type.Object(
    {
      user: Type.String(),
      /** `owner`, `developer`, `viewer` or the name of a role; one that does not exist allows nothing. */
      role: Type.String({ minLength: 1, maxLength: 100 }),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  immutable: ['user'],
  claims: (r) => [
    {
      pool: `membership:${r.spec.user}`,
      value: r.tenant,
      ends: 'deletion',
      refusal: 'The user is already a member',
    },
  ],
  refs: (r) => [{ to: r.spec.user, onDelete: 'cascade' }],
  terms: (r) => [`user:${r.spec.user}`],
})
export type Membership = ResourceOf<typeof membership>
