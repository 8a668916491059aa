import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import { growthOf, shapeOf } from './shape.ts'

const plan = plannedVpc(1)
const [first, second] = plan.attachments
const [vip] = plan.vips
const [subnet] = plan.subnets
if (!first || !second || !vip || !subnet) throw new Error('the plan has no machines')

const growth = (before: VpcPlan, now: VpcPlan) =>
  growthOf(shapeOf(before, plannedHost, 'u1'), shapeOf(now, plannedHost, 'u1'))
const fewer: VpcPlan = { ...plan, attachments: [first], vips: [] }

describe('how a router grew', () => {
  test('the same is no growth', () => {
    assert.deepEqual(growth(plan, structuredClone(plan)), { inside: [], onHost: [] })
  })

  test('a machine more is a route on the host: what hangs on its link is made with that', () => {
    const now = { ...plan, attachments: [...plan.attachments, { ...second, id: 'c', address: '10.0.1.13' }] }
    assert.deepEqual(growth(plan, { ...now, vips: plan.vips }), { inside: [], onHost: [] })
    const other = { ...second, id: 'c', address: '10.0.1.13', fabric: '100.120.128.99' }
    assert.deepEqual(growth(plan, { ...plan, attachments: [...plan.attachments, other] }), {
      inside: [],
      onHost: ['route replace 100.120.128.99/32 via 100.120.1.3 dev u1 src 100.120.1.2 proto static'],
    })
  })

  test('a VIP more is its addresses inside and its external one on the host', () => {
    const grown = growth(fewer, plan)
    assert.deepEqual(grown?.inside, [
      'addr replace 10.0.1.100/32 dev lo',
      'addr replace fd00:0:1:1::100/128 dev lo nodad',
    ])
    assert.deepEqual(
      grown.onHost.map((it) => it.split(' ')[2]),
      [`${second.fabric}/32`, `${vip.external}/32`],
    )
  })

  test('what went, or is another now, has to be looked at', () => {
    assert.equal(growth(plan, fewer), undefined)
    assert.equal(growth(plan, { ...plan, internet: false }), undefined)
    const moved = plan.attachments.map((it) => ({ ...it, address: it.address.replace('.11', '.21') }))
    assert.equal(growth(plan, { ...plan, attachments: moved }), undefined)
  })

  test('what hangs on a link that may be there already has to be looked at', () => {
    const through = (cidr: string) => ({
      ...subnet,
      routes: [{ cidr, target: { address: first.address } }],
    })
    assert.equal(growth(plan, { ...plan, subnets: [through('192.0.2.0/24')] }), undefined)
  })

  test('a peering that came has a link of its own, that has to be looked for', () => {
    const peerings = [{ id: 'near', vpc: plannedVpc(2).vpc, ranges: ['172.16.0.0/12'] }]
    assert.equal(growth(plan, { ...plan, peerings }), undefined)
    assert.deepEqual(growth({ ...plan, peerings }, { ...plan, peerings }), { inside: [], onHost: [] })
  })
})
