import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { ROLES } from './user.kind.ts'

/**
 * The right to act, proved by a token of which only the SHA-256 is kept. One works in every dialect; `scope` keeps an
 * administrator's, a tenant's and a workload's apart. It belongs to its tenant, an administrator's to the installation.
 */
export const credential = defineKind({
  name: 'credential',
  spec: Type.Object(
    {
      /** SHA-256 of the token, hex. */
      hash: Type.String(),
      scope: Type.Enum(['admin', 'tenant', 'workload']),
      /** Id of the user, tenant or workload it stands for. */
      subject: Type.String(),
      /** Of one that stands for a tenant; a user has the role of the membership. */
      role: Type.Enum([...ROLES]),
      /** The tenant that a user's own key acts in: it belongs to the installation, so that it outlives its tenants. */
      current: Type.Optional(Type.String()),
      /** Made by a login: the oldest of these go when there are too many. */
      login: Type.Optional(Type.Boolean()),
      /** Milliseconds since 1970; absent: until revoked. */
      expiresAt: Type.Optional(Type.Integer()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  immutable: ['hash', 'scope', 'subject'],
  claims: (r) => [{ pool: 'credential', value: r.spec.hash, ends: 'deletion' }],
  // Its tenant is referred to by belonging to it.
  refs: (r) => (r.spec.subject === r.tenant ? [] : [{ to: r.spec.subject, onDelete: 'cascade' }]),
  terms: (r) => [`subject:${r.spec.subject}`],
})
export type Credential = ResourceOf<typeof credential>
