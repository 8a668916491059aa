import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { PLATFORM } from '#engine/resource.ts'
import { credentialsOf } from './identity.verbs.ts'
import { membership } from './membership.kind.ts'
import { rightsIn, roleIn, type RoleRef, tenantsOf } from './membership.ts'
import type { RoleResource } from './role.kind.ts'
import { tenant as tenantKind } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

const owns = async (draft: Draft, tenant: string, id: string, role: RoleRef): Promise<boolean> =>
  (await rightsIn(draft, tenant, { id, roles: [role] })).role === 'owner'

/**
 * Refuses `conflict` what would leave a tenant without an owner: `member` goes, or is to have `wanted` as its role. An
 * owner is a member whose role may everything, or the tenant itself by a key of its own.
 */
export async function keepOwner(
  draft: Draft,
  tenant: string,
  member: string,
  wanted?: string,
): Promise<void> {
  const of = await draft.get(user, PLATFORM, member)
  const had = of && (await roleIn(draft, of, tenant))
  if (had === undefined || !(await owns(draft, tenant, member, had))) return
  if (wanted !== undefined && (await owns(draft, tenant, member, wanted))) return
  await needOwner(draft, tenant, member)
}

/** Refuses `conflict` when a tenant has no owner but for one member, as it is with what this commit has changed so far. */
async function needOwner(draft: Draft, tenant: string, except?: string): Promise<void> {
  // Of two owners that let each other go at once one finds it moved.
  await draft.guard(`owners:${tenant}`, tenant)
  const keys = await credentialsOf(draft, tenant)
  if (keys.some(({ spec }) => spec.role === 'owner' && spec.expiresAt === undefined)) return
  const joined = await draft.list(membership, { tenant, terms: [], deleted: false })
  const early = await draft.list(user, { tenant: PLATFORM, terms: [`member:${tenant}`], deleted: false })
  for (const id of new Set([...joined.map((it) => it.spec.user), ...early.map((it) => it.id)])) {
    const it = id === except ? undefined : await draft.get(user, PLATFORM, id)
    const role = it && it.deletedAt === undefined ? await roleIn(draft, it, tenant) : undefined
    if (role !== undefined && (await owns(draft, tenant, id, role))) return
  }
  const { name = tenant } = (await draft.get(tenantKind, PLATFORM, tenant)) ?? {}
  throw new CloudError(
    'conflict',
    `The tenant ${name} would have no owner left; give somebody else that role first`,
    { rule: 'wrong_state' },
  )
}

/** The same for a user who was marked in this commit: none of the user's tenants is left without an owner, whoever asks. */
export async function keepOwnersWithout(draft: Draft, of: User): Promise<void> {
  for (const tenant of await tenantsOf(draft, of)) {
    const had = await roleIn(draft, of, tenant)
    if (had !== undefined && (await owns(draft, tenant, of.id, had))) await needOwner(draft, tenant)
  }
}

/** The same for a role that was changed or taken away in this commit: the last owner may be one by it. */
export async function keepOwnersBy(draft: Draft, before: RoleResource): Promise<void> {
  if (before.tenant !== PLATFORM && before.spec.permissions.includes('*'))
    await needOwner(draft, before.tenant)
}
