import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plannedVpc } from '#cloud/network/network.conformance.ts'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import { cidr, overlaps } from '#lib/cidr.ts'
import { reachableNameservers } from './bridge-networks.ts'
import { beyondBridges, bridgesOf, wayOutRange, withWayOut } from './bridge-plan.ts'

const FABRIC = '100.112.0.0/12'

/** One that bridges can do. */
function bridged(number: number, more: Partial<VpcPlan> = {}): VpcPlan {
  const plan = plannedVpc(number)
  const subnets = plan.subnets.map((it) => ({
    ...it,
    cidr: `10.${number}.1.0/24`,
    gateway: `10.${number}.1.1`,
  }))
  const attachments = plan.attachments.map((it) => ({ ...it, groups: [] }))
  return { ...plan, subnets, attachments, vips: [], groups: [], ...more }
}

test('a subnet is a closed network, and a VPC with a way out has one more that is not', () => {
  const [one, out, ...rest] = bridgesOf('arcus', bridged(3), FABRIC)
  assert.deepEqual(rest, [])
  assert.equal(one?.cidr, '10.3.1.0/24')
  assert.equal(one?.internal, true)
  assert.deepEqual([out?.cidr, out?.gateway, out?.internal], ['100.120.3.0/24', '100.120.3.1', false])
})

test('who has no egress, and all of a VPC without internet, is in no way out', () => {
  const [first, second] = bridged(3).attachments
  assert.ok(first && second)
  const { egress: _, ...closed } = second
  assert.deepEqual(withWayOut(bridged(3, { attachments: [first, closed] })), [first.id])
  assert.deepEqual(withWayOut(bridged(3, { internet: false })), [])
  assert.equal(bridgesOf('arcus', bridged(3, { internet: false }), FABRIC).length, 1)
})

test('ways out of two VPCs never overlap, and all are inside the fabric', () => {
  const ranges = [0, 1, 2, 2047].map((index) => wayOutRange(FABRIC, index)?.cidr ?? assert.fail())
  for (const [at, one] of ranges.entries()) {
    assert.ok(overlaps(cidr(FABRIC), cidr(one)))
    for (const other of ranges.slice(at + 1)) assert.ok(!overlaps(cidr(one), cidr(other)))
  }
  assert.equal(wayOutRange(FABRIC, 2048), undefined)
})

test('what bridges cannot do is named', () => {
  const plain = bridged(1)
  const [subnet] = plain.subnets
  const [front] = plannedVpc(1).vips
  assert.ok(subnet && front)
  const why = (plan: VpcPlan, others: VpcPlan[] = []): string => beyondBridges(plan, others, FABRIC) ?? ''
  assert.equal(why(plain, [bridged(2), plain]), '')
  assert.match(why({ ...plain, subnets: [subnet, subnet] }), /one subnet/)
  assert.match(why({ ...plain, subnets: [{ ...subnet, routes: [] }] }), /route tables/)
  assert.match(why({ ...plain, attachments: plannedVpc(1).attachments }), /security groups/)
  assert.match(why({ ...plain, vips: [front] }), /external addresses/)
  assert.match(why({ ...plain, index: 5000 }), /no room/)
  assert.match(why({ ...plain, subnets: [{ ...subnet, cidr: '100.120.0.0/16' }] }), /own range/)
  assert.match(why(plain, [bridged(2, { subnets: [{ ...subnet, cidr: '10.0.0.0/8' }] })]), /another VPC/)
})

test('of the host, resolvers that a container can ask are taken', () => {
  assert.deepEqual(
    reachableNameservers(['nameserver 127.0.0.53\n', 'nameserver 192.0.2.53\nnameserver ::1\n']),
    ['192.0.2.53'],
  )
  assert.deepEqual(reachableNameservers(['search x\nnameserver 192.0.2.1\n', 'nameserver 192.0.2.2\n']), [
    '192.0.2.1',
  ])
  assert.deepEqual(reachableNameservers(['nameserver 127.0.0.53']), [])
})
