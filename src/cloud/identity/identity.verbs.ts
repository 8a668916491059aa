import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { authorise, ownTenant } from '#cloud/access.ts'
import { quotaPool, type VerbContext } from '#cloud/context.ts'
import { domain, type Domain } from '#cloud/edge/domain.kind.ts'
import { credential, type Credential } from './credential.kind.ts'
import { tenantsOf } from './membership.ts'
import { hashPassword, hashToken, newToken } from './secrets.ts'
import { tenant, type Tenant } from './tenant.kind.ts'
import { type Role, user, type User } from './user.kind.ts'

const CREDENTIALS_PER_USER_MAX = 20

/** A tenant with its quotas, its credential and, given a password, its first user (named like it). */
export async function createTenant(
  { draft, caller, settings }: VerbContext,
  input: { name: string; description: string | null; password?: string },
): Promise<{ tenant: Tenant; token: string }> {
  authorise(caller, 'operate', 'tenant:create')
  const made = draft.create(tenant, {
    tenant: PLATFORM,
    name: input.name,
    spec: { description: input.description, quotas: settings.quotas, suspended: false },
  })
  setQuotas(draft, made)
  if (input.password !== undefined)
    draft.create(user, {
      tenant: PLATFORM,
      name: input.name,
      owner: made.id,
      spec: {
        passwordHash: await hashPassword(input.password),
        admin: false,
        memberships: [{ tenant: made.id, role: 'owner' }],
      },
    })
  const { token } = issue(draft, {
    scope: 'tenant',
    subject: made.id,
    tenant: made.id,
    role: 'owner',
    name: `${input.name} token`,
  })
  return { tenant: made, token }
}

/** Sets the store's pools to the tenant's quotas; lower than what is used is allowed: nothing new fits then. */
export function setQuotas(draft: Draft, it: Tenant): void {
  for (const [what, max] of Object.entries(it.spec.quotas))
    draft.pool(quotaPool(it.id, what as keyof Tenant['spec']['quotas']), max, it.id)
}

/** What follows from a change of a tenant: its pools, and a note for its own eyes when it was suspended or resumed. */
export function tenantChanged({ draft, caller }: VerbContext, before: Tenant, now: Tenant): void {
  setQuotas(draft, now)
  if (before.spec.suspended === now.spec.suspended) return
  draft.record({
    stream: 'audit',
    tenant: now.id,
    subject: now.id,
    what: now.spec.suspended ? 'tenant.suspended' : 'tenant.resumed',
    body: { subject: caller.subject, requestId: caller.origin.requestId },
  })
}

/** Everything the tenant owns goes along. */
export async function deleteTenant({ draft, caller }: VerbContext, id: string): Promise<Tenant> {
  authorise(caller, 'operate', 'tenant:delete')
  const it = await draft.get(tenant, PLATFORM, id)
  if (!it) throw new CloudError('not_found', 'Tenant not found')
  draft.mark(it)
  return it
}

export async function addDomain(
  { draft, caller }: VerbContext,
  tenantId: string,
  name: string,
): Promise<Domain> {
  authorise(caller, 'operate', 'domain:create')
  const owner = await draft.get(tenant, PLATFORM, tenantId)
  if (!owner || owner.deletedAt !== undefined) throw new CloudError('not_found', 'Tenant not found')
  return draft.create(domain, { tenant: tenantId, name: name.toLowerCase(), spec: { proof: 'admin' } })
}

/** A new credential; the token is returned once and only its hash is kept. */
export function issue(
  draft: Draft,
  input: {
    scope: 'admin' | 'tenant'
    subject: string
    tenant?: string
    role: Role
    name: string
    expiresAt?: number
    login?: boolean
  },
): { credential: Credential; token: string } {
  const token = newToken(input.scope === 'admin' ? 'adm' : 'tnt')
  const made = draft.create(credential, {
    tenant: input.tenant ?? PLATFORM,
    name: input.name,
    spec: {
      hash: hashToken(token),
      scope: input.scope,
      subject: input.subject,
      role: input.role,
      ...(input.expiresAt === undefined ? {} : { expiresAt: input.expiresAt }),
      ...(input.login ? { login: true } : {}),
    },
  })
  return { credential: made, token }
}

/** A login's credential; the oldest go when a user has more than a named number. */
export async function issueForUser(draft: Draft, it: User): Promise<string> {
  const name = `${it.name} login`
  await dropOldLogins(draft, it)
  if (it.spec.admin)
    return issue(draft, { scope: 'admin', subject: it.id, role: 'owner', name, login: true }).token
  const id = await homeOf(draft, it)
  return issue(draft, { scope: 'tenant', subject: it.id, tenant: id, role: 'viewer', name, login: true })
    .token
}

/** Every credential that stands for a user or tenant, oldest first. */
export const credentialsOf = async (draft: Draft, subject: string): Promise<Credential[]> =>
  await draft.list(credential, { tenant: ALL, terms: [`subject:${subject}`], deleted: false })

/** Makes room for one more login's credential. */
export async function dropOldLogins(draft: Draft, it: User): Promise<void> {
  const had = (await credentialsOf(draft, it.id)).filter(
    (old) => old.spec.login === true || old.name === `${it.name} login`,
  )
  for (const old of had.slice(0, Math.max(0, had.length - CREDENTIALS_PER_USER_MAX + 1))) draft.mark(old)
}

/** The tenant that a user's login acts in: the one chosen last, else the first; `forbidden` for a user without any. */
export async function homeOf(draft: Draft, it: User): Promise<string> {
  const all = await tenantsOf(draft, it)
  const home = all.find((id) => id === it.spec.defaultTenant) ?? all[0]
  if (home === undefined) throw new CloudError('forbidden', 'This user belongs to no tenant')
  return home
}

/** A further credential of the caller's tenant, for a script or a colleague; only its owners and administrators give one. */
export function issueCredential(
  { draft, caller }: VerbContext,
  input: { name: string; role: Role; expiresAt?: number },
): { credential: Credential; token: string } {
  authorise(caller, 'own', 'identity:create')
  const of = ownTenant(caller)
  if (input.expiresAt !== undefined && input.expiresAt <= draft.now)
    throw new CloudError('invalid', 'must be in the future', { field: 'spec.expiresAt' })
  return issue(draft, { ...input, scope: 'tenant', subject: of, tenant: of })
}

/** A person who logs in: an administrator, or a member of tenants. */
export async function createUser(
  { draft, caller }: VerbContext,
  input: { name: string; password: string; admin: boolean; memberships: User['spec']['memberships'] },
): Promise<User> {
  authorise(caller, 'operate', 'user:create')
  for (const it of input.memberships) {
    const of = await draft.get(tenant, PLATFORM, it.tenant)
    if (!of || of.deletedAt !== undefined) throw new CloudError('not_found', `Tenant ${it.tenant} not found`)
  }
  const { name, password, ...spec } = input
  return draft.create(user, {
    tenant: PLATFORM,
    name,
    spec: { ...spec, passwordHash: await hashPassword(password) },
  })
}

const FIRST_CREDENTIAL = 'first start'

/** The installation's first administrator. */
export function createAdmin(
  draft: Draft,
  username: string,
  passwordHash: string,
): { user: User; token: string } {
  const made = draft.create(user, {
    tenant: PLATFORM,
    name: username,
    spec: { passwordHash, admin: true, memberships: [] },
  })
  return {
    user: made,
    token: issue(draft, { scope: 'admin', subject: made.id, role: 'owner', name: FIRST_CREDENTIAL }).token,
  }
}
