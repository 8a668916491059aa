import { setTimeout as realPause } from 'node:timers/promises'
import type { Static, TSchema } from 'typebox'
import type { Clock } from '#lib/clock.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { Ids } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import { type Draft, type DraftContext, openDraft } from './draft.ts'
import { type Explanation, explain } from './explain.ts'
import type { Kind } from './kind.ts'
import { runLoop, settleLoop } from './loop.ts'
import type { Patrol, Reconciler } from './reconcile.ts'
import { ALL, type AnyKind, type Key, type Resource } from './resource.ts'
import type { Keyring } from './secrets.ts'
import { read, redact, sealingOf } from './shape.ts'
import type { ListQuery, Page, Store } from './store.ts'

/** How often a verb is run at most when it loses races. */
export const TRANSACT_ATTEMPTS_MAX = 10
const RETRY_MS_MAX = 10

export type { Explanation } from './explain.ts'

export type EngineOptions = {
  readonly store: Store
  readonly kinds: readonly AnyKind[]
  readonly clock: Clock
  readonly ids: Ids
  readonly keyring: Keyring
  readonly log: Log
  /** In [0, 1), for jitter. */
  readonly random: () => number
  /** Waits between two attempts of a verb that lost a race; real time unless told, since a verb must end also where nobody moves the clock. */
  readonly pause?: (ms: number) => Promise<unknown>
  /** Resources of a tenant refer to the resource whose id is their `tenant`, and go with it. Off by default. */
  readonly tenantRefs?: boolean
  /** Names of the kinds that have a reconciler; those of other kinds are settled when written. By default what `run` was given. */
  readonly reconciled?: readonly string[]
}

export type Engine = {
  readonly store: Store
  readonly kinds: ReadonlyMap<string, AnyKind>
  readonly clock: Clock
  /** Reads upgrade old schema versions. `tenant` is an id, PLATFORM or ALL; a foreign id is undefined. */
  get<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    tenant: string,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
  list<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    query: Omit<ListQuery, 'kind'>,
  ): Promise<Page<Resource<Static<S>, Static<T>>>>
  /**
   * Runs `work` on a draft and commits it; on a lost race runs it again on fresh reads, TRANSACT_ATTEMPTS_MAX times at
   * most; so `work` must do nothing that counts outside the draft, and must not call `transact`. With `dryRun` everything is checked and nothing is written.
   */
  transact<R>(work: (draft: Draft) => Promise<R>, how?: { readonly dryRun?: boolean }): Promise<R>
  /** The resource as it may be shown: secret fields left out. */
  redact<R extends Resource>(resource: R): R
  open(resource: Resource, field: string): string | undefined
  /** See the keyring's. */
  mac(text: string, purpose: string): string
  explain(resource: Resource): Promise<Explanation>
  /** Refused `unsupported` when the store holds data of a newer program; to be asked before serving. `run` asks too. */
  check(): Promise<void>
  /** Looks at these keys soon. */
  wake(...keys: readonly Key[]): Promise<void>
  /** Works the queue until the signal aborts, then gives its leases up. */
  run(reconcilers: readonly Reconciler[], patrols: readonly Patrol[], signal: AbortSignal): Promise<void>
  /**
   * For tests on a simulated clock: works until nothing is due within `withinMs` from now (default 0) and returns; the
   * clock moves as far as the last thing that was due. Looks must not sleep on the clock.
   */
  settle(reconcilers: readonly Reconciler[], withinMs?: number): Promise<void>
}

/** The engine over a store: what the cloud's verbs and reconcilers stand on. */
export function createEngine(options: EngineOptions): Engine {
  const { store, clock, ids, keyring, log, random, pause = realPause } = options
  const kinds = new Map(options.kinds.map((it) => [it.name, it]))
  if (kinds.size < options.kinds.length) throw new Error('two kinds have one name')
  const sealing = sealingOf(keyring)
  let reconciled = options.reconciled && new Set(options.reconciled)
  const context: DraftContext = {
    store,
    kinds,
    clock,
    ids,
    keyring,
    isReconciled: (kind) => reconciled?.has(kind) ?? true,
    tenantRefs: options.tenantRefs ?? false,
  }
  const looking = new Map<Key, number>()
  // Verbs that lost a race go on one at a time: of many that want the same thing each then loses once or twice at most.
  let turn: Promise<unknown> = Promise.resolve()

  async function attempt<R>(work: (draft: Draft) => Promise<R>, dryRun: boolean): Promise<R> {
    const { draft, mutations } = openDraft(context)
    const result = await work(draft)
    const all = mutations()
    if (all.length) await store.commit(all, { dryRun })
    return result
  }

  async function retry<R>(work: (draft: Draft) => Promise<R>, dryRun: boolean, lost: unknown): Promise<R> {
    let last = lost
    for (let attempts = 1; attempts < TRANSACT_ATTEMPTS_MAX; attempts++) {
      // Others may race from another process: part ways.
      if (attempts > 1) await pause(random() * RETRY_MS_MAX)
      try {
        return await attempt(work, dryRun)
      } catch (error) {
        if (!isLostRace(error)) throw error
        last = error
      }
    }
    throw last
  }

  async function check(): Promise<void> {
    for (const { kind, version } of await store.versions()) {
      const known = kinds.get(kind)?.version
      if (known !== undefined && version <= known) continue
      throw new CloudError(
        'unsupported',
        known === undefined
          ? `the data folder holds resources of the kind ${kind}, which this version does not know; start a later one`
          : `the data folder holds ${kind} of schema ${version}, this version knows ${known}; start a later one`,
      )
    }
  }

  const loop = (reconcilers: readonly Reconciler[]) => {
    if (!options.reconciled) reconciled = new Set(reconcilers.map((it) => it.kind.name))
    return { context, reconcilers, log, random, looking }
  }

  return {
    store,
    kinds,
    clock,
    check,

    async get<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, tenant: string, id: string) {
      const stored = await store.get(id)
      if (!stored || stored.kind !== kind.name || (tenant !== ALL && stored.tenant !== tenant))
        return undefined
      return read(kind as unknown as AnyKind, stored).resource as Resource<Static<S>, Static<T>>
    },

    async list<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, query: Omit<ListQuery, 'kind'>) {
      const page = await store.list({ ...query, kind: kind.name })
      const items = page.items.map((it) => read(kind as unknown as AnyKind, it).resource)
      return { ...page, items } as Page<Resource<Static<S>, Static<T>>>
    },

    async transact(work, how = {}) {
      const dryRun = how.dryRun ?? false
      try {
        return await attempt(work, dryRun)
      } catch (error) {
        if (!isLostRace(error)) throw error
        const mine = turn.then(() => retry(work, dryRun, error))
        turn = mine.catch(() => {})
        return await mine
      }
    },

    redact: (resource) => redact(kinds.get(resource.kind), resource),
    open: (resource, field) => sealing.open(resource, field),
    mac: keyring.mac,

    explain: async (resource) => await explain({ context, looking }, resource),

    wake: (...keys) => store.commit(keys.map((key) => ({ do: 'enqueue', key, at: clock.now() }))),

    async run(reconcilers, patrols, signal) {
      const given = loop(reconcilers)
      await check()
      await runLoop(given, patrols, signal)
    },
    settle: (reconcilers, withinMs = 0) => settleLoop(loop(reconcilers), withinMs),
  }
}

const isLostRace = (error: unknown): boolean =>
  isCloudError(error, 'conflict') && error.details.rule === 'lost_race'
