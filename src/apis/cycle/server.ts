import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { answerErrors } from '#apis/errors.ts'
import type { Dialect } from '#apis/http.ts'
import type { Reference } from '#apis/reference.ts'
import { validatorCompiler } from '#apis/validation.ts'
import { containerRoutes } from './containers.ts'
import { admitInstances, admitLogins } from './doors.ts'
import { environmentRoutes } from './environments.ts'
import { broken, refusal, shape } from './errors.ts'
import { hubRoutes } from './hubs.ts'
import { monitoringRoutes } from './monitoring.ts'
import { networkRoutes } from './networks.ts'
import { NOTIFICATION_LIMITS, type NotificationLimits, notificationRoutes } from './notifications.ts'
import { objectCacheRoutes } from './object-cache.ts'
import { serverRoutes } from './servers.ts'
import { taskRoutes } from './tasks.ts'
import { virtualMachineRoutes } from './virtual-machines.ts'
import { vpnRoutes } from './vpn.ts'

const reference: Reference = {
  description: `The workloads' own API: where an instance is, who its neighbours are, its variables and certificates, what happens around it.

It is served to workloads alone, each through the socket \`/var/run/cycle/api/api.sock\` in its own container: \`curl --unix-socket /var/run/cycle/api/api.sock -H "X-CYCLE-TOKEN: $CYCLE_API_TOKEN" http://cycle/v1/container\`. The socket and the token name the same instance, or the request is refused. Whatever is beyond its environment, the networks of that and its hub's share of the machine is answered as if it were not there.

A hub is a tenant, an environment a VPC, a container a workload, an instance a replica, the server this machine. Answers are \`{"data": …}\`, refusals \`{"error": {"status", "code", "title"}, "data": null}\`. Ids are 24 hexadecimal digits; times are UTC in RFC 3339, and \`0001-01-01T00:00:00Z\` is one that has not come. Unknown query parameters and body fields are ignored.`,
  tags: [
    'Environments',
    'Containers',
    'Instances',
    'Servers',
    'SDN',
    'Hubs',
    'Monitoring',
    'VPN',
    'Virtual machines',
    'Object cache',
    'Notifications',
  ].map((name) => ({ name })),
  securitySchemes: {
    tokenAuth: {
      type: 'apiKey',
      in: 'header',
      name: 'X-CYCLE-TOKEN',
      description: 'The value of `CYCLE_API_TOKEN` in the container.',
    },
    basicAuth: { type: 'http', scheme: 'basic' },
  },
  security: ['tokenAuth'],
}

const JSON_TYPE = /^application\/([\w.-]+\+)?json(?:;|$)/i

/** JSON, also where nothing says what a body is; absent when it is empty (contract section 1.1). */
function parseBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  const parse = app.getDefaultJsonParser('error', 'error')
  const parsed = (
    request: FastifyRequest,
    body: string,
    done: (error: Error | null, body?: unknown) => void,
  ): void => {
    if (body.length === 0) return done(null, undefined)
    const type = request.headers['content-type']
    if (type !== undefined && !JSON_TYPE.test(type))
      return done(refusal('415.invalid-content-type', 'Send JSON, with Content-Type: application/json.'))
    void parse(request, body, (error, value) =>
      done(error ? refusal('400.invalid-syntax', 'The body is not valid JSON.') : null, value),
    )
  }
  app.addContentTypeParser(
    '*',
    { parseAs: 'string' },
    parsed as Parameters<typeof app.addContentTypeParser>[2],
  )
}

export const cycleWith = (limits: NotificationLimits): Dialect => ({
  name: 'cycle',
  title: 'Cycle Internal API',
  reference,
  inside: { broken },
  async register(plain, { inside }, mount) {
    const app = plain.withTypeProvider<TypeBoxTypeProvider>()
    answerErrors(plain, mount, shape)
    parseBodies(plain)
    app.setValidatorCompiler(validatorCompiler)
    await app.register(async (scope) => {
      admitInstances(scope, inside)
      for (const routes of [
        environmentRoutes,
        containerRoutes,
        serverRoutes,
        networkRoutes,
        hubRoutes,
        taskRoutes,
        monitoringRoutes,
        objectCacheRoutes,
      ])
        routes(scope.withTypeProvider(), inside)
      virtualMachineRoutes(scope.withTypeProvider())
      notificationRoutes(scope, inside, mount, limits)
    })
    await app.register(async (scope) => {
      admitLogins(scope, inside)
      vpnRoutes(scope.withTypeProvider(), inside)
    })
  },
})

/** The dialect of workloads, each through a socket of its own. */
export const cycle: Dialect = cycleWith(NOTIFICATION_LIMITS)
