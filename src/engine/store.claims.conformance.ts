import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { systemClock } from '#lib/clock.ts'
import { isCloudError } from '#lib/errors.ts'
import { PLATFORM } from './resource.ts'
import type { Mutation, Store } from './store.ts'
import {
  claim,
  create,
  mark,
  newId,
  type OpenStore,
  race,
  refused,
  removeNow,
  toy,
  until,
} from './store.testing.ts'

export function claimsConformance(store: string, open: OpenStore): void {
  const it = (what: string, run: (store: Store) => Promise<void>): void => {
    void test(`${store}: ${what}`, async () => {
      await using opened = await open()
      await run(opened)
    })
  }

  it('a name is claimed once, whoever else wants it at that moment', async (store) => {
    const made = Array.from({ length: 20 }, () => toy())
    const { won, refusals } = await race(
      made.map((one) => store.commit([create(one), claim(one.id, { refusal: 'web exists' })])),
    )
    assert.equal(won, 1)
    assert.ok(refusals.every((error) => error.code === 'already_exists' && error.message === 'web exists'))
    assert.equal((await store.list({ kind: 'toy', tenant: 'acme' })).total, 1)
    const owner = (await store.claim('names', 'web'))?.owner
    assert.ok(owner !== undefined && (await store.get(owner)))
  })

  it('a value that was seen free and is taken by then is a lost race', async (store) => {
    const [one, other] = [toy(), toy()]
    await store.commit([create(one), create(other), claim(one.id, {})])
    await refused(store.commit([{ ...claim(other.id, {}), seen: true } as Mutation]), 'conflict', 'lost_race')
  })

  it('64 creates against a quota of 10: ten', async (store) => {
    await store.commit([{ do: 'pool', pool: 'quota', max: 10 }])
    const made = Array.from({ length: 64 }, () => toy())
    const { won, refusals } = await race(
      made.map((one) =>
        store.commit([
          create(one),
          claim(one.id, { pool: 'quota', value: one.id, amount: 1, refusal: 'full' }),
        ]),
      ),
    )
    assert.equal(won, 10)
    assert.ok(refusals.every((error) => error.code === 'exhausted' && error.details.rule === 'quota'))
    assert.deepEqual(await store.pool('quota'), { max: 10, used: 10 })
    const { items } = await store.list({ kind: 'toy', tenant: 'acme' })
    assert.equal(items.length, 10)
    const next = toy()
    const add = [create(next), claim(next.id, { pool: 'quota', value: next.id, amount: 1 })]
    await refused(store.commit(add), 'exhausted')
    await store.commit([mark(items[0]?.id ?? '')])
    await store.commit(add)
    assert.equal((await store.pool('quota')).used, 10)
  })

  it('amounts add up through every change, and a lowered maximum takes nothing away', async (store) => {
    const one = toy()
    const other = toy()
    const cpu = (owner: string, amount: number): Mutation =>
      claim(owner, { pool: 'cpu', value: owner, amount })
    await store.commit([create(one), create(other), { do: 'pool', pool: 'cpu', max: 100 }])
    await store.commit([cpu(one.id, 60), cpu(other.id, 40)])
    await refused(store.commit([cpu(one.id, 61)]), 'exhausted')
    await store.commit([cpu(one.id, 10)])
    assert.deepEqual(await store.pool('cpu'), { max: 100, used: 50 })
    await store.commit([{ do: 'pool', pool: 'cpu', max: 20 }])
    await refused(store.commit([cpu(one.id, 11)]), 'exhausted')
    await store.commit([cpu(other.id, 5)])
    assert.deepEqual(await store.pool('cpu'), { max: 20, used: 15 })
    const capacity = claim(one.id, { pool: 'cpu', value: 'x', amount: 6, rule: 'capacity' })
    await refused(store.commit([capacity]), 'exhausted', 'capacity')
    await store.commit([{ do: 'release', pool: 'cpu', value: other.id, owner: one.id }])
    assert.equal((await store.pool('cpu')).used, 15, 'only its owner releases a claim')
    await store.commit([{ do: 'release', pool: 'cpu', value: other.id, owner: other.id }])
    assert.equal((await store.pool('cpu')).used, 10)
    await refused(store.commit([cpu(one.id, -5)]), 'invalid')
    await refused(store.commit([cpu(one.id, 0.5)]), 'invalid')
    assert.deepEqual(await store.pool('never named'), { max: undefined, used: 0 })
  })

  it('claims end when they say: at deletion, or when the real thing is gone', async (store) => {
    const one = toy()
    const child = toy({ owner: one.id })
    await store.commit([
      create(one),
      create(child),
      claim(one.id, { value: 'name' }),
      claim(child.id, { value: 'child' }),
      claim(one.id, { pool: 'addresses', value: '10.0.0.5', ends: 'removal' }),
      claim(PLATFORM, { value: 'reserved' }),
    ])
    await store.commit([mark(one.id)])
    assert.deepEqual(
      (await store.claims('names')).map((held) => held.value),
      ['reserved'],
    )
    assert.equal((await store.claim('addresses', '10.0.0.5'))?.owner, one.id)
    await removeNow(store, child)
    await removeNow(store, one)
    assert.equal(await store.claim('addresses', '10.0.0.5'), undefined)
    await refused(store.commit([claim(one.id, {})]), 'conflict')
  })

  it('a pool and a guard go with their owner, and what others claim in the pool goes on being counted', async (store) => {
    const [one, other] = [toy(), toy()]
    const [pool, shared, guard] = [newId(), newId(), newId()]
    await store.commit([
      create(one),
      create(other),
      { do: 'pool', pool, max: 3, owner: one.id },
      { do: 'pool', pool: shared, max: 1, owner: one.id },
      { do: 'guard', name: guard, seen: 0, owner: one.id },
      claim(one.id, { pool, value: 'a', amount: 2 }),
      claim(other.id, { pool: shared, value: 'b', amount: 1 }),
    ])
    assert.deepEqual([await store.pool(pool), await store.guard(guard)], [{ max: 3, used: 2 }, 1])
    await store.commit([mark(one.id)])
    await removeNow(store, one)
    assert.deepEqual(await store.pool(pool), { max: undefined, used: 0 })
    assert.deepEqual(await store.pool(shared), { max: undefined, used: 1 })
    assert.equal(await store.guard(guard), 0)
  })

  it('a claim that expires is free then, for its amount too', async (store) => {
    const one = toy()
    const soon = systemClock.now() + 500
    await store.commit([
      create(one),
      { do: 'pool', pool: 'quota', max: 1 },
      claim('a request', { value: 'key' }, { expiresAt: soon }),
      claim('a request', { pool: 'quota', value: 'key', amount: 1 }, { expiresAt: soon }),
    ])
    assert.equal((await store.claim('names', 'key'))?.expiresAt, soon)
    await refused(store.commit([claim(one.id, { pool: 'quota', value: 'x', amount: 1 })]), 'exhausted')
    await until(async () => (await store.claim('names', 'key')) === undefined, 'the claim to expire')
    await until(async () => (await store.pool('quota')).used === 0, 'its amount to be free')
    await store.commit([
      claim(one.id, { value: 'key' }),
      claim(one.id, { pool: 'quota', value: 'x', amount: 1 }),
    ])
    assert.deepEqual(
      (await store.claims('names')).map((held) => held.owner),
      [one.id],
    )
    assert.deepEqual(await store.pool('quota'), { max: 1, used: 1 })
  })

  it('claims of a pool are read in order of value, with their notes', async (store) => {
    const one = toy()
    const noted = { ...claim(one.id, { pool: 'p', value: 'a' }), note: 'hash' } as Mutation
    await store.commit([create(one), claim(one.id, { pool: 'p', value: 'b', refusal: 'no' }), noted])
    assert.deepEqual(await store.claims('p'), [
      { pool: 'p', value: 'a', ends: 'deletion', owner: one.id, note: 'hash' },
      { pool: 'p', value: 'b', ends: 'deletion', owner: one.id, refusal: 'no' },
    ])
  })

  it('two overlapping subnets at once: one, because both moved the same guard', async (store) => {
    for (let round = 0; round < 10; round++) {
      const guard = `subnets:${newId()}`
      const seen = await store.guard(guard)
      const { won, refusals } = await race(
        ['10.0.1.0/24', '10.0.0.0/16', '10.0.1.128/25'].map((cidr) =>
          store.commit([{ do: 'guard', name: guard, seen }, create(toy({ spec: { cidr } }))]),
        ),
      )
      assert.equal(won, 1)
      assert.ok(refusals.every((error) => error.details.rule === 'lost_race'))
      assert.notEqual(await store.guard(guard), seen)
    }
    assert.equal((await store.list({ kind: 'toy', tenant: 'acme' })).total, 10)
  })

  it('keeps claims and sums as a model says, whatever is committed', async (store) => {
    const owners = Array.from({ length: 4 }, () => toy())
    const owner = fc.nat(owners.length - 1)
    const pool = fc.constantFrom('names', 'quota')
    const value = fc.constantFrom('a', 'b', 'c')
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ do: fc.constant('claim' as const), owner, pool, value, amount: fc.nat(4) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), owner, pool, value }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('pool' as const), pool, max: fc.nat(8) }) },
    )
    type Step = typeof step extends fc.Arbitrary<infer S> ? S : never
    const commits = fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { maxLength: 25 })
    await store.commit(owners.map((one) => create(one)))
    let runs = 0
    await fc.assert(
      fc.asyncProperty(commits, async (all) => {
        // Pools of its own for each run.
        const run = ++runs
        const id = (n: number): string => owners[n]?.id ?? ''
        let model = openModel()
        for (const steps of all) {
          const next = model.copy()
          const wanted = steps.every((one) => next.apply(one))
          if (wanted) model = next
          const mutations = steps.map((one) => toMutation(one, `${one.pool}:${run}`, id))
          assert.equal(await accepts(store, mutations), wanted)
        }
        for (const name of ['names', 'quota']) {
          const held = (await store.claims(`${name}:${run}`)).map((it) => [
            it.value,
            it.owner,
            it.amount ?? 0,
          ])
          assert.deepEqual(
            held,
            model.of(name).map(([at, n, amount]) => [at, id(n), amount]),
          )
          assert.equal((await store.pool(`${name}:${run}`)).used, model.used(name))
        }
      }),
      { numRuns: 40 },
    )

    function toMutation(one: Step, name: string, id: (n: number) => string): Mutation {
      if (one.do === 'pool') return { do: 'pool', pool: name, max: one.max }
      if (one.do === 'release') return { do: 'release', pool: name, value: one.value, owner: id(one.owner) }
      return claim(id(one.owner), { pool: name, value: one.value, amount: one.amount })
    }
  })
}

