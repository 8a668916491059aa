import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { domain } from '#cloud/edge/domain.kind.ts'
import { tenant, type Tenant as Resource } from '#cloud/identity/tenant.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { Domain, encodeDomain } from './domains.ts'
import { enter, type Doors } from './doors.ts'
import { encodeLive, encodePod, Pod, PodLiveStatus } from './pod.ts'
import {
  Label,
  listOf,
  Nothing,
  Nullable,
  params,
  refusals,
  said,
  timestamp,
  Timestamp,
  Uuid,
  type App,
} from './schema.ts'
import { encodeSubnet, Subnet } from './subnets.ts'
import { encodeTunnel, Tunnel } from './tunnel.ts'
import { liveTunnels } from './tunnels.ts'
import { encodeVpc, Vpc } from './vpcs.ts'

const TenantCreate = Type.Object(
  {
    name: Label,
    description: Type.Optional(Nullable(Type.String({ maxLength: 4096 }), { default: null })),
    password: Type.String({
      minLength: 1,
      maxLength: 1024,
      description: 'Login password for the tenant GUI; never returned.',
      writeOnly: true,
    }),
  },
  { examples: [{ name: 'acme', description: 'Demo tenant', password: 'gui-login-pw' }] },
)
const Tenant = Type.Object({
  id: Uuid,
  name: Label,
  description: Nullable(Type.String()),
  created_at: Timestamp,
})
const TenantWithToken = Type.Object({
  ...Tenant.properties,
  api_token: Type.String({ description: "The tenant's X-Auth-Token value." }),
})
const TenantDetail = Type.Object({
  ...Tenant.properties,
  domains: Type.Array(Domain),
  vpcs: Type.Array(Vpc),
  subnets: Type.Array(Subnet),
  pods: Type.Array(Pod),
  tunnels: Type.Array(Tunnel),
  pod_status: Type.Record(Type.String(), PodLiveStatus, { description: 'Live status, keyed by pod id.' }),
})

const encodeTenant = (it: Resource): Static<typeof Tenant> => ({
  id: it.id,
  name: it.name,
  description: it.spec.description,
  created_at: timestamp(it.createdAt),
})

async function detailOf(cloud: Cloud, caller: Caller, of: Resource): Promise<Static<typeof TenantDetail>> {
  const [domains, vpcs, subnets, pods, tunnels] = await Promise.all([
    cloud.all(caller, domain, { deleted: false }),
    cloud.all(caller, vpc),
    cloud.all(caller, subnet),
    cloud.all(caller, workload),
    liveTunnels(cloud, caller),
  ])
  const names = new Map(vpcs.map((it) => [it.id, it.name]))
  return {
    ...encodeTenant(of),
    domains: domains.map(encodeDomain),
    vpcs: vpcs.map(encodeVpc),
    subnets: subnets.map(encodeSubnet),
    pods: pods.map((it) => encodePod(it, names.get(it.spec.vpc) ?? it.spec.vpc, tunnels)),
    tunnels: tunnels.map(encodeTunnel),
    pod_status: Object.fromEntries(pods.map((it) => [it.id, encodeLive(it, cloud.sample)])),
  }
}

const common = { tags: ['tenants'], security: [{ AdminToken: [] }] }

export function tenantRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    '/tenants',
    {
      schema: {
        ...common,
        operationId: 'createTenant',
        summary: 'Create a tenant',
        description: "The answer is the only place where the new tenant's `api_token` is shown.",
        body: TenantCreate,
        response: { 201: said(TenantWithToken, 'Tenant created.'), ...refusals(400, 401, 409) },
      },
    },
    async (request, reply) => {
      const { name, description = null, password } = request.body
      const made = await cloud.act(callerOf(request), 'circloud.tenants.create', (verbs) =>
        verbs.createTenant({ name, description, password }),
      )
      return reply.code(201).send({ ...encodeTenant(made.tenant), api_token: made.token })
    },
  )
  app.get(
    '/tenants',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listTenants',
        summary: 'List tenants',
        response: { 200: listOf(Tenant, 'All tenants, oldest first.'), ...refusals(401) },
      },
    },
    async (request, reply) =>
      reply
        .code(200)
        .send((await cloud.all(callerOf(request), tenant, { deleted: false })).map(encodeTenant)),
  )
  app.get(
    '/tenants/:tenant_id',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getTenant',
        summary: 'Tenant with topology and live pod status',
        description:
          'Admin view. This is the place for live status data (replicas, readiness, autoscaler readings).',
        params: params('tenant_id'),
        response: {
          200: said(TenantDetail, 'Tenant with its VPCs, subnets, pods, tunnels and live pod status.'),
          ...refusals(401, 404),
        },
      },
    },
    async (request, reply) => {
      const inside = await enter(cloud, callerOf(request), request.params.tenant_id)
      return reply.code(200).send(await detailOf(cloud, inside.caller, inside.tenant))
    },
  )
  app.delete(
    '/tenants/:tenant_id',
    {
      schema: {
        ...common,
        operationId: 'deleteTenant',
        summary: 'Delete a tenant and everything it owns',
        params: params('tenant_id'),
        response: {
          204: Nothing(
            'Deleted; VPCs, subnets, pods, tunnels, domains and registry credentials go with it. No body.',
          ),
          ...refusals(401, 404),
        },
      },
    },
    async (request, reply) => {
      const { tenant: it } = await enter(cloud, callerOf(request), request.params.tenant_id)
      await cloud.act(callerOf(request), 'circloud.tenants.delete', (verbs) => verbs.deleteTenant(it.id))
      return reply.code(204).send(null)
    },
  )
}
