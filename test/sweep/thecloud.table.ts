import { FAMILIES } from '#apis/thecloud/server.ts'
import type { Hands, SweptDialect } from './dialect.ts'
import { NEWCOMER, SSH_KEY } from './given.ts'
import type { Seeded } from './world.ts'

const STATEMENTS = [{ effect: 'Allow', action: ['vpc:read'], resource: ['*'] }]

/** That the policy is attached to what it will be detached from. */
const attached =
  (kind: string) =>
  async (hands: Hands, { tenant, ids }: Seeded): Promise<void> => {
    const body = { spec: { attachedTo: [ids[kind] ?? ''] } }
    await hands.native('PATCH', `/policy/${ids['policy']}`, { body, tenant: tenant.id })
  }

/** What says who may act in a tenant: for its owners. */
const OWN = /^\/(auth\/keys|rbac|iam)(\/|$)|\/members$/

export const thecloud: SweptDialect = {
  name: 'thecloud',
  contract: {
    file: new URL('../contracts/thecloud.json', import.meta.url),
    except: ({ tags }) => !FAMILIES.includes(tags[0] ?? ''),
  },
  headers: (_, token) => ({ 'x-api-key': token }),
  inTenant: (tenant) => ({ 'x-tenant-id': tenant }),
  need({ key, method, path, security }) {
    if (security.length === 0) return 'open'
    if (key === 'GET /auth/keys') return 'read'
    if (OWN.test(path)) return 'own'
    if (path.endsWith('/switch')) return 'self'
    // Also for who made it, which no key here did.
    if (path.startsWith('/images/{id}') && method !== 'GET') return 'own'
    return method === 'GET' ? 'read' : 'write'
  },
  statuses: { unauthenticated: 401, forbidden: 403, foreign: [404, 403, 400] },
  refusal: {
    type: 'object',
    required: ['error', 'meta'],
    properties: {
      error: {
        type: 'object',
        required: ['type', 'message', 'code'],
        properties: {
          type: { type: 'string', minLength: 1 },
          message: { type: 'string', minLength: 1 },
          code: { type: 'string', minLength: 1 },
        },
        additionalProperties: false,
      },
      meta: {
        type: 'object',
        required: ['request_id', 'timestamp'],
        properties: { request_id: { type: 'string' }, timestamp: { type: 'string' } },
        additionalProperties: false,
      },
    },
    additionalProperties: false,
  },
  messageOf: (body) => (body as { error?: { message?: unknown } }).error?.message,
  known: ({ ids }) => ({
    newcomer: NEWCOMER,
    'tenants id': ids['tenant'] ?? '',
    'rbac id': ids['role'] ?? '',
    permission: 'instance:read',
    '/iam/policies/{id} id': ids['policy'] ?? '',
    'iam id': ids['service-account'] ?? '',
    policyId: ids['policy'] ?? '',
    userId: ids['user'] ?? '',
    user_identifier: ids['user'] ?? '',
    secretId: ids['secret'] ?? '',
    '/auth/keys/{id} id': ids['credential'] ?? '',
    '/auth/keys/{id}/rotate id': ids['credential'] ?? '',
    '/auth/keys/{id}/regenerate id': ids['credential'] ?? '',
    'instances id': ids['instance'] ?? '',
    'ssh-keys id': ids['ssh-key'] ?? '',
    'images id': ids['image'] ?? '',
    'volumes id': ids['volume'] ?? '',
    '/volumes/{id}/detach id': ids['held-volume'] ?? '',
    'snapshots id': ids['snapshot'] ?? '',
    'vpcs id': ids['spare vpc'] ?? '',
    'subnets id': ids['spare subnet'] ?? '',
    'security-groups id': ids['security-group'] ?? '',
    'internet-gateways id': ids['internet-gateway'] ?? '',
    '/internet-gateways/{id}/detach id': ids['attached-gateway'] ?? '',
    'elastic-ips id': ids['elastic-ip'] ?? '',
    '/elastic-ips/{id}/disassociate id': ids['associated-ip'] ?? '',
    'nat-gateways id': ids['nat-gateway'] ?? '',
    'route-tables id': ids['route-table'] ?? '',
    'lb id': ids['load-balancer'] ?? '',
    instanceId: ids['instance'] ?? '',
    '/lb/{id}/targets instance_id': ids['no-target'] ?? '',
    'dns id': ids['zone'] ?? '',
    '/dns/records/{id} id': ids['record'] ?? '',
    'vpc-peerings id': ids['peering'] ?? '',
    routeId: ids['table-route'] ?? '',
    route_id: ids['table-route'] ?? '',
    subnetId: ids['spare subnet'] ?? '',
    subnet_id: ids['spare subnet'] ?? '',
    elastic_ip_id: ids['spare elastic-ip'] ?? '',
    eip_id: ids['spare elastic-ip'] ?? '',
    requester_vpc_id: ids['vpc'] ?? '',
    accepter_vpc_id: ids['spare vpc'] ?? '',
    vpc_id: ids['vpc'] ?? '',
    group_id: ids['security-group'] ?? '',
    instance_id: ids['workload'] ?? '',
    ruleId: ids['security-rule'] ?? '',
  }),
  bodies: {
    'POST /auth/register': (_, unique) => ({
      email: `${unique}@example.com`,
      password: 'a good password',
      name: unique,
    }),
    'POST /iam/policies': (_, unique) => ({ name: unique, statements: STATEMENTS }),
    'PUT /iam/policies/{id}': (_, unique) => ({ name: unique, statements: STATEMENTS }),
    'POST /iam/service-accounts': (_, unique) => ({ name: unique, role: 'viewer' }),
    'POST /rbac/bindings': ({ user_identifier = '' }) => ({ user_identifier, role_name: 'viewer' }),
    'POST /instances': (_, unique) => ({ name: unique, image: 'nginx', ports: '0:80' }),
    'POST /instances/{id}/resize': () => ({ instance_type: 'basic-4' }),
    'POST /images': (_, unique) => ({ name: unique, os: 'linux', version: '1' }),
    'POST /images/import': (_, unique) => ({
      name: unique,
      os: 'linux',
      version: '1',
      url: 'https://images.example/a.iso',
    }),
    'POST /ssh-keys': (_, unique) => ({ name: unique, public_key: SSH_KEY }),
    'POST /volumes': (_, unique) => ({ name: unique, size_gb: 1 }),
    'POST /volumes/{id}/attach': (known) => ({
      instance_id: known['instances id'] ?? '',
      mount_path: '/more',
    }),
    'POST /snapshots': (known) => ({ volume_id: known['volumes id'] ?? '' }),
    'POST /snapshots/{id}/restore': (_, unique) => ({ new_volume_name: unique }),
    'POST /tenants': (_, unique) => ({ name: unique, slug: unique }),
    'POST /lb': ({ vpc_id = '' }, unique) => ({ name: unique, vpc_id, port: 8080 }),
    'POST /lb/{id}/targets': (known) => ({
      instance_id: known['/lb/{id}/targets instance_id'] ?? '',
      port: 80,
    }),
    'POST /dns/zones': (known, unique) => ({ name: `${unique}.internal`, vpc_id: known['vpcs id'] ?? '' }),
    'POST /dns/zones/{id}/records': (_, unique) => ({ name: unique, type: 'A', content: '10.9.0.8' }),
    'PUT /dns/records/{id}': () => ({ content: '10.9.0.7' }),
    'POST /internet-gateways/{id}/attach': (known) => ({ vpc_id: known['vpcs id'] ?? '' }),
    'POST /nat-gateways': ({ subnet_id = '', eip_id = '' }) => ({ subnet_id, eip_id }),
    'POST /route-tables': ({ vpc_id = '' }, unique) => ({ vpc_id, name: unique }),
    'POST /route-tables/{id}/routes': () => ({ destination_cidr: '10.99.0.0/16', target_type: 'local' }),
    'POST /security-groups': ({ vpc_id = '' }, unique) => ({ vpc_id, name: unique }),
    'POST /security-groups/{id}/rules': () => ({
      direction: 'ingress',
      protocol: 'tcp',
      cidr: '0.0.0.0/0',
      port_min: 80,
      port_max: 80,
    }),
    'POST /vpcs': (_, unique) => ({ name: unique, cidr_block: '10.20.0.0/16' }),
    'POST /vpcs/{id}/subnets': (_, unique) => ({ name: unique, cidr_block: '10.21.0.0/24' }),
    'POST /tenants/{id}/members': ({ newcomer = '' }) => ({ role: 'developer', user_id: newcomer }),
  },
  queries: {
    'GET /nat-gateways': ({ vpc_id = '' }) => `vpc_id=${vpc_id}`,
    'GET /route-tables': ({ vpc_id = '' }) => `vpc_id=${vpc_id}`,
    'DELETE /route-tables/{id}/routes': ({ route_id = '' }) => `route_id=${route_id}`,
  },
  // A tenant's token is nobody who could own another tenant; people are tried in src/apis/thecloud.
  always: {
    'POST /tenants': 403,
    // Nobody was sent what a sweep makes up.
    'POST /auth/reset-password': 400,
    // Only one that is paused can be resumed; tried in src/apis/thecloud.
    'POST /instances/{id}/resume': 400,
    // Its body is a form and not JSON; tried in src/apis/thecloud.
    'POST /images/{id}/upload': 400,
  },
  undeniable: ['GET /auth/me'],
  before: {
    'DELETE /iam/users/{userId}/policies/{policyId}': attached('user'),
    'DELETE /iam/service-accounts/{id}/policies/{policyId}': attached('service-account'),
  },
  logins: { 'POST /auth/login': (email, password) => ({ email, password }) },
}
