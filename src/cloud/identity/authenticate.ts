import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { nameOfPool } from '#engine/store.ts'
import type { Access, Caller, Origin } from '#cloud/access.ts'
import { PASSWORD_LENGTH_MAX } from '#cloud/given.ts'
import { createAttempts } from './attempts.ts'
import { credential, type Credential } from './credential.kind.ts'
import { issueForUser } from './identity.verbs.ts'
import { membership } from './membership.kind.ts'
import { type Reads, rightsIn, roleIn, tenantsOf } from './membership.ts'
import { policy } from './policy.kind.ts'
import { role } from './role.kind.ts'
import { hashToken, verifyPassword } from './secrets.ts'
import { serviceAccount, type ServiceAccount } from './service-account.kind.ts'
import { tenant } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

const TOKEN_LENGTH_MAX = 2048
/** How long a service account's token opens anything. */
export const TOKEN_SECONDS = 3600
const ISSUER = 'thecloud'

/** `admin`: only an administrator's name and password are right. */
export type Login = { readonly username: string; readonly password: string; readonly admin?: boolean }

export type Authenticator = {
  /** Undefined for an unknown, revoked or expired token and for a tenant that is going. */
  authenticate(token: string, origin: Origin): Promise<Caller | undefined>
  /** The same caller in another of its tenants; undefined where it belongs to none of that id. */
  inTenant(caller: Caller, tenant: string): Promise<Caller | undefined>
  /** `unauthenticated` for a wrong name or password alike; `rate_limited` after too many. */
  login(input: Login, origin: Origin): Promise<{ user: User; token: string }>
  /** A token of an hour for a service account that shows one of its secrets; `unauthenticated` otherwise. */
  grant(
    id: string,
    secret: string,
  ): Promise<{ readonly token: string; readonly seconds: number; readonly secretId: string }>
}

type Known = Omit<Caller, 'origin' | 'access' | 'expiresAt'> & { readonly access?: Omit<Access, 'at'> }
/** Whom a token stands for, whatever the time is. */
type Holder = { readonly caller: Known; readonly expiresAt: number | undefined }

/** Whether a credential opens nothing any more. */
export const hasExpired = (
  { expiresAt }: { readonly expiresAt?: number | undefined },
  now: number,
): boolean => expiresAt !== undefined && expiresAt <= now

/** The reads of an engine as rights need them. */
export const readsOf = (engine: Engine): Reads => ({
  get: async (kind, of, id) => await engine.get(kind, of, id),
  list: async (kind, query) => (await engine.list(kind, query)).items,
  claimed: async (pool, value) => await engine.store.claim(pool, value),
})

/** Kinds and pools (some are called after their kind) of which it is made who a caller is and what it may: known until one of them changes. */
const KNOWN_BY: readonly string[] = [
  ...[credential, user, tenant, membership, role, policy, serviceAccount].map((it) => it.name),
  'role-name',
]

/** The reads of an engine, of nothing else than `KNOWN_BY`. */
function knownReads(engine: Engine): Reads {
  const reads = readsOf(engine)
  const must = (name: string): void => {
    if (!KNOWN_BY.includes(name))
      throw new Error(`a change of ${name} would not change what is known of callers`)
  }
  return {
    get: async (kind, of, id) => {
      must(kind.name)
      return await reads.get(kind, of, id)
    },
    list: async (kind, query) => {
      must(kind.name)
      return await reads.list(kind, query)
    },
    claimed: async (pool, value) => {
      must(nameOfPool(pool))
      return await reads.claimed(pool, value)
    },
  }
}

