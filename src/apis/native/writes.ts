import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static, type TObject } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { user } from '#cloud/identity/user.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { byReference } from './lookup.ts'
import { type ById, checkBodyBy, isOn, NewBody, PatchBody, RefParams, WriteParams } from './schema.ts'
import { encode, wireSchema } from './wire.ts'

type Write = { Querystring: Static<typeof WriteParams> }

/** The generation an `If-Match` names, as an entity tag or a bare number. */
function expected(request: FastifyRequest): { generation: number } | undefined {
  const header = request.headers['if-match']
  if (header === undefined || header === '*') return undefined
  const [, digits] = /^(?:W\/)?"?(\d{1,15})"?$/.exec(header) ?? []
  if (digits === undefined)
    throw new CloudError('invalid', 'is the generation, such as "3"', { field: 'If-Match' })
  return { generation: Number(digits) }
}

/** Does one verb in a commit and answers with what it made, `status` unless it was a dry run. */
async function answer(
  cloud: Cloud,
  request: FastifyRequest<Write>,
  reply: FastifyReply,
  how: { what: string; kind: AnyKind; status: number },
  work: (verbs: Verbs) => Promise<Resource>,
) {
  const dryRun = isOn(request.query.dryRun)
  const made = await cloud.act(callerOf(request), how.what, work, { dryRun })
  if (dryRun) reply.header('arcus-dry-run', 'true')
  return reply
    .code(dryRun ? 200 : how.status)
    .header('etag', `"${made.generation}"`)
    .send(encode(how.kind, made))
}

/** The kind's spec with nothing required, since the platform fills what is left out. */
const friendly = (kind: AnyKind) => {
  const { properties } = kind.name === user.name ? NewUser : (kind.spec as TObject)
  const marked = Object.entries(properties).map(([field, it]) => [
    field,
    kind.secret.includes(field) ? { ...it, writeOnly: true } : it,
  ])
  return Type.Partial(Type.Object(Object.fromEntries(marked) as TObject['properties']))
}

const NewUser = Type.Object({
  password: Type.String({ minLength: 8, maxLength: 1024, description: 'Never shown.', writeOnly: true }),
  admin: user.spec.properties.admin,
  memberships: user.spec.properties.memberships,
})

/** New containers in every slot of a workload, with the addresses they have; also starts a stopped one. */
export function restartRoute(app: FastifyInstance, cloud: Cloud): void {
  app.post<ById & Write>(
    '/workload/:id/restart',
    {
      schema: {
        tags: ['workload'],
        querystring: WriteParams,
        summary: 'Replace every container of a workload by a new one; also starts a stopped one',
        params: RefParams,
        response: { 202: wireSchema(workload), 200: wireSchema(workload), ...REFUSALS },
      },
    },
    async (request, reply) => {
      const it = await byReference(cloud, callerOf(request), workload, request.params.id)
      return await answer(
        cloud,
        request,
        reply,
        { what: 'workload.restart', kind: workload, status: 202 },
        async (verbs) => await verbs.restartWorkload(it.id),
      )
    },
  )
}

/** Create, patch and delete of one kind. */
export function writeRoutes(app: FastifyInstance, cloud: Cloud, kind: AnyKind): void {
  const shown = wireSchema(kind)
  const { name } = kind
  const common = { tags: [name], querystring: WriteParams }

  // These answer with a token too: see tenants.ts and credentials.ts.
  if (name !== 'tenant' && name !== 'credential')
    app.post<Write & { Body: Static<typeof NewBody> }>(
      `/${name}`,
      {
        validatorCompiler: checkBodyBy(NewBody),
        schema: {
          ...common,
          summary: `Create a ${name}; fields that the platform fills may be left out`,
          body: Type.Object({ ...NewBody.properties, spec: friendly(kind) }, { additionalProperties: false }),
          response: { 201: shown, 200: shown, ...REFUSALS },
        },
      },
      async (request, reply) => {
        const { spec = {}, ...rest } = request.body
        return await answer(
          cloud,
          request,
          reply,
          { what: `${name}.create`, kind, status: 201 },
          async (verbs) => await verbs.create(kind, { ...rest, spec }),
        )
      },
    )

  app.patch<ById & Write & { Body: Static<typeof PatchBody> }>(
    `/${name}/:id`,
    {
      validatorCompiler: checkBodyBy(PatchBody),
      schema: {
        ...common,
        summary: `Change a ${name} by a merge patch (RFC 7396); If-Match: "<generation>" refuses when it moved`,
        params: RefParams,
        body: Type.Object(
          { ...PatchBody.properties, spec: Type.Optional(friendly(kind)) },
          { additionalProperties: false },
        ),
        response: { 200: shown, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const it = await byReference(cloud, callerOf(request), kind, request.params.id)
      const change = { ...request.body, ...expected(request) }
      return await answer(
        cloud,
        request,
        reply,
        { what: `${name}.patch`, kind, status: 200 },
        async (verbs) => await verbs.patch(kind, it.id, change),
      )
    },
  )

  app.delete<ById & Write>(
    `/${name}/:id`,
    {
      schema: {
        ...common,
        summary: `Ask for deletion of a ${name}; it is shown, marked, until the real thing is gone`,
        params: RefParams,
        response: { 202: shown, 200: shown, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const it = await byReference(cloud, callerOf(request), kind, request.params.id)
      return await answer(
        cloud,
        request,
        reply,
        { what: `${name}.delete`, kind, status: 202 },
        async (verbs) => {
          await verbs.remove(kind, it.id)
          return await verbs.get(kind, it.id)
        },
      )
    },
  )
}
