import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { answers } from './answers.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'
import { encodeHub, encodeIntegration } from './hub.ts'
import { PublicHub } from './schema/hub.ts'
import { Integration } from './schema/integration.ts'

const common = { tags: ['Hubs'] }

export function hubRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/hub',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getHub',
        summary: 'The hub that the instance belongs to',
        response: answers(PublicHub, 'The hub.'),
      },
    },
    async (request) => ({ data: encodeHub(instanceOf(request).tenant) }),
  )
  app.get(
    '/v1/hub/integrations',
    {
      schema: {
        ...common,
        operationId: 'getHubIntegration',
        summary: 'One integration of the hub, with the secrets that open it',
        querystring: Type.Object({
          identifier: Type.Optional(Type.String({ description: 'Its identifier, name or id.' })),
          vendor: Type.Optional(Type.String({ description: 'Whose service it is for.' })),
        }),
        response: answers(Integration, 'The oldest that fits.'),
      },
    },
    async (request) => {
      // An empty one counts as absent.
      const by = Object.fromEntries(Object.entries(request.query).filter(([, it]) => it !== ''))
      if (by['identifier'] === undefined && by['vendor'] === undefined)
        throw refusal('422.missing-argument', 'Pass identifier or vendor.', '/query/identifier')
      return { data: encodeIntegration(await inside.integration(instanceOf(request), by)) }
    },
  )
}
