import { isDeepStrictEqual } from 'node:util'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { type DraftContext, openDraft } from './draft.ts'
import { again, gone, type Outcome, type Reconciler, settled } from './reconcile.ts'
import { type AnyKind, type Resource, splitKey } from './resource.ts'
import { plainOf, termsOf, wrongIn } from './shape.ts'
import type { Dependent, Mutation, Work } from './store.ts'

/** What looks at resources need. */
export type LookContext = {
  readonly context: DraftContext
  readonly reconcilers: readonly Reconciler[]
  readonly log: Log
  readonly random: () => number
}

/** A look that takes longer is told to stop, and counts as failed. */
export const LOOK_MS_MAX = 300_000
const BACKOFF_MS_MIN = 500
export const BACKOFF_MS_MAX = 300_000
/** A failed look at what was changed meanwhile is tried again as soon as this, a few times. */
const LOST_RACE_MS_MAX = 50
const LOST_RACES_MAX = 5
/** What waits for others to go is woken when they went; this is for when that was missed. */
const EMPTYING_MS = 30_000
const NAMED_MAX = 3
const REASON_LENGTH_MAX = 2000

/** Doubles with each failure in a row, and is spread so that many that failed together do not come back together. */
export const backoffMs = (attempt: number, random: () => number): number =>
  Math.round(Math.min(BACKOFF_MS_MIN * 2 ** Math.min(attempt, 30), BACKOFF_MS_MAX) * (0.5 + random() / 2))

function waitingFor(dependents: readonly Dependent[]): string {
  const names = dependents.slice(0, NAMED_MAX).map((it) => `${it.kind} ${it.name} (${it.id})`)
  const more = dependents.length - names.length
  return `waits for ${names.join(', ')}${more ? ` and ${more} more` : ''} to go`
}

/** What nothing reconciles is settled as it is, and gone once deletion was asked. */
const unreconciled = (resource: Resource): Outcome<unknown> =>
  resource.deletedAt === undefined ? settled(resource.status) : gone

/** Ends a wait when the signal aborts, also where what is waited for does not listen. */
async function within<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(signal.reason as Error)
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** One look at one key: everything it comes to is one commit. Throws only when the store fails. */
export async function look(
  { context, reconcilers, log: baseLog, random }: LookContext,
  work: Work,
  stop: AbortSignal,
): Promise<void> {
  const { store, clock } = context
  const { lease, attempt } = work
  const { kind: kindName, id } = splitKey(lease.key)
  const stored = await store.get(id)
  const kind = context.kinds.get(kindName)
  if (!stored || !kind || stored.kind !== kindName) return await finish([{ do: 'finish', lease, attempt: 0 }])

  const reconciler = reconcilers.find((it) => it.kind.name === kindName)
  const log = baseLog.with({ kind: kindName, id, revision: stored.revision })
  const late = (): number => Math.ceil(clock.now() + kind.settleSecondsMax * 1000)
  const limit = new AbortController()
  const timer = setTimeout(
    () => limit.abort(new Error(`the look took longer than ${LOOK_MS_MAX / 1000} s`)),
    LOOK_MS_MAX,
  )
  try {
    const { draft, mutations, upgrade } = openDraft(context)
    const resource = upgrade(kind, stored)
    const dependents = resource.deletedAt === undefined ? [] : await store.dependents(id)
    const signal = AbortSignal.any([stop, limit.signal])
    const given = { draft, attempt, dependents: dependents.length, signal, log }
    let outcome: Outcome<unknown> = reconciler
      ? await within(reconciler.reconcile(resource, given), signal)
      : unreconciled(resource)
    if (outcome.do === 'gone' && dependents.length) outcome = again(EMPTYING_MS, waitingFor(dependents))
    await store.commit([...mutations(), ...(await ending(kind, resource, outcome))])
  } catch (error) {
    if (stop.aborted) return await store.drop(lease)
    await failed(error)
  } finally {
    clearTimeout(timer)
  }

  async function ending(it: AnyKind, resource: Resource, outcome: Outcome<unknown>): Promise<Mutation[]> {
    if (outcome.do === 'gone') {
      if (resource.deletedAt === undefined)
        throw new Error('its reconciler says gone, but no deletion was asked')
      return [
        { do: 'remove', id, lease },
        { do: 'finish', lease, attempt: 0 },
      ]
    }
    const isDone = outcome.do === 'settled'
    const status = plainOf(outcome.status ?? resource.status)
    const wrong = outcome.status === undefined ? undefined : wrongIn(it.status, status, 'status')
    if (wrong) throw new Error(`its reconciler wrote a wrong status: ${wrong.field} ${wrong.message}`)
    const observed = isDone ? resource.generation : resource.observed
    const terms = termsOf(it, { ...resource, status, observed })
    const written: Mutation[] = []
    const same =
      observed === resource.observed &&
      isDeepStrictEqual(status, resource.status) &&
      isDeepStrictEqual(new Set(terms), new Set(await store.terms(id)))
    if (!same) {
      const wakes = it.wakes({ ...resource, status, observed } as never)
      written.push({ do: 'status', id, lease, version: it.version, status, observed, terms, wakes })
    }
    const now = clock.now()
    if (outcome.do === 'settled') {
      const at = outcome.againMs === undefined ? {} : { at: now + outcome.againMs }
      // Settled while deletion is asked: it is still to go.
      const settleBy = resource.deletedAt === undefined ? {} : { settleBy: late() }
      return [...written, { do: 'finish', lease, attempt: 0, ...at, ...settleBy }]
    }
    const { reason } = outcome
    return [
      ...written,
      { do: 'finish', lease, at: now + outcome.afterMs, attempt: 0, reason, settleBy: late() },
    ]
  }

  async function failed(error: unknown): Promise<void> {
    if (isCloudError(error, 'gone') && error.message.startsWith('the lease')) return
    const isRace = isCloudError(error, 'conflict') && error.details.rule === 'lost_race'
    const soon = isRace && attempt < LOST_RACES_MAX
    const afterMs = soon ? Math.ceil(random() * LOST_RACE_MS_MAX) : backoffMs(attempt, random)
    if (!soon) log.warn('look failed', { attempt, afterMs, error })
    const reason = messageOf(error).slice(0, REASON_LENGTH_MAX)
    const at = clock.now() + afterMs
    await finish([{ do: 'finish', lease, at, attempt: attempt + 1, reason, settleBy: late() }])
  }

  async function finish(mutations: readonly Mutation[]): Promise<void> {
    try {
      await store.commit(mutations)
    } catch (error) {
      // Another one holds the lease by now: the outcome is its to tell.
      if (!(error instanceof CloudError && error.code === 'gone')) throw error
    }
  }
}
