import { CloudError } from '#lib/errors.ts'
import { ALL, type AnyKind, PLATFORM } from '#engine/resource.ts'
import type { Role } from '#cloud/identity/user.kind.ts'

/** Who asks, for what tenant, by what. Every verb gets one; audit entries and policy conditions read it. */
export type Caller = {
  readonly scope: 'admin' | 'tenant' | 'workload'
  /** Id of the user, tenant or workload. */
  readonly subject: string
  /** The tenant acted in; PLATFORM for an administrator's caller that named none. */
  readonly tenant: string
  readonly role: Role
  /** Its tenant is suspended: it may look, and change nothing. */
  readonly suspended?: boolean
  readonly credential: string
  readonly origin: Origin
}

/** Where a request came from. */
export type Origin = {
  readonly dialect: string
  /** The client's address; forwarded headers are believed only from trusted proxies. */
  readonly address: string
  readonly requestId: string
}

/** `read` sees, `write` changes what a tenant has, `own` says who may act in it, `operate` changes the installation itself. */
export type Right = 'read' | 'write' | 'own' | 'operate'

/** May this caller do this? Throws `forbidden` when not. Which resources it reaches is decided by `tenantFor`. */
export function authorise(caller: Caller, right: Right): void {
  if (caller.scope === 'workload')
    throw new CloudError('forbidden', "A workload's credential opens only its own API")
  if (caller.scope === 'admin') return
  if (right === 'operate') throw new CloudError('forbidden', 'Only an administrator may do this')
  if (right !== 'read' && caller.suspended === true)
    throw new CloudError(
      'forbidden',
      'This tenant is suspended: what it has runs on and can be seen, nothing can be changed; ask the administrator',
      { rule: 'suspended' },
    )
  if (right === 'own' && caller.role !== 'owner')
    throw new CloudError('forbidden', 'Only an owner of the tenant may do this')
  if (right === 'write' && caller.role === 'viewer')
    throw new CloudError('forbidden', 'Your role may look but not change anything')
}

/** The tenant a caller's reads of a kind are bound to: its own, the installation for its own kinds, or all for an administrator that named none. */
export function tenantFor(caller: Caller, kind: AnyKind): string {
  if (caller.scope !== 'admin') return caller.tenant
  if (kind.scope === 'platform') return PLATFORM
  return caller.tenant === PLATFORM ? ALL : caller.tenant
}

/** The tenant that what a caller makes belongs to; refused when an administrator named none. */
export function ownTenant(caller: Caller): string {
  if (caller.tenant === PLATFORM)
    throw new CloudError('invalid', 'Name the tenant to act in: this belongs to a tenant', {
      field: 'tenant',
    })
  return caller.tenant
}
