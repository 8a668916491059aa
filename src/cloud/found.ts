import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Kind } from '#engine/kind.ts'
import type { Resource } from '#engine/resource.ts'
import { actionOf, authorise, authoriseFirst, ownTenant } from './access.ts'
import type { VerbContext } from './context.ts'

type Within = Pick<VerbContext, 'draft' | 'caller'>

/** A resource of the caller's tenant that is not on its way out, else `not_found`. */
export async function found<S extends TSchema, T extends TSchema>(
  { draft, caller }: Within,
  kind: Kind<S, T>,
  id: string,
  title: string,
): Promise<Resource<Static<S>, Static<T>>> {
  const it = await draft.get(kind, ownTenant(caller), id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', `${title} not found`)
  return it
}

/** The same of one that the caller may change, or do the action to that is named. */
export async function toChange<S extends TSchema, T extends TSchema>(
  context: Within,
  kind: Kind<S, T>,
  id: string,
  title: string,
  action = actionOf(kind.name, 'update'),
): Promise<Resource<Static<S>, Static<T>>> {
  authoriseFirst(context.caller, 'write', action)
  const it = await found(context, kind, id, title)
  authorise(context.caller, 'write', action, it)
  return it
}
