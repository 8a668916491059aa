import type { Claim, Ref } from './kind.ts'
import type { Key, Resource } from './resource.ts'

/** A resource with the version of the schemas its spec and status were written under. */
export type StoredResource = Resource & { readonly version: number }

/**
 * One thing a commit does. A commit is data, all or nothing; whatever must be decided inside the transaction is one of
 * these. Refusals are CloudErrors: `conflict` with rule `lost_race` when the commit may be tried again on fresh reads,
 * else the code a caller should see.
 */
export type Mutation =
  /**
   * Refused `already_exists` when the id is taken, `conflict` (wrong_state) when a target of `refs` or the owner is gone or
   * marked deleted. `wakes` is kept: those keys are looked at after every later change too. Observed equal to generation
   * means that nothing reconciles it: it is settled at once and its own key is not enqueued.
   */
  | {
      do: 'create'
      resource: StoredResource
      refs: readonly Ref[]
      terms: readonly string[]
      wakes?: readonly Key[]
      settleBy: number
    }
  /**
   * New wish (name, labels, spec, generation); refused (lost_race) when the generation has moved or it was marked deleted
   * since it was read, `conflict` (wrong_state) when it was read as marked already. Replaces refs, terms and wakes; targets must be alive. `observed` as in create.
   */
  | {
      do: 'spec'
      resource: StoredResource
      expected: number
      refs: readonly Ref[]
      terms: readonly string[]
      wakes?: readonly Key[]
      settleBy: number
    }
  /** What is true now; `observed` as in the resource. Only by the holder of the resource's work lease; refused `gone` otherwise. */
  | {
      do: 'status'
      id: string
      lease: Lease
      version: number
      status: unknown
      observed: number
      terms: readonly string[]
      wakes?: readonly Key[]
    }
  /** Rewrites spec and status under a newer schema version; refused (lost_race) when the revision moved. Not a change for the feed. */
  | { do: 'upgrade'; id: string; revision: number; version: number; spec: unknown; status: unknown }
  /**
   * Asks for deletion: sets deletedAt, ends claims of `deletion`. Owned resources and references that cascade are marked
   * too, all the way down. Refused `conflict` (in_use) naming the blockers when a live resource refers with `block` and
   * its kind is not in `follow`. A kind in `hold` blocks even where its reference cascades or it is owned. Does nothing to
   * what is marked already; `not_found` for what is not there.
   */
  | { do: 'mark'; id: string; follow?: readonly string[]; hold?: readonly string[]; settleBy: number }
  /**
   * The real thing is gone: removes the record with claims, refs and terms, and wakes its owner and what it referred to.
   * Refused (in_use) while something that it owns or that refers to it is still there (its own owner apart).
   */
  | { do: 'remove'; id: string; lease: Lease }
  /**
   * Refused `already_exists` when another owner has the value, `exhausted` when the amount does not fit. The owner must be
   * a resource (or PLATFORM) unless the claim expires. The same owner's second claim replaces its first.
   */
  | {
      do: 'claim'
      claim: Claim
      owner: string
      /** Idempotency and the like: gone after this. */
      expiresAt?: number
      /** Kept with the claim. */
      note?: string
      /** The verb read the value as free: that it was taken meanwhile is a lost race. */
      seen?: boolean
    }
  | { do: 'release'; pool: string; value: string; owner: string }
  /** Sets the maximum of a pool of amounts. Lower than what is claimed is allowed: nothing new fits then. Gone with its owner. */
  | { do: 'pool'; pool: string; max: number; owner?: string }
  /** Refused (lost_race) when the guard moved since `seen` was read; moves it. Gone with its owner. */
  | { do: 'guard'; name: string; seen: number; owner?: string }
  | { do: 'record'; record: NewRecord }
  | { do: 'enqueue'; key: Key; at: number }
  /**
   * The outcome of one look at a key, by the holder of its lease: forget it (unless it was enqueued meanwhile), or look
   * again at `at`. With `settleBy` the resource is not settled and late from then on (an earlier moment stays); without,
   * a resource whose generation is observed is settled: it is no longer late or overdue.
   */
  | { do: 'finish'; lease: Lease; at?: number; attempt: number; reason?: string; settleBy?: number }
  /** Marks an unsettled resource overdue whose time is over, or with undefined no longer so. */
  | { do: 'overdue'; id: string; reason: string | undefined }

export type NewRecord = {
  readonly stream: 'audit' | 'event' | 'usage'
  readonly tenant: string
  /** Id of the resource it is about. */
  readonly subject?: string
  readonly at: number
  /** `pods.create`, `replica.restarted`. */
  readonly what: string
  readonly body: unknown
}
export type StoredRecord = NewRecord & { readonly cursor: string }

/** The right to work on one key; a later holder's token is higher, so that a paused process undoes nothing. */
export type Lease = { readonly key: Key; readonly token: number }
export type Work = { readonly lease: Lease; readonly attempt: number; readonly reason?: string }
export type QueueEntry = {
  readonly key: Key
  readonly at: number
  readonly attempt: number
  readonly reason?: string
}

export type ListQuery = {
  readonly kind: string
  /** A tenant's id, PLATFORM or ALL. */
  readonly tenant: string
  /** All of these must hold. */
  readonly terms?: readonly string[]
  /** Id after which to go on (ascending), as given in `next`. */
  readonly after?: string
  /** At most this many; LIST_MAX by default and at most. */
  readonly limit?: number
  /** Those marked deleted too; true by default. */
  readonly deleted?: boolean
  readonly newestFirst?: boolean
}
export const LIST_MAX = 1000

