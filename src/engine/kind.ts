import type { Static, TSchema } from 'typebox'
import type { Key, Resource } from './resource.ts'

/**
 * The sole right to a value in a pool (a name, an address, a port), or an amount of a pool that has a maximum (quota).
 * `ends` says when it is free again: when deletion is asked (names, quota) or when the real thing is gone (addresses).
 */
export type Claim = {
  readonly pool: string
  readonly value: string
  readonly ends: 'deletion' | 'removal'
  /** Counted against the pool's maximum; 0 (the default) for a plain unique value. */
  readonly amount?: number
  /** What the refusal says; a sentence for the caller. */
  readonly refusal?: string
  /** Which limit the pool's maximum is, for the refusal; a quota by default. */
  readonly rule?: 'quota' | 'capacity'
}

/** A resource that must exist and not be marked deleted for this one to be made, and what its deletion does to this one. */
export type Ref = { readonly to: string; readonly onDelete: 'block' | 'cascade' }

/** Brings a spec and status written under one schema version to the next; pure. */
export type Upgrade = (old: { spec: Record<string, unknown>; status: Record<string, unknown> }) => {
  spec: Record<string, unknown>
  status: Record<string, unknown>
}

/**
 * A word for what a resource is or what is being done to it. `advice` says what a person can do when it does not go on
 * from there; `fine` marks what needs nothing as long as it is settled.
 */
export type StateWord = { readonly advice: string; readonly fine?: boolean }

/** Everything the engine knows of a kind of resource. */
export type Kind<S extends TSchema, T extends TSchema> = {
  readonly name: string
  /** `tenant`: belongs to a tenant and goes with it. `platform`: belongs to the installation. */
  readonly scope: 'tenant' | 'platform'
  /** Version of the schemas; data of a newer one stops the start. */
  readonly version: number
  /** `upgrades[n]` turns version n into n + 1; applied when read, stored when next written. */
  readonly upgrades: Readonly<Record<number, Upgrade>>
  readonly spec: S
  readonly status: T
  /** What status is before anything was looked at. */
  readonly initial: Static<T>
  /** Spec fields that cannot change after creation. */
  readonly immutable: readonly string[]
  /** Top-level spec fields (strings) that are sealed at rest and shown nowhere. */
  readonly secret: readonly string[]
  /** The same for status fields: what a reconciler was given and has to keep. */
  readonly secretStatus: readonly string[]
  /** Later than this after a change the resource turns overdue. */
  readonly settleSecondsMax: number
  /** Every state word, for `explain`; each has a page, docs/states/<kind>-<word>.md. */
  readonly states: Readonly<Record<string, StateWord>>
  /** Its state word. */
  state(r: Resource<Static<S>, Static<T>>): string
  claims(r: Resource<Static<S>, Static<T>>): readonly Claim[]
  refs(r: Resource<Static<S>, Static<T>>): readonly Ref[]
  /** Words that lists can filter by (`vpc:<id>`); engine words, dialects translate theirs. Labels and name are added by the engine as `label:k=v` and `name:n`, the owner as `owner:id`. */
  terms(r: Resource<Static<S>, Static<T>>): readonly string[]
  /** Keys to look at again after every change of this resource, beside its own. */
  wakes(r: Resource<Static<S>, Static<T>>): readonly Key[]
  /**
   * What a change of it means to those who follow events, recorded in the commit of the change; pure. Without `before` it
   * was just made, without `after` its record was removed. What goes along with another's deletion is told from when its
   * own state next changes.
   */
  events(
    before: Resource<Static<S>, Static<T>> | undefined,
    after: Resource<Static<S>, Static<T>> | undefined,
  ): readonly KindEvent[]
}

/** About the resource itself unless `subject` names another. */
export type KindEvent = { readonly what: string; readonly subject?: string; readonly body: unknown }

type Given<S extends TSchema, T extends TSchema> = Pick<Kind<S, T>, 'name' | 'spec' | 'status' | 'initial'> &
  Partial<Kind<S, T>>

const wordOf = (it: Resource): string =>
  it.deletedAt !== undefined ? 'deleting' : it.observed < it.generation ? 'pending' : 'active'

/** A kind from what differs from the defaults: tenant-scoped, version 1, nothing immutable, secret, claimed or referenced, 300 s to settle, states of plain words without advice. */
export const defineKind = <S extends TSchema, T extends TSchema>(given: Given<S, T>): Kind<S, T> => ({
  scope: 'tenant',
  version: 1,
  upgrades: {},
  immutable: [],
  secret: [],
  secretStatus: [],
  settleSecondsMax: 300,
  states: {},
  state: wordOf,
  claims: () => [],
  refs: () => [],
  terms: () => [],
  wakes: () => [],
  events: () => [],
  ...given,
})
