import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { simulatedFront } from '#drivers/simulated/front.ts'
import { exampleFront, exampleRoute } from './front.conformance.ts'
import type { FrontDriver } from './front.driver.ts'
import { createFronts } from './fronts.ts'

const signal = new AbortController().signal
const frontTo = (...origins: string[]) => {
  const routes = origins.map((id) =>
    exampleRoute({ id: `to-${id}`, origins: [{ id, address: '10.0.0.9', port: 80, weight: 1 }] }),
  )
  const { generation: _, ...front } = exampleFront({ routes })
  return front
}
const { vpc } = frontTo()
const none = new Map<string, number>()

test('a route of a front that was not answered for may be served until one without it is', async () => {
  let away = false
  const fronts = createFronts(
    simulatedFront((verb) => {
      if (away && verb === 'apply') throw new Error('the edge is away')
    }),
  )
  await fronts.apply(frontTo('a'), none, signal)
  assert.deepEqual([fronts.serves(vpc, 'to-b'), fronts.leadsTo(vpc, 'b')], [false, false])
  away = true
  await assert.rejects(fronts.apply(frontTo('b'), none, signal), /the edge is away/)
  for (const id of ['a', 'b'])
    assert.deepEqual([fronts.serves(vpc, `to-${id}`), fronts.leadsTo(vpc, id)], [true, true])
  away = false
  await fronts.apply(frontTo('a'), none, signal)
  assert.deepEqual([fronts.serves(vpc, 'to-b'), fronts.leadsTo(vpc, 'b')], [false, false])
})

test('a front that is seen to differ while one is on its way is told that one once more', async () => {
  let applied = 0
  const gate = Promise.withResolvers<void>()
  const door = simulatedFront()
  const slow: FrontDriver = {
    ...door,
    async apply(...given) {
      if (++applied === 2) await gate.promise
      await door.apply(...given)
    },
  }
  const fronts = createFronts(slow)
  await fronts.apply(frontTo('a'), none, signal)
  const under = fronts.apply(frontTo('b'), none, signal)
  while (applied < 2) await turn()
  fronts.distrust(vpc)
  gate.resolve()
  await under
  for (const _ of [1, 2]) await fronts.apply(frontTo('b'), none, signal)
  assert.equal(applied, 3)
})
