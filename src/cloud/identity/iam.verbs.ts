import { randomBytes } from 'node:crypto'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { PLATFORM } from '#engine/resource.ts'
import { authorise, authoriseFirst, ownTenant } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { needGrantable, userBy, type UserReference } from './account.verbs.ts'
import { membership } from './membership.kind.ts'
import { roleIn, roleNamed } from './membership.ts'
import { keepOwner, keepOwnersBy } from './owners.ts'
import { policy, type Policy, type Statement } from './policy.kind.ts'
import { BUILT_IN, builtIn, role, type RoleResource } from './role.kind.ts'
import { hashToken, newServiceSecret } from './secrets.ts'
import { serviceAccount, type ServiceAccount } from './service-account.kind.ts'
import { user } from './user.kind.ts'

const ROLES_MAX = 200
const POLICIES_MAX = 500
const ACCOUNTS_MAX = 200
const SIGNING_KEY_BYTES = 32

/** Where an administrator that named no tenant makes roles: they count in all. */
const scopeOf = ({ caller }: VerbContext): string => caller.tenant

function bounded({ draft, caller }: VerbContext, what: string, max: number, owner: string): void {
  if (caller.tenant === PLATFORM) return
  const pool = `${what}:${caller.tenant}`
  draft.pool(pool, max, caller.tenant)
  const refusal = `A tenant has ${max} of these at most`
  draft.claim({ pool, value: owner, ends: 'deletion', amount: 1, refusal }, owner)
}

export type NewRole = {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly description: string
  readonly permissions: readonly string[]
}

const specOf = ({ description, permissions }: NewRole) => ({
  description,
  permissions: [...new Set(permissions)],
})

function needOwnName(name: string): void {
  if (builtIn(name)) throw new CloudError('already_exists', `The role ${name} is built in`, { field: 'name' })
}

/** `already_exists` for a name in use, those of built-in roles included. */
export async function createRole(context: VerbContext, input: NewRole): Promise<RoleResource> {
  const { draft, caller } = context
  authorise(caller, 'own', 'rbac:create', { kind: 'role', name: input.name })
  needOwnName(input.name)
  if (await roleNamed(draft, scopeOf(context), input.name))
    throw new CloudError('already_exists', 'Role with this name already exists', { field: 'name' })
  const { name, labels } = input
  const tenant = scopeOf(context)
  const made = draft.create(role, { tenant, name, ...(labels ? { labels } : {}), spec: specOf(input) })
  bounded(context, 'roles', ROLES_MAX, made.id)
  return made
}

/** A role of the caller's own, by id; built-in ones, and for a tenant those of the installation, stay as they are (`forbidden`). */
async function ownRole(context: VerbContext, id: string, action: string): Promise<RoleResource> {
  const { draft, caller } = context
  authoriseFirst(caller, 'own', action)
  if (Object.values(BUILT_IN).some((it) => it.id === id))
    throw new CloudError('forbidden', 'A built-in role stays as it is; make one of your own')
  const own = await draft.get(role, scopeOf(context), id)
  if (!own || own.deletedAt !== undefined) {
    if (await draft.get(role, PLATFORM, id))
      throw new CloudError('forbidden', 'This role is the installation’s: only an administrator changes it')
    throw new CloudError('not_found', 'Role not found')
  }
  authorise(caller, 'own', action, own)
  return own
}

export async function updateRole(
  context: VerbContext,
  id: string,
  change: Partial<NewRole>,
): Promise<RoleResource> {
  const it = await ownRole(context, id, 'rbac:update')
  const { name = it.name } = change
  if (name !== it.name) needOwnName(name)
  const made = context.draft.edit(role, it, { name, spec: specOf({ ...it.spec, name, ...change }) })
  await keepOwnersBy(context.draft, it)
  return made
}

/** One permission more or less; a repeat is fine. */
export async function editPermissions(
  context: VerbContext,
  id: string,
  { add, remove }: { readonly add?: string; readonly remove?: string },
): Promise<RoleResource> {
  const it = await ownRole(context, id, 'rbac:update')
  const permissions = it.spec.permissions.filter((one) => one !== remove)
  if (remove !== undefined && permissions.length === it.spec.permissions.length)
    throw new CloudError('not_found', 'The role does not have this permission')
  if (add !== undefined) permissions.push(add)
  const made = context.draft.edit(role, it, { spec: specOf({ ...it.spec, name: it.name, permissions }) })
  await keepOwnersBy(context.draft, it)
  return made
}

/** Who has it may nothing by it from then on; its policies let it go. `conflict` when nobody else is an owner. */
export async function deleteRole(context: VerbContext, id: string): Promise<RoleResource> {
  const it = await ownRole(context, id, 'rbac:delete')
  await detachAll(context, it.id)
  context.draft.mark(it)
  await keepOwnersBy(context.draft, it)
  return it
}

