import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { answerErrors } from '#apis/errors.ts'
import type { Dialect } from '#apis/http.ts'
import type { Reference } from '#apis/reference.ts'
import { streamsOf } from '#apis/streams.ts'
import { authRoutes } from './auth.ts'
import { consoleRoutes } from './console.ts'
import { doors as doorsOf } from './doors.ts'
import { shapeOf } from './errors.ts'
import { billingRoutes } from './billing.ts'
import { commonHeaders } from './headers.ts'
import { imageRoutes } from './images.ts'
import { dnsRoutes } from './dns.ts'
import { instanceTypeRoutes } from './instance-types.ts'
import { instanceRoutes } from './instances.ts'
import { elasticIpRoutes } from './elastic-ips.ts'
import { internetGatewayRoutes } from './internet-gateways.ts'
import { loadBalancerRoutes } from './load-balancers.ts'
import { natGatewayRoutes } from './nat-gateways.ts'
import { routeTableRoutes } from './route-tables.ts'
import { vpcPeeringRoutes } from './vpc-peerings.ts'
import { keyRoutes } from './keys.ts'
import type { Frame } from './operation.ts'
import { policyRoutes } from './policies.ts'
import { recordRoutes } from './records.ts'
import { logRoutes } from './logs.ts'
import { roleRoutes } from './roles.ts'
import { securityGroupRoutes } from './security-groups.ts'
import { serviceAccountRoutes } from './service-accounts.ts'
import { snapshotRoutes } from './snapshots.ts'
import { sshKeyRoutes } from './ssh-keys.ts'
import { systemRoutes } from './system.ts'
import { subnetRoutes } from './subnets.ts'
import { tenantRoutes } from './tenants.ts'
import { volumeRoutes } from './volumes.ts'
import { vpcRoutes } from './vpcs.ts'

/** Families of the contract, by their tags, that are served whole. */
export const FAMILIES: readonly string[] = [
  'Auth',
  'API keys',
  'Tenants',
  'Roles',
  'IAM',
  'Service accounts',
  'Audit',
  'Events',
  'Billing',
  'Logs',
  'Instances',
  'Instance types',
  'Images',
  'SSH keys',
  'Volumes',
  'Snapshots',
  'VPCs',
  'Subnets',
  'Security groups',
  'Internet gateways',
  'Elastic IPs',
  'NAT gateways',
  'Route tables',
  'VPC peering',
  'DNS',
  'Load balancers',
]

const reference: Reference = {
  description: `Instances, networks, storage and identity of users and their tenants.

Successful answers are \`{"data": …, "meta": …}\`; the members of a single object are repeated beside \`data\`. Refusals are \`{"error": {"type", "message", "code"}, "meta"}\`. Lists are arrays in \`data\`, and nested pages where the query asks with \`limit\` or \`offset\`.

Send an API key in \`X-API-Key\`, or a service account's token in \`Authorization: Bearer\`. \`X-Tenant-ID\` chooses a tenant for one request. Null means absent, unknown members are ignored, ids are UUIDs; where a path takes a name too, the id is tried first.`,
  tags: ['System', ...FAMILIES].map((name) => ({ name })),
  securitySchemes: {
    ApiKeyAuth: {
      type: 'apiKey',
      in: 'header',
      name: 'X-API-Key',
      description: '`thecloud_` and 32 hex digits.',
    },
    BearerAuth: { type: 'http', scheme: 'bearer' },
  },
  security: ['ApiKeyAuth', 'BearerAuth'],
}

/** A file of routes each. */
const ROUTES: readonly ((frame: Frame) => void)[] = [
  systemRoutes,
  authRoutes,
  keyRoutes,
  tenantRoutes,
  roleRoutes,
  policyRoutes,
  serviceAccountRoutes,
  recordRoutes,
  billingRoutes,
  logRoutes,
  instanceTypeRoutes,
  sshKeyRoutes,
  instanceRoutes,
  imageRoutes,
  volumeRoutes,
  snapshotRoutes,
  vpcRoutes,
  subnetRoutes,
  securityGroupRoutes,
  internetGatewayRoutes,
  elasticIpRoutes,
  natGatewayRoutes,
  routeTableRoutes,
  vpcPeeringRoutes,
  dnsRoutes,
  loadBalancerRoutes,
]

/** The dialect of users of a cloud like the big ones; its own command line and SDK work with it. */
export const thecloud: Dialect = {
  name: 'thecloud',
  title: 'The Cloud API',
  reference,
  async register(plain, cloud, mount) {
    plain.addHook('onRequest', commonHeaders)
    answerErrors(plain, mount, shapeOf(mount.clock))
    const doors = doorsOf(cloud, mount.clock)
    plain.addHook('onRequest', async (request) => {
      if (!request.is404) await doors.enter(request)
    })
    const app = plain.withTypeProvider<TypeBoxTypeProvider>()
    const frame: Frame = { app, cloud, clock: mount.clock, doors, page: mount.page }
    for (const routes of ROUTES) routes(frame)
    consoleRoutes(frame, streamsOf(plain, mount.log))
  },
}
