import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { PLATFORM } from '#engine/resource.ts'
import {
  authorise,
  type Caller,
  decide,
  type Decision,
  ownTenant,
  type Right,
  type Target,
} from '#cloud/access.ts'
import { readsOf } from './authenticate.ts'
import { rightsIn, roleIn } from './membership.ts'
import { serviceAccount } from './service-account.kind.ts'
import { user } from './user.kind.ts'

/** May somebody do something? */
export type Simulation = {
  /** Id of a user or service account of the caller's tenant; the caller by default. */
  readonly principal?: string
  /** `resource:verb`. */
  readonly action: string
  readonly resource?: Target
  /** The address to ask from; the caller's by default. */
  readonly address?: string
}

const OWN = /^(iam|rbac|service_account|identity):|^tenant:update$/

/** The right that an action needs of a role. */
export const rightFor = (action: string): Right =>
  /:(read|list|get)$/.test(action) && !OWN.test(action) ? 'read' : OWN.test(action) ? 'own' : 'write'

/**
 * What `decide` would say to a principal, and because of which statement; nothing is done. About others only owners may
 * ask; `not_found` for who is no member.
 */
export async function simulate(engine: Engine, caller: Caller, asked: Simulation): Promise<Decision> {
  const { principal = caller.subject, action, resource, address = caller.origin.address } = asked
  const self = principal === caller.subject
  authorise(caller, self ? 'self' : 'own', 'iam:simulate')
  const who = self ? caller : await callerFor(engine, caller, principal)
  return decide({ ...who, origin: { ...who.origin, address } }, rightFor(action), action, resource)
}

async function callerFor(engine: Engine, caller: Caller, id: string): Promise<Caller> {
  const reads = readsOf(engine)
  const tenant = ownTenant(caller)
  const missing = new CloudError('not_found', `No user or service account ${id} in this tenant`)
  const of = await engine.get(user, PLATFORM, id)
  const account = of ? undefined : await engine.get(serviceAccount, tenant, id)
  const own = of ? await roleIn(reads, of, tenant) : account?.spec.role
  if (own === undefined) throw missing
  const roles = of?.spec.role === undefined ? [own] : [own, of.spec.role]
  const { role, access } = await rightsIn(reads, tenant, { id, roles })
  const { suspended, origin } = caller
  return {
    scope: 'tenant',
    subject: id,
    tenant,
    role,
    credential: '',
    origin,
    ...(suspended ? { suspended } : {}),
    ...(access ? { access: { ...access, at: engine.clock.now() } } : {}),
  }
}
