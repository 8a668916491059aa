import type { Role } from '#cloud/identity/user.kind.ts'

/** Who asks, for what tenant, by what. Every verb gets one; audit entries and policy conditions read it. */
export type Caller = {
  readonly scope: 'admin' | 'tenant' | 'workload'
  /** Id of the user, tenant or workload. */
  readonly subject: string
  /** The tenant acted in; PLATFORM for an administrator's caller that named none. */
  readonly tenant: string
  readonly role: Role
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
