import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { simulatedClock } from '#lib/clock.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { createHealth, createTurns, leastBusy, placeOf } from './balance.ts'
import { FRONT_LIMITS } from './limits.ts'

const origin = (id: string, weight = 1): Origin => ({ id, address: '10.0.0.1', port: Number(id), weight })
const fresh = () => {
  const clock = simulatedClock()
  return { clock, health: createHealth(clock, FRONT_LIMITS), turns: createTurns() }
}

test('turns are shared by weight over each whole round', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 6 }), (weights) => {
      const { health, turns } = fresh()
      const origins = weights.map((weight, at) => origin(String(at + 1), weight))
      const total = weights.reduce((sum, it) => sum + it, 0)
      const counts = weights.map(() => 0)
      for (let it = 0; it < total * 2; it++) {
        const next = turns.next(origins, health)
        const at = Number(next?.id) - 1
        counts[at] = (counts[at] ?? 0) + 1
      }
      assert.deepEqual(
        counts,
        weights.map((it) => it * 2),
      )
      if (total === 0) assert.equal(turns.next(origins, health), undefined)
    }),
  )
})

test('of connections that stay each goes where there are fewest for the weight', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 }), (weights) => {
      const { health, turns } = fresh()
      const origins = weights.map((weight, at) => origin(String(at + 1), weight))
      const held = new Map<string, number>()
      const heldBy = (id: string): number => held.get(id) ?? 0
      for (let it = 0; it < 40; it++) {
        const next = turns.next(
          leastBusy(origins, heldBy, () => false),
          health,
        )
        assert.ok(next)
        const busy = heldBy(next.id) / next.weight
        assert.ok(origins.every((one) => busy <= heldBy(one.id) / one.weight))
        held.set(next.id, heldBy(next.id) + 1)
      }
    }),
  )
  const [a, b] = [origin('1'), origin('2', 0)] as const
  assert.deepEqual(
    leastBusy(
      [a, b],
      () => 9,
      () => false,
    ),
    [a],
  )
  assert.deepEqual(
    leastBusy(
      [a, b],
      () => 0,
      () => true,
    ),
    [a, b],
    'who is out is left to the turns',
  )
})

test('one that failed is left out for a pause that grows, and is asked when there is no other', async () => {
  const { clock, health, turns } = fresh()
  const [a, b] = [origin('1'), origin('2')] as const
  const names = (): string => Array.from({ length: 4 }, () => turns.next([a, b], health)?.id).join('')
  health.failed(placeOf(a))
  assert.equal(names(), '2222')
  await clock.advance(FRONT_LIMITS.pauseMsMin)
  assert.match(names(), /1/)
  health.failed(placeOf(a))
  await clock.advance(FRONT_LIMITS.pauseMsMin)
  assert.equal(names(), '2222')
  health.failed(placeOf(b))
  assert.equal(turns.next([a, b], health)?.id, '1', 'whose pause ends first')
  assert.equal(turns.next([a, b], health, new Set(['1', '2'])), undefined)
  health.fine(placeOf(a))
  assert.equal(names(), '1111')
})

test('one broken connection is no failure, two in a row are', () => {
  const { health } = fresh()
  const place = placeOf(origin('1'))
  health.broke(place)
  health.fine(place)
  health.broke(place)
  assert.equal(health.pausedUntil(place), 0)
  health.broke(place)
  assert.ok(health.pausedUntil(place) > 0)
  health.keep(new Set())
  assert.equal(health.pausedUntil(place), 0)
})

test('requests that fail together are one failure', async () => {
  const { clock, health } = fresh()
  const place = placeOf(origin('1'))
  for (let it = 0; it < 10; it++) health.failed(place)
  await clock.advance(FRONT_LIMITS.pauseMsMin)
  assert.equal(health.pausedUntil(place), 0)
})
