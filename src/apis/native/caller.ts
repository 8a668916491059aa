import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { Caller, Origin } from '#cloud/access.ts'
import { clientAddress } from '#apis/http.ts'
import { passesAgain } from '#apis/remembered-answers.ts'
import type { Whose } from '#apis/streams.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import { byReference } from './lookup.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs no credential. */
    open?: boolean
  }
}

/** Header by which an administrator acts in a tenant, named by id or name. */
export const TENANT_HEADER = 'arcus-tenant'

const CALLER = 'nativeCaller'
const TOKEN = 'nativeToken'

export const originOf = (request: FastifyRequest): Origin => ({
  dialect: 'native',
  address: clientAddress(request),
  requestId: request.id,
})
export const callerOf = (request: FastifyRequest): Caller => request.getDecorator<Caller>(CALLER)
export const tokenOf = (request: FastifyRequest): string => request.getDecorator<string>(TOKEN)

/** Whose request it is, for what stays open. */
export function whoseOf(cloud: Cloud, request: FastifyRequest): Whose {
  const [caller, token, origin] = [callerOf(request), tokenOf(request), originOf(request)]
  return {
    caller,
    async again() {
      const now = await cloud.authenticate(token, origin)
      return now && (now.tenant === caller.tenant ? now : await cloud.inTenant(now, caller.tenant))
    },
  }
}

/** The caller in a tenant that is named by id or name; anyone but an administrator knows only their own. */
async function inTenant(cloud: Cloud, caller: Caller, reference: string): Promise<Caller> {
  if (isUuid(reference)) return await cloud.inTenant(caller, reference.toLowerCase())
  if (caller.scope === 'admin')
    return await cloud.inTenant(caller, (await byReference(cloud, caller, tenant, reference)).id)
  const own = await cloud.get(caller, tenant, caller.tenant)
  if (own.name === reference) return caller
  throw new CloudError('not_found', `There is no tenant ${reference}`, { rule: 'foreign_tenant' })
}

/** Every route of the scope needs a credential, but those whose config says `open`. */
export function authenticateIn(app: FastifyInstance, cloud: Cloud): void {
  app.decorateRequest(CALLER, null)
  app.decorateRequest(TOKEN, '')
  app.addHook('onRequest', async (request) => {
    if (request.is404 || request.routeOptions.config.open === true) return
    const [, token] = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '') ?? []
    if (token === undefined)
      throw new CloudError(
        'unauthenticated',
        'Send a token in the header Authorization: Bearer <token>; POST /login gives one',
      )
    const caller = await cloud.authenticate(token, originOf(request))
    if (!caller)
      throw new CloudError(
        'unauthenticated',
        'This token is unknown, revoked or expired; POST /login gives a new one',
      )
    if (caller.scope === 'workload')
      throw new CloudError('forbidden', "A workload's credential opens only its own API")
    const named = request.headers[TENANT_HEADER]
    const inside = typeof named === 'string' && named !== '' ? await inTenant(cloud, caller, named) : caller
    request.setDecorator(TOKEN, token)
    request.setDecorator(CALLER, inside)
    passesAgain(request, () => cloud.again(inside))
  })
}
