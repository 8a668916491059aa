import type { Static, TSchema } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import type { Kind } from '#engine/kind.ts'
import type { Resource } from '#engine/resource.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'

/** What can be the beginning of an id. */
const PREFIX = /^[0-9a-f][0-9a-f-]{3,35}$/i

/**
 * The resource that a path value names (contract A7): by id first, then by its name in the tenant, then by the beginning
 * of an id (C2). One on its way out is not there any more. `not_found` in the words of `noun`, `invalid` for what several are
 * named.
 */
export async function byIdOrName<S extends TSchema, T extends TSchema>(
  cloud: Cloud,
  caller: Caller,
  kind: Kind<S, T>,
  text: string,
  noun: string,
): Promise<Resource<Static<S>, Static<T>>> {
  const there = isUuid(text) ? await live(cloud, caller, kind, text) : undefined
  if (there) return there
  const begun = async () =>
    (await cloud.all(caller, kind, { deleted: false })).filter((it) => it.id.startsWith(text.toLowerCase()))
  const named = await cloud.list(caller, kind, { terms: [`name:${text}`], deleted: false, limit: 2 })
  const [first, second] = named.items.length || !PREFIX.test(text) ? named.items : await begun()
  if (!first) throw new CloudError('not_found', `${noun} not found`)
  if (second) throw new CloudError('invalid', `${text} names several: use an id, such as ${first.id}`)
  return first
}

/** The resource of an id, `not_found` in the words of `noun` also when it is on its way out. */
export async function byId<S extends TSchema, T extends TSchema>(
  cloud: Cloud,
  caller: Caller,
  kind: Kind<S, T>,
  id: string,
  noun: string,
): Promise<Resource<Static<S>, Static<T>>> {
  const it = await live(cloud, caller, kind, id)
  if (!it) throw new CloudError('not_found', `${noun} not found`)
  return it
}

/** The resource of an id; undefined when there is none, or when it is on its way out. */
async function live<S extends TSchema, T extends TSchema>(
  cloud: Cloud,
  caller: Caller,
  kind: Kind<S, T>,
  id: string,
): Promise<Resource<Static<S>, Static<T>> | undefined> {
  try {
    const it = await cloud.get(caller, kind, id.toLowerCase())
    return it.deletedAt === undefined ? it : undefined
  } catch (error) {
    if (isCloudError(error, 'not_found')) return undefined
    throw error
  }
}
