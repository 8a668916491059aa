import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import type { Caller, Origin } from '#cloud/access.ts'
import { createAttempts } from './attempts.ts'
import { credential } from './credential.kind.ts'
import { issueForUser } from './identity.verbs.ts'
import { hashToken, verifyPassword } from './secrets.ts'
import { tenant } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

const TOKEN_LENGTH_MAX = 512
const PASSWORD_LENGTH_MAX = 1024

/** `admin`: only an administrator's name and password are right. */
export type Login = { readonly username: string; readonly password: string; readonly admin?: boolean }

export type Authenticator = {
  /** Undefined for an unknown, revoked or expired token and for a tenant that is going. */
  authenticate(token: string, origin: Origin): Promise<Caller | undefined>
  /** `unauthenticated` for a wrong name or password alike; `rate_limited` after too many. */
  login(input: Login, origin: Origin): Promise<{ user: User; token: string }>
}

/** Whom a token stands for, whatever the time is. */
type Holder = { readonly caller: Omit<Caller, 'origin'>; readonly expiresAt: number | undefined }

export function createAuthenticator(engine: Engine): Authenticator {
  const attempts = createAttempts(() => engine.clock.now())
  const userNamed = async (name: string): Promise<User | undefined> => {
    const claim = await engine.store.claim('user-name', name)
    return claim && (await engine.get(user, PLATFORM, claim.owner))
  }
  const recall = engine.store.recall<Holder>()
  const holderOf = async (hash: string): Promise<Holder | undefined> => {
    const claim = await engine.store.claim('credential', hash)
    const it = claim && (await engine.get(credential, ALL, claim.owner))
    if (!it || it.deletedAt !== undefined) return undefined
    const { scope, subject, role, expiresAt } = it.spec
    let suspended = false
    if (it.tenant !== PLATFORM) {
      const of = await engine.get(tenant, PLATFORM, it.tenant)
      if (!of || of.deletedAt !== undefined) return undefined
      suspended = of.spec.suspended
    }
    return {
      caller: {
        scope,
        subject,
        tenant: it.tenant,
        role,
        ...(suspended ? { suspended } : {}),
        credential: it.id,
      },
      expiresAt,
    }
  }
  return {
    async authenticate(token, origin) {
      if (token === '' || token.length > TOKEN_LENGTH_MAX) return undefined
      const hash = hashToken(token)
      const it = await recall(hash, () => holderOf(hash))
      if (!it || (it.expiresAt !== undefined && it.expiresAt <= engine.clock.now())) return undefined
      return { ...it.caller, origin }
    },
    async login({ username, password, admin = false }, origin) {
      attempts.check(username, origin.address)
      const it = await userNamed(username)
      const hash = it && it.deletedAt === undefined ? engine.open(it, 'passwordHash') : undefined
      const right = await verifyPassword(password.slice(0, PASSWORD_LENGTH_MAX), hash)
      if (!it || !right || (admin && !it.spec.admin)) {
        attempts.failed(username, origin.address)
        throw new CloudError('unauthenticated', 'Wrong user name or password')
      }
      attempts.succeeded(username, origin.address)
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
  }
}
