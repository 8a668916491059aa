import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { isCloudError } from '#lib/errors.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import { user } from '#cloud/identity/user.kind.ts'
import { callerOf, originOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { encode, wireSchema } from './wire.ts'

const LoginBody = Type.Object(
  {
    username: Type.String({ minLength: 1, maxLength: 253 }),
    password: Type.String({ minLength: 1, maxLength: 1024, writeOnly: true }),
  },
  { additionalProperties: false },
)

const WhoAmI = Type.Object({
  scope: Type.Enum(['admin', 'tenant', 'workload']),
  role: Type.String(),
  subject: Type.String(),
  name: Type.Union([Type.String(), Type.Null()]),
  tenant: Type.Union([
    Type.Object({ id: Type.String(), name: Type.Union([Type.String(), Type.Null()]) }),
    Type.Null(),
  ]),
  credential: Type.String(),
})

export function identityRoutes(app: FastifyInstance, cloud: Cloud): void {
  app.post<{ Body: Static<typeof LoginBody> }>(
    '/login',
    {
      config: { open: true },
      schema: {
        tags: ['identity'],
        security: [],
        summary: 'A token for a user name and password; attempts are limited',
        body: LoginBody,
        response: { 200: Type.Object({ token: Type.String(), user: wireSchema(user) }), ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { user: who, token } = await cloud.login(request.body, originOf(request))
      return reply.header('cache-control', 'no-store').send({ token, user: encode(user, who) })
    },
  )

  const nameOf = async (get: () => Promise<{ readonly name: string }>): Promise<string | null> => {
    try {
      return (await get()).name
    } catch (error) {
      if (isCloudError(error)) return null
      throw error
    }
  }

  app.get(
    '/whoami',
    {
      schema: {
        tags: ['identity'],
        summary: 'Whom the token stands for',
        response: { 200: WhoAmI, ...REFUSALS },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      return {
        scope: caller.scope,
        role: caller.role,
        subject: caller.subject,
        name: await nameOf(async () => await cloud.whoIs(caller)),
        tenant:
          caller.tenant === PLATFORM
            ? null
            : {
                id: caller.tenant,
                name: await nameOf(async () => await cloud.get(caller, tenant, caller.tenant)),
              },
        credential: caller.credential,
      }
    },
  )
}
