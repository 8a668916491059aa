import { CloudError, isCloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import type { Engine } from '#engine/engine.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Origin } from '#cloud/access.ts'
import type { Settings } from '#cloud/context.ts'
import { createAttempts } from './attempts.ts'
import { foundTenant, issueKey } from './account.verbs.ts'
import { credentialsOf, dropOldLogins, homeOf } from './identity.verbs.ts'
import { post } from './mail.verbs.ts'
import { hashPassword, hashToken, newResetToken, verifyPassword } from './secrets.ts'
import type { Tenant } from './tenant.kind.ts'
import { user, type User } from './user.kind.ts'

/** Wrong passwords of one account until it is locked for a quarter of an hour. */
const FAILURES_MAX = 5
/** How long a password can be reset with what was sent. */
export const RESET_MS = 3_600_000
const RESET_POOL = 'password-reset'
const LOGIN_NAME = 'Default Key'
const SLUG_LENGTH_MAX = 100

/** What people do with their own account, before they are callers. */
export type Accounts = {
  /** A user with a tenant of its own; `already_exists` for an e-mail in use. */
  register(
    input: { readonly email: string; readonly password: string; readonly name: string },
    origin: Origin,
  ): Promise<{ readonly user: User; readonly tenant: Tenant }>
  /** One more key for who knows the password; `unauthenticated` alike for a wrong one and for an account that is locked. */
  login(
    input: { readonly email: string; readonly password: string },
    origin: Origin,
  ): Promise<{ readonly user: User; readonly tenant: string; readonly key: string }>
  /** Puts a token into the outbox; only notes it, in a commit too, for an e-mail that nobody has. */
  forgot(email: string, origin: Origin): Promise<void>
  /** A new password for who shows a token; all keys of logins end. `invalid` for a token that is wrong, used or too old. */
  reset(input: { readonly token: string; readonly password: string }, origin: Origin): Promise<void>
}

const noteOf = (origin: Origin) => ({
  address: origin.address,
  dialect: origin.dialect,
  requestId: origin.requestId,
})

export function createAccounts(engine: Engine, settings: Settings): Accounts {
  const attempts = createAttempts(() => engine.clock.now(), { lockAfter: FAILURES_MAX })
  const named = async (email: string): Promise<User | undefined> => {
    const claim = await engine.store.claim('user-name', email.toLowerCase())
    const it = claim && (await engine.get(user, PLATFORM, claim.owner))
    return it?.deletedAt === undefined ? it : undefined
  }
  return {
    async register({ email, password, name }, origin) {
      if (!settings.registration)
        throw new CloudError('forbidden', 'Registration is closed here; ask the administrator for an account')
      if (await named(email)) throw inUse()
      const passwordHash = await hashPassword(password)
      const made = await engine.transact(async (draft) => {
        if (await draft.claimed('user-name', email.toLowerCase())) throw inUse()
        const of = draft.create(user, {
          tenant: PLATFORM,
          name: email.toLowerCase(),
          spec: { passwordHash, admin: false, memberships: [], fullName: name },
        })
        const tenant = foundTenant(draft, of, {
          title: `${name}'s Personal Tenant`,
          slug: await freeSlug(draft, name, of.id),
          quotas: settings.ownQuotas,
        })
        const it = draft.edit(user, of, { spec: { ...of.spec, defaultTenant: tenant.id } })
        draft.record({
          stream: 'audit',
          tenant: tenant.id,
          subject: of.id,
          what: 'user.register',
          body: { subject: of.id, ...noteOf(origin) },
        })
        return { user: it, tenant }
      })
      return { ...made, user: engine.redact(made.user) }
    },
    async login({ email, password }, origin) {
      const name = email.toLowerCase()
      const looked = attempts.guess(name, origin.address, async () => {
        const found = await named(email)
        return (await verifyPassword(password, found && engine.open(found, 'passwordHash')))
          ? found
          : undefined
      })
      // Locked or wrong is all the same to who guesses.
      const it = await looked.catch((error: unknown) => {
        if (!isCloudError(error, 'rate_limited')) throw error
      })
      if (!it) throw new CloudError('unauthenticated', 'Wrong e-mail or password')
      const made = await engine.transact(async (draft) => {
        await dropOldLogins(draft, it)
        const current = it.spec.admin ? PLATFORM : await homeOf(draft, it)
        const { token } = issueKey(draft, it, { name: LOGIN_NAME, current, login: true })
        draft.record({
          stream: 'audit',
          tenant: current,
          subject: it.id,
          what: 'user.login',
          body: { subject: it.id, ...noteOf(origin) },
        })
        return { tenant: current, key: token }
      })
      return { user: engine.redact(it), ...made }
    },
    async forgot(email, origin) {
      const it = await named(email)
      const token = newResetToken()
      await engine.transact(async (draft) => {
        draft.record({
          stream: 'audit',
          tenant: PLATFORM,
          ...(it ? { subject: it.id } : {}),
          what: 'user.forgot_password',
          body: noteOf(origin),
        })
        if (!it) return
        const until = draft.now + RESET_MS
        const posted = await post(draft, {
          name: 'password-reset',
          person: it.id,
          to: it.name,
          subject: 'Reset your password',
          text: `Your password can be set anew within an hour with this token:\n\n${token}\n`,
          until,
        })
        if (posted)
          draft.claim({ pool: RESET_POOL, value: hashToken(token), ends: 'deletion' }, it.id, {
            expiresAt: until,
          })
      })
    },
    async reset({ token, password }, origin) {
      const wrong = new CloudError('invalid', 'wrong, used or too old; ask for another one', {
        field: 'token',
      })
      const hash = hashToken(token)
      if (!(await engine.store.claim(RESET_POOL, hash))) throw wrong
      const passwordHash = await hashPassword(password)
      await engine.transact(async (draft) => {
        const claim = await draft.claimed(RESET_POOL, hash)
        if (!claim || (claim.expiresAt ?? 0) <= draft.now) throw wrong
        const it = await draft.get(user, PLATFORM, claim.owner)
        if (!it || it.deletedAt !== undefined) throw wrong
        // Of two at once one finds it moved.
        await draft.guard(`${RESET_POOL}:${it.id}`, it.id)
        // Whatever else was sent to set the password that is gone now sets no other.
        for (const one of await draft.claims(RESET_POOL))
          if (one.owner === it.id) draft.release(RESET_POOL, one.value, it.id)
        draft.edit(user, it, { spec: { ...it.spec, passwordHash } })
        for (const key of await credentialsOf(draft, it.id)) if (key.spec.login === true) draft.mark(key)
        draft.record({
          stream: 'audit',
          tenant: PLATFORM,
          subject: it.id,
          what: 'user.reset_password',
          body: noteOf(origin),
        })
      })
    },
  }
}

const inUse = (): CloudError => new CloudError('already_exists', 'User with this e-mail already exists')

/** `personal-<slug of the name>-<part of the id>`: ids of the same moment begin alike, so then with their end. */
async function freeSlug(draft: Draft, name: string, id: string): Promise<string> {
  const slug = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
  const of = (part: string): string => `personal-${slug}`.slice(0, SLUG_LENGTH_MAX - 9) + `-${part}`
  const first = of(id.slice(0, 8))
  return (await draft.claimed('tenant-name', first)) ? of(id.slice(-8)) : first
}
