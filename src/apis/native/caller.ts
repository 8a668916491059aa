import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CloudError } from '#lib/errors.ts'
import type { Caller, Origin } from '#cloud/access.ts'
import { clientAddress } from '#apis/http.ts'
import type { Cloud } from '#cloud/cloud.ts'

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
    const tenant = request.headers[TENANT_HEADER]
    request.setDecorator(TOKEN, token)
    request.setDecorator(
      CALLER,
      typeof tenant === 'string' && tenant !== '' ? await cloud.inTenant(caller, tenant) : caller,
    )
  })
}
