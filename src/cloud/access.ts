import { CloudError } from '#lib/errors.ts'
import { ALL, type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import { actionOf, actionsOf, namesOf, type Target } from '#cloud/identity/actions.ts'
import { type Attached, evaluate, matchesAny } from '#cloud/identity/evaluate.ts'
import type { Role } from '#cloud/identity/user.kind.ts'

export { actionOf, arnOf, type Target } from '#cloud/identity/actions.ts'

/** Who asks, for what tenant, by what. Every verb gets one; audit entries and policy conditions read it. */
export type Caller = {
  readonly scope: 'admin' | 'tenant' | 'workload'
  /** Id of the user, service account, tenant or workload. */
  readonly subject: string
  /** The tenant acted in; PLATFORM for an administrator's caller that named none. */
  readonly tenant: string
  readonly role: Role
  /** Its tenant is suspended: it may look, and change nothing. */
  readonly suspended?: boolean
  /** Present when policies are attached to it or its role is a list of permissions: the role alone does not say what it may. */
  readonly access?: Access
  readonly credential: string
  /** From when on its credential opens nothing; absent: never. */
  readonly expiresAt?: number
  readonly origin: Origin
}

/** What a caller may beyond or against its role. */
export type Access = {
  /** In the place of the role's rights; absent: those. */
  readonly permissions?: readonly string[]
  readonly statements: readonly Attached[]
  /** The moment of the request, for conditions. */
  readonly at: number
}

/** Where a request came from. */
export type Origin = {
  readonly dialect: string
  /** The client's address; forwarded headers are believed only from trusted proxies. */
  readonly address: string
  readonly requestId: string
  /** What the client says it is. */
  readonly userAgent?: string
}

/**
 * `self` concerns the caller alone (its own keys), `read` sees, `write` changes what a tenant has, `own` says who may act
 * in it, `operate` changes the installation itself.
 */
export type Right = 'self' | 'read' | 'write' | 'own' | 'operate'

/** Whether something may be done, and because of what. */
export type Decision = {
  readonly allowed: boolean
  readonly because: 'administrator' | 'scope' | 'suspended' | 'policy' | 'permissions' | 'role'
  /** The statement that decided, with its policy. */
  readonly statement?: Attached
  /** What a refused caller is told. */
  readonly message: string
}

const refused = (because: Decision['because'], message: string): Decision => ({
  allowed: false,
  because,
  message,
})
const allowed = (because: Decision['because']): Decision => ({ allowed: true, because, message: '' })

/** What the caller's role alone says. */
function byRole(role: Role, right: Right): Decision {
  if (right === 'own' && role !== 'owner') return refused('role', 'Only an owner of the tenant may do this')
  if (right === 'write' && role === 'viewer')
    return refused('role', 'Your role may look but not change anything')
  return allowed('role')
}

function byPermissions(permissions: readonly string[], right: Right, action: string): Decision {
  // What is about the caller alone needs no permission; who may act in the tenant is for those who may everything.
  const needed = right === 'own' && !action.startsWith('tenant:') ? ['*'] : actionsOf(action)
  if (right === 'self' || matchesAny(permissions, needed)) return allowed('permissions')
  return refused('permissions', `Your role does not have the permission ${needed[0]}`)
}

function byPolicies(caller: Caller, access: Access, action: string, target: Target | undefined) {
  if (!access.statements.length) return undefined
  // Most statements are about other actions, and few have conditions.
  return evaluate(access.statements, {
    actions: actionsOf(action),
    get resources() {
      return namesOf(action, caller.tenant, target)
    },
    get context() {
      return {
        'aws:SourceIp': caller.origin.address,
        'aws:UserId': caller.subject,
        [NOW]: new Date(access.at).toISOString(),
        'thecloud:TenantId': caller.tenant,
      }
    },
  })
}

/**
 * May this caller do this action (`resource:verb`) on this resource, and because of what: an administrator always; else no
 * policy lifts what is the installation's or a suspension; then a Deny of any policy, then an Allow, then the role.
 */
export function decide(caller: Caller, right: Right, action: string, target?: Target): Decision {
  if (caller.scope === 'workload') return refused('scope', "A workload's credential opens only its own API")
  if (caller.scope === 'admin') return allowed('administrator')
  if (right === 'operate') return refused('scope', 'Only an administrator may do this')
  if ((right === 'write' || right === 'own') && caller.suspended === true)
    return refused(
      'suspended',
      'This tenant is suspended: what it has runs on and can be seen, nothing can be changed; ask the administrator',
    )
  const { access } = caller
  if (!access) return byRole(caller.role, right)
  const statement = byPolicies(caller, access, action, target)
  if (statement)
    return {
      allowed: statement.effect === 'Allow',
      because: 'policy',
      statement,
      message: `The policy ${statement.policy.name} denies ${action}`,
    }
  return access.permissions ? byPermissions(access.permissions, right, action) : byRole(caller.role, right)
}

const NOW = 'aws:CurrentTime'

/** Whether a policy of the caller asks for the time: what it may then changes without any record changing. */
export const mayByTime = ({ access }: Caller): boolean =>
  access?.statements.some(({ condition = {} }) =>
    Object.values(condition).some((keys) => Object.hasOwn(keys, NOW)),
  ) ?? false

/**
 * Throws `forbidden` when `decide` says no. Every verb and read of the cloud asks it, before it looks at anything for an
 * action on nothing in particular, and once a resource is found for one on that. Which resources a caller reaches at all
 * is decided by `tenantFor`.
 */
export function authorise(caller: Caller, right: Right, action: string, target?: Target): void {
  const { allowed: may, because, message } = decide(caller, right, action, target)
  if (!may) throw new CloudError('forbidden', message, because === 'suspended' ? { rule: 'suspended' } : {})
}

/** What `authorise` says before the resource is found: a caller with policies is asked about once it is. */
export function authoriseFirst(caller: Caller, right: Right, action: string): void {
  if (!caller.access || caller.suspended === true || right === 'operate') authorise(caller, right, action)
}

/** The tenant a caller's reads of a kind are bound to: its own, the installation for its own kinds, or all for an administrator that named none. */
export function tenantFor(caller: Caller, kind: AnyKind): string {
  if (caller.scope !== 'admin') return caller.tenant
  if (kind.scope === 'platform') return PLATFORM
  return caller.tenant === PLATFORM ? ALL : caller.tenant
}

/** Whom a resource names as its maker. */
export const creatorOf = ({ subject }: Caller): { readonly creator: string } => ({ creator: subject })

/** The tenant that what a caller makes belongs to; refused when an administrator named none. */
export function ownTenant(caller: Caller): string {
  if (caller.tenant === PLATFORM)
    throw new CloudError('invalid', 'Name the tenant to act in: this belongs to a tenant', {
      field: 'tenant',
    })
  return caller.tenant
}

/** Whether a policy may hide some of a list from the caller. */
export const hides = (caller: Caller): boolean => Boolean(caller.access?.statements.length)

/** Those of a list that no policy hides from the caller. */
export const visible = <R extends Resource>(caller: Caller, items: readonly R[]): readonly R[] =>
  hides(caller) ? items.filter((it) => decide(caller, 'read', actionOf(it.kind, 'read'), it).allowed) : items
