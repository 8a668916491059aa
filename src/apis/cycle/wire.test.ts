import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { durationOf, secondsOf, timeOf, ZERO_TIME } from './wire.ts'

test('a duration is read in every unit that the contract has', () => {
  assert.equal(secondsOf('3d15h10m5s'), 3 * 86_400 + 15 * 3600 + 605)
  assert.equal(secondsOf('1y1w'), 372 * 86_400)
  assert.equal(secondsOf('1.5h'), 5400)
  assert.equal(secondsOf('250ms'), 0.25)
  assert.ok(Math.abs((secondsOf('5µs5us5ns') ?? 0) - 0.000_010_005) < 1e-12)
  for (const text of ['', '5', 'h', '5x', '-5s', '5 s', '1e3s', '5s5'])
    assert.equal(secondsOf(text), undefined)
})

test('whole seconds survive being written as a duration', () => {
  fc.assert(fc.property(fc.nat(), (seconds) => assert.equal(secondsOf(durationOf(seconds)), seconds)))
  assert.equal(durationOf(0), '0s')
  assert.equal(durationOf(5400), '1h30m')
})

test('what has not happened has the zero time', () => {
  assert.equal(timeOf(undefined), ZERO_TIME)
  assert.equal(timeOf(0), '1970-01-01T00:00:00.000Z')
})
