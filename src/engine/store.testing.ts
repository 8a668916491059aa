import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '#lib/clock.ts'
import { CloudError, type ErrorCode, type ErrorRule } from '#lib/errors.ts'
import { createIds } from '#lib/ids.ts'
import type { Claim, Ref } from './kind.ts'
import { type Key, keyOf } from './resource.ts'
import type { Lease, Mutation, Store, StoredResource } from './store.ts'

const ids = createIds(systemClock)
export const newId = (): string => ids.next()

/** Opens an empty store of its own for one test. */
export type OpenStore = (how?: { changesKept?: number }) => Promise<Store>

export const WAIT_MS_MAX = 5000

/** Asks again until there is an answer; fails after WAIT_MS_MAX. */
export async function until<R>(ask: () => Promise<R | undefined | false>, what: string): Promise<R> {
  const deadline = systemClock.now() + WAIT_MS_MAX
  while (systemClock.now() < deadline) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    await pause(2)
  }
  throw new Error(`waited in vain: ${what}`)
}

/** A resource of no particular kind. */
export function toy(over: Partial<StoredResource> = {}): StoredResource {
  const now = systemClock.now()
  return {
    kind: 'toy',
    id: newId(),
    tenant: 'acme',
    name: 'a toy',
    labels: {},
    spec: { size: 1 },
    status: { state: 'pending' },
    generation: 1,
    observed: 0,
    revision: 1,
    createdAt: now,
    updatedAt: now,
    version: 1,
    ...over,
  }
}

type Extra = { refs?: readonly Ref[]; terms?: readonly string[]; wakes?: readonly Key[]; settleBy?: number }

export const create = (resource: StoredResource, extra: Extra = {}): Mutation => ({
  do: 'create',
  resource,
  refs: [],
  terms: [],
  settleBy: systemClock.now() + 60_000,
  ...extra,
})

/** The next wish of a resource. */
export const edit = (from: StoredResource, over: Partial<StoredResource>, extra: Extra = {}): Mutation => ({
  do: 'spec',
  resource: { ...from, ...over, generation: from.generation + 1 },
  expected: from.generation,
  refs: [],
  terms: [],
  settleBy: systemClock.now() + 60_000,
  ...extra,
})

export const mark = (id: string, how: { follow?: string[]; hold?: string[] } = {}): Mutation => ({
  do: 'mark',
  id,
  settleBy: systemClock.now() + 60_000,
  ...how,
})

export const claim = (owner: string, it: Partial<Claim>, extra: { expiresAt?: number } = {}): Mutation => ({
  do: 'claim',
  owner,
  claim: { pool: 'names', value: 'web', ends: 'deletion', ...it },
  ...extra,
})

/** A lease on one key, which is enqueued for it. */
export async function leaseOn(store: Store, key: Key): Promise<Lease> {
  await store.commit([{ do: 'enqueue', key, at: 0 }])
  const works = await store.take(systemClock.now(), 1000, 60_000)
  const mine = works.find((it) => it.lease.key === key)
  for (const it of works) if (it !== mine) await store.drop(it.lease)
  assert.ok(mine, `no lease on ${key}`)
  return mine.lease
}

/** Takes a marked resource's record away. */
export async function removeNow(store: Store, it: StoredResource): Promise<void> {
  const lease = await leaseOn(store, keyOf(it))
  try {
    await store.commit([
      { do: 'remove', id: it.id, lease },
      { do: 'finish', lease, attempt: 0 },
    ])
  } catch (error) {
    await store.drop(lease)
    throw error
  }
}

/** Everything settles and empties the queue. */
export async function drain(store: Store): Promise<Key[]> {
  const works = await store.take(systemClock.now() + 1000, 1000, 60_000)
  for (const { lease } of works) await store.commit([{ do: 'finish', lease, attempt: 0 }])
  return works.map((it) => it.lease.key).toSorted()
}

export async function refused(
  work: Promise<unknown>,
  code: ErrorCode,
  rule?: ErrorRule,
): Promise<CloudError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof CloudError)) throw new Error(`expected to be refused ${code}, got ${String(error)}`)
  assert.equal(error.code, code, error.message)
  if (rule) assert.equal(error.details.rule, rule, error.message)
  return error
}

/** Runs all at once; how many came through, and the refusals of the others. */
export async function race(
  works: readonly Promise<unknown>[],
): Promise<{ won: number; refusals: CloudError[] }> {
  const results = await Promise.allSettled(works)
  const refusals = results.flatMap((it) => (it.status === 'rejected' ? [it.reason as CloudError] : []))
  for (const it of refusals) assert.ok(it instanceof CloudError, String(it))
  return { won: results.length - refusals.length, refusals }
}
