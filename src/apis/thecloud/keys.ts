import Type from 'typebox'
import { ApiKey, encodeKey } from './users.ts'
import { type Frame, operation } from './operation.ts'
import { Text, Uuid } from './schema.ts'

const common = { tag: 'API keys', tenancy: 'optional' as const }
const one = {
  ...common,
  params: { id: Uuid },
  refuses: [404] as const,
  refusals: { not_found: { type: 'OBJECT_NOT_FOUND' } },
}

export function keyRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/auth/keys',
    id: 'createApiKey',
    summary: 'Make a key; shown this once',
    body: Type.Object({ name: Text(200) }),
    answer: ApiKey,
    status: 201,
    async run({ caller, body, reply }) {
      const made = await cloud.act(caller, 'api_key.create', (verbs) => verbs.createKey(body.name))
      void reply.header('cache-control', 'no-store')
      return encodeKey(made.credential, made)
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/auth/keys',
    id: 'listApiKeys',
    summary: 'The caller’s own keys, without the keys themselves',
    answer: Type.Array(ApiKey),
    async run({ caller }) {
      const keys = await cloud.ownKeys(caller)
      return keys.map(({ credential, lastUsed }) => encodeKey(credential, { lastUsed }))
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/auth/keys/:id',
    id: 'revokeApiKey',
    summary: 'Revoke a key: it opens nothing any more, at once',
    status: 204,
    async run({ caller, params }) {
      await cloud.act(caller, 'api_key.revoke', (verbs) => verbs.revokeKey(params.id))
    },
  })
  for (const { word, id } of [
    { word: 'rotate', id: 'rotateApiKey' },
    { word: 'regenerate', id: 'regenerateApiKey' },
  ])
    operation(frame, {
      ...one,
      method: 'POST',
      path: `/auth/keys/:id/${word}`,
      id,
      summary: 'A new key in the place of one that stops working at once',
      answer: ApiKey,
      async run({ caller, params, reply }) {
        const made = await cloud.act(caller, `api_key.${word}`, (verbs) => verbs.rotateKey(params.id))
        void reply.header('cache-control', 'no-store')
        return encodeKey(made.credential, made)
      },
    })
}
