import type { SweptDialect } from './dialect.ts'
import { provide, WITH_DOMAIN, withoutRoute, withoutWays } from './provider.ts'

export const circloud: SweptDialect = {
  name: 'circloud',
  contract: { file: new URL('../contracts/circloud.json', import.meta.url), except: () => false },
  headers: ({ security }, token) =>
    security.includes('AdminToken') ? { 'x-admin-token': token } : { 'x-auth-token': token },
  need({ security, method }) {
    if (security.length === 0) return 'open'
    if (security.includes('AdminToken')) return 'operate'
    return method === 'GET' ? 'read' : 'write'
  },
  // 401 also for a token that is good and not for this tenant: the contract has no 403.
  statuses: { unauthenticated: 401, forbidden: 401, foreign: [404, 401] },
  refusal: {
    type: 'object',
    required: ['detail'],
    properties: { detail: { type: 'string', minLength: 1 } },
    additionalProperties: false,
  },
  messageOf: (body) => (body as { detail?: unknown }).detail,
  known: ({ ids, tenant, registryCredential }, token) => ({
    tenant_id: tenant.id,
    token,
    vpc_id: ids['vpc'] ?? '',
    subnet_id: ids['subnet'] ?? '',
    pod_id: ids['workload'] ?? '',
    tunnel_id: ids['tunnel'] ?? '',
    '/tenants/{tenant_id}/registry-credentials/{name} name': registryCredential,
  }),
  bodies: {
    // The same pool again: the seeded tenants have addresses of it.
    'POST /provider-config': () => ({
      external_subnet_cidr: WITH_DOMAIN.externalCidr,
      external_subnet_gateway: WITH_DOMAIN.externalGateway,
      peering_subnet_cidr: WITH_DOMAIN.peeringCidr,
      pod_dns_nameservers: ['1.1.1.1', '8.8.8.8'],
      pod_dns_ndots: 2,
      cloudflare_account_id: 'acc-1',
      cloudflare_api_token: 'cf-token',
      cloudflare_domain: 'yourdomain.com',
    }),
    'POST /tenants/{tenant_id}/domains': (_, unique) => ({ domain: `${unique}.example` }),
    'POST /tenants/{tenant_id}/topology': ({ token = '' }, unique) => ({
      token,
      vpcs: [{ name: unique, enable_internet: true }],
      subnets: [{ name: 'web', vpc_name: unique, cidr: '10.8.0.0/24', gateway_ip: '10.8.0.1' }],
      pods: [{ name: 'web', vpc_name: unique, subnet_name: 'web', container_image: 'nginx' }],
    }),
    'POST /subnets': ({ tenant_id = '', token = '', vpc_id = '' }, unique) => ({
      tenant_id,
      token,
      vpc_id,
      name: unique,
      cidr: '10.77.0.0/24',
      gateway_ip: '10.77.0.1',
    }),
    'POST /pods/{pod_id}/tunnel': (_, unique) => ({
      tunnel_name: unique,
      subdomain: unique,
      protocol_type: 'http',
    }),
    'POST /tunnels': (_, unique) => ({ subdomain: unique, protocol_type: 'tcp' }),
    'POST /service-tunnels': (_, unique) => ({ service: 'api', subdomain: unique, tunnel_name: unique }),
    'PATCH /pods/{pod_id}/config': () => ({ persistent: true }),
  },
  queries: { 'POST /tunnels': ({ pod_id = '' }) => `pod_id=${pod_id}` },
  before: {
    'DELETE /vpcs/{vpc_id}': withoutWays,
    'DELETE /pods/{pod_id}': withoutRoute,
    'POST /service-tunnels': provide,
    'POST /pods/{pod_id}/tunnel': provide,
    'POST /tunnels': provide,
    'GET /provider-config': provide,
  },
  logins: { 'POST /admin/login': (username, password) => ({ username, password }) },
  ownToken: ['token'],
  notSecret: ['use_registry_credentials', 'pods[].use_registry_credentials'],
}
