import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { answers } from './answers.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'
import { CACHE_SCOPES, ObjectCacheSave } from './schema/task.ts'
import { secondsOf } from './wire.ts'

const EXPIRES_SECONDS_MAX = 30 * 86_400
const common = { tags: ['Object cache'] }

export function objectCacheRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/object-cache',
    {
      schema: {
        ...common,
        operationId: 'getObjectCache',
        summary: 'A value that was kept',
        querystring: Type.Object({
          scope: Type.Enum([...CACHE_SCOPES], { description: '`global` is the hub.' }),
          key: Type.String(),
        }),
        response: answers(ObjectCacheSave, 'The value, as it was kept.'),
      },
    },
    async (request) => {
      const { scope, key } = request.query
      const it = inside.cached(instanceOf(request), scope, key)
      if (!it) throw refusal('404.uri', 'Nothing is kept under this key.', '/query/key')
      return { data: { scope: it.scope, expires: it.expires, key: it.key, value: it.value } }
    },
  )
  app.post(
    '/v1/object-cache',
    {
      schema: {
        ...common,
        operationId: 'postObjectCache',
        summary: 'Keep a value for a while',
        description:
          'For the hub, the environment, the container or the instance alone. It may be gone before its time, when room is needed or the platform starts anew.',
        body: ObjectCacheSave,
        response: answers(Type.Null(), 'It is kept.'),
      },
    },
    async (request) => {
      const { expires } = request.body
      const seconds = secondsOf(expires)
      if (seconds === undefined || seconds <= 0)
        throw refusal('422.invalid-argument', 'expires must be a duration such as 10m.', '/expires')
      if (seconds > EXPIRES_SECONDS_MAX)
        throw refusal('422.max-exceeded', 'expires must be 30d at most.', '/expires')
      inside.cache(instanceOf(request), { ...request.body, seconds })
      return { data: null }
    },
  )
}
