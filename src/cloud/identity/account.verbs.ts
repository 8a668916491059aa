import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { authorise, type Caller, decide, ownTenant } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { credential, type Credential } from './credential.kind.ts'
import { credentialsOf, setQuotas } from './identity.verbs.ts'
import { membership, type Membership } from './membership.kind.ts'
import { roleIn, roleNamed } from './membership.ts'
import { builtIn } from './role.kind.ts'
import { hashToken, newKey } from './secrets.ts'
import { tenant, type Tenant } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

/** Keys that one user or tenant may have beside those of logins. */
const KEYS_MAX = 100
/** Tenants that one user made and that are there, whoever belongs to them by now. */
const FOUNDED_MAX = 100
const MEMBERS_MAX = 1000

/** What a person's key is made of: the key is shown once, its hash kept. */
export type MadeKey = { readonly credential: Credential; readonly token: string }

/** A user's own key, which acts in `current` until it is switched. */
export function issueKey(
  draft: Draft,
  of: User,
  input: { readonly name: string; readonly current: string; readonly login?: boolean },
): MadeKey {
  const token = newKey()
  const made = draft.create(credential, {
    tenant: PLATFORM,
    name: input.name,
    spec: {
      hash: hashToken(token),
      scope: of.spec.admin ? 'admin' : 'tenant',
      subject: of.id,
      role: of.spec.admin ? 'owner' : 'viewer',
      ...(of.spec.admin ? {} : { current: input.current }),
      ...(input.login ? { login: true } : {}),
    },
  })
  return { credential: made, token }
}

/** The user that a caller is, undefined for a tenant's token or a service account. */
export const userOf = async (draft: Draft, caller: Caller): Promise<User | undefined> =>
  await draft.get(user, PLATFORM, caller.subject)

async function needUser(draft: Draft, caller: Caller): Promise<User> {
  const it = await userOf(draft, caller)
  if (!it) throw new CloudError('forbidden', 'Only a user can do this: log in as one')
  return it
}

/** One more key of who calls: a user's acts wherever the user does, a tenant's in the caller's role. */
export async function createKey({ draft, caller }: VerbContext, name: string): Promise<MadeKey> {
  const of = await userOf(draft, caller)
  authorise(caller, of ? 'self' : 'own', 'identity:create', { kind: 'credential', name })
  // Of two that count at once one finds it moved.
  await draft.guard(`keys:${caller.subject}`, caller.subject)
  const keys = (await credentialsOf(draft, caller.subject)).filter((it) => it.spec.login !== true)
  if (keys.length >= KEYS_MAX)
    throw new CloudError('exhausted', `More than ${KEYS_MAX} keys: revoke one first`, { rule: 'quota' })
  if (of) return issueKey(draft, of, { name, current: caller.tenant })
  const token = newKey()
  return { credential: draft.create(credential, ofTenant(caller, name, token)), token }
}

const ofTenant = (caller: Caller, name: string, token: string) => {
  if (caller.subject !== caller.tenant)
    throw new CloudError('forbidden', 'A service account has secrets, not keys')
  const { subject, tenant: id, role } = caller
  return { tenant: id, name, spec: { hash: hashToken(token), scope: 'tenant' as const, subject, role } }
}

async function ownKey({ draft, caller }: VerbContext, id: string, action: string): Promise<Credential> {
  authorise(caller, 'self', action, { kind: 'credential', id })
  // Of two that end it at once one finds it ended: each would make another in its place.
  await draft.guard(`key:${id}`, id)
  const it = await draft.get(credential, ALL, id)
  if (!it || it.deletedAt !== undefined || it.spec.subject !== caller.subject)
    throw new CloudError('not_found', 'API key not found')
  if (!(await userOf(draft, caller))) authorise(caller, 'own', action, it)
  return it
}

/** A new text for a key; the old one opens nothing from this commit on. */
export async function rotateKey(context: VerbContext, id: string): Promise<MadeKey> {
  const it = await ownKey(context, id, 'identity:create')
  context.draft.mark(it)
  const token = newKey()
  const made = context.draft.create(credential, {
    tenant: it.tenant,
    name: it.name,
    labels: it.labels,
    spec: { ...it.spec, hash: hashToken(token) },
  })
  return { credential: made, token }
}

/** From this commit on it opens nothing, in no dialect. */
export async function revokeKey(context: VerbContext, id: string): Promise<void> {
  context.draft.mark(await ownKey(context, id, 'identity:delete'))
}

/** A tenant of the calling user, who owns it. `already_exists` for a slug in use. */
export async function createOwnTenant(
  { draft, caller, settings }: VerbContext,
  input: { readonly title: string; readonly slug: string },
): Promise<Tenant> {
  authorise(caller, 'write', 'tenant:create', { kind: 'tenant', name: input.slug })
  const of = await needUser(draft, caller)
  return foundTenant(draft, of, { ...input, quotas: settings.ownQuotas })
}