async function accepts(store: Store, mutations: readonly Mutation[]): Promise<boolean> {
  try {
    await store.commit(mutations)
    return true
  } catch (error) {
    if (isCloudError(error, 'already_exists') || isCloudError(error, 'exhausted')) return false
    throw error
  }
}

type ModelStep =
  | { do: 'claim'; owner: number; pool: string; value: string; amount: number }
  | { do: 'release'; owner: number; pool: string; value: string }
  | { do: 'pool'; pool: string; max: number }

/** What claims and pools mean, in the plainest form: false from `apply` is a refusal. */
function openModel(
  claims: ReadonlyMap<string, readonly [number, number]> = new Map(),
  maxima: ReadonlyMap<string, number> = new Map(),
) {
  const held = new Map(claims)
  const max = new Map(maxima)
  const of = (pool: string): [string, number, number][] =>
    [...held]
      .filter(([at]) => at.startsWith(`${pool}/`))
      .map(([at, [owner, amount]]): [string, number, number] => [at.slice(pool.length + 1), owner, amount])
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  const used = (pool: string): number => of(pool).reduce((sum, [, , amount]) => sum + amount, 0)
  return {
    of,
    used,
    copy: () => openModel(held, max),
    apply(step: ModelStep): boolean {
      if (step.do === 'pool') {
        max.set(step.pool, step.max)
        return true
      }
      const at = `${step.pool}/${step.value}`
      const [owner, amount = 0] = held.get(at) ?? []
      if (step.do === 'release') {
        if (owner === step.owner) held.delete(at)
        return true
      }
      if (owner !== undefined && owner !== step.owner) return false
      const more = step.amount - amount
      if (more > 0 && used(step.pool) + more > (max.get(step.pool) ?? Infinity)) return false
      held.set(at, [step.owner, step.amount])
      return true
    },
  }
}
