import Type, { type Static } from 'typebox'
import type { Credential } from '#cloud/identity/credential.kind.ts'
import type { User as Resource } from '#cloud/identity/user.kind.ts'
import { PLATFORM } from '#engine/resource.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'

export const User = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  default_tenant_id: Type.Optional(Uuid),
  email: Type.String(),
  name: Type.String(),
  role: Type.String(),
  created_at: Timestamp,
  updated_at: Timestamp,
})

/** The role that a user has beside those in tenants. */
const ROLE_DEFAULT = 'developer'

/** The id of a tenant as a member; an administrator acts in none. */
export const tenantId = (id: string): string => (id === PLATFORM ? NIL : id)

/** A user as seen from a tenant. */
export const encodeUser = (it: Resource, tenant: string): Static<typeof User> => ({
  id: it.id,
  tenant_id: tenantId(tenant),
  ...(it.spec.defaultTenant === undefined ? {} : { default_tenant_id: it.spec.defaultTenant }),
  email: it.name,
  name: it.spec.fullName ?? it.name,
  role: it.spec.admin ? 'admin' : (it.spec.role ?? ROLE_DEFAULT),
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

export const ApiKey = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  default_tenant_id: Type.Optional(Uuid),
  key: Type.Optional(Type.String({ description: 'Only right after it was made.' })),
  name: Type.String(),
  created_at: Timestamp,
  last_used: Timestamp,
  expires_at: Type.Optional(Timestamp),
})

/** A key; before its first use it says the moment it was made. */
export function encodeKey(
  it: Credential,
  { lastUsed, token }: { readonly lastUsed?: number | undefined; readonly token?: string } = {},
): Static<typeof ApiKey> {
  const current = tenantId(it.spec.current ?? it.tenant)
  return {
    id: it.id,
    user_id: it.spec.subject,
    tenant_id: current,
    ...(current === NIL ? {} : { default_tenant_id: current }),
    ...(token === undefined ? {} : { key: token }),
    name: it.name,
    created_at: timestamp(it.createdAt),
    last_used: timestamp(lastUsed ?? it.createdAt),
    ...(it.spec.expiresAt === undefined ? {} : { expires_at: timestamp(it.spec.expiresAt) }),
  }
}
