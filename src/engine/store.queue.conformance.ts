import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { type Key, keyOf } from './resource.ts'
import type { Lease, Mutation, Store } from './store.ts'
import {
  claim,
  create,
  drain,
  edit,
  leaseOn,
  mark,
  newId,
  type OpenStore,
  race,
  refused,
  removeNow,
  toy,
  until,
} from './store.testing.ts'

const HOUR_MS = 3_600_000
const enqueue = (key: Key, at: number): Mutation => ({ do: 'enqueue', key, at })

export function queueConformance(store: string, open: OpenStore): void {
  const it = (what: string, run: (store: Store) => Promise<void>): void => {
    void test(`${store}: ${what}`, async () => {
      await using opened = await open()
      await run(opened)
    })
  }
  const now = (): number => systemClock.now()
  const takeKeys = async (store: Store, limit = 100, room?: Record<string, number>): Promise<Key[]> =>
    (await store.take(now(), limit, HOUR_MS, room)).map((work) => work.lease.key)

  it('a key enqueued many times is worked once, at the earliest moment asked for', async (store) => {
    const key: Key = 'toy/1'
    const soon = now() - 5
    await Promise.all([now() + HOUR_MS, soon, now() + 5].map((at) => store.commit([enqueue(key, at)])))
    assert.deepEqual(await store.queue(key), { key, at: soon, attempt: 0 })
    assert.equal(await store.nextDue(), soon)
    assert.deepEqual(await takeKeys(store), [key])
    assert.deepEqual(await takeKeys(store), [], 'leased')
    assert.equal(await store.nextDue(), undefined)
  })

  it('what is not due is not taken', async (store) => {
    await store.commit([enqueue('toy/later', now() + HOUR_MS), enqueue('toy/now', now())])
    assert.deepEqual(await takeKeys(store), ['toy/now'])
    assert.ok(((await store.nextDue()) ?? 0) > now())
  })

  it('keys are taken longest due first, within the limit and the room of their kind', async (store) => {
    const keys: Key[] = ['a/1', 'a/2', 'a/3', 'b/1', 'c/1', 'c/2']
    const base = now() - 100
    await store.commit(keys.map((key, n) => enqueue(key, base + n)))
    assert.equal(await store.nextDue(['a', 'b']), base + 4)
    assert.deepEqual(await takeKeys(store, 3, { a: 1, b: 0 }), ['a/1', 'c/1', 'c/2'])
    assert.deepEqual(await takeKeys(store, 2), ['a/2', 'a/3'])
    assert.deepEqual(await takeKeys(store, 2), ['b/1'])
  })

  it('a finished key is forgotten, one enqueued meanwhile is worked again', async (store) => {
    const key: Key = 'toy/1'
    const first = await leaseOn(store, key)
    await store.commit([{ do: 'finish', lease: first, attempt: 0 }])
    assert.equal(await store.queue(key), undefined)
    const second = await leaseOn(store, key)
    await store.commit([enqueue(key, now())])
    assert.deepEqual(await takeKeys(store), [], 'still leased')
    await store.commit([{ do: 'finish', lease: second, at: now() + HOUR_MS, attempt: 0 }])
    assert.deepEqual(await takeKeys(store), [key])
  })

  it('a failed look is told to the next one, until a new wish', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const lease = await leaseOn(store, keyOf(one))
    const at = now() - 1
    await store.commit([{ do: 'finish', lease, at, attempt: 3, reason: 'no room' }])
    assert.deepEqual(await store.queue(keyOf(one)), { key: keyOf(one), at, attempt: 3, reason: 'no room' })
    await store.commit([enqueue(keyOf(one), now())])
    const [work] = await store.take(now(), 1, HOUR_MS)
    assert.deepEqual([work?.attempt, work?.reason], [3, 'no room'])
    if (work) await store.drop(work.lease)
    await store.commit([edit(one, {})])
    assert.equal((await store.take(now(), 1, HOUR_MS))[0]?.attempt, 0)
  })

  it('a lease given up is there for the next', async (store) => {
    const lease = await leaseOn(store, 'toy/1')
    await store.drop(lease)
    const [work] = await store.take(now(), 1, HOUR_MS)
    assert.ok(work && work.lease.token > lease.token)
    await store.drop(lease)
    assert.deepEqual(await takeKeys(store), [], 'an old lease gives up nothing')
  })

  it('who lost the lease undoes nothing', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const [old] = await store.take(now(), 1, 20)
    assert.ok(old)
    const [current] = await until(async () => {
      const works = await store.take(now(), 1, HOUR_MS)
      return works.length ? works : undefined
    }, 'the lease to lapse')
    assert.ok(current && current.lease.token > old.lease.token)
    const status = (lease: Lease, state: string): Mutation => ({
      do: 'status',
      id: one.id,
      lease,
      version: 1,
      status: { state },
      observed: 1,
      terms: [],
    })
    await store.commit([status(current.lease, 'new')])
    await refused(store.commit([status(old.lease, 'old')]), 'gone')
    await refused(store.commit([{ do: 'finish', lease: old.lease, attempt: 0 }]), 'gone')
    await store.commit([mark(one.id)])
    await refused(store.commit([{ do: 'remove', id: one.id, lease: old.lease }]), 'gone')
    assert.deepEqual((await store.get(one.id))?.status, { state: 'new' })
    const foreign = await leaseOn(store, `toy/${newId()}`)
    await refused(store.commit([status(foreign, 'foreign')]), 'gone')
    await refused(store.commit([{ do: 'remove', id: one.id, lease: foreign }]), 'gone')
    await store.commit([{ do: 'finish', lease: current.lease, attempt: 0 }])
    await refused(store.commit([status(current.lease, 'after')]), 'gone')
  })

  it('a refused commit does not end the lease it would have finished', async (store) => {
    const lease = await leaseOn(store, 'toy/1')
    const finish: Mutation = { do: 'finish', lease, attempt: 0 }
    await refused(store.commit([finish, mark(newId())]), 'not_found')
    await store.commit([finish], { dryRun: true })
    await store.commit([finish])
    assert.equal(await store.queue('toy/1'), undefined)
  })

  it('of commits that are asked for together a refused one and a dry run take back themselves alone', async (store) => {
    const keys = Array.from({ length: 6 }, (_, n): Key => `toy/${n}`)
    await store.commit(keys.map((key) => enqueue(key, now())))
    const leases = (await store.take(now(), 10, HOUR_MS)).map((work) => work.lease)
    const all = keys.map(() => toy())
    // Twice, since what was refused a moment ago may be met with care.
    for (const [at, name] of ['a', 'b'].entries()) {
      const [first, second, third] = leases.slice(at * 3)
      const [one, other, left] = all.slice(at * 3)
      assert.ok(first && second && third && one && other && left)
      const finish = (lease: Lease): Mutation => ({ do: 'finish', lease, attempt: 0 })
      const results = await Promise.allSettled([
        store.commit([create(one, { terms: [name] }), claim(one.id, { value: name }), finish(first)]),
        store.commit([create(left, { terms: [name] }), finish(second), claim(left.id, { value: name })]),
        store.commit([create(left, { terms: [name] }), finish(third)], { dryRun: true }),
        store.commit([create(other, { terms: [name] }), enqueue('toy/x', now() + HOUR_MS)]),
      ])
      assert.deepEqual(
        results.map((result) => result.status),
        ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
      )
      const page = await store.list({ kind: 'toy', tenant: 'acme', terms: [name] })
      assert.deepEqual([page.items.map((found) => found.id), page.total], [[one.id, other.id], 2])
      assert.deepEqual((await store.claims('names')).at(-1)?.owner, one.id)
      await refused(store.commit([finish(first)]), 'gone')
      await store.commit([finish(second)])
      await store.commit([finish(third)])
    }
    assert.equal((await store.list({ kind: 'toy', tenant: 'acme' })).total, 4)
  })

  it('one of many takers gets a key', async (store) => {
    const keys = Array.from({ length: 50 }, (_, n): Key => `toy/${n}`)
    await store.commit(keys.map((key) => enqueue(key, now())))
    const taken = await Promise.all(Array.from({ length: 20 }, () => takeKeys(store, 5)))
    assert.deepEqual(taken.flat().toSorted(), keys.toSorted())
  })

  it('every change looks again at the resource and at what it wakes', async (store) => {
    const one = toy()
    const self = keyOf(one)
    await store.commit([create(one, { wakes: ['net/1'] })])
    assert.deepEqual(await drain(store), ['net/1', self].toSorted())
    await store.commit([edit(one, {}, { wakes: ['net/2'] })])
    assert.deepEqual(await drain(store), ['net/1', 'net/2', self].toSorted(), 'what it woke before, too')
    const lease = await leaseOn(store, self)
    await store.commit([
      { do: 'status', id: one.id, lease, version: 1, status: {}, observed: 2, terms: [] },
      { do: 'finish', lease, attempt: 0 },
    ])
    assert.deepEqual(await drain(store), ['net/2'])
    await store.commit([mark(one.id)])
    assert.deepEqual(await drain(store), ['net/2', self].toSorted())
    await removeNow(store, one)
    assert.deepEqual(await drain(store), ['net/2'])
    const settled = toy({ observed: 1 })
    await store.commit([create(settled)])
    assert.deepEqual(await drain(store), [], 'nothing to look at')
  })

  it('new work is told to those who listen', async (store) => {
    let calls = 0
    const stop = store.onWork(() => calls++)
    await store.commit([enqueue('toy/1', now())])
    await until(async () => calls > 0, 'a call')
    stop()
  })

  it('a clock that is set makes nothing wait longer, and nothing late', async (store) => {
    const at = now()
    const retime = (byMs: number, moment: number): Promise<void> =>
      store.retime({ now: moment, byMs, waitMsMax: 5000, settleMsMax: { toy: 60_000 } })
    const one = toy()
    await store.commit([create(one, { settleBy: at + 30_000 })])
    await store.commit([enqueue('toy/soon', at + 2000), enqueue('toy/due', at - 10)])
    // Back by an hour: what waits has what was left of its pause, what is to settle its whole time at most.
    await retime(-HOUR_MS, at - HOUR_MS)
    assert.equal((await store.queue('toy/soon'))?.at, at + 2000 - HOUR_MS)
    assert.equal((await store.queue('toy/due'))?.at, at - HOUR_MS)
    assert.deepEqual(await store.late(at - HOUR_MS + 60_000, 10), [one.id])
    assert.deepEqual(await store.late(at - HOUR_MS + 59_000, 10), [])
    // Forward by an hour: it has the time that it had left.
    await retime(HOUR_MS, at)
    assert.deepEqual(await store.late(at + 59_000, 10), [])
    // At a start, without knowing: nothing lies further off than the longest pause.
    await store.commit([enqueue('toy/far', at + HOUR_MS)])
    await retime(0, at)
    assert.equal((await store.queue('toy/far'))?.at, at + 5000)
  })

  it('what has not settled in time is late, until it settles or wants something else', async (store) => {
    const one = toy()
    const key = keyOf(one)
    const past = now() - 1
    await store.commit([create(one, { settleBy: past }), create(toy({ observed: 1 }), { settleBy: past })])
    assert.deepEqual(await store.late(now(), 10), [one.id])
    assert.deepEqual(await store.late(past - 1, 10), [])
    assert.equal(await store.settleBy(one.id), past)
    await store.commit([{ do: 'overdue', id: one.id, reason: 'the image is not there' }])
    assert.deepEqual(await store.late(now(), 10), [])
    const marked = await store.get(one.id)
    assert.deepEqual([marked?.overdue, marked?.revision], ['the image is not there', 2])
    const look = async (observed: number, settleBy?: number): Promise<void> => {
      const lease = await leaseOn(store, key)
      await store.commit([
        { do: 'status', id: one.id, lease, version: 1, status: {}, observed, terms: [] },
        { do: 'finish', lease, attempt: 0, ...(settleBy === undefined ? {} : { settleBy }) },
      ])
    }
    await look(0, past)
    assert.equal((await store.get(one.id))?.overdue, 'the image is not there')
    await look(1)
    assert.equal((await store.get(one.id))?.overdue, undefined)
    assert.deepEqual(await store.late(now() + HOUR_MS, 10), [])
    assert.equal(await store.settleBy(one.id), undefined)
    await store.commit([{ do: 'overdue', id: one.id, reason: 'too late' }])
    assert.equal((await store.get(one.id))?.overdue, undefined, 'it settled before')
    await look(1, past)
    assert.deepEqual(await store.late(now(), 10), [one.id], 'settled once, and no more')
    await store.commit([{ do: 'overdue', id: one.id, reason: 'drifted' }])
    await store.commit([edit(one, {}, { settleBy: now() + HOUR_MS })])
    assert.equal((await store.get(one.id))?.overdue, undefined, 'a new wish has its own time')
    await store.commit([{ do: 'overdue', id: one.id, reason: 'drifted' }])
    assert.equal((await store.get(one.id))?.overdue, undefined, 'also of who looked before there was one')
    await look(1)
    assert.deepEqual(await store.late(now() + 2 * HOUR_MS, 10), [one.id], 'the new wish is not settled yet')
  })

  it('a look at an old wish does not settle the new one', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const lease = await leaseOn(store, keyOf(one))
    const finish: Mutation = { do: 'finish', lease, attempt: 0 }
    await race([
      store.commit([
        { do: 'status', id: one.id, lease, version: 1, status: {}, observed: 1, terms: [] },
        finish,
      ]),
      store.commit([edit(one, {}, { settleBy: 5 })]),
    ])
    assert.deepEqual(await store.late(now(), 10), [one.id])
    assert.deepEqual(await takeKeys(store), [keyOf(one)])
  })
}
