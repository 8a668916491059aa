import type { Static, TSchema } from 'typebox'
import type { Claim, Kind } from './kind.ts'
import type { Key, Resource } from './resource.ts'
import type { ListQuery, NewRecord, StoredClaim } from './store.ts'

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
  get<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, tenant: string, id: string): Promise<Resource<Static<S>, Static<T>> | undefined>
  /** Every resource that matches (all pages), oldest first, those of the draft included; marked ones too unless `deleted: false`. */
  list<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, query: Omit<ListQuery, 'kind' | 'after' | 'limit'>): Promise<Resource<Static<S>, Static<T>>[]>
  claimed(pool: string, value: string): Promise<StoredClaim | undefined>
  claims(pool: string): Promise<readonly StoredClaim[]>
  /** Validates the spec against the kind's schema (`invalid` with the field), seals secrets, adds the kind's claims, refs, terms and wake-ups. */
  create<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, input: NewResource<Static<S>, Static<T>>): Resource<Static<S>, Static<T>>
  /** A new wish; immutable fields are refused `invalid`. Secret fields left as they were read stay sealed as they are. */
  edit<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, from: Resource<Static<S>, Static<T>>, change: { spec?: Static<S>; name?: string; labels?: Readonly<Record<string, string>> }): Resource<Static<S>, Static<T>>
  /** Asks for deletion; see the mutation of the same name. */
  mark(resource: Resource, how?: { follow?: readonly string[]; hold?: readonly string[] }): void
  claim(claim: Claim, owner: string, extra?: { expiresAt?: number; note?: string }): void
  release(pool: string, value: string, owner: string): void
  pool(name: string, max: number): void
  /** Reads the guard now; the commit is refused and the verb tried again when it moved meanwhile. */
  guard(name: string): Promise<void>
  /** An event or usage record of this commit. */
  record(record: Omit<NewRecord, 'at'>): void
  /** Look at this key soon (or at `at`). */
  wake(key: Key, at?: number): void
  /** The plain text of a sealed secret field. */
  open(resource: Resource, field: string): string | undefined
}
