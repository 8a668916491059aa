import Type, { type Static } from 'typebox'
import { Duration, Id, nullable } from './scalar.ts'

export const TOKEN_LENGTH_MAX = 4096
const CACHE_KEY_LENGTH_MAX = 512
const CACHE_VALUE_LENGTH_MAX = 262_144

const FunctionRun = Type.Object({
  token: Type.String({
    maxLength: TOKEN_LENGTH_MAX,
    writeOnly: true,
    description: 'Whoever starts it goes by this.',
  }),
  runtime_variables: Type.Object({
    environment_variables: Type.Optional(
      nullable(
        Type.Record(Type.String(), Type.String(), { description: 'For this run alone.', maxProperties: 256 }),
      ),
    ),
  }),
})

/** Contract section 3. Both tasks in one: they differ in what a start may say beside. */
export const InstanceTask = Type.Object({
  action: Type.Enum(['container.instance.start', 'container.instance.stop']),
  contents: Type.Object({
    instance_id: Id,
    container_id: Id,
    function: Type.Optional(nullable(FunctionRun)),
  }),
})

export const CACHE_SCOPES = ['global', 'environment', 'container', 'instance'] as const

export const ObjectCacheSave = Type.Object({
  scope: Type.Enum([...CACHE_SCOPES]),
  expires: Duration,
  key: Type.String({ minLength: 1, maxLength: CACHE_KEY_LENGTH_MAX }),
  value: Type.String({ maxLength: CACHE_VALUE_LENGTH_MAX }),
})
export type ObjectCacheSave = Static<typeof ObjectCacheSave>
