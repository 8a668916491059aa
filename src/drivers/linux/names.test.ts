import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createLanes, inParallel } from '#lib/lanes.ts'
import { isRouterLink, namesFor, routerLink } from './names.ts'

const VPC = '0198c0de-0000-7abc-8def-0123456789ab'

describe('names', () => {
  const names = namesFor('arcus')

  test('fit in what Linux allows, whatever the number', () => {
    for (const it of [names.uplink(131_071), names.containerLink(VPC), routerLink(VPC)])
      assert.ok(it.length <= 15, it)
  })

  test('are recognised again, those of another installation not', () => {
    assert.equal(names.namespace(VPC), 'arcus-0123456789ab')
    assert.equal(names.vpcOf(names.namespace(VPC)), '0123456789ab')
    assert.equal(names.namespace('0123456789ab'), names.namespace(VPC))
    for (const it of [
      'arcus',
      'arcus-probe',
      'arcus2-0123456789ab',
      'x-arcus-0123456789ab',
      'arcus-0123456789AB',
    ])
      assert.equal(names.vpcOf(it), undefined, it)
    assert.ok(names.isUplink(names.uplink(7)) && names.isContainerLink(names.containerLink(VPC)))
    const other = namesFor('arcu')
    for (const it of [other.uplink(7), other.containerLink(VPC), 'eth0', 'docker0', routerLink(VPC)])
      assert.ok(!names.isUplink(it) && !names.isContainerLink(it), it)
    assert.ok(isRouterLink(routerLink(VPC)))
    for (const it of ['uplink', 'lo', 'c1', 'cilium_host']) assert.ok(!isRouterLink(it), it)
  })

  test('a prefix that would not fit is refused', () => {
    for (const it of ['', 'toolong', 'Arcus', 'a-b', '1ab']) assert.throws(() => namesFor(it))
  })
})

describe('lanes', () => {
  test('keep the order within a key and let others pass', async () => {
    const lane = createLanes()
    const done: string[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    const first = lane('a', async () => {
      await promise
      done.push('a1')
    })
    const second = lane('a', async () => void done.push('a2'))
    await lane('b', async () => void done.push('b1'))
    assert.deepEqual(done, ['b1'])
    resolve()
    await Promise.all([first, second])
    assert.deepEqual(done, ['b1', 'a1', 'a2'])
  })

  test('go on after a failure, which reaches who asked', async () => {
    const lane = createLanes()
    const failed = lane('a', () => Promise.reject(new Error('no')))
    const next = lane('a', () => Promise.resolve('yes'))
    await assert.rejects(failed, /no/)
    assert.equal(await next, 'yes')
  })

  test('side by side no more than the limit, results in order', async () => {
    let running = 0
    let most = 0
    const results = await inParallel([1, 2, 3, 4, 5], 2, async (it) => {
      most = Math.max(most, ++running)
      await Promise.resolve()
      running--
      return it * 2
    })
    assert.deepEqual(results, [2, 4, 6, 8, 10])
    assert.equal(most, 2)
  })
})
