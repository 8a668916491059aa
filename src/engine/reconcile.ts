import type { Log } from '#lib/log.ts'
import type { Draft } from './draft.ts'
import type { AnyKind, Key, Resource } from './resource.ts'

/**
 * What one look at a resource came to.
 * - `settled`: status speaks of this generation; looked at again when something wakes it.
 * - `again`: not there yet; looked at again after `afterMs`. `reason` is what `explain` and `overdue` show.
 * - `gone`: the real thing of a resource marked deleted was seen gone; the record is removed.
 */
export type Outcome<Status> =
  | { readonly do: 'settled'; readonly status: Status; readonly againMs?: number }
  | { readonly do: 'again'; readonly afterMs: number; readonly status?: Status; readonly reason: string }
  | { readonly do: 'gone' }

export const settled = <Status>(status: Status, againMs?: number): Outcome<Status> =>
  againMs === undefined ? { do: 'settled', status } : { do: 'settled', status, againMs }
export const again = <Status>(afterMs: number, reason: string, status?: Status): Outcome<Status> =>
  status === undefined ? { do: 'again', afterMs, reason } : { do: 'again', afterMs, reason, status }
export const gone: Outcome<never> = { do: 'gone' }

export type Look = {
  /** Collects what this look commits beside its status: owned resources, events, wake-ups. */
  readonly draft: Draft
  /** How many looks failed in a row before this one. */
  readonly attempt: number
  /**
   * How many resources that this one owns or that refer to it are still there, of one marked deleted (0 otherwise). Until
   * there are none `gone` is taken for `again`, and the real thing should be kept: they may stand on it. The last to go
   * wakes this one.
   */
  readonly dependents: number
  /** The same in words, by name: `waits for replica web-0 (id) and 2 more to go`; empty for none. */
  readonly waitsFor: string
  /** What the last look at another resource waited for or failed with; undefined for one that is settled. */
  why(other: Resource): Promise<string | undefined>
  readonly signal: AbortSignal
  readonly log: Log
}

/**
 * Level-triggered and idempotent: look at the real thing, plan with a pure function, take one step, say when to look
 * again. Anything thrown counts as a failed attempt and backs off.
 */
export type Reconcile<R extends Resource> = (resource: R, look: Look) => Promise<Outcome<R['status']>>

/** A kind and what makes it true. `concurrency` bounds looks of this kind at once. */
export type Reconciler = {
  readonly kind: AnyKind
  // eslint-disable-next-line typescript/no-explicit-any
  readonly reconcile: Reconcile<Resource<any, any>>
  readonly concurrency?: number
}

/** A standing job beside the queue (drift audit, retention): runs once at start and then every `everyMs`. */
export type Patrol = {
  readonly name: string
  readonly everyMs: number
  run(signal: AbortSignal): Promise<readonly Key[]>
}
