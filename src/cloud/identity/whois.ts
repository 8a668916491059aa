import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import { readsOf } from './authenticate.ts'
import { membership } from './membership.kind.ts'
import { roleIn } from './membership.ts'
import { serviceAccount } from './service-account.kind.ts'
import { tenant } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

/** Who a caller is. */
export type Identity = {
  /** Its user, where it is one. */
  readonly user?: User
  readonly id: string
  readonly name: string
  /** The role that it has where it acts. */
  readonly role: string
  readonly createdAt: number
  readonly updatedAt: number
}

/** `not_found` for one that is gone meanwhile. */
export async function whoIs(engine: Engine, caller: Caller): Promise<Identity> {
  const of = await engine.get(user, PLATFORM, caller.subject)
  if (of) {
    const role = caller.scope === 'admin' ? 'admin' : await roleIn(readsOf(engine), of, caller.tenant)
    const word = typeof role === 'object' ? role.early : (role ?? caller.role)
    return { ...partsOf(of), user: engine.redact(of), role: word }
  }
  const account = await engine.get(serviceAccount, ALL, caller.subject)
  if (account) return { ...partsOf(account), role: account.spec.role }
  const own = await engine.get(tenant, PLATFORM, caller.subject)
  if (!own) throw new CloudError('not_found', 'The caller is gone')
  return { ...partsOf(own), role: caller.role }
}

/** A user with the name of the role that counts where it is asked. */
export type Member = { readonly user: User; readonly role: string }

/** Members of the caller's tenant, of both kinds; every user for an administrator that named none. */
export async function membersOf(engine: Engine, caller: Caller): Promise<Member[]> {
  const draft = readsOf(engine)
  const platform = caller.tenant === PLATFORM
  const terms = platform ? [] : [`member:${caller.tenant}`]
  const early = await draft.list(user, { tenant: PLATFORM, terms, deleted: false })
  const joined = platform
    ? []
    : await draft.list(membership, { tenant: caller.tenant, terms: [], deleted: false })
  const users = new Map(early.map((it) => [it.id, it]))
  for (const { spec } of joined) {
    const it = await engine.get(user, PLATFORM, spec.user)
    if (it && it.deletedAt === undefined) users.set(it.id, it)
  }
  return await Promise.all(
    [...users.values()].map(async (it) => {
      const own = platform ? it.spec.role : await roleIn(draft, it, caller.tenant)
      const word = typeof own === 'object' ? own.early : own
      return { user: it, role: word ?? (it.spec.admin ? 'admin' : 'developer') }
    }),
  )
}

/** Names of users, service accounts and tenants by id; one that is gone is left out. */
export async function namesOf(engine: Engine, ids: Iterable<string>): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  for (const id of new Set(ids)) {
    const it =
      (await engine.get(user, PLATFORM, id)) ??
      (await engine.get(serviceAccount, ALL, id)) ??
      (await engine.get(tenant, PLATFORM, id))
    if (it) names.set(id, it.name)
  }
  return names
}

const partsOf = ({ id, name, createdAt, updatedAt }: Omit<Identity, 'role'>) => ({
  id,
  name,
  createdAt,
  updatedAt,
})
