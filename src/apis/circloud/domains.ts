import Type, { type Static } from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { domain, type Domain as Resource } from '#cloud/edge/domain.kind.ts'
import { enter, type Doors } from './doors.ts'
import {
  DomainName,
  DomainTyped,
  listOf,
  params,
  refusals,
  said,
  timestamp,
  Timestamp,
  Uuid,
  type App,
} from './schema.ts'

const DomainCreate = Type.Object({ domain: DomainTyped }, { examples: [{ domain: 'example.com' }] })
export const Domain = Type.Object({ id: Uuid, tenant_id: Uuid, domain: DomainName, created_at: Timestamp })

export const encodeDomain = (it: Resource): Static<typeof Domain> => ({
  id: it.id,
  tenant_id: it.tenant,
  domain: it.name,
  created_at: timestamp(it.createdAt),
})

const common = { tags: ['domains'], security: [{ AdminToken: [] }], params: params('tenant_id') }

export function domainRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    '/tenants/:tenant_id/domains',
    {
      schema: {
        ...common,
        operationId: 'addTenantDomain',
        summary: 'Approve a custom domain for a tenant',
        body: DomainCreate,
        response: {
          201: said(Domain, 'Domain added; the tenant may now use it in tunnels.'),
          ...refusals(400, 401, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const name = request.body.domain.toLowerCase()
      const { caller, tenant } = await enter(cloud, callerOf(request), request.params.tenant_id)
      const made = await cloud.act(caller, 'circloud.domains.add', (verbs) =>
        verbs.addDomain(tenant.id, name),
      )
      return reply.code(201).send(encodeDomain(made))
    },
  )
  app.get(
    '/tenants/:tenant_id/domains',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listTenantDomains',
        summary: "List a tenant's domains",
        response: { 200: listOf(Domain, 'Domains of the tenant.'), ...refusals(401, 404) },
      },
    },
    async (request, reply) => {
      const { caller } = await enter(cloud, callerOf(request), request.params.tenant_id)
      return reply.code(200).send((await cloud.all(caller, domain, { deleted: false })).map(encodeDomain))
    },
  )
}