/**
 * The role of a member in the caller's tenant; its last owner stays one (`conflict`). An administrator that names no tenant gives one that counts in all tenants
 * the user belongs to.
 */
export async function bindRole(
  context: VerbContext,
  input: { readonly user: UserReference; readonly role: string },
): Promise<void> {
  const { draft, caller } = context
  authorise(caller, 'own', 'rbac:bind')
  const found = await roleNamed(draft, scopeOf(context), input.role)
  if (!builtIn(input.role) && !found) throw new CloudError('not_found', 'Role not found')
  const name = await needGrantable(context, input.role)
  const of = await userBy(draft, input.user)
  if (caller.tenant === PLATFORM) {
    draft.edit(user, of, { spec: { ...of.spec, role: name } })
    return
  }
  if ((await roleIn(draft, of, caller.tenant)) === undefined)
    throw new CloudError('not_found', 'User not found')
  await keepOwner(draft, caller.tenant, of.id, name)
  const claim = await draft.claimed(`membership:${of.id}`, caller.tenant)
  const it = claim && (await draft.get(membership, caller.tenant, claim.owner))
  if (it) draft.edit(membership, it, { spec: { ...it.spec, role: name } })
  // One of a user's own list becomes a membership, which counts before the list.
  else draft.create(membership, { tenant: caller.tenant, name: of.id, spec: { user: of.id, role: name } })
}

export type NewPolicy = {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly description?: string
  readonly statements: readonly Statement[]
}

const policySpec = (it: NewPolicy, attachedTo: readonly string[]): Policy['spec'] => ({
  ...(it.description === undefined ? {} : { description: it.description }),
  statements: [...it.statements],
  attachedTo: [...attachedTo],
})

/** `already_exists` for a name in use in the tenant. */
export async function createPolicy(context: VerbContext, input: NewPolicy): Promise<Policy> {
  const { draft, caller } = context
  authorise(caller, 'own', 'iam:create', { kind: 'policy', name: input.name })
  const { name, labels } = input
  const made = draft.create(policy, {
    tenant: ownTenant(caller),
    name,
    ...(labels ? { labels } : {}),
    spec: policySpec(input, []),
  })
  bounded(context, 'policies', POLICIES_MAX, made.id)
  return await Promise.resolve(made)
}

