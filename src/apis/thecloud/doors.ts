import type { FastifyRequest } from 'fastify'
import type { Caller, Origin } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { clientAddress } from '#apis/http.ts'
import { passesAgain } from '#apis/remembered-answers.ts'
import { createRates } from './rates.ts'

/** What an operation needs to know of the caller: nothing; who it is; who it is and in which tenant. */
export type Tenancy = 'none' | 'optional' | 'required'

declare module 'fastify' {
  interface FastifyContextConfig {
    tenancy?: Tenancy
    /** Takes a password or what stands for one: limited per address. */
    guesses?: boolean
  }
}

const USER_AGENT_LENGTH_MAX = 200

export const originOf = (request: FastifyRequest): Origin => ({
  dialect: 'thecloud',
  address: clientAddress(request),
  requestId: request.id,
  userAgent: (request.headers['user-agent'] ?? '').slice(0, USER_AGENT_LENGTH_MAX),
})

/** Who passes, and how often. */
export type Doors = {
  /** For onRequest: credential, tenant and rates, as the route's config says. */
  readonly enter: (request: FastifyRequest) => Promise<void>
  callerOf(request: FastifyRequest): Caller
  /** Looks at a request's credential once more, in the same tenant, for what stays open. */
  againOf(request: FastifyRequest): () => Promise<Caller | undefined>
}

const TENANT_HEADER = 'x-tenant-id'

/** Bearer first, then the key (contract A2). */
function credentialOf({ headers }: FastifyRequest): string | undefined {
  const [, bearer] = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '') ?? []
  const key = headers['x-api-key']
  return bearer ?? (typeof key === 'string' && key !== '' ? key : undefined)
}

/** The caller in the tenant that the header names (contract A3). */
async function inNamedTenant(cloud: Cloud, caller: Caller, named: unknown): Promise<Caller> {
  if (named === undefined || named === '') return caller
  if (typeof named !== 'string' || !isUuid(named))
    throw new CloudError('invalid', 'must be a UUID', { field: 'X-Tenant-ID' })
  try {
    return await cloud.inTenant(caller, named.toLowerCase())
  } catch (error) {
    if (isCloudError(error, 'not_found'))
      throw new CloudError('forbidden', 'You are not a member of the tenant that X-Tenant-ID names')
    throw error
  }
}

export function doors(cloud: Cloud, clock: Clock): Doors {
  const callers = new WeakMap<FastifyRequest, Caller>()
  const { perSecond, burst, loginsPerMinute } = cloud.settings.rates
  const now = (): number => clock.now()
  const requests = createRates(now, { perSecond, burst })
  const guesses = createRates(now, { perSecond: loginsPerMinute / 60, burst: loginsPerMinute })
  const refused = (): CloudError =>
    new CloudError('unauthenticated', 'Send a valid key in X-API-Key, or a token in Authorization: Bearer')
  return {
    async enter(request) {
      const { tenancy = 'required', guesses: guessing } = request.routeOptions.config
      const address = clientAddress(request)
      if (tenancy === 'none') {
        requests.take(address)
        if (guessing) guesses.take(address)
        return
      }
      const token = credentialOf(request)
      const caller = token === undefined ? undefined : await cloud.authenticate(token, originOf(request))
      requests.take(caller?.credential ?? address)
      if (!caller || caller.scope === 'workload') throw refused()
      const inside = await inNamedTenant(cloud, caller, request.headers[TENANT_HEADER])
      if (tenancy === 'required' && inside.tenant === PLATFORM)
        throw new CloudError('invalid', 'Name the tenant to act in: X-Tenant-ID')
      callers.set(request, inside)
      passesAgain(request, () => cloud.again(inside) && requests.spend(inside.credential))
    },
    againOf(request) {
      const [token, origin] = [credentialOf(request) ?? '', originOf(request)]
      const { tenant } = this.callerOf(request)
      return async () => {
        const caller = await cloud.authenticate(token, origin)
        return caller && (caller.tenant === tenant ? caller : await cloud.inTenant(caller, tenant))
      }
    },
    callerOf(request) {
      const caller = callers.get(request)
      if (!caller) throw refused()
      return caller
    },
  }
}
