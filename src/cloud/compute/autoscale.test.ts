import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DOWN_WINDOW_MS, READ_EVERY_MS, recommend, stabilise } from './autoscale.ts'

const bounds = { targetMillicores: 200, min: 2, max: 6 }

test('recommends ceil(replicas × average ÷ target) within bounds', () => {
  assert.equal(recommend({ ...bounds, replicas: 2, averageMillicores: 500 }), 5)
  assert.equal(recommend({ ...bounds, replicas: 2, averageMillicores: 2000 }), 6)
  assert.equal(recommend({ ...bounds, replicas: 4, averageMillicores: 10 }), 2)
})

test('changes nothing within a tenth of the target', () => {
  for (const averageMillicores of [180, 200, 220])
    assert.equal(recommend({ ...bounds, replicas: 3, averageMillicores }), 3)
  assert.equal(recommend({ ...bounds, replicas: 3, averageMillicores: 221 }), 4)
})

test('a recommendation stays within its bounds, whatever is read', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.float({ min: 0, max: 10_000, noNaN: true }),
      (replicas, averageMillicores) => {
        const wanted = recommend({ ...bounds, replicas, averageMillicores })
        assert.ok(wanted >= bounds.min && wanted <= bounds.max)
      },
    ),
  )
})

test('goes up at once and down only after a whole window of lower readings', () => {
  let current = 2
  let history: ReturnType<typeof stabilise>['history'] = []
  let at = 0
  const read = (replicas: number): number => {
    at += READ_EVERY_MS
    ;({ replicas: current, history } = stabilise(current, history, { at, replicas }))
    return current
  }
  assert.equal(read(5), 5)
  const fell = at
  while (at < fell + DOWN_WINDOW_MS - READ_EVERY_MS) assert.equal(read(2), 5)
  assert.equal(read(2), 2)
})

test('the first reading of a quiet workload does not shrink it', () => {
  assert.equal(stabilise(5, [], { at: 0, replicas: 2 }).replicas, 5)
})

test('readings of a clock that was set back since keep nothing from shrinking', () => {
  const ahead = stabilise(2, [], { at: 3_600_000, replicas: 5 })
  const { history } = stabilise(5, ahead.history, { at: 0, replicas: 2 })
  assert.equal(stabilise(5, history, { at: DOWN_WINDOW_MS - 1, replicas: 2 }).replicas, 2)
})
