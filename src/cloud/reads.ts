import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Engine, Explanation } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import type { Kind } from '#engine/kind.ts'
import { type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import { LIST_MAX, type ListQuery, type Page } from '#engine/store.ts'
import { actionOf, authorise, authoriseFirst, type Caller, hides, tenantFor, visible } from './access.ts'
import { role } from './identity/role.kind.ts'
import { tenant } from './identity/tenant.kind.ts'

/** Resources as a caller may see them, without what is secret in them. */
export type Reads = {
  get<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>>>
  list<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    query?: Omit<ListQuery, 'kind' | 'tenant'>,
  ): Promise<Page<Resource<Static<S>, Static<T>>>>
  /** Every page of a list, oldest first; for dialects without paging. */
  all<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    query?: Omit<ListQuery, 'kind' | 'tenant' | 'after' | 'limit'>,
  ): Promise<Resource<Static<S>, Static<T>>[]>
  /** By a name claimed in a scope: a tenant's id for VPCs, a VPC's id for subnets and workloads. */
  find<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    scope: string,
    name: string,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
  /** What says who may act in the caller's tenant, with that of the installation that counts there; for its owners, oldest first. */
  owned<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    terms?: readonly string[],
  ): Promise<readonly Resource<Static<S>, Static<T>>[]>
  explain(caller: Caller, kind: AnyKind, id: string): Promise<Explanation>
}

/** A resource as the caller may see it, with what is secret in it: for what is done with it, not for an answer. */
export type Read = <S extends TSchema, T extends TSchema>(
  caller: Caller,
  kind: Kind<S, T>,
  id: string,
) => Promise<Resource<Static<S>, Static<T>>>

export const readOf =
  (engine: Engine): Read =>
  async (caller, kind, id) => {
    const action = actionOf(kind.name, 'read')
    authoriseFirst(caller, 'read', action)
    const own = kind.name === tenant.name && id === caller.tenant ? PLATFORM : tenantFor(caller, kind)
    const it = await engine.get(kind, own, id)
    if (!it) throw new CloudError('not_found', `No ${kind.name} ${id}`)
    authorise(caller, 'read', action, it)
    return it
  }

export function createReads(engine: Engine): Reads {
  const read = readOf(engine)
  const everything = everythingOf(engine)
  /** A page of what no policy hides from the caller, and how much that is in all: everything has to be looked at for it. */
  const visiblePage = async <S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    of: string,
    asked: Omit<ListQuery, 'kind' | 'tenant'>,
  ): Promise<Page<Resource<Static<S>, Static<T>>>> => {
    const { cursor } = await engine.list(kind, { ...asked, tenant: of })
    const { after, limit = LIST_MAX, ...query } = asked
    const all = visible(caller, await everything(kind, of, query))
    const isBehind = (id: string): boolean =>
      after === undefined || (query.newestFirst ? id < after : id > after)
    const rest = all.filter((it) => isBehind(it.id))
    const items = rest.slice(0, Math.min(limit, LIST_MAX))
    const last = items.length < rest.length ? items.at(-1)?.id : undefined
    return { items, total: all.length, cursor, ...(last === undefined ? {} : { next: last }) }
  }

  return {
    get: async (caller, kind, id) => engine.redact(await read(caller, kind, id)),
    async list(caller, kind, query = {}) {
      authorise(caller, 'read', actionOf(kind.name, 'read'), { kind: kind.name })
      const of = tenantFor(caller, kind)
      const page = hides(caller) ? await visiblePage(caller, kind, of, query) : undefined
      const { items, ...more } = page ?? (await engine.list(kind, { ...query, tenant: of }))
      return { ...more, items: items.map((it) => engine.redact(it)) }
    },
    async all(caller, kind, query = {}) {
      authorise(caller, 'read', actionOf(kind.name, 'read'), { kind: kind.name })
      const all = await everything(kind, tenantFor(caller, kind), query)
      return visible(caller, all).map((it) => engine.redact(it))
    },
    async find(caller, kind, scope, name) {
      const action = actionOf(kind.name, 'read')
      authoriseFirst(caller, 'read', action)
      const claim = await engine.store.claim(`${kind.name}-name:${scope}`, name)
      const it = claim && (await engine.get(kind, tenantFor(caller, kind), claim.owner))
      if (!it) return undefined
      authorise(caller, 'read', action, it)
      return engine.redact(it)
    },
    async owned(caller, kind, terms = []) {
      authorise(caller, 'own', actionOf(kind.name, 'read'), { kind: kind.name })
      const scopes = kind.name === role.name ? new Set([PLATFORM, caller.tenant]) : [caller.tenant]
      const found = await Promise.all(
        [...scopes].map(async (of) => await everything(kind, of, { terms, deleted: false })),
      )
      return visible(caller, found.flat()).map((it) => engine.redact(it))
    },
    explain: async (caller, kind, id) => await engine.explain(await read(caller, kind, id)),
  }
}
