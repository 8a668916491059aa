import type { Static, TSchema } from 'typebox'
import type { Clock } from '#lib/clock.ts'
import type { Ids } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import type { Draft } from './draft.ts'
import type { Kind } from './kind.ts'
import type { Patrol, Reconciler } from './reconcile.ts'
import type { AnyKind, Key, Resource } from './resource.ts'
import type { Keyring } from './secrets.ts'
import type { ListQuery, Page, QueueEntry, Store } from './store.ts'

export type EngineOptions = {
  readonly store: Store
  readonly kinds: readonly AnyKind[]
  readonly clock: Clock
  readonly ids: Ids
  readonly keyring: Keyring
  readonly log: Log
  /** In [0, 1), for jitter. */
  readonly random: () => number
}

/** Why a resource is not settled. */
export type Explanation = {
  readonly settled: boolean
  readonly overdue?: string
  /** The work queue's entry: when it is looked at next, how many attempts failed, what the last one said. */
  readonly queue?: QueueEntry
  /** Ids of live resources that this one owns and that are not settled. */
  readonly waitingFor: readonly { readonly kind: string; readonly id: string; readonly name: string; readonly reason?: string }[]
}

export type Engine = {
  readonly store: Store
  readonly kinds: ReadonlyMap<string, AnyKind>
  readonly clock: Clock
  /** Reads upgrade old schema versions. `tenant` is an id, PLATFORM or ALL; a foreign id is undefined. */
  get<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, tenant: string, id: string): Promise<Resource<Static<S>, Static<T>> | undefined>
  list<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, query: Omit<ListQuery, 'kind'>): Promise<Page<Resource<Static<S>, Static<T>>>>
  /**
   * Runs `work` on a draft and commits it; on a lost race runs it again on fresh reads, TRANSACT_ATTEMPTS_MAX times at
   * most. With `dryRun` everything is checked and nothing is written.
   */
  transact<R>(work: (draft: Draft) => Promise<R>, how?: { readonly dryRun?: boolean }): Promise<R>
  /** The resource as it may be shown: secret fields left out. */
  redact<R extends Resource>(resource: R): R
  open(resource: Resource, field: string): string | undefined
  explain(resource: Resource): Promise<Explanation>
  /** Looks at a key soon. */
  wake(key: Key): Promise<void>
  /** Works the queue until the signal aborts, then gives its leases up. */
  run(reconcilers: readonly Reconciler[], patrols: readonly Patrol[], signal: AbortSignal): Promise<void>
  /** For tests on a simulated clock: works until nothing is due within `withinMs` (default 0) and returns. */
  settle(reconcilers: readonly Reconciler[], withinMs?: number): Promise<void>
}
