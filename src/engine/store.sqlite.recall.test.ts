import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newMoment, openLateRecall, openRecall, passing } from './store.sqlite.recall.ts'

test('a row is read once, and again after every transaction', () => {
  const moment = newMoment()
  const recall = openRecall<{ n: number }>(moment)
  let reads = 0
  const read = () => ({ n: ++reads })
  assert.deepEqual([recall('a', read)?.n, recall('a', read)?.n, recall('b', read)?.n], [1, 1, 2])
  passing(moment, () => {})
  assert.deepEqual([recall('a', read)?.n, recall('a', read)?.n], [3, 3])
})

test('nothing is remembered of what was read while a transaction became visible', () => {
  const moment = newMoment()
  const recall = openRecall<{ n: number }>(moment)
  let reads = 0
  const read = () => ({ n: ++reads })
  passing(moment, () => assert.deepEqual([recall('a', read)?.n, recall('a', read)?.n], [1, 2]))
  assert.deepEqual([recall('a', read)?.n, recall('a', read)?.n], [3, 3])
})

test('what was read before a transaction became visible is not taken for what is after it', () => {
  const moment = newMoment()
  const recall = openRecall<{ n: number }>(moment)
  recall('a', () => {
    passing(moment, () => {})
    return { n: 1 }
  })
  assert.equal(recall('a', () => ({ n: 2 }))?.n, 2)
})

test('a transaction that fails ends its moment too, and an absent row is looked for again', () => {
  const moment = newMoment()
  assert.throws(() =>
    passing(moment, () => {
      throw new Error('disk full')
    }),
  )
  const recall = openRecall<{ n: number }>(moment)
  assert.equal(
    recall('a', () => undefined),
    undefined,
  )
  assert.equal(recall('a', () => ({ n: 1 }))?.n, 1)
  assert.equal(recall('a', () => ({ n: 2 }))?.n, 1)
})

test('what is not worth it is read each time', () => {
  const recall = openRecall<{ n: number }>(newMoment(), ({ n }) => n > 1)
  let reads = 0
  const read = () => ({ n: ++reads })
  assert.deepEqual([recall('a', read)?.n, recall('a', read)?.n, recall('a', read)?.n], [1, 2, 2])
})

test('what several reads come to holds until a transaction, and not at all when one came between them', async () => {
  const moment = newMoment()
  const recall = openLateRecall<{ n: number }>(moment)
  let reads = 0
  const read = async () => await Promise.resolve({ n: ++reads })
  const ask = async () => (await recall('a', read))?.n
  assert.deepEqual([await ask(), await ask()], [1, 1])
  passing(moment, () => {})
  assert.deepEqual([await ask(), await ask()], [2, 2])
  passing(moment, () => {})
  const slow = recall('a', async () => {
    await Promise.resolve()
    passing(moment, () => {})
    return { n: 0 }
  })
  assert.equal((await slow)?.n, 0)
  assert.equal(await ask(), 3)
  assert.equal(await recall('b', async () => await Promise.resolve(undefined)), undefined)
  assert.equal((await recall('b', read))?.n, 4)
})

test('what comes of some names holds until a transaction that changes one of them', async () => {
  const moment = newMoment()
  const recall = openLateRecall<{ n: number }>(moment, ['user', 'role'])
  let reads = 0
  const ask = async () => (await recall('a', async () => await Promise.resolve({ n: ++reads })))?.n
  assert.deepEqual([await ask(), await ask()], [1, 1])
  passing(moment, () => {}, ['vpc'])
  passing(moment, () => {})
  assert.equal(await ask(), 1)
  // However often it is named, its number moves once.
  passing(moment, () => {}, ['role', 'role', 'vpc'])
  assert.deepEqual([await ask(), await ask()], [2, 2])
  const slow = recall('b', async () => {
    await Promise.resolve()
    passing(moment, () => {}, ['user'])
    return { n: 0 }
  })
  assert.equal((await slow)?.n, 0)
  assert.equal((await recall('b', async () => await Promise.resolve({ n: 9 })))?.n, 9)
  let during: Promise<{ n: number } | undefined> | undefined
  passing(moment, () => (during = recall('c', async () => await Promise.resolve({ n: 0 }))), ['role'])
  assert.equal((await during)?.n, 0)
  assert.equal((await recall('c', async () => await Promise.resolve({ n: 9 })))?.n, 9)
})