/** A tenant with its quotas and its owner. */
export function foundTenant(
  draft: Draft,
  of: User,
  input: { readonly title: string; readonly slug: string; readonly quotas: Tenant['spec']['quotas'] },
): Tenant {
  const made = draft.create(tenant, {
    tenant: PLATFORM,
    name: input.slug,
    spec: {
      description: null,
      quotas: input.quotas,
      suspended: false,
      title: input.title,
      founder: of.id,
      plan: 'free',
    },
  })
  setQuotas(draft, made)
  const pool = `founded:${of.id}`
  draft.pool(pool, FOUNDED_MAX, of.id)
  const refusal = `A user makes ${FOUNDED_MAX} tenants at most`
  draft.claim({ pool, value: made.id, ends: 'deletion', amount: 1, refusal }, made.id)
  join(draft, made.id, of, { role: 'owner' })
  return made
}

function join(
  draft: Draft,
  tenantId: string,
  of: User,
  { role, name = of.name, labels = {} }: Pick<NewMember, 'role' | 'name' | 'labels'>,
): Membership {
  const made = draft.create(membership, { tenant: tenantId, name, labels, spec: { user: of.id, role } })
  const pool = `members:${tenantId}`
  draft.pool(pool, MEMBERS_MAX, tenantId)
  draft.claim(
    {
      pool,
      value: made.id,
      ends: 'deletion',
      amount: 1,
      refusal: `A tenant has ${MEMBERS_MAX} members at most`,
    },
    made.id,
  )
  return made
}

/** Takes a member's tenant out of the list that the user was made with, which would count again once the membership is gone. */
export async function leaveList(draft: Draft, { tenant: id, spec }: Membership): Promise<void> {
  const of = await draft.get(user, PLATFORM, spec.user)
  if (!of || of.deletedAt !== undefined) return
  const memberships = of.spec.memberships.filter((it) => it.tenant !== id)
  draft.edit(user, of, { spec: { ...of.spec, memberships } })
}

/** What the calling key sees from now on, in every dialect, and where the user's next login acts; `forbidden` to strangers. */
export async function switchTenant({ draft, caller }: VerbContext, id: string): Promise<void> {
  authorise(caller, 'self', 'tenant:switch', { kind: 'tenant', id })
  const of = await userOf(draft, caller)
  const isMember = of ? (await roleIn(draft, of, id)) !== undefined : caller.tenant === id
  const to = await draft.get(tenant, PLATFORM, id)
  if (!isMember || !to || to.deletedAt !== undefined)
    throw new CloudError('forbidden', 'You are not a member of this tenant')
  if (!of) return
  draft.edit(user, of, { spec: { ...of.spec, defaultTenant: id } })
  const key = await draft.get(credential, ALL, caller.credential)
  if (!key || key.spec.current === id) return
  if (key.tenant !== PLATFORM)
    throw new CloudError(
      'conflict',
      'This key is of one tenant only: log in to have one that can be switched',
    )
  draft.edit(credential, key, { spec: { ...key.spec, current: id } })
}

/** Names a user by id or e-mail. */
export type UserReference = { readonly id?: string; readonly name?: string }

export async function userBy(draft: Draft, { id, name }: UserReference): Promise<User> {
  const found = id ?? (name && (await draft.claimed('user-name', name.toLowerCase()))?.owner)
  const it = found === undefined || found === '' ? undefined : await draft.get(user, PLATFORM, found)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'User not found')
  return it
}

/**
 * Refuses a role that does not exist (`invalid`), and one that says more than the caller may (`forbidden`): nobody gives
 * away what they do not have.
 */
export async function needGrantable(
  { draft, caller }: Pick<VerbContext, 'draft' | 'caller'>,
  name: string,
): Promise<string> {
  const known = builtIn(name)
  if (!known && !(await roleNamed(draft, caller.tenant, name)))
    throw new CloudError('invalid', `there is no role ${name}`, { field: 'role' })
  if (known !== 'viewer' && !decide(caller, 'own', 'rbac:bind').allowed && known !== 'developer')
    throw new CloudError('forbidden', `Only an owner of the tenant may give the role ${name}`)
  return known ?? name
}

export type NewMember = {
  readonly user: UserReference
  readonly role: string
  /** Of the membership; the user's by default. */
  readonly name?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** One more member of the caller's tenant; `already_exists` for one who is. */
export async function addMember(context: VerbContext, input: NewMember): Promise<Membership> {
  const { draft, caller } = context
  authorise(caller, 'own', 'tenant:update', { kind: 'tenant', id: caller.tenant })
  const role = await needGrantable(context, input.role)
  const of = await userBy(draft, input.user)
  if (of.spec.memberships.some((it) => it.tenant === caller.tenant))
    throw new CloudError('already_exists', 'The user is already a member')
  return join(draft, ownTenant(caller), of, { ...input, role })
}
