import { isDeepStrictEqual } from 'node:util'
import type { Static, TSchema } from 'typebox'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Ids } from '#lib/ids.ts'
import type { Claim, Kind } from './kind.ts'
import { ALL, type AnyKind, type Key, type Resource } from './resource.ts'
import { checkSpec, eventsOf, plainOf, read, refsOf, sealingOf, termsOf } from './shape.ts'
import type { Keyring } from './secrets.ts'
import {
  LIST_MAX,
  type ListQuery,
  type Mutation,
  type NewRecord,
  type Store,
  type StoredClaim,
} from './store.ts'

export type NewResource<S, T> = {
  readonly id?: string
  readonly tenant: string
  readonly name: string
  readonly owner?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly spec: S
  readonly status?: T
}

/**
 * A commit in the making. Verbs and reconcilers read through it and collect mutations in it; nothing is written before
 * the engine commits it whole. Reads see what the draft itself created, edited, claimed or marked.
 */
export type Draft = {
  /** The moment of this attempt. */
  readonly now: number
  /** A fresh id, for a resource that others of the draft must name. */
  id(): string
  /** `not_found` is the caller's to throw; a foreign tenant's resource is undefined. */
  get<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    tenant: string,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
  /** Every resource that matches (all pages), oldest first, those of the draft included; marked ones too unless `deleted: false`. */
  list<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    query: Omit<ListQuery, 'kind' | 'after' | 'limit'>,
  ): Promise<Resource<Static<S>, Static<T>>[]>
  claimed(pool: string, value: string): Promise<StoredClaim | undefined>
  claims(pool: string): Promise<readonly StoredClaim[]>
  /** Validates the spec against the kind's schema (`invalid` with the field), seals secrets, adds the kind's claims, refs, terms and wake-ups. */
  create<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    input: NewResource<Static<S>, Static<T>>,
  ): Resource<Static<S>, Static<T>>
  /** A new wish; nothing happens when it equals the old one. Immutable fields are refused `invalid`. Secret fields left as they were read stay sealed as they are. */
  edit<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    from: Resource<Static<S>, Static<T>>,
    change: { spec?: Static<S>; name?: string; labels?: Readonly<Record<string, string>> },
  ): Resource<Static<S>, Static<T>>
  /** Asks for deletion; see the mutation of the same name. */
  mark(resource: Resource, how?: { follow?: readonly string[]; hold?: readonly string[] }): void
  claim(claim: Claim, owner: string, extra?: { expiresAt?: number; note?: string }): void
  release(pool: string, value: string, owner: string): void
  /** The maximum of a pool, for as long as its owner (the id of a resource) is there. */
  pool(name: string, max: number, owner: string): void
  /** Reads the guard now; the commit is refused and the verb tried again when it moved meanwhile. `owner` as of a pool. */
  guard(name: string, owner?: string): Promise<void>
  /** An event or usage record of this commit. */
  record(record: Omit<NewRecord, 'at'>): void
  /** Look at this key soon (or at `at`). */
  wake(key: Key, at?: number): void
  /** The plain text of a sealed secret field of the spec; `status.NAME` for one of the status. */
  open(resource: Resource, field: string): string | undefined
}

/** What a draft needs of its engine. */
export type DraftContext = {
  readonly store: Store
  readonly kinds: ReadonlyMap<string, AnyKind>
  readonly clock: Clock
  readonly ids: Ids
  readonly keyring: Keyring
  /** False for a kind that nothing reconciles: its resources are settled when written. */
  readonly isReconciled: (kind: string) => boolean
  /** Resources of a tenant go with the resource whose id is their `tenant`. */
  readonly tenantRefs: boolean
}

/** Pages that one list of a draft reads at most. */
const PAGES_MAX = 100

type Local = { readonly kind: AnyKind; readonly resource: Resource }

