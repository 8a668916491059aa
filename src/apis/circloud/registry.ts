import Type, { type Static } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Cloud } from '#cloud/cloud.ts'
import {
  registryCredential,
  type RegistryCredential as Resource,
} from '#cloud/compute/registry-credential.kind.ts'
import type { Doors } from './doors.ts'
import { listOf, params, refusals, said, timestamp, Timestamp, type App } from './schema.ts'

const RegistryCredentialCreate = Type.Object(
  {
    name: Type.String({
      pattern: '^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$',
      title: 'a name of a-z, 0-9, - and ., 1 to 63 characters, beginning and ending with a letter or digit',
    }),
    server: Type.String({ minLength: 1, maxLength: 512, description: 'URL or host of the registry.' }),
    username: Type.String({ minLength: 1, maxLength: 256 }),
    password: Type.String({ minLength: 1, maxLength: 4096, writeOnly: true }),
  },
  {
    examples: [
      {
        name: 'dockerhub',
        server: 'https://index.docker.io/v1/',
        username: 'myusername',
        password: 'mytoken',
      },
    ],
  },
)
const RegistryCredential = Type.Object(
  { name: Type.String(), server: Type.String(), username: Type.String(), created_at: Timestamp },
  { additionalProperties: false },
)
const RegistryCredentialDeleted = Type.Object({ message: Type.String(), name: Type.String() })

/** The password is never part of it, not even masked. */
const encode = (it: Resource): Static<typeof RegistryCredential> => ({
  name: it.name,
  server: it.spec.server,
  username: it.spec.username,
  created_at: timestamp(it.createdAt),
})

const common = { tags: ['registry'] }
const path = '/tenants/:tenant_id/registry-credentials'

/** In a scope whose callers were seen to be the path's tenant. */
export function registryRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    path,
    {
      schema: {
        ...common,
        operationId: 'addRegistryCredential',
        summary: 'Store credentials for a private registry',
        params: params('tenant_id'),
        body: RegistryCredentialCreate,
        response: {
          201: said(RegistryCredential, 'Stored. The password is not in the answer.'),
          ...refusals(400, 401, 409),
        },
      },
    },
    async (request, reply) => {
      const { name, server, username, password } = request.body
      const made = await cloud.act(callerOf(request), 'circloud.registry.add', (verbs) =>
        verbs.addRegistryCredential({ name, server, username, password }),
      )
      return reply.code(201).send(encode(made))
    },
  )
  app.get(
    path,
    {
      schema: {
        ...common,
        operationId: 'listRegistryCredentials',
        summary: 'List registry credentials without passwords',
        params: params('tenant_id'),
        response: {
          200: listOf(RegistryCredential, 'Credentials of the tenant, passwords left out.'),
          ...refusals(401),
        },
      },
    },
    async (request, reply) =>
      reply
        .code(200)
        .send((await cloud.all(callerOf(request), registryCredential, { deleted: false })).map(encode)),
  )
  app.delete(
    `${path}/:name`,
    {
      schema: {
        ...common,
        operationId: 'deleteRegistryCredential',
        summary: 'Delete a registry credential',
        description: 'Answers 200 with a body, unlike the other deletes.',
        params: params('tenant_id', 'name'),
        response: { 200: said(RegistryCredentialDeleted, 'Deleted.'), ...refusals(401, 404) },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const { name } = request.params
      await cloud.act(caller, 'circloud.registry.delete', async (verbs) => {
        const it = await verbs.find(registryCredential, caller.tenant, name)
        if (!it) throw new CloudError('not_found', 'Credential not found')
        return await verbs.remove(registryCredential, it.id)
      })
      return reply.code(200).send({ message: 'Credential deleted', name })
    },
  )
}
