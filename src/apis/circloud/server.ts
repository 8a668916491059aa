import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { answerErrors } from '#apis/errors.ts'
import type { Dialect } from '#apis/http.ts'
import type { Reference } from '#apis/reference.ts'
import { validatorCompiler } from '#apis/validation.ts'
import { adminRoutes } from './admin.ts'
import { domainRoutes } from './domains.ts'
import { doors } from './doors.ts'
import { shape } from './errors.ts'
import { podRoutes } from './pods.ts'
import { providerRoutes } from './provider.ts'
import { registryRoutes } from './registry.ts'
import { subnetRoutes } from './subnets.ts'
import { systemRoutes } from './system.ts'
import { tenantRoutes } from './tenants.ts'
import { deployRoutes, topologyRoutes } from './topology.ts'
import { serviceTunnelRoutes, tunnelRoutes } from './tunnels.ts'
import { vpcRoutes } from './vpcs.ts'

const reference: Reference = {
  description: `VPCs, subnets, pods and tunnels of tenants, and their administration.

JSON in, JSON out. Lists are bare arrays without paging, oldest first. Ids are UUIDs, times are UTC in ISO 8601. Names are RFC 1123 labels.

Every request is checked in this order: route, authentication (401), body and parameters (400), existence (404), conflicts with what is there (409). Every error is an object with the text in \`detail\`. Unknown body fields are ignored.`,
  tags: [
    'admin',
    'tenants',
    'domains',
    'provider',
    'vpcs',
    'subnets',
    'pods',
    'tunnels',
    'registry',
    'topology',
    'system',
  ].map((name) => ({ name })),
  securitySchemes: {
    TenantToken: {
      type: 'apiKey',
      in: 'header',
      name: 'X-Auth-Token',
      description: "Tenant API token. Decides which tenant's resources are visible.",
    },
    AdminToken: {
      type: 'apiKey',
      in: 'header',
      name: 'X-Admin-Token',
      description: 'Admin API token, from `POST /admin/login`.',
    },
  },
  security: ['TenantToken'],
}

/** The dialect of tenants and administrators of a VPC and pod cloud. */
export const circloud: Dialect = {
  name: 'circloud',
  title: 'Circloud API',
  reference,
  async register(plain, cloud, mount) {
    const app = plain.withTypeProvider<TypeBoxTypeProvider>()
    const doorkeeper = doors(cloud)
    answerErrors(plain, mount, shape)
    // A malformed id in a path names nothing: handlers say so, after authentication and validation.
    app.setValidatorCompiler((route) => (route.httpPart === 'params' ? () => true : validatorCompiler(route)))
    systemRoutes(app, cloud)
    adminRoutes(app, cloud)
    await app.register(async (scope) => {
      scope.addHook('onRequest', doorkeeper.admin)
      for (const routes of [tenantRoutes, domainRoutes, providerRoutes, serviceTunnelRoutes])
        routes(scope.withTypeProvider(), cloud, doorkeeper)
    })
    await app.register(async (scope) => {
      scope.addHook('onRequest', doorkeeper.tenant)
      for (const routes of [vpcRoutes, subnetRoutes, podRoutes, tunnelRoutes])
        routes(scope.withTypeProvider(), cloud, doorkeeper)
    })
    await app.register(async (scope) => {
      scope.addHook('onRequest', doorkeeper.tenant)
      scope.addHook('onRequest', doorkeeper.ownPath)
      for (const routes of [registryRoutes, topologyRoutes])
        routes(scope.withTypeProvider(), cloud, doorkeeper)
    })
    await app.register(async (scope) => {
      scope.addHook('onRequest', doorkeeper.tenantIfSent)
      scope.addHook('preValidation', doorkeeper.bodyToken)
      deployRoutes(scope.withTypeProvider(), cloud, doorkeeper)
    })
  },
}