/** A fresh draft, and the mutations collected in it so far. `read` tells it of a resource that was read outside of it. */
export function openDraft(context: DraftContext): {
  readonly draft: Draft
  mutations(): Mutation[]
  upgrade(kind: AnyKind, stored: Parameters<typeof read>[1]): Resource
} {
  const { store, clock, ids, keyring } = context
  const now = clock.now()
  const sealing = sealingOf(keyring)
  const mutations: Mutation[] = []
  const local = new Map<string, Local>()
  const upgrades = new Map<string, Mutation>()
  const guards = new Set<string>()
  // What this draft claimed, undefined where it released; and what it saw taken when it read a pool.
  const claimed = new Map<string, StoredClaim | undefined>()
  const ended = new Set<string>()
  const poolsSeen = new Map<string, Set<string>>()
  const freeSeen = new Set<string>()
  const slot = (pool: string, value: string): string => `${pool}\n${value}`

  const settleBy = (kind: AnyKind): number => Math.ceil(now + kind.settleSecondsMax * 1000)
  const keep = (kind: AnyKind, resource: Resource): void => {
    local.set(resource.id, { kind, resource })
  }
  function upgrade(kind: AnyKind, stored: Parameters<typeof read>[1]): Resource {
    const it = read(kind, stored)
    if (it.upgrade) upgrades.set(stored.id, it.upgrade)
    return it.resource
  }
  /** The stored form is brought to this program's schemas before anything of it is written. */
  function pushUpgrade(id: string): void {
    const it = upgrades.get(id)
    if (it) mutations.push(it)
    upgrades.delete(id)
  }
  function claim(it: Claim, owner: string, extra: { expiresAt?: number; note?: string } = {}): void {
    claimed.set(slot(it.pool, it.value), { ...it, owner, ...extra })
    mutations.push({ do: 'claim', claim: it, owner, ...extra })
  }
  function release(pool: string, value: string, owner: string): void {
    claimed.set(slot(pool, value), undefined)
    mutations.push({ do: 'release', pool, value, owner })
  }
  const isOver = (it: StoredClaim): boolean => it.ends === 'deletion' && ended.has(it.owner)
  const kindOf = (resource: Resource): AnyKind => {
    const kind = context.kinds.get(resource.kind)
    if (!kind) throw new Error(`no kind is called ${resource.kind}`)
    return kind
  }

  const draft: Draft = {
    now,
    id: () => ids.next(),

    async get<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, tenant: string, id: string) {
      const mine = local.get(id)?.resource
      let it = mine
      if (!it) {
        const stored = await store.get(id)
        if (!stored || stored.kind !== kind.name) return undefined
        it = upgrade(kind as unknown as AnyKind, stored)
      }
      if (it.kind !== kind.name || (tenant !== ALL && it.tenant !== tenant)) return undefined
      return it as Resource<Static<S>, Static<T>>
    },

    async list<S extends TSchema, T extends TSchema>(
      kind: Kind<S, T>,
      query: Omit<ListQuery, 'kind' | 'after' | 'limit'>,
    ) {
      const items = new Map<string, Resource>()
      let after: string | undefined
      for (let page = 0; ; page++) {
        if (page === PAGES_MAX)
          throw new CloudError(
            'unavailable',
            `more than ${PAGES_MAX * LIST_MAX} of ${kind.name} to read at once`,
          )
        const { items: found, next } = await store.list({
          ...query,
          kind: kind.name,
          ...(after === undefined ? {} : { after }),
        })
        const stored = found.map((it) => upgrade(kind as unknown as AnyKind, it))
        // Nothing of the draft's own to put in between: as it mostly is.
        if (page === 0 && next === undefined && local.size === 0)
          return stored as Resource<Static<S>, Static<T>>[]
        for (const it of stored) items.set(it.id, it)
        if (next === undefined) break
        after = next
      }
      for (const { kind: its, resource } of local.values()) {
        const matches =
          its.name === kind.name &&
          (query.tenant === ALL || resource.tenant === query.tenant) &&
          (query.deleted !== false || resource.deletedAt === undefined) &&
          (query.terms ?? []).every((it) => termsOf(its, resource).includes(it))
        if (matches) items.set(resource.id, resource)
        else items.delete(resource.id)
      }
      const sign = query.newestFirst ? -1 : 1
      const sorted = [...items.values()].toSorted((a, b) => (a.id < b.id ? -sign : sign))
      return sorted as Resource<Static<S>, Static<T>>[]
    },

    async claimed(pool, value) {
      const at = slot(pool, value)
      if (claimed.has(at)) return claimed.get(at)
      const it = await store.claim(pool, value)
      if (!it) freeSeen.add(at)
      return it && isOver(it) ? undefined : it
    },

    async claims(pool) {
      const stored = await store.claims(pool)
      poolsSeen.set(pool, new Set(stored.map((it) => it.value)))
      const all = new Map(stored.filter((it) => !isOver(it)).map((it) => [it.value, it]))
      for (const [at, it] of claimed) {
        const [itsPool, value = ''] = at.split('\n')
        if (itsPool !== pool) continue
        if (it) all.set(value, it)
        else all.delete(value)
      }
      return [...all.values()].toSorted((a, b) => (a.value < b.value ? -1 : 1))
    },

    create<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, input: NewResource<Static<S>, Static<T>>) {
      const it = kind as unknown as AnyKind
      const id = input.id ?? ids.next()
      const spec = plainOf(input.spec)
      checkSpec(it, spec)
      const resource: Resource = {
        kind: kind.name,
        id,
        tenant: input.tenant,
        name: input.name,
        ...(input.owner === undefined ? {} : { owner: input.owner }),
        labels: { ...input.labels },
        spec: sealing.seal(it, id, spec),
        status: plainOf(input.status ?? kind.initial),
        generation: 1,
        observed: context.isReconciled(kind.name) ? 0 : 1,
        revision: 1,
        createdAt: now,
        updatedAt: now,
      }
      mutations.push({
        do: 'create',
        resource: { ...resource, version: kind.version },
        refs: refsOf(it, resource, context.tenantRefs),
        terms: termsOf(it, resource),
        wakes: it.wakes(resource as never),
        settleBy: settleBy(it),
      })
      for (const one of it.claims(resource as never)) claim(one, id)
      mutations.push(...eventsOf(it, undefined, resource, now))
      keep(it, resource)
      return resource as Resource<Static<S>, Static<T>>
    },

    edit<S extends TSchema, T extends TSchema>(
      kind: Kind<S, T>,
      from: Resource<Static<S>, Static<T>>,
      change: { spec?: Static<S>; name?: string; labels?: Readonly<Record<string, string>> },
    ) {
      const it = kind as unknown as AnyKind
      const spec = change.spec === undefined ? from.spec : sealing.reseal(it, from, plainOf(change.spec))
      const { name = from.name, labels = from.labels } = change
      const before = { spec: from.spec as unknown, name: from.name, labels: { ...from.labels } }
      if (isDeepStrictEqual(before, { spec, name, labels: { ...labels } })) return from
      const { overdue: _, ...base } = from
      const generation = from.generation + 1
      const resource: Resource = {
        ...base,
        name,
        labels: { ...labels },
        spec,
        generation,
        observed: context.isReconciled(kind.name) ? from.observed : generation,
        revision: from.revision + 1,
        updatedAt: now,
      }
      pushUpgrade(from.id)
      mutations.push({
        do: 'spec',
        resource: { ...resource, version: kind.version },
        expected: from.generation,
        refs: refsOf(it, resource, context.tenantRefs),
        terms: termsOf(it, resource),
        wakes: it.wakes(resource as never),
        settleBy: settleBy(it),
      })
      const had = it.claims(from as never)
      const has = it.claims(resource as never)
      const same = (a: Claim, b: Claim): boolean => a.pool === b.pool && a.value === b.value
      for (const old of had) if (!has.some((one) => same(one, old))) release(old.pool, old.value, from.id)
      for (const one of has) if (!had.some((old) => isDeepStrictEqual(old, one))) claim(one, from.id)
      mutations.push(...eventsOf(it, from, resource, now))
      keep(it, resource)
      return resource as Resource<Static<S>, Static<T>>
    },

    mark(resource, how = {}) {
      const kind = kindOf(resource)
      mutations.push({ do: 'mark', id: resource.id, settleBy: settleBy(kind), ...how })
      ended.add(resource.id)
      const current = local.get(resource.id)?.resource ?? resource
      const marked = { ...current, deletedAt: current.deletedAt ?? now, revision: current.revision + 1 }
      if (current.deletedAt === undefined) mutations.push(...eventsOf(kind, current, marked, now))
      keep(kind, marked)
    },

    claim,
    release,
    pool: (name, max, owner) => void mutations.push({ do: 'pool', pool: name, max, owner }),

    async guard(name, owner) {
      if (guards.has(name)) return
      guards.add(name)
      const seen = await store.guard(name)
      mutations.push({ do: 'guard', name, seen, ...(owner === undefined ? {} : { owner }) })
    },

    record: (record) => void mutations.push({ do: 'record', record: { ...record, at: now } }),
    wake: (key: Key, at = now) => void mutations.push({ do: 'enqueue', key, at }),
    open: (resource, field) => sealing.open(resource, field),
  }

  return {
    draft,
    mutations: () =>
      mutations.map((it) => {
        if (it.do !== 'claim') return it
        const { pool, value } = it.claim
        const free = poolsSeen.get(pool)?.has(value) === false || freeSeen.has(slot(pool, value))
        return free ? { ...it, seen: true } : it
      }),
    upgrade(kind, stored) {
      const resource = upgrade(kind, stored)
      pushUpgrade(stored.id)
      return resource
    },
  }
}
