import type { AnyKind } from '#engine/resource.ts'
import type { Right } from './access.ts'
import type { Given } from './given.ts'
import { credential } from './identity/credential.kind.ts'
import { membership } from './identity/membership.kind.ts'
import { policy } from './identity/policy.kind.ts'
import { role } from './identity/role.kind.ts'
import { serviceAccount } from './identity/service-account.kind.ts'

// Made and changed only by the verbs and reconcilers that own them.
export const NOT_BY_HAND = ['replica', 'credential', 'user', 'message']

// Kinds that say who may act in a tenant.
const OWNERS = [credential, membership, role, policy, serviceAccount].map((it) => it.name)

/** What it takes to make, change or remove one by hand. */
export const rightOver = (kind: AnyKind): Right =>
  kind.scope === 'platform' ? 'operate' : OWNERS.includes(kind.name) ? 'own' : 'write'

/** Members as a caller may name them, in the form that they are kept in. */
export const withMembers = (spec: Given): Given =>
  Array.isArray(spec['members'])
    ? {
        ...spec,
        members: spec['members'].map((it: unknown) => (typeof it === 'object' ? { addedAt: 0, ...it } : it)),
      }
    : spec
