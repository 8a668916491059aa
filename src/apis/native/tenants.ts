import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { Quotas, tenant } from '#cloud/identity/tenant.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { isOn, NewBody, WriteParams } from './schema.ts'
import { encode, wireSchema } from './wire.ts'

const closed = { additionalProperties: false }

const Body = Type.Object(
  {
    ...NewBody.properties,
    spec: Type.Optional(
      Type.Object(
        {
          description: Type.Optional(Type.Union([Type.String({ maxLength: 4096 }), Type.Null()])),
          quotas: Type.Optional(Type.Partial(Quotas, closed)),
          password: Type.Optional(
            Type.String({
              minLength: 8,
              maxLength: 1024,
              description: 'Makes a user named like the tenant, who can log in. Never shown.',
              writeOnly: true,
            }),
          ),
        },
        closed,
      ),
    ),
  },
  closed,
)

/** Creation of a tenant: the one answer that carries its token. */
export function tenantRoute(app: FastifyInstance, cloud: Cloud): void {
  const shown = wireSchema(tenant)
  const made = Type.Object({
    ...shown.properties,
    token: Type.String({ description: 'Shown this once; only its hash is kept.' }),
  })
  app.post<{ Body: Static<typeof Body>; Querystring: Static<typeof WriteParams> }>(
    '/tenant',
    {
      schema: {
        tags: ['tenant'],
        summary: 'Create a tenant; the answer carries its token, this once',
        querystring: WriteParams,
        body: Body,
        response: { 201: made, 200: shown, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { name, labels, spec: { description = null, quotas, password } = {} } = request.body
      const dryRun = isOn(request.query.dryRun)
      const it = await cloud.act(
        callerOf(request),
        'tenant.create',
        async (verbs) => {
          const created = await verbs.createTenant({
            name,
            description,
            ...(password === undefined ? {} : { password }),
          })
          if (!quotas && !labels) return created
          const changed = await verbs.patch(tenant, created.tenant.id, {
            ...(labels ? { labels } : {}),
            spec: quotas ? { quotas } : {},
          })
          return { tenant: changed, token: created.token }
        },
        { dryRun },
      )
      // The token of a dry run opens nothing, so it is not shown.
      if (dryRun) return reply.header('arcus-dry-run', 'true').send(encode(tenant, it.tenant))
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({ ...encode(tenant, it.tenant), token: it.token })
    },
  )
}
