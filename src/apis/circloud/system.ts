import Type from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { said, type App } from './schema.ts'

const Health = Type.Object({ status: Type.Enum(['ok']) })
const Version = Type.Object({
  version: Type.String({ description: 'Semantic version.' }),
  name: Type.Optional(Type.String()),
  commit: Type.Optional(Type.Union([Type.String(), Type.Null()])),
})

const common = { tags: ['system'], security: [] }

export function systemRoutes(app: App, cloud: Cloud): void {
  app.get(
    '/healthz',
    {
      schema: {
        ...common,
        operationId: 'healthz',
        summary: 'Health',
        response: { 200: said(Health, 'The API is up.') },
      },
    },
    async () => ({ status: 'ok' as const }),
  )
  app.get(
    '/version',
    {
      schema: {
        ...common,
        operationId: 'version',
        summary: 'Version',
        response: { 200: said(Version, 'Version information.') },
      },
    },
    async () => ({ version: cloud.version.version, name: 'circloud', commit: cloud.version.commit }),
  )
}
