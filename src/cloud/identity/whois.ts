import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import { readsOf } from './authenticate.ts'
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
    return { ...partsOf(of), user: engine.redact(of), name: of.spec.fullName ?? of.name, role: word }
  }
  const account = await engine.get(serviceAccount, ALL, caller.subject)
  if (account) return { ...partsOf(account), role: account.spec.role }
  const own = await engine.get(tenant, PLATFORM, caller.subject)
  if (!own) throw new CloudError('not_found', 'The caller is gone')
  return { ...partsOf(own), role: caller.role }
}

const partsOf = ({ id, name, createdAt, updatedAt }: Omit<Identity, 'role'>) => ({
  id,
  name,
  createdAt,
  updatedAt,
})
