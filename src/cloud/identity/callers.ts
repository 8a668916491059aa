import { CloudError } from '#lib/errors.ts'
import type { Bulk } from '#engine/bulk.ts'
import type { Engine } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { authorise, type Caller, type Decision, mayByTime, type Origin } from '#cloud/access.ts'
import type { Settings } from '#cloud/context.ts'
import { type Accounts, createAccounts } from './accounts.ts'
import { createAuthenticator, hasExpired, type Login, readsOf } from './authenticate.ts'
import { credential, type Credential } from './credential.kind.ts'
import { tenantsOf } from './membership.ts'
import { message } from './message.kind.ts'
import { simulate, type Simulation } from './simulate.ts'
import { tenant, type Tenant } from './tenant.kind.ts'
import { createUses } from './uses.ts'
import { user, type User } from './user.kind.ts'
import { type Identity, type Member, membersOf, namesOf, whoIs } from './whois.ts'

/** Who asks, and what those who ask are. */
export type Callers = {
  /** Undefined for an unknown, revoked or expired token. */
  authenticate(token: string, origin: Origin): Promise<Caller | undefined>
  /**
   * Whether a caller that came at this same `moment` would come as the same once more; that it does is noted as its use.
   * False also where it may not be told: its policies ask for the time.
   */
  again(caller: Caller): boolean
  /** Checks a password, limited per user name and address (`rate_limited`); gives a new token of that user. */
  login(input: Login, origin: Origin): Promise<{ user: User; token: string }>
  /** A token for a service account, see Authenticator. */
  grant(id: string, secret: string, origin: Origin): Promise<{ token: string; seconds: number }>
  /** Registration, password and keys of people, before they are callers. */
  readonly accounts: Accounts
  /** Who a caller is: its user, service account or tenant, with the role that it has where it acts. */
  whoIs(caller: Caller): Promise<Identity>
  /** The caller's own keys, oldest first, each with the moment it was last used (to the minute, kept 90 days). */
  ownKeys(caller: Caller): Promise<readonly { credential: Credential; lastUsed: number | undefined }[]>
  /** Members of the caller's tenant with the names of their roles; for its owners. Every user for an administrator that named none. */
  members(caller: Caller): Promise<readonly Member[]>
  /** When a credential or secret last opened something. */
  lastUsed(id: string): Promise<number | undefined>
  /** Tenants that the caller belongs to, oldest membership first; all of them for an administrator. */
  ownTenants(caller: Caller): Promise<readonly Tenant[]>
  /** The text of a message in the outbox; administrators only, since it may hold a token. */
  messageText(caller: Caller, id: string): Promise<string>
  /** May somebody do something, and because of what; nothing is done. */
  simulate(caller: Caller, asked: Simulation): Promise<Decision>
  /** The same caller acting in a tenant: an administrator's in any (`not_found` if it does not exist), others only in those they belong to. */
  inTenant(caller: Caller, tenant: string): Promise<Caller>
  /** Names of who acted, by id: those that are still known. */
  actors(caller: Caller, ids: Iterable<string>): Promise<ReadonlyMap<string, string>>
}

export function createCallers(engine: Engine, bulk: Bulk, settings: Settings): Callers {
  const authenticator = createAuthenticator(engine)
  const recallTenant = engine.store.recall<Tenant>([tenant.name])
  const uses = createUses(bulk, engine.clock)
  const everything = everythingOf(engine)
  return {
    async authenticate(token, origin) {
      const caller = await authenticator.authenticate(token, origin)
      if (caller) uses.note(caller)
      return caller
    },
    again(caller) {
      if (hasExpired(caller, engine.clock.now()) || mayByTime(caller)) return false
      uses.note(caller)
      return true
    },
    login: authenticator.login,
    async grant(id, secret, origin) {
      const { secretId, ...granted } = await authenticator.grant(id, secret)
      uses.note({ credential: secretId, origin })
      return granted
    },
    accounts: createAccounts(engine, settings),
    whoIs: async (caller) => await whoIs(engine, caller),
    async ownKeys(caller) {
      authorise(caller, 'self', 'identity:read', { kind: 'credential' })
      const keys = await everything(credential, ALL, {
        terms: [`subject:${caller.subject}`],
        deleted: false,
      })
      return await Promise.all(keys.map(async (it) => ({ credential: it, lastUsed: await uses.last(it.id) })))
    },
    async members(caller) {
      authorise(caller, 'own', 'rbac:read')
      return (await membersOf(engine, caller)).map((it) => ({ ...it, user: engine.redact(it.user) }))
    },
    lastUsed: uses.last,
    async ownTenants(caller) {
      authorise(caller, 'self', 'tenant:read', { kind: 'tenant' })
      if (caller.scope === 'admin') return await everything(tenant, PLATFORM, { deleted: false })
      const of = await engine.get(user, PLATFORM, caller.subject)
      const ids = of ? await tenantsOf(readsOf(engine), of) : [caller.tenant]
      const found = await Promise.all(ids.map(async (id) => await engine.get(tenant, PLATFORM, id)))
      return found.flatMap((it) => it ?? [])
    },
    simulate: async (caller, asked) => await simulate(engine, caller, asked),
    async messageText(caller, id) {
      authorise(caller, 'operate', 'message:read')
      const it = await engine.get(message, PLATFORM, id)
      if (!it) throw new CloudError('not_found', `No message ${id}`)
      await engine.transact(async (draft) => {
        const body = { subject: caller.subject, address: caller.origin.address }
        draft.record({ stream: 'audit', tenant: PLATFORM, subject: it.id, what: 'message.read', body })
        await Promise.resolve()
      })
      return engine.open(it, 'text') ?? ''
    },
    async inTenant(caller, id) {
      if (caller.scope !== 'admin') {
        const inside = await authenticator.inTenant(caller, id)
        if (!inside) throw new CloudError('not_found', 'Tenant not found', { rule: 'foreign_tenant' })
        return inside
      }
      const it = await recallTenant(id, () => engine.get(tenant, PLATFORM, id))
      if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Tenant not found')
      return { ...caller, tenant: id }
    },
    async actors(caller, ids) {
      authorise(caller, 'read', 'audit:read')
      return await namesOf(engine, ids)
    },
  }
}
