import { isCloudError } from '#lib/errors.ts'
import type { GuardedClient } from '#lib/guarded.ts'
import type { Bulk, StoredBulkEntry } from '#engine/bulk.ts'
import type { Engine } from '#engine/engine.ts'
import { PLATFORM } from '#engine/resource.ts'
import { PASSWORD_LENGTH_MAX } from '#cloud/given.ts'
import { user, type User } from '#cloud/identity/user.kind.ts'
import type { Instance } from './inside.ts'
import { vpnUser } from './vpn-user.kind.ts'

const WEBHOOK_MS = 5000
const WEBHOOK_BYTES_MAX = 65_536
const NAME_LENGTH_MAX = 256
export const LOGINS = 'vpn-login'
const STATUS_OK = 200

export type VpnTools = {
  readonly engine: Engine
  readonly bulk: Bulk
  readonly ask: GuardedClient
  /** Takes as long for an undefined hash. */
  verifyPassword(password: string, hash: string | undefined): Promise<boolean>
  /** Whether a user belongs to a tenant. */
  isMember(of: User, tenant: string): Promise<boolean>
  readonly attempts: {
    /** Looks at guesses of one name one after the other; `rate_limited` when too many were wrong. */
    guess<R extends object>(
      username: string,
      address: string,
      look: () => Promise<R | undefined>,
    ): Promise<R | undefined>
  }
}

/** A try to log in to a VPC's VPN. */
export type VpnLogin = { readonly username: string; readonly success: boolean; readonly replica: string }

export const loginOf = ({ at, cursor, body }: StoredBulkEntry) => ({ ...(body as VpnLogin), at, cursor })

/** Checks names and passwords for the VPN of a VPC: its own users, then the platform's, then whoever it names. */
export function createVpn({ engine, bulk, ask, verifyPassword, isMember, attempts }: VpnTools) {
  const ownUser = async ({ vpc, tenant }: Instance, username: string) => {
    const claim = await engine.store.claim(`vpn-user-name:${vpc.id}`, username)
    const it = claim && (await engine.get(vpnUser, tenant.id, claim.owner))
    return it?.deletedAt === undefined ? it : undefined
  }
  /** Of the platform: an administrator, or a member of the tenant. */
  const hashOfUser = async ({ tenant }: Instance, username: string): Promise<string | undefined> => {
    const claim = await engine.store.claim('user-name', username)
    const it = claim && (await engine.get(user, PLATFORM, claim.owner))
    if (!it || it.deletedAt !== undefined) return undefined
    const may = it.spec.admin || (await isMember(it, tenant.id))
    return may ? engine.open(it, 'passwordHash') : undefined
  }
  /**
   * A password of the platform's is the same in every VPC: whoever has many of them guesses it no more often. Too many wrong
   * ones are no more than wrong.
   */
  const isUser = async (of: Instance, username: string, password: string): Promise<boolean> => {
    const hash = await hashOfUser(of, username)
    if (hash === undefined) return await verifyPassword(password, hash)
    const look = async () => ((await verifyPassword(password, hash)) ? { username } : undefined)
    const good = attempts.guess(`of the platform ${username}`, of.tenant.id, look)
    return await good.then(
      (it) => it !== undefined,
      (error: unknown) => {
        if (isCloudError(error, 'rate_limited')) return false
        throw error
      },
    )
  }
  const agrees = async (url: string, username: string, password: string): Promise<boolean> => {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ username, password })
    const how = {
      url,
      method: 'POST' as const,
      headers,
      body,
      timeoutMs: WEBHOOK_MS,
      bytesMax: WEBHOOK_BYTES_MAX,
    }
    return await ask(how).then(
      ({ status }) => status === STATUS_OK,
      () => false,
    )
  }
  const sawOwn = async (of: Instance, id: string): Promise<void> =>
    await engine.transact(async (draft) => {
      const it = await draft.get(vpnUser, of.tenant.id, id)
      if (it && it.deletedAt === undefined)
        draft.edit(vpnUser, it, { spec: { ...it.spec, lastLoginAt: draft.now } })
    })
  const isGood = async (of: Instance, username: string, password: string): Promise<boolean> => {
    const { vpn } = of.vpc.spec
    if (vpn?.enabled !== true) return false
    if (username === '' || username.length > NAME_LENGTH_MAX || password.length > PASSWORD_LENGTH_MAX)
      return false
    if (vpn.vpnUsers) {
      const it = await ownUser(of, username)
      if (await verifyPassword(password, it && engine.open(it, 'passwordHash'))) {
        if (it) await sawOwn(of, it.id)
        return it !== undefined
      }
    }
    if (vpn.users && (await isUser(of, username, password))) return true
    return vpn.webhook !== undefined && (await agrees(vpn.webhook, username, password))
  }
  return async (of: Instance, login: { username: string; password: string }): Promise<boolean> => {
    const { username, password } = login
    // One VPC's guesses are not held against another's.
    const key = `${of.vpc.id} ${username.slice(0, NAME_LENGTH_MAX)}`
    const good = await attempts.guess(key, of.replica.id, async () =>
      (await isGood(of, username, password)) ? login : undefined,
    )
    const success = good !== undefined
    const body: VpnLogin = { username: username.slice(0, NAME_LENGTH_MAX), success, replica: of.replica.id }
    bulk.append(LOGINS, { tenant: of.tenant.id, subject: of.vpc.id, body })
    return success
  }
}
