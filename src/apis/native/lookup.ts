import { CloudError, isCloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'

const MATCHES_MAX = 20

export const kindOf = (cloud: Cloud, name: string): AnyKind => {
  const kind = cloud.kinds.get(name)
  if (!kind)
    throw new CloudError(
      'invalid',
      `There is no kind ${name}; the kinds are ${[...cloud.kinds.keys()].join(', ')}`,
      { field: 'kind' },
    )
  return kind
}

/**
 * The resource that an id, a name, or `<vpc>/<name>` means. One that is not marked deleted goes before one that is;
 * `conflict` when a name means several.
 */
export async function byReference(
  cloud: Cloud,
  caller: Caller,
  kind: AnyKind,
  reference: string,
): Promise<Resource> {
  if (isUuid(reference)) {
    try {
      return await cloud.get(caller, kind, reference.toLowerCase())
    } catch (error) {
      if (!isCloudError(error, 'not_found')) throw error
    }
  }
  const slash = reference.indexOf('/')
  const vpc =
    slash < 0 ? undefined : await byReference(cloud, caller, kindOf(cloud, 'vpc'), reference.slice(0, slash))
  const terms = [`name:${reference.slice(slash + 1)}`, ...(vpc ? [`vpc:${vpc.id}`] : [])]
  const { items } = await cloud.list(caller, kind, { terms, limit: MATCHES_MAX })
  const live = items.filter((it) => it.deletedAt === undefined)
  const [found, second] = live.length ? live : items
  if (!found) throw new CloudError('not_found', `There is no ${kind.name} ${reference}`)
  if (second)
    throw new CloudError(
      'conflict',
      `Several of kind ${kind.name} are named ${reference}: use an id, or <vpc>/<name>`,
      {
        blockers: items.map((it) => `${it.kind} ${it.name} (${it.id})`),
      },
    )
  return found
}
