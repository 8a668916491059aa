import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static, type TObject } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { user } from '#cloud/identity/user.kind.ts'
import { vpnUser } from '#cloud/inside/vpn-user.kind.ts'
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
  const { properties } = WITH_PASSWORDS[kind.name] ?? (kind.spec as TObject)
  const marked = Object.entries(properties).map(([field, it]) => [
    field,
    kind.secret.includes(field) ? { ...it, writeOnly: true } : it,
  ])
  return Type.Partial(Type.Object(Object.fromEntries(marked) as TObject['properties']))
}

const Password = Type.String({
  minLength: 8,
  maxLength: 1024,
  description: 'Never shown.',
  writeOnly: true,
})

/** Kinds that keep a hash of what they are given. */
const WITH_PASSWORDS: Readonly<Record<string, TObject>> = {
  [user.name]: Type.Object({
    password: Password,
    admin: user.spec.properties.admin,
    memberships: user.spec.properties.memberships,
  }),
  [vpnUser.name]: Type.Object({ vpc: vpnUser.spec.properties.vpc, password: Password }),
}

/** What is done to one of a kind: answered at once, and then seen in its status. */
function actionRoute(
  app: FastifyInstance,
  cloud: Cloud,
  kind: AnyKind,
  action: string,
  how: { readonly summary: string; readonly work: (verbs: Verbs, id: string) => Promise<Resource> },
): void {
  app.post<ById & Write>(
    `/${kind.name}/:id/${action}`,
    {
      schema: {
        tags: [kind.name],
        querystring: WriteParams,
        summary: how.summary,
        params: RefParams,
        response: { 202: wireSchema(kind), 200: wireSchema(kind), ...REFUSALS },
      },
    },
    async (request, reply) => {
      const it = await byReference(cloud, callerOf(request), kind, request.params.id)
      return await answer(
        cloud,
        request,
        reply,
        { what: `${kind.name}.${action}`, kind, status: 202 },
        async (verbs) => await how.work(verbs, it.id),
      )
    },
  )
}

/** Restart of a workload, start and stop of a replica. */
export function actionRoutes(app: FastifyInstance, cloud: Cloud): void {
  const [workloads, replicas] = [workload, replica] as unknown as [AnyKind, AnyKind]
  actionRoute(app, cloud, workloads, 'restart', {
    summary: 'Replace every container of a workload by a new one; also starts a stopped one',
    work: async (verbs, id) => await verbs.restartWorkload(id),
  })
  actionRoute(app, cloud, replicas, 'start', {
    summary: 'Start a replica that was stopped or has ended, in a new container; one that runs is left alone',
    work: async (verbs, id) => await verbs.startReplica(id),
  })
  actionRoute(app, cloud, replicas, 'stop', {
    summary: 'Stop a replica: it keeps its addresses, gets no connections and stays so until it is started',
    work: async (verbs, id) => await verbs.stopReplica(id),
  })
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
