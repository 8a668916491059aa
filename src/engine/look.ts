import { isDeepStrictEqual } from 'node:util'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { type DraftContext, openDraft } from './draft.ts'
import { again, gone, type Outcome, type Reconciler, settled } from './reconcile.ts'
import { type AnyKind, type Key, keyOf, type Resource, splitKey } from './resource.ts'
import { eventsOf, plainOf, sealingOf, termsOf, wrongIn } from './shape.ts'
import type { Dependent, Mutation, Store, Work } from './store.ts'

const ENDED = 'the look has ended'

/** What looks at resources need. */
export type LookContext = {
  readonly context: DraftContext
  readonly reconcilers: readonly Reconciler[]
  readonly log: Log
  readonly random: () => number
  /** When the looks under way began, by key. */
  readonly looking: Map<Key, number>
}

/** A look that takes longer is told to stop, and counts as failed. */
export const LOOK_MS_MAX = 300_000
const BACKOFF_MS_MIN = 500
/** No longer, so that what failed goes on within a minute after the obstacle went. */
export const BACKOFF_MS_MAX = 60_000
/** A failed look at what was changed meanwhile is tried again as soon as this, a few times. */
const LOST_RACE_MS_MAX = 50
const LOST_RACES_MAX = 5
/** What waits for others to go is woken when they went; this is for when that was missed. */
const EMPTYING_MS = 30_000
const NAMED_MAX = 3
/** Of how many that are in the way it is asked what holds them up. */
const ASKED_MAX = 20
const WAITS = 'waits for '
/** A look that takes longer is told of as one that hangs. */
const HANGING_SECONDS_MIN = 10
const REASON_LENGTH_MAX = 2000

/** Doubles with each failure in a row, and is spread so that many that failed together do not come back together. */
export const backoffMs = (attempt: number, random: () => number): number =>
  Math.round(Math.min(BACKOFF_MS_MIN * 2 ** Math.min(attempt, 30), BACKOFF_MS_MAX) * (0.5 + random() / 2))

/**
 * What deletion waits for, in words: a few of the dependents by name, those first that wait for nothing of ours, and
 * what holds the first of these up.
 */
async function waitingFor(dependents: readonly Dependent[], store: Store): Promise<string> {
  if (dependents.length === 0) return ''
  const asked: { it: Dependent; why: string | undefined; isLeaf: boolean }[] = []
  for (const it of dependents.slice(0, ASKED_MAX)) {
    const why = (await store.queue(keyOf(it)))?.reason
    asked.push({ it, why, isLeaf: why !== undefined && !why.startsWith(WAITS) })
  }
  const sorted = asked.toSorted((a, b) => Number(b.isLeaf) - Number(a.isLeaf))
  const names = sorted.slice(0, NAMED_MAX).map(({ it }) => `${it.kind} ${it.name} (${it.id})`)
  const more = dependents.length - names.length
  const [first] = sorted
  const cause = first?.isLeaf ? `; ${first.it.kind} ${first.it.name}: ${first.why}` : ''
  return `${WAITS}${names.join(', ')}${more ? ` and ${more} more` : ''} to go${cause}`.slice(
    0,
    REASON_LENGTH_MAX,
  )
}

/** Why a resource turns overdue: what was wanted, what stands in the way, what to do. */
export function overdueReason(kind: AnyKind, it: Resource, why: string): string {
  const wanted = it.deletedAt === undefined ? 'not settled' : 'not gone'
  const advice = kind.states[kind.state(it as never)]?.advice
  const text = `${wanted} within ${kind.settleSecondsMax} s: ${why}`
  return advice ? `${text.replace(/\.$/, '')}. ${advice}` : text
}

