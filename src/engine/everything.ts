import type { Static, TSchema } from 'typebox'
import type { Engine } from './engine.ts'
import type { Kind } from './kind.ts'
import type { Resource } from './resource.ts'
import { LIST_MAX, type ListQuery } from './store.ts'

/** Every page of a list, oldest first. */
export type Everything = <S extends TSchema, T extends TSchema>(
  kind: Kind<S, T>,
  tenant: string,
  query?: Omit<ListQuery, 'kind' | 'tenant' | 'after' | 'limit'>,
) => Promise<Resource<Static<S>, Static<T>>[]>

export const everythingOf =
  (engine: Pick<Engine, 'list'>): Everything =>
  async (kind, tenant, query = {}) => {
    const items = []
    let after: string | undefined
    do {
      const from = after === undefined ? {} : { after }
      const page = await engine.list(kind, { ...query, tenant, limit: LIST_MAX, ...from })
      items.push(...page.items)
      after = page.next
    } while (after !== undefined)
    return items
  }