async function ownPolicy(context: VerbContext, id: string, action: string): Promise<Policy> {
  const { draft, caller } = context
  authoriseFirst(caller, 'own', action)
  const it = await draft.get(policy, ownTenant(caller), id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Policy not found')
  authorise(caller, 'own', action, it)
  return it
}

/** Another text for a policy; it stays attached where it is. */
export async function updatePolicy(context: VerbContext, id: string, input: NewPolicy): Promise<Policy> {
  const it = await ownPolicy(context, id, 'iam:update')
  return context.draft.edit(policy, it, { name: input.name, spec: policySpec(input, it.spec.attachedTo) })
}

/** Its attachments go with it. */
export async function deletePolicy(context: VerbContext, id: string): Promise<Policy> {
  const it = await ownPolicy(context, id, 'iam:delete')
  context.draft.mark(it)
  return it
}

/** What a policy can hold for. */
export type Principal = { readonly kind: (typeof PRINCIPALS)[number]; readonly id: string }
const PRINCIPALS = ['user', 'service-account', 'role'] as const

/** Whether it is there in a tenant. */
async function isThere(draft: Draft, tenant: string, { kind, id }: Principal): Promise<boolean> {
  if (kind === 'user') {
    const of = await draft.get(user, PLATFORM, id)
    return of !== undefined && (await roleIn(draft, of, tenant)) !== undefined
  }
  if (kind === 'role') {
    if (Object.values(BUILT_IN).some((one) => one.id === id)) return true
    return ((await draft.get(role, tenant, id)) ?? (await draft.get(role, PLATFORM, id))) !== undefined
  }
  const account = await draft.get(serviceAccount, tenant, id)
  return account !== undefined && account.deletedAt === undefined
}

/** Refuses what is not there in the caller's tenant: `not_found`. */
async function needPrincipal({ draft, caller }: VerbContext, it: Principal): Promise<void> {
  if (!(await isThere(draft, ownTenant(caller), it)))
    throw new CloudError('not_found', `No ${it.kind.replace('-', ' ')} ${it.id} in this tenant`)
}

/** What attaching and detaching take, of a whole list in the place of the one before. */
export async function checkAttached(
  { draft, caller }: VerbContext,
  it: Policy,
  wanted: readonly string[],
): Promise<void> {
  const had = new Set(it.spec.attachedTo)
  const added = wanted.filter((id) => !had.has(id))
  if (added.length) authorise(caller, 'own', 'iam:attach', it)
  if (it.spec.attachedTo.some((id) => !wanted.includes(id))) authorise(caller, 'own', 'iam:detach', it)
  for (const id of added) {
    const found = await Promise.all(
      PRINCIPALS.map(async (kind) => await isThere(draft, it.tenant, { kind, id })),
    )
    if (!found.includes(true))
      throw new CloudError('invalid', `no user, service account or role ${id} in this tenant`, {
        field: 'spec.attachedTo',
      })
  }
}

/** A repeat is fine. */
export async function attachPolicy(context: VerbContext, id: string, to: Principal): Promise<Policy> {
  const it = await ownPolicy(context, id, 'iam:attach')
  await needPrincipal(context, to)
  const attachedTo = [...new Set([...it.spec.attachedTo, to.id])]
  return context.draft.edit(policy, it, { spec: { ...it.spec, attachedTo } })
}

/** `not_found` where it is not attached. */
export async function detachPolicy(context: VerbContext, id: string, from: Principal): Promise<Policy> {
  const it = await ownPolicy(context, id, 'iam:detach')
  const attachedTo = it.spec.attachedTo.filter((one) => one !== from.id)
  if (attachedTo.length === it.spec.attachedTo.length)
    throw new CloudError('not_found', 'The policy is not attached to it')
  return context.draft.edit(policy, it, { spec: { ...it.spec, attachedTo } })
}

async function detachAll({ draft, caller }: VerbContext, principal: string): Promise<void> {
  const query = { tenant: caller.tenant, terms: [`attached:${principal}`], deleted: false as const }
  for (const it of await draft.list(policy, query)) {
    const attachedTo = it.spec.attachedTo.filter((one) => one !== principal)
    draft.edit(policy, it, { spec: { ...it.spec, attachedTo } })
  }
}

export type NewServiceAccount = {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly role: string
  readonly description?: string
}

type MadeAccount = { readonly account: ServiceAccount; readonly secret: string }

const secretEntry = (draft: Draft, secret: string) => ({
  id: draft.id(),
  name: 'default',
  hash: hashToken(secret),
  createdAt: draft.now,
})

/** A program's account with its first secret, which is returned once. */
export async function createServiceAccount(
  context: VerbContext,
  { name, labels, role: asked, description }: NewServiceAccount,
): Promise<MadeAccount> {
  const { draft, caller } = context
  authorise(caller, 'own', 'service_account:create', { kind: 'service-account', name })
  const tenant = ownTenant(caller)
  const secret = newServiceSecret()
  const account = draft.create(serviceAccount, {
    tenant,
    name,
    ...(labels ? { labels } : {}),
    spec: {
      role: await needGrantable(context, asked),
      ...(description === undefined ? {} : { description }),
      enabled: true,
      secrets: [secretEntry(draft, secret)],
      signingKey: randomBytes(SIGNING_KEY_BYTES).toString('base64url'),
    },
  })
  bounded(context, 'service-accounts', ACCOUNTS_MAX, account.id)
  return { account, secret }
}

async function ownAccount(context: VerbContext, id: string, action: string): Promise<ServiceAccount> {
  const { draft, caller } = context
  authoriseFirst(caller, 'own', action)
  const it = await draft.get(serviceAccount, ownTenant(caller), id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Service account not found')
  authorise(caller, 'own', action, it)
  return it
}

/** Its name, role, description, and whether it opens anything. */
export async function updateServiceAccount(
  context: VerbContext,
  id: string,
  change: Partial<NewServiceAccount> & { readonly enabled?: boolean },
): Promise<ServiceAccount> {
  const it = await ownAccount(context, id, 'service_account:update')
  const { name = it.name, labels = it.labels, role: asked, description, enabled = it.spec.enabled } = change
  return context.draft.edit(serviceAccount, it, {
    name,
    labels,
    spec: {
      ...it.spec,
      enabled,
      ...(asked === undefined ? {} : { role: await needGrantable(context, asked) }),
      ...(description === undefined ? {} : { description }),
    },
  })
}

/** Its secrets and tokens open nothing from then on. */
export async function deleteServiceAccount(context: VerbContext, id: string): Promise<ServiceAccount> {
  const it = await ownAccount(context, id, 'service_account:delete')
  await detachAll(context, it.id)
  context.draft.mark(it)
  return it
}

/** One secret in the place of all. */
export async function rotateSecret(context: VerbContext, id: string): Promise<MadeAccount> {
  const it = await ownAccount(context, id, 'service_account:update')
  const { draft } = context
  const secret = newServiceSecret()
  const secrets = [secretEntry(draft, secret)]
  return { account: draft.edit(serviceAccount, it, { spec: { ...it.spec, secrets } }), secret }
}

/** One secret less; without any, tokens that were given out open nothing. */
export async function revokeSecret(
  context: VerbContext,
  id: string,
  secretId: string,
): Promise<ServiceAccount> {
  const it = await ownAccount(context, id, 'service_account:update')
  const secrets = it.spec.secrets.filter((one) => one.id !== secretId)
  if (secrets.length === it.spec.secrets.length) throw new CloudError('not_found', 'Secret not found')
  return context.draft.edit(serviceAccount, it, { spec: { ...it.spec, secrets } })
}
