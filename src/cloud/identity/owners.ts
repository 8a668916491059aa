import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { PLATFORM } from '#engine/resource.ts'
import { credentialsOf } from './identity.verbs.ts'
import { membership } from './membership.kind.ts'
import { rightsIn, roleIn, type RoleRef } from './membership.ts'
import { user } from './user.kind.ts'

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
  // Of two owners that let each other go at once one finds it moved.
  await draft.guard(`owners:${tenant}`, tenant)
  const keys = await credentialsOf(draft, tenant)
  if (keys.some(({ spec }) => spec.role === 'owner' && spec.expiresAt === undefined)) return
  const joined = await draft.list(membership, { tenant, terms: [], deleted: false })
  const early = await draft.list(user, { tenant: PLATFORM, terms: [`member:${tenant}`], deleted: false })
  for (const id of new Set([...joined.map((it) => it.spec.user), ...early.map((it) => it.id)])) {
    const other = id === member ? undefined : await draft.get(user, PLATFORM, id)
    const role = other && other.deletedAt === undefined ? await roleIn(draft, other, tenant) : undefined
    if (role !== undefined && (await owns(draft, tenant, id, role))) return
  }
  throw new CloudError(
    'conflict',
    'This is the last owner of the tenant; give somebody else that role first',
    {
      rule: 'wrong_state',
    },
  )
}
