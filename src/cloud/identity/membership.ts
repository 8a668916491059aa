import type { Static, TSchema } from 'typebox'
import type { Draft } from '#engine/draft.ts'
import type { Kind } from '#engine/kind.ts'
import { PLATFORM, type Resource } from '#engine/resource.ts'
import type { Access } from '#cloud/access.ts'
import type { Attached } from './evaluate.ts'
import { membership } from './membership.kind.ts'
import { policy } from './policy.kind.ts'
import { BUILT_IN, builtIn, role, type RoleResource } from './role.kind.ts'
import { tenant } from './tenant.kind.ts'
import type { Role, User } from './user.kind.ts'

/** What is read to know a caller's rights: by the engine for a request, through a draft within a verb. */
export type Reads = Pick<Draft, 'get' | 'claimed'> & {
  list<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    query: { tenant: string; terms: readonly string[]; deleted: false },
  ): Promise<readonly Resource<Static<S>, Static<T>>[]>
}

/** What a caller may in one tenant. */
export type Rights = { readonly role: Role; readonly access?: Omit<Access, 'at'> }

/** The name of a role, or one of a user's own list, where a viewer may look at everything. */
export type RoleRef = string | { readonly early: Role }

/** The role that a user has in a tenant, undefined for no member. */
export async function roleIn(reads: Reads, of: User, tenantId: string): Promise<RoleRef | undefined> {
  const claim = await reads.claimed(`membership:${of.id}`, tenantId)
  const it = claim && (await reads.get(membership, tenantId, claim.owner))
  if (it) return it.deletedAt === undefined ? it.spec.role : undefined
  const early = of.spec.memberships.find((one) => one.tenant === tenantId)
  return early && { early: early.role }
}

/** Ids of the tenants that a user belongs to and that are there, the oldest membership first. */
export async function tenantsOf(reads: Reads, of: User): Promise<string[]> {
  const memberships = await reads.list(membership, { tenant: '*', terms: [`user:${of.id}`], deleted: false })
  const ids = new Set([...of.spec.memberships.map((it) => it.tenant), ...memberships.map((it) => it.tenant)])
  const found = await Promise.all(
    [...ids].map(async (id) => {
      const it = await reads.get(tenant, PLATFORM, id)
      return it && it.deletedAt === undefined ? [id] : []
    }),
  )
  return found.flat()
}

/** The role of this name that counts in a tenant: one of its own, or one of the installation. */
export async function roleNamed(
  reads: Reads,
  tenantId: string,
  name: string,
): Promise<RoleResource | undefined> {
  for (const owner of new Set([tenantId, PLATFORM])) {
    const claim = await reads.claimed(`role-name:${owner}`, name)
    const it = claim && (await reads.get(role, owner, claim.owner))
    if (it && it.deletedAt === undefined) return it
  }
  return undefined
}

type Part = { readonly role: Role; readonly id?: string; readonly permissions?: readonly string[] }

/** What one role name comes to; one that nobody made allows nothing. */
async function partOf(reads: Reads, tenantId: string, name: RoleRef): Promise<Part> {
  if (typeof name !== 'string') return { role: name.early }
  const known = builtIn(name)
  if (known === 'viewer') return { role: 'viewer', ...BUILT_IN.viewer }
  if (known) return { role: known === 'developer' ? 'editor' : 'owner', id: BUILT_IN[known].id }
  const made = await roleNamed(reads, tenantId, name)
  const permissions = made?.spec.permissions ?? []
  const id = made ? { id: made.id } : {}
  return permissions.includes('*') ? { role: 'owner', ...id } : { role: 'viewer', permissions, ...id }
}

const ORDER: readonly Role[] = ['viewer', 'editor', 'owner']

/**
 * The rights of a principal in a tenant: the union of its roles, and the statements of the policies attached to it or to one
 * of them.
 */
export async function rightsIn(
  reads: Reads,
  tenantId: string,
  principal: { readonly id: string; readonly roles: readonly RoleRef[] },
): Promise<Rights> {
  const parts = await Promise.all(principal.roles.map((name) => partOf(reads, tenantId, name)))
  const statements = await attachedTo(reads, tenantId, [principal.id, ...parts.flatMap((it) => it.id ?? [])])
  const plain = parts
    .filter((it) => !it.permissions)
    .toSorted((a, b) => ORDER.indexOf(b.role) - ORDER.indexOf(a.role))
  const [highest] = plain
  if (highest) return { role: highest.role, ...(statements.length ? { access: { statements } } : {}) }
  const permissions = parts.flatMap((it) => it.permissions ?? [])
  return { role: 'viewer', access: { permissions, statements } }
}

/** Every statement of the policies of a tenant that are attached to one of these. */
export async function attachedTo(
  reads: Reads,
  tenantId: string,
  principals: readonly string[],
): Promise<Attached[]> {
  const statements = new Map<string, Attached[]>()
  for (const id of principals)
    for (const it of await reads.list(policy, {
      tenant: tenantId,
      terms: [`attached:${id}`],
      deleted: false,
    }))
      statements.set(
        it.id,
        it.spec.statements.map((one) => ({ ...one, policy: { id: it.id, name: it.name } })),
      )
  return [...statements.values()].flat()
}