export type Page<R> = {
  readonly items: readonly R[]
  /** Give it as `after` for the next page; absent on the last. */
  readonly next?: string
  /** Exact count of everything the query matches (for one term or none; else counted). */
  readonly total: number
  /** Changes after this cursor are not in the page. */
  readonly cursor: string
}

export type Change = {
  readonly cursor: string
  readonly kind: string
  readonly id: string
  readonly tenant: string
  readonly revision: number
  readonly what: 'created' | 'changed' | 'status' | 'deleted' | 'removed'
}

/** What keeps a resource from being removed. */
export type Dependent = {
  readonly kind: string
  readonly id: string
  readonly name: string
  readonly deletedAt?: number
}
export const DEPENDENTS_MAX = 100

export type StoredClaim = Claim & {
  readonly owner: string
  readonly note?: string
  readonly expiresAt?: number
}

/** What of a pool's name is one of the names that a recall is told: what stands before its first colon. */
export function nameOfPool(pool: string): string {
  const end = pool.indexOf(':')
  return end < 0 ? pool : pool.slice(0, end)
}

export type Recall<Found extends object> = (
  key: string,
  read: () => Promise<Found | undefined>,
) => Promise<Found | undefined>

/**
 * Where resources, claims, the change feed, durable records and the work queue live. Two implementations share one
 * conformance suite. Every read names a tenant or ALL; nothing else in Arcus writes SQL.
 */
export interface Store extends AsyncDisposable {
  get(id: string): Promise<StoredResource | undefined>
  list(query: ListQuery): Promise<Page<StoredResource>>
  /** Durable when it answers; the refusals of each mutation are thrown as CloudErrors. With `dryRun` checked only. */
  commit(mutations: readonly Mutation[], how?: { readonly dryRun?: boolean }): Promise<void>
  /** The terms a resource is listed under now. */
  terms(id: string): Promise<readonly string[]>
  /** What the resource owns and what refers to it (its own owner apart), oldest first, DEPENDENTS_MAX at most. */
  dependents(id: string): Promise<readonly Dependent[]>
  claim(pool: string, value: string): Promise<StoredClaim | undefined>
  /** Values claimed in a pool, in order of value; for picking a free one. */
  claims(pool: string): Promise<readonly StoredClaim[]>
  pool(name: string): Promise<{ readonly max: number | undefined; readonly used: number }>
  guard(name: string): Promise<number>
  /** Changes after a cursor (undefined: from now), at most `limit`; `gone` when the cursor is older than what is kept. */
  changes(
    after: string | undefined,
    limit: number,
  ): Promise<{ readonly changes: readonly Change[]; readonly cursor: string }>
  /** Calls back after every commit that made changes; returns the way to stop. */
  onChange(wake: () => void): () => void
  records(query: {
    stream: NewRecord['stream']
    tenant: string
    subject?: string
    after?: string
    limit: number
    newestFirst?: boolean
  }): Promise<{ readonly records: readonly StoredRecord[]; readonly next?: string }>
  /**
   * The clock was set by `byMs` (0: not known, as at a start): no key waits longer for it, `waitMsMax` from now at most,
   * and what had not settled keeps the time that it had left, its kind's whole time (`settleMsMax`) at most.
   */
  retime(how: {
    readonly now: number
    readonly byMs: number
    readonly waitMsMax: number
    readonly settleMsMax: Readonly<Record<string, number>>
  }): Promise<void>
  /**
   * A memory of what was read, by key: it gives what was found for as long as no transaction became visible since the
   * reading began, so exactly what reading anew would give. Nobody may change what it gives. What comes of resources and
   * claims of some `names` alone, kinds and what stands before the first colon of a pool, holds until one of those changes.
   */
  recall<Found extends object>(names?: readonly string[]): Recall<Found>
  /**
   * Moves with every transaction that becomes visible: reads that begin and end at the same moment give what they gave
   * before. Undefined while one becomes visible, and always from a store that cannot tell.
   */
  moment(): number | undefined
  /** The highest id of a resource, undefined when there is none. */
  newest(): Promise<string | undefined>
  /** Removes durable records older than this; returns how many. */
  forget(stream: NewRecord['stream'], before: number, limit: number): Promise<number>
  /**
   * Due keys (at <= now) under a new lease each, longest due first, at most `limit`; none that is leased already. `room`
   * says how many of a kind at most; a kind that it does not name has no bound of its own.
   */
  take(
    now: number,
    limit: number,
    leaseMs: number,
    room?: Readonly<Record<string, number>>,
  ): Promise<readonly Work[]>
  /** Gives a lease up without an outcome (the process stops). */
  drop(lease: Lease): Promise<void>
  /** When the next key is due, undefined when the queue is empty; leased keys and kinds in `except` do not count. */
  nextDue(except?: readonly string[]): Promise<number | undefined>
  /** Calls back after every commit that put a key into the queue; returns the way to stop. */
  onWork(wake: () => void): () => void
  queue(key: Key): Promise<QueueEntry | undefined>
  /** When an unsettled resource turns overdue; undefined for a settled one. */
  settleBy(id: string): Promise<number | undefined>
  /** Ids of unsettled resources whose settleBy has passed and which are not marked overdue, at most `limit`. */
  late(now: number, limit: number): Promise<readonly string[]>
  /** Kinds and schema versions present, so that a program older than its data refuses to start. */
  versions(): Promise<readonly { readonly kind: string; readonly version: number }[]>
  /** Sizes for /metrics. */
  stats(): Promise<{
    readonly resources: number
    readonly queued: number
    readonly commits: number
    readonly batches: number
  }>
}
