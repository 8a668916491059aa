import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { credential } from '#cloud/identity/credential.kind.ts'
import { ROLES } from '#cloud/identity/user.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { isOn, NewBody, WriteParams } from './schema.ts'
import { encode, wireSchema } from './wire.ts'

const closed = { additionalProperties: false }

const Body = Type.Object(
  {
    name: NewBody.properties.name,
    spec: Type.Object(
      {
        role: Type.Enum([...ROLES]),
        expiresAt: Type.Optional(
          Type.String({ format: 'date-time', description: 'Until revoked unless given.' }),
        ),
      },
      closed,
    ),
  },
  closed,
)

/** Creation of a credential: the one answer that carries its token. */
export function credentialRoute(app: FastifyInstance, cloud: Cloud): void {
  const shown = wireSchema(credential)
  const made = Type.Object({
    ...shown.properties,
    token: Type.String({ description: 'Shown this once; only its hash is kept.' }),
  })
  app.post<{ Body: Static<typeof Body>; Querystring: Static<typeof WriteParams> }>(
    '/credential',
    {
      schema: {
        tags: ['credential'],
        summary:
          'Give a further credential of the tenant, in a role; the answer carries its token, this once',
        querystring: WriteParams,
        body: Body,
        response: { 201: made, 200: shown, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { name, spec } = request.body
      const dryRun = isOn(request.query.dryRun)
      const input = {
        name,
        role: spec.role,
        ...(spec.expiresAt === undefined ? {} : { expiresAt: Date.parse(spec.expiresAt) }),
      }
      const it = await cloud.act(
        callerOf(request),
        'credential.create',
        async (verbs) => await verbs.issueCredential(input),
        { dryRun },
      )
      // The token of a dry run opens nothing, so it is not shown.
      if (dryRun) return reply.header('arcus-dry-run', 'true').send(encode(credential, it.credential))
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({ ...encode(credential, it.credential), token: it.token })
    },
  )
}
