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

test('the first id of a process is after the last one of the process before, also when the clock was set back', () => {
  let now = 1_700_000_000_000
  const clock = { now: () => now, sleep: async () => {} }
  const last = createIds(clock).next()
  now -= 3_600_000
  const ids = createIds(clock, undefined, last)
  const [first, second] = [ids.next(), ids.next()]
  assert.ok(last < first && first < second, `${last} ${first} ${second}`)
})
