import { type LookContext, reasonSoFar } from './look.ts'
import { isSettled, keyOf, type Resource } from './resource.ts'
import type { QueueEntry } from './store.ts'

/** Why a resource is not settled, and what a person can do. */
export type Explanation = {
  readonly settled: boolean
  /** Its kind's word for what it is or what is being done to it. */
  readonly state: string
  /** Of an unsettled one: since when, and when it turns overdue. Milliseconds since 1970. */
  readonly since?: number
  readonly settleBy?: number
  readonly overdue?: string
  /** What its reconciler says of it. */
  readonly message?: string
  /** What a person can do; absent where nothing is needed. */
  readonly advice?: string
  /** The work queue's entry: when it is looked at next, how many attempts failed, what the last one said. */
  readonly queue?: QueueEntry
  /** Live resources that this one owns and that are not settled; of one being deleted everything that stands in the way. */
  readonly waitingFor: readonly {
    readonly kind: string
    readonly id: string
    readonly name: string
    readonly reason?: string
  }[]
}

/** A message that a status carries, of whatever kind. */
const messageOf = (it: Resource): string | undefined => {
  const { message } = it.status as { message?: unknown }
  return typeof message === 'string' ? message : undefined
}

/** Says of any resource what it is, what it waits for, and what would help. */
export async function explain(
  given: Pick<LookContext, 'context' | 'looking'>,
  resource: Resource,
): Promise<Explanation> {
  const { store, kinds } = given.context
  const kind = kinds.get(resource.kind)
  const state = kind?.state(resource as never) ?? ''
  const { advice, fine = false } = kind?.states[state] ?? {}
  const settleBy = await store.settleBy(resource.id)
  const settled = isSettled(resource) && settleBy === undefined
  const key = keyOf(resource)
  const entry = await store.queue(key)
  const reason = settled ? entry?.reason : reasonSoFar(given, key, entry?.reason)
  const message = messageOf(resource)
  const since = settleBy === undefined ? undefined : settleBy - (kind?.settleSecondsMax ?? 0) * 1000
  return {
    settled,
    state,
    ...(settleBy === undefined || since === undefined ? {} : { since, settleBy }),
    ...(resource.overdue === undefined ? {} : { overdue: resource.overdue }),
    ...(message === undefined ? {} : { message }),
    ...(advice === undefined || (settled && fine) ? {} : { advice }),
    ...(entry ? { queue: { ...entry, ...(reason === undefined ? {} : { reason }) } } : {}),
    waitingFor: await waitingFor(given, resource),
  }
}

async function waitingFor(
  { context: { store } }: Pick<LookContext, 'context'>,
  resource: Resource,
): Promise<Explanation['waitingFor']> {
  const going = resource.deletedAt !== undefined
  const found: Explanation['waitingFor'][number][] = []
  for (const { kind, id, name } of await store.dependents(resource.id)) {
    const it = await store.get(id)
    if (!it) continue
    const unsettled = it.owner === resource.id && !(isSettled(it) && (await store.settleBy(id)) === undefined)
    if (!going && !unsettled) continue
    const reason = it.overdue ?? (await store.queue(keyOf(it)))?.reason
    found.push({ kind, id, name, ...(reason === undefined ? {} : { reason }) })
  }
  return found
}
