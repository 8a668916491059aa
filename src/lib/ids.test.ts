import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIds, isUuid } from './ids.ts'

test('ids are UUIDv7 in order of making, also when the clock stands still or steps back', () => {
  let now = 1_700_000_000_000
  const ids = createIds({ now: () => now, sleep: async () => {} })
  let before = ''
  for (let count = 0; count < 10_000; count++) {
    if (count === 6000) now -= 5000
    const id = ids.next()
    assert.ok(isUuid(id) && id[14] === '7', id)
    assert.ok(id > before)
    before = id
  }
})
