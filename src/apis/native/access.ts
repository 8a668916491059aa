import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { Statement } from '#cloud/identity/policy.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'

const closed = { additionalProperties: false }
const Text = (description: string) => Type.String({ minLength: 1, maxLength: 512, description })

const Body = Type.Object(
  {
    principal: Type.Optional(Text('Id of a user or service account of the tenant; who asks by default.')),
    action: Text('`resource:verb`, such as `instance:launch`.'),
    resource: Type.Optional(
      Type.Object(
        {
          kind: Text('Kind of the resource.'),
          id: Type.Optional(Text('Its id; any by default.')),
          name: Type.Optional(Text('Its name.')),
        },
        closed,
      ),
    ),
    address: Type.Optional(Text('Address to ask from; that of who asks by default.')),
  },
  { ...closed, examples: [{ action: 'instance:launch', resource: { kind: 'workload', name: 'web' } }] },
)

const Decided = Type.Object({
  allowed: Type.Boolean(),
  because: Type.Enum(['administrator', 'scope', 'suspended', 'policy', 'permissions', 'role']),
  message: Type.String({ description: 'What a refused caller is told; empty when allowed.' }),
  policy: Type.Optional(Type.Object({ id: Type.String(), name: Type.String() })),
  statement: Type.Optional(Statement),
})

/** The policy simulator, and the outbox: what only an administrator or an owner looks at. */
export function accessRoutes(app: FastifyInstance, cloud: Cloud): void {
  app.post<{ Body: Static<typeof Body> }>(
    '/access',
    {
      schema: {
        tags: ['identity'],
        summary: 'May somebody do something, and because of which statement; nothing is done',
        body: Body,
        response: { 200: Decided, ...REFUSALS },
      },
    },
    async (request) => {
      const { statement, ...decision } = await cloud.simulate(callerOf(request), request.body)
      if (!statement) return decision
      const { policy, ...rest } = statement
      return { ...decision, policy, statement: rest }
    },
  )
  app.post<{ Params: { id: string } }>(
    '/message/:id/read',
    {
      schema: {
        tags: ['message'],
        summary:
          'Read a message that waits in the outbox; it may hold a token, so the audit notes who read it',
        params: Type.Object({ id: Type.String() }),
        response: { 200: Type.Object({ text: Type.String() }), ...REFUSALS },
      },
    },
    async (request, reply) =>
      reply
        .header('cache-control', 'no-store')
        .send({ text: await cloud.messageText(callerOf(request), request.params.id) }),
  )
}