export function createAuthenticator(engine: Engine): Authenticator {
  const attempts = createAttempts(() => engine.clock.now())
  const reads = knownReads(engine)
  const recall = engine.store.recall<Holder>(KNOWN_BY)
  const recallTenant = engine.store.recall<Known>(KNOWN_BY)

  const userNamed = async (name: string): Promise<User | undefined> => {
    const claim = await engine.store.claim('user-name', name)
    return claim && (await engine.get(user, PLATFORM, claim.owner))
  }
  /** Whether a tenant is there, and suspended. */
  const tenantState = async (id: string): Promise<{ suspended?: boolean } | undefined> => {
    if (id === PLATFORM) return {}
    const it = await reads.get(tenant, PLATFORM, id)
    if (!it || it.deletedAt !== undefined) return undefined
    return it.spec.suspended ? { suspended: true } : {}
  }
  /** A user in a tenant, undefined where the user is no member or the tenant is going. */
  const userIn = async (it: User, tenantId: string, credentialId: string): Promise<Known | undefined> => {
    const [state, own] = await Promise.all([tenantState(tenantId), roleIn(reads, it, tenantId)])
    if (!state || own === undefined) return undefined
    const roles = it.spec.role === undefined ? [own] : [own, it.spec.role]
    const rights = await rightsIn(reads, tenantId, { id: it.id, roles })
    return {
      scope: 'tenant',
      subject: it.id,
      tenant: tenantId,
      credential: credentialId,
      ...state,
      ...rights,
    }
  }
  /** A user's own key acts in the tenant that was last switched to; when that is gone, in the first that is left. */
  const userHolder = async (of: User, it: Credential): Promise<Known | undefined> => {
    const current = it.tenant === PLATFORM ? it.spec.current : it.tenant
    const there = current === undefined ? undefined : await userIn(of, current, it.id)
    if (there || it.tenant !== PLATFORM) return there
    const [first] = await tenantsOf(reads, of)
    return first === undefined ? undefined : await userIn(of, first, it.id)
  }
  const holderOf = async (hash: string): Promise<Holder | undefined> => {
    const claim = await reads.claimed('credential', hash)
    const it = claim && (await reads.get(credential, ALL, claim.owner))
    if (!it || it.deletedAt !== undefined) return undefined
    const { scope, subject, role, expiresAt } = it.spec
    const of = scope === 'tenant' && subject !== it.tenant && (await reads.get(user, PLATFORM, subject))
    if (of) {
      const caller = of.deletedAt === undefined ? await userHolder(of, it) : undefined
      return caller && { caller, expiresAt }
    }
    const state = await tenantState(it.tenant)
    if (!state) return undefined
    return { caller: { scope, subject, tenant: it.tenant, role, ...state, credential: it.id }, expiresAt }
  }
  /** Whom a service account's token stands for, while the account is enabled and has a secret that is good. */
  const accountHolder = async (token: string): Promise<Holder | undefined> => {
    // Loaded when first needed: few programs come with such a token, and a start need not wait for it.
    const { decodeJwt, jwtVerify } = await import('jose')
    const it = await accountOf(claimedId(token, decodeJwt))
    if (!it || !hasSecret(it, engine.clock.now())) return undefined
    const now = new Date(engine.clock.now())
    const options = { algorithms: ['HS256'], issuer: ISSUER, currentDate: now }
    const payload = await jwtVerify(token, keyOf(engine, it), options).then(
      (verified) => verified.payload,
      () => undefined,
    )
    const state = payload && (await tenantState(it.tenant))
    if (!state || payload.exp === undefined) return undefined
    const rights = await rightsIn(reads, it.tenant, { id: it.id, roles: [it.spec.role] })
    const until = Math.min(payload.exp * 1000, lastSecretOf(it))
    return {
      caller: {
        scope: 'tenant',
        subject: it.id,
        tenant: it.tenant,
        credential: it.id,
        ...state,
        ...rights,
      },
      expiresAt: until,
    }
  }
  const accountOf = async (id: unknown): Promise<ServiceAccount | undefined> => {
    if (typeof id !== 'string' || !isUuid(id)) return undefined
    const it = await reads.get(serviceAccount, ALL, id.toLowerCase())
    return it && it.deletedAt === undefined && it.spec.enabled ? it : undefined
  }
  const withOrigin = ({ access, ...it }: Known, origin: Origin, expiresAt: number | undefined): Caller => ({
    ...it,
    ...(access ? { access: { ...access, at: engine.clock.now() } } : {}),
    ...(expiresAt === undefined ? {} : { expiresAt }),
    origin,
  })
  return {
    async authenticate(token, origin) {
      if (token === '' || token.length > TOKEN_LENGTH_MAX) return undefined
      const hash = hashToken(token)
      const it = await recall(hash, () => (isJwt(token) ? accountHolder(token) : holderOf(hash)))
      if (!it || hasExpired(it, engine.clock.now())) return undefined
      return withOrigin(it.caller, origin, it.expiresAt)
    },
    async inTenant(caller, id) {
      if (caller.tenant === id) return caller
      const found = await recallTenant(`${caller.credential} ${id}`, async () => {
        const of = await reads.get(user, PLATFORM, caller.subject)
        return of && of.deletedAt === undefined ? await userIn(of, id, caller.credential) : undefined
      })
      return found && withOrigin(found, caller.origin, caller.expiresAt)
    },
    async login({ username, password, admin = false }, origin) {
      const it = await attempts.guess(username, origin.address, async () => {
        const named = await userNamed(username)
        const hash = named && named.deletedAt === undefined ? engine.open(named, 'passwordHash') : undefined
        const right = await verifyPassword(password.slice(0, PASSWORD_LENGTH_MAX), hash)
        return right && (!admin || named?.spec.admin === true) ? named : undefined
      })
      if (!it) throw new CloudError('unauthenticated', 'Wrong user name or password')
      const token = await engine.transact(async (draft) => {
        draft.record({
          stream: 'audit',
          tenant: PLATFORM,
          subject: it.id,
          what: 'login',
          body: { username, address: origin.address, dialect: origin.dialect, requestId: origin.requestId },
        })
        return await issueForUser(draft, it)
      })
      return { user: engine.redact(it), token }
    },
    async grant(id, secret) {
      const it = await accountOf(id)
      const now = engine.clock.now()
      const hash = hashToken(secret)
      const used = it?.spec.secrets.find((one) => one.hash === hash && isGood(one, now))
      if (!it || !used) throw new CloudError('unauthenticated', 'Unknown client or wrong secret')
      const { SignJWT } = await import('jose')
      const seconds = Math.floor(now / 1000)
      const token = await new SignJWT({ sa_id: it.id, tenant_id: it.tenant, role: it.spec.role })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuer(ISSUER)
        .setIssuedAt(seconds)
        .setExpirationTime(seconds + TOKEN_SECONDS)
        .sign(keyOf(engine, it))
      return { token, seconds: TOKEN_SECONDS, secretId: used.id }
    },
  }
}

type Secret = ServiceAccount['spec']['secrets'][number]
const isGood = (it: Secret, now: number): boolean => it.expiresAt === undefined || it.expiresAt > now
const hasSecret = (it: ServiceAccount, now: number): boolean =>
  it.spec.secrets.some((one) => isGood(one, now))
/** When the last of the secrets ends. */
const lastSecretOf = (it: ServiceAccount): number =>
  Math.max(...it.spec.secrets.map((one) => one.expiresAt ?? Number.MAX_SAFE_INTEGER))

const isJwt = (token: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)

/** The account that a token says it is of; nothing is proved by it yet. */
function claimedId(token: string, decode: (token: string) => Record<string, unknown>): unknown {
  try {
    return decode(token)['sa_id']
  } catch {
    return undefined
  }
}

const keyOf = (engine: Engine, it: ServiceAccount): Uint8Array => {
  const key = engine.open(it, 'signingKey')
  if (key === undefined) throw new Error(`service account ${it.id} has no signing key`)
  return Buffer.from(key, 'base64url')
}
