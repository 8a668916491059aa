import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { callerOf } from './caller.ts'
import { REFUSALS, within } from './errors.ts'
import { kindOf } from './lookup.ts'
import { type Placed, placeAll } from './placement.ts'
import { Item } from './resolver.ts'
import { isOn, WriteParams } from './schema.ts'
import { encode } from './wire.ts'

/** Most resources one document may have: they are one commit. */
const RESOURCES_MAX = 500
/** How often a document is tried when someone else makes one of its resources meanwhile. */
const ATTEMPTS_MAX = 3

const Body = Type.Object(
  { resources: Type.Array(Item, { minItems: 1, maxItems: RESOURCES_MAX }) },
  { additionalProperties: false },
)

const Applied = Type.Object({
  items: Type.Array(
    Type.Object({
      kind: Type.String(),
      name: Type.String(),
      id: Type.String(),
      action: Type.Enum(['created', 'changed', 'unchanged']),
      resource: Type.Unknown({ description: 'As GET of its kind shows it.' }),
    }),
  ),
})

export function topologyRoute(app: FastifyInstance, cloud: Cloud): void {
  app.post<{ Body: Static<typeof Body>; Querystring: Static<typeof WriteParams> }>(
    '/topology',
    {
      schema: {
        tags: ['topology'],
        summary: 'Create what is missing and change what differs, all in one commit',
        description:
          'References may be names: of the document first, then of what exists; `<vpc>/<name>` where a name alone is not enough. Nothing is deleted. Applied again, it changes nothing.',
        querystring: WriteParams,
        body: Body,
        response: { 200: Applied, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const dryRun = isOn(request.query.dryRun)
      if (dryRun) void reply.header('arcus-dry-run', 'true')
      const placed = await apply(cloud, callerOf(request), request.body.resources, dryRun)
      return {
        items: placed.map(({ resource, action }) => ({
          kind: resource.kind,
          name: resource.name,
          id: resource.id,
          action,
          resource: encode(kindOf(cloud, resource.kind), resource),
        })),
      }
    },
  )
}

async function apply(
  cloud: Cloud,
  caller: Caller,
  items: readonly Item[],
  dryRun: boolean,
): Promise<readonly Placed[]> {
  for (const [at, item] of items.entries()) checkScope(cloud, caller, item, at)
  for (let attempt = 1; ; attempt++) {
    try {
      const work = async (verbs: Parameters<typeof placeAll>[2]) =>
        await placeAll(cloud, caller, verbs, items)
      return await cloud.act(caller, 'topology.apply', work, { dryRun })
    } catch (error) {
      // Perhaps another one just applied the same document: then it is there by now, and left as it is.
      if (!isCloudError(error, 'already_exists') || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/** Refuses a kind that there is not, and a tenant's resource when no tenant was named. */
function checkScope(cloud: Cloud, caller: Caller, item: Item, at: number): void {
  try {
    if (kindOf(cloud, item.kind).scope === 'tenant' && caller.tenant === PLATFORM)
      throw new CloudError('invalid', 'name the tenant to act in with the header Arcus-Tenant')
  } catch (error) {
    throw within(`resources.${at}`, item.name, error)
  }
}
