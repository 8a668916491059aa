import assert from 'node:assert/strict'
import { test } from 'node:test'
import { timestamp } from './timestamp.ts'

test('a moment is written as Date writes it, whatever was written before', () => {
  const moments = [
    0, -1, 1, 999, 86_399_999, 86_400_000, -86_400_000, 1_700_000_000_123.9, -1.5, 8.64e15, -8.64e15,
  ]
  for (let count = 0; count < 5000; count++) moments.push((count * 7_919_191_919) % 4_102_444_800_000)
  for (const ms of moments) assert.equal(timestamp(ms), new Date(ms).toISOString(), String(ms))
})

test('what is no moment throws', () => {
  for (const ms of [Number.NaN, Infinity, 8.64e15 + 86_400_000])
    assert.throws(() => timestamp(ms), RangeError)
})
