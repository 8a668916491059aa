import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseCidr } from '#lib/cidr.ts'
import type { Draft } from './draft.ts'
import { type TestEngine, testEngine } from './engine.testing.ts'
import { createPicker } from './pick.ts'
import { PLATFORM } from './resource.ts'

const POOL = 'numbers'

const EVER = 1e15

/** Claims what is picked, in a commit of its own, each for another owner. */
const taking = async <V>({ engine }: TestEngine, pick: (draft: Draft) => Promise<V>): Promise<V> =>
  await engine.transact(async (draft) => {
    const value = await pick(draft)
    if (value !== undefined)
      draft.claim({ pool: POOL, value: String(value), ends: 'removal' }, draft.id(), { expiresAt: EVER })
    return value
  })
const release = async ({ engine }: TestEngine, value: string): Promise<void> =>
  await engine.transact(async (draft) =>
    draft.release(POOL, value, (await draft.claimed(POOL, value))?.owner ?? ''),
  )

test('numbers are given in turn, and one that is free again when its turn comes', async () => {
  await using it = await testEngine([])
  const picker = createPicker()
  const next = async () => await taking(it, async (draft) => await picker.index(draft, POOL, 3))
  assert.deepEqual([await next(), await next(), await next()], [0, 1, 2])
  await release(it, '0')
  assert.deepEqual([await next(), await next(), await next()], [3, 0, undefined])
  await release(it, '2')
  assert.deepEqual([await next(), await next()], [2, undefined])
})

test('of many at once each gets another, and a picker that knows nothing finds what is left', async () => {
  await using it = await testEngine([])
  const picker = createPicker()
  const range = { from: 10, to: 99 }
  const next = async (from = picker, avoid?: (value: number) => boolean) =>
    await taking(it, async (draft) => await from.number(draft, POOL, range, avoid))
  const given = await Promise.all(Array.from({ length: 60 }, async () => await next()))
  assert.equal(new Set(given).size, 60)
  const rest = await Promise.all(
    Array.from({ length: 31 }, async () => await next(createPicker(), (value) => value === 99)),
  )
  assert.deepEqual(
    [...given, ...rest.filter((one) => one !== undefined)].toSorted((a = 0, b = 0) => a - b),
    Array.from({ length: 89 }, (_, at) => 10 + at),
  )
})

test('what lies behind a long row of taken ones is found, also after the range has moved', async () => {
  await using it = await testEngine([])
  const picker = createPicker()
  const number = async (from: number, to: number) =>
    await taking(it, async (draft) => await picker.number(draft, POOL, { from, to }))
  assert.equal(await number(0, 99), 0)
  await it.engine.transact(async (draft) => {
    for (let value = 1; value < 80; value++)
      draft.claim({ pool: POOL, value: String(value), ends: 'removal' }, PLATFORM)
    await Promise.resolve()
  })
  assert.equal(await number(0, 99), 80)
  assert.equal(await number(200, 210), 200)
  assert.equal(await number(5, 90), 81)
})

test('addresses go on from the highest one taken, and leave out what nobody may have', async () => {
  await using it = await testEngine([])
  const network = parseCidr('10.0.0.0/29')
  assert.ok(network)
  const next = async (picker: ReturnType<typeof createPicker>) =>
    await taking(it, async (draft) => await picker.address(draft, POOL, network, ['10.0.0.1']))
  const picker = createPicker()
  assert.equal(await next(picker), '10.0.0.2')
  assert.equal(await next(createPicker()), '10.0.0.3')
  await release(it, '10.0.0.2')
  assert.deepEqual(
    [await next(picker), await next(picker), await next(picker)],
    ['10.0.0.4', '10.0.0.5', '10.0.0.6'],
  )
  assert.deepEqual([await next(picker), await next(picker)], ['10.0.0.2', undefined])
})
