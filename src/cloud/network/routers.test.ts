import assert from 'node:assert/strict'
import { test } from 'node:test'
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
