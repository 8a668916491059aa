import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import { createPositions, RESUME_SECONDS } from './positions.ts'

test('a broken connection is gone on with once, the oldest first', () => {
  const positions = createPositions(simulatedClock())
  positions.leave('a', '7')
  positions.leave('a', '9')
  positions.leave('b', '8')
  assert.equal(positions.take('a'), '7')
  assert.equal(positions.take('a'), '9')
  assert.equal(positions.take('a'), undefined)
  assert.equal(positions.take('b'), '8')
})

test('after a new start whoever ran before may lack what happened, for a while', async () => {
  const clock = simulatedClock()
  await clock.advance(1_000_000)
  const bornAt = clock.now()
  const positions = createPositions(clock)
  const window = RESUME_SECONDS * 1000
  assert.equal(positions.brokenAt('a', bornAt - 1), bornAt - 1)
  assert.equal(positions.brokenAt('a', bornAt - 10 * window), bornAt - window)
  assert.equal(positions.brokenAt('a', bornAt), undefined, 'it was not there')
  assert.equal(positions.brokenAt('a', undefined), undefined)
  positions.end('a')
  assert.equal(positions.brokenAt('a', bornAt - 1), undefined, 'it closed in order since')
  assert.equal(positions.brokenAt('b', bornAt - 1), bornAt - 1)
  await clock.advance(window)
  assert.equal(positions.brokenAt('b', bornAt - 1), undefined)
})

test('a position is forgotten after its time, and when too many broke', async () => {
  const clock = simulatedClock()
  const positions = createPositions(clock)
  positions.leave('a', '1')
  await clock.advance(RESUME_SECONDS * 1000)
  assert.equal(positions.take('a'), undefined)
  for (let at = 0; at < 10; at++) positions.leave('a', String(at))
  assert.equal(positions.take('a'), '6')
  for (let at = 0; at < 10_001; at++) positions.leave(`many ${at}`, '1')
  assert.equal(positions.take('a'), undefined, 'others came since')
  assert.equal(positions.take('many 1'), '1')
})