/** What can be said of a key whose look has not ended or has not begun yet. */
export function reasonSoFar(
  { looking, context: { clock } }: Pick<LookContext, 'looking' | 'context'>,
  key: Key,
  last: string | undefined,
): string {
  const since = looking.get(key)
  const seconds = since === undefined ? 0 : Math.round((clock.now() - since) / 1000)
  if (seconds >= HANGING_SECONDS_MIN)
    return `its driver has not answered for ${seconds} s and is given up after ${LOOK_MS_MAX / 1000} s${last ? ` (before: ${last})` : ''}`
  return last ?? 'it was not looked at yet'
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

/**
 * One look at one key: everything it comes to is one commit, and `onLooked` is called when nothing is left but that.
 * Throws only when the store fails.
 */
export async function look(
  given: LookContext,
  work: Work,
  stop: AbortSignal,
  onLooked: () => void = () => {},
): Promise<void> {
  const { key } = work.lease
  given.looking.set(key, given.context.clock.now())
  try {
    await lookOnce(given, work, stop, onLooked)
  } finally {
    given.looking.delete(key)
  }
}

async function lookOnce(
  { context, reconcilers, log: baseLog, random }: LookContext,
  work: Work,
  stop: AbortSignal,
  onLooked: () => void,
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
  const ended = new AbortController()
  void clock.sleep(LOOK_MS_MAX, ended.signal).then(
    () => limit.abort(new Error(`the look took longer than ${LOOK_MS_MAX / 1000} s`)),
    () => {},
  )
  try {
    const { draft, mutations, upgrade } = openDraft(context)
    const resource = upgrade(kind, stored)
    const dependents = resource.deletedAt === undefined ? [] : await store.dependents(id)
    const signal = AbortSignal.any([stop, limit.signal])
    const waitsFor = await waitingFor(dependents, store)
    const why = async (it: Resource): Promise<string | undefined> => (await store.queue(keyOf(it)))?.reason
    const given = { draft, attempt, dependents: dependents.length, waitsFor, why, signal, log }
    let outcome: Outcome<unknown> = reconciler
      ? await within(reconciler.reconcile(resource, given), signal)
      : unreconciled(resource)
    if (outcome.do === 'gone' && dependents.length) outcome = again(EMPTYING_MS, waitsFor)
    await commit([...mutations(), ...(await ending(kind, resource, outcome))])
  } catch (error) {
    if (stop.aborted) return await store.drop(lease)
    await failed(kind, stored, error)
  } finally {
    ended.abort(ENDED)
  }

  async function commit(mutations: readonly Mutation[]): Promise<void> {
    onLooked()
    await store.commit(mutations)
  }

  async function ending(it: AnyKind, resource: Resource, outcome: Outcome<unknown>): Promise<Mutation[]> {
    if (outcome.do === 'gone') {
      if (resource.deletedAt === undefined)
        throw new Error('its reconciler says gone, but no deletion was asked')
      return [
        { do: 'remove', id, lease },
        ...eventsOf(it, resource, undefined, clock.now()),
        { do: 'finish', lease, attempt: 0 },
      ]
    }
    const isDone = outcome.do === 'settled'
    const plain = plainOf(outcome.status ?? resource.status)
    const wrong = outcome.status === undefined ? undefined : wrongIn(it.status, plain, 'status')
    const status = sealingOf(context.keyring).sealStatus(it, id, plain)
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
      written.push(...eventsOf(it, resource, { ...resource, status, observed }, clock.now()))
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
      ...retold(it, { ...resource, status }, reason),
    ]
  }

  /** What is overdue says what is in the way now. */
  function retold(it: AnyKind, resource: Resource, why: string): Mutation[] {
    if (resource.overdue === undefined) return []
    return [{ do: 'overdue', id, reason: overdueReason(it, resource, why) }]
  }

  async function failed(it: AnyKind, resource: Resource, error: unknown): Promise<void> {
    if (isCloudError(error, 'gone') && error.message.startsWith('the lease')) return await overtaken()
    const isRace = isCloudError(error, 'conflict') && error.details.rule === 'lost_race'
    const soon = isRace && attempt < LOST_RACES_MAX
    const afterMs = soon ? Math.ceil(random() * LOST_RACE_MS_MAX) : backoffMs(attempt, random)
    if (!soon) log.warn('look failed', { attempt, afterMs, error })
    const reason = messageOf(error).slice(0, REASON_LENGTH_MAX)
    const at = clock.now() + afterMs
    await finish([
      { do: 'finish', lease, at, attempt: attempt + 1, reason, settleBy: late() },
      ...retold(it, resource, reason),
    ])
  }

  /** Another one holds the lease by now, and the outcome is its to tell. What this look did late may have undone its work, so that it is looked at once more. */
  async function overtaken(): Promise<void> {
    await commit([{ do: 'enqueue', key: lease.key, at: clock.now() }])
  }

  async function finish(mutations: readonly Mutation[]): Promise<void> {
    try {
      await commit(mutations)
    } catch (error) {
      if (!(error instanceof CloudError && error.code === 'gone')) throw error
      await overtaken()
    }
  }
}
