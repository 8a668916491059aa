import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { isCloudError } from '#lib/errors.ts'
import { simulatedEdge } from '#drivers/simulated/edge.ts'
import { simulatedNetwork } from '#drivers/simulated/network.ts'
import { createRouters } from './routers.ts'

const signal = new AbortController().signal
const plan = {
  vpc: 'v',
  tenant: 't',
  index: 1,
  internet: false,
  range6: 'fd00::/48',
  uplink: { host: '100.112.0.2', vpc: '100.112.0.3' },
  subnets: [],
  attachments: [],
  vips: [],
  groups: [],
}
const zone = { vpc: 'v', callers: [], names: {}, suffixes: [], nameservers: [], forward: false }

test('after a newer plan of somebody else was in the way, the next one is newer still', async () => {
  const network = simulatedNetwork()
  const edge = simulatedEdge()
  const routers = createRouters(network, edge)
  await routers.apply(plan, zone, new Map([['s', 1]]), signal)
  assert.ok(routers.holds('v', 's', 1))
  assert.ok(!routers.holds('v', 's', 2))
  await network.apply({ ...plan, generation: 100 }, signal)
  const changed = { ...plan, internet: true }
  await assert.rejects(routers.apply(changed, zone, new Map([['s', 2]]), signal), (error) =>
    isCloudError(error, 'conflict'),
  )
  assert.ok(!routers.holds('v', 's', 1), 'what is in force is not known any more')
  await routers.apply(changed, zone, new Map([['s', 2]]), signal)
  assert.equal(network.plans.get('v')?.generation, 101)
  assert.ok(routers.holds('v', 's', 2))
})

test('an unchanged plan is not applied again, and is known to be of the new generation', async () => {
  let applied = 0
  const network = simulatedNetwork((verb) => void (applied += verb === 'apply' ? 1 : 0))
  const routers = createRouters(network, simulatedEdge())
  await routers.apply(plan, zone, new Map([['s', 1]]), signal)
  await routers.apply(plan, zone, new Map([['s', 2]]), signal)
  assert.equal(applied, 1)
  assert.ok(routers.holds('v', 's', 2))
})

test('a wish that goes back after only half of another was done is applied again', async () => {
  let away = false
  const network = simulatedNetwork()
  const edge = simulatedEdge((verb) => {
    if (away && verb === 'apply') throw new Error('the edge is away')
  })
  const routers = createRouters(network, edge)
  const apply = async (internet: boolean): Promise<unknown> =>
    await routers.apply({ ...plan, internet }, { ...zone, forward: internet }, new Map(), signal)
  await apply(false)
  away = true
  await assert.rejects(apply(true), /the edge is away/)
  assert.equal(network.plans.get('v')?.internet, true)
  away = false
  await apply(false)
  assert.equal(network.plans.get('v')?.internet, false)
})

test('a part of a plan that was not answered for is not lacking until a plan without it is', async () => {
  let away = false
  const network = simulatedNetwork()
  const edge = simulatedEdge((verb) => {
    if (away && verb === 'apply') throw new Error('the edge is away')
  })
  const routers = createRouters(network, edge)
  const apply = async (internet: boolean, parts: [string, number][]): Promise<unknown> =>
    await routers.apply({ ...plan, internet }, { ...zone, forward: internet }, new Map(parts), signal)
  await apply(false, [])
  assert.ok(routers.lacks('v', 'nat'))
  away = true
  await assert.rejects(apply(true, [['nat', 1]]), /the edge is away/)
  assert.equal(network.plans.get('v')?.internet, true)
  assert.ok(!routers.lacks('v', 'nat'), 'the router may have it')
  assert.ok(!routers.holds('v', 'nat', 1))
  away = false
  await apply(false, [])
  assert.ok(routers.lacks('v', 'nat'))
})

test('a router that is seen to differ while a plan is on its way to it is told that plan once more', async () => {
  let applied = 0
  const network = simulatedNetwork()
  const gate = Promise.withResolvers<void>()
  const slow = {
    ...network,
    async apply(wish: Parameters<typeof network.apply>[0], until: AbortSignal) {
      if (++applied === 2) await gate.promise
      await network.apply(wish, until)
    },
  }
  const routers = createRouters(slow, simulatedEdge())
  const apply = async (internet: boolean): Promise<unknown> =>
    await routers.apply({ ...plan, internet }, zone, new Map([['s', 1]]), signal)
  await apply(false)
  const under = apply(true)
  while (applied < 2) await turn()
  routers.distrust('v')
  gate.resolve()
  await under
  assert.ok(routers.holds('v', 's', 1))
  await apply(true)
  assert.equal(applied, 3)
  await apply(true)
  assert.equal(applied, 3)
})

test('a look of before that goes on beside its successor does not undo what that did', async () => {
  const network = simulatedNetwork()
  let away = false
  const edge = simulatedEdge((verb) => {
    if (verb === 'apply' && away) throw new Error('the edge is away')
  })
  const gate = Promise.withResolvers<void>()
  let isFirst = true
  const slow = {
    ...network,
    async observe(vpc: string, until: AbortSignal) {
      const seen = await network.observe(vpc, until)
      if (isFirst) {
        isFirst = false
        await gate.promise
        away = true
      }
      return seen
    },
  }
  const routers = createRouters(slow, edge)
  const apply = async (internet: boolean): Promise<unknown> =>
    await routers.apply({ ...plan, internet }, { ...zone, forward: internet }, new Map(), signal)
  const before = assert.rejects(apply(true), /the edge is away/).finally(() => (away = false))
  const after = apply(false)
  await turn()
  gate.resolve()
  await Promise.all([before, after])
  await apply(false)
  assert.equal(network.plans.get('v')?.internet, false)
})

test('a router that was removed is not made again by a look that began before', async () => {
  const network = simulatedNetwork()
  const gate = Promise.withResolvers<void>()
  const slow = {
    ...network,
    async apply(wish: Parameters<typeof network.apply>[0], until: AbortSignal) {
      await gate.promise
      await network.apply(wish, until)
    },
  }
  const edge = simulatedEdge()
  const routers = createRouters(slow, edge)
  const under = routers.apply(plan, zone, new Map(), signal)
  const removed = routers.remove('v', signal)
  await turn()
  gate.resolve()
  await Promise.all([under, removed])
  const late = routers.apply(plan, zone, new Map(), signal)
  await assert.rejects(late, (error) => isCloudError(error, 'conflict'))
  assert.equal(network.plans.get('v'), undefined)
  assert.deepEqual(await edge.list(signal), [])
})
