import type { FastifyRequest } from 'fastify'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { tenant, type Tenant } from '#cloud/identity/tenant.kind.ts'
import { isUuid } from '#lib/ids.ts'
import { CloudError } from '#lib/errors.ts'
import { clientAddress } from '#apis/http.ts'
import { passesAgain } from '#apis/remembered-answers.ts'
import { idOf } from './schema.ts'

type Hook = (request: FastifyRequest) => Promise<void>

/** Who may pass; hooks for routes, to run before anything of a request is validated. */
export type Doors = {
  /** `X-Admin-Token` of an administrator. For onRequest. */
  readonly admin: Hook
  /** `X-Auth-Token` of a tenant. For onRequest. */
  readonly tenant: Hook
  /** Path `tenant_id` must be the token's own. For onRequest, after `tenant`. */
  readonly ownPath: Hook
  /** Body `token` and `tenant_id` must agree with the header. For preValidation. */
  readonly ownBody: Hook
  /** The header if there is one. For onRequest; `bodyToken` must follow. */
  readonly tenantIfSent: Hook
  /** The body's `token` stands for an absent header; beside one both must name the same tenant. For preValidation. */
  readonly bodyToken: Hook
  /** Who passed. */
  callerOf(request: FastifyRequest): Caller
}

const refusal = (): CloudError => new CloudError('unauthenticated', 'Invalid token')

/** A field of a body that nothing has looked at yet. */
const fieldOf = (request: FastifyRequest, name: string): unknown =>
  request.body !== null && typeof request.body === 'object' && Object.hasOwn(request.body, name)
    ? (request.body as Record<string, unknown>)[name]
    : undefined

export const originOf = (request: FastifyRequest) => ({
  dialect: 'circloud',
  address: clientAddress(request),
  requestId: request.id,
})

export function doors(cloud: Cloud): Doors {
  const callers = new WeakMap<FastifyRequest, Caller>()
  const callerOf = (request: FastifyRequest): Caller => {
    const caller = callers.get(request)
    if (!caller) throw refusal()
    return caller
  }
  const known = async (request: FastifyRequest, token: unknown, scope: Caller['scope']): Promise<Caller> => {
    const caller =
      typeof token === 'string' && token ? await cloud.authenticate(token, originOf(request)) : undefined
    if (caller?.scope !== scope) throw refusal()
    passesAgain(request, () => cloud.again(caller))
    return caller
  }
  const ownPath: Hook = async (request) => {
    const { tenant_id: id } = request.params as { tenant_id: string }
    if (id.toLowerCase() !== callerOf(request).tenant) throw refusal()
  }
  const own: Hook = async (request) => {
    callers.set(request, await known(request, request.headers['x-auth-token'], 'tenant'))
  }
  const sent = (request: FastifyRequest): boolean => request.headers['x-auth-token'] !== undefined
  return {
    callerOf,
    tenant: own,
    ownPath,
    admin: async (request) => {
      callers.set(request, await known(request, request.headers['x-admin-token'], 'admin'))
    },
    ownBody: async (request) => {
      const token = fieldOf(request, 'token')
      if (token !== undefined && token !== request.headers['x-auth-token']) throw refusal()
      const id = fieldOf(request, 'tenant_id')
      if (typeof id === 'string' && isUuid(id) && id.toLowerCase() !== callerOf(request).tenant)
        throw refusal()
    },
    tenantIfSent: async (request) => {
      if (!sent(request)) return
      await own(request)
      await ownPath(request)
    },
    bodyToken: async (request) => {
      const token = fieldOf(request, 'token')
      if (!sent(request)) callers.set(request, await known(request, token, 'tenant'))
      else if (token !== undefined && token !== request.headers['x-auth-token']) {
        const other = await known(request, token, 'tenant')
        if (other.tenant !== callerOf(request).tenant) throw refusal()
      }
      await ownPath(request)
    },
  }
}

/** The caller acting in the tenant of a path; one that is going is not there any more. */
export async function enter(
  cloud: Cloud,
  caller: Caller,
  tenantId: string,
): Promise<{ readonly caller: Caller; readonly tenant: Tenant }> {
  const id = idOf(tenantId, 'Tenant')
  const it = await cloud.get(caller, tenant, id)
  if (it.deletedAt !== undefined) throw new CloudError('not_found', 'Tenant not found')
  return { caller: await cloud.inTenant(caller, id), tenant: it }
}
