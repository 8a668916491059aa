import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { gathered } from './gathered.ts'

const never = new AbortController().signal

test('what comes while the reader is busy comes to it in one piece, and the end of the source after all of it', async () => {
  const source = async function* () {
    yield 1
    await turn()
    yield 2
    yield 3
    await turn()
    yield 4
    throw new Error('it broke')
  }
  const pieces: (readonly number[])[] = []
  const reading = (async () => {
    for await (const piece of gathered(source, never)) {
      pieces.push(piece)
      for (let turns = 0; turns < 5; turns++) await turn()
    }
  })()
  await assert.rejects(reading, /it broke/)
  assert.deepEqual(pieces, [[1], [2, 3, 4]])
})

test('one that never has anything just ends', async () => {
  const pieces: unknown[] = []
  for await (const piece of gathered(async function* () {}, never)) pieces.push(piece)
  assert.deepEqual(pieces, [])
})

test('whoever reads no further ends the source', async () => {
  let isEnded = false
  const source = async function* (signal: AbortSignal) {
    yield 1
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    isEnded = true
  }
  for await (const piece of gathered(source, never)) {
    assert.deepEqual(piece, [1])
    break
  }
  await turn()
  assert.ok(isEnded)
})
