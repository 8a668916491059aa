import type { Static, TSchema } from 'typebox'
import type { Kind } from './kind.ts'

/** The tenant of what belongs to the installation itself (tenants, users, provider configuration). */
export const PLATFORM = 'platform'

/** Every tenant; only an administrator's caller may name it in a read. */
export const ALL = '*'

/** A resource as the engine keeps it: a wish (`spec`, written by callers) and what is true (`status`, written by its reconciler). */
export type Resource<Spec = unknown, Status = unknown> = {
  readonly kind: string
  /** UUIDv7; order by id is order by age. */
  readonly id: string
  readonly tenant: string
  /** What a person typed; unique only where a claim says so. */
  readonly name: string
  /** Id of the resource that goes only after this one. */
  readonly owner?: string
  readonly labels: Readonly<Record<string, string>>
  readonly spec: Spec
  readonly status: Status
  /** Moves with every change of the wish: spec, name or labels. */
  readonly generation: number
  /** The generation that `status` speaks of; below `generation` while the wish is not yet looked at. */
  readonly observed: number
  /** Moves with every change of anything. */
  readonly revision: number
  /** Milliseconds since 1970, as all times in the engine. */
  readonly createdAt: number
  readonly updatedAt: number
  /** Deletion was asked then; the record goes when the real thing was seen gone. */
  readonly deletedAt?: number
  /** Set when the resource has not settled within its kind's time: why, for a person to act on. */
  readonly overdue?: string
}

/** The resource type of a kind: `type Vpc = ResourceOf<typeof vpc>`. */
export type ResourceOf<K> = K extends Kind<infer S, infer T> ? Resource<Static<S>, Static<T>> : never

export type AnyKind = Kind<TSchema, TSchema>

/** `kind/id`: names one resource in the work queue. */
export type Key = `${string}/${string}`
export const keyOf = (it: { readonly kind: string; readonly id: string }): Key => `${it.kind}/${it.id}`
export const splitKey = (key: Key): { kind: string; id: string } => {
  const slash = key.indexOf('/')
  return { kind: key.slice(0, slash), id: key.slice(slash + 1) }
}

export const isSettled = (it: Resource): boolean =>
  it.observed === it.generation && it.deletedAt === undefined && it.overdue === undefined
