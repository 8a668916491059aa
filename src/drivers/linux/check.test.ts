import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import { plannedBalancer, plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { HostPlan, PlannedPort, VpcPlan } from '#cloud/network/network.driver.ts'
import { checkHostPlan, checkVpcPlan } from './check.ts'

const isInvalid = (error: unknown): boolean => isCloudError(error, 'invalid')
const base = plannedVpc(1)
const [subnet] = base.subnets
const [attachment] = base.attachments
const [vip] = base.vips
if (!subnet || !attachment || !vip) throw new Error('the plan is empty')

const published: PlannedPort = {
  id: vip.id,
  protocol: 'tcp',
  host: 30_080,
  container: 80,
  backends: [attachment.id],
}

const whole: VpcPlan = {
  ...base,
  published: [published],
  balancers: [plannedBalancer],
  subnets: [
    {
      ...subnet,
      routes: [
        { cidr: '0.0.0.0/0', target: 'internet' },
        { cidr: '192.0.2.0/24', target: { address: attachment.address } },
      ],
    },
  ],
  groups: base.groups.map((it) => ({
    ...it,
    rules: [
      ...it.rules,
      { direction: 'egress', protocol: 'udp', ports: { from: 1, to: 2 }, peer: { cidr: 'fd00::/8' } },
      { direction: 'egress', protocol: 'any', peer: { group: it.id } },
    ],
  })),
}

type Leaf = { path: (string | number)[]; value: unknown }
const leavesOf = (value: unknown, path: (string | number)[] = []): Leaf[] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([key, it]) => leavesOf(it, [...path, key]))
    : [{ path, value }]

/** A copy with one leaf replaced. */
function replaced<T>(plan: T, path: readonly (string | number)[], value: unknown): T {
  const copy = structuredClone(plan)
  let at = copy as Record<string | number, unknown>
  for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>
  at[path.at(-1) ?? ''] = value
  return copy
}

// What a text that passed would do to `ip -batch`, `nft -f` or a file name.
const HOSTILE = ['\nflush ruleset', ' dev eth0', '; drop', '" accept', '/../x', '}', ' ', '%eth0']

describe('a plan passes', () => {
  test('when it is exact', () => {
    checkHostPlan(plannedHost)
    checkVpcPlan(whole, plannedHost)
    checkVpcPlan({ ...whole, attachments: [], vips: [], groups: [], published: [] }, plannedHost)
    checkVpcPlan(whole, plannedHost, { from: 30_080, to: 30_080 })
  })

  test('in no text of which more is said than its form allows', () => {
    for (const { path, value } of leavesOf(whole)) {
      // The tenant is written nowhere.
      if (typeof value !== 'string' || path[0] === 'tenant') continue
      for (const more of HOSTILE)
        for (const text of [value + more, more + value, more, ''])
          assert.throws(
            () => checkVpcPlan(replaced(whole, path, text), plannedHost),
            isInvalid,
            `${path.join('.')}: ${JSON.stringify(text)}`,
          )
    }
    const host: HostPlan = { ...plannedHost, allowed: ['192.0.2.0/24'] }
    for (const { path, value } of leavesOf(host)) {
      if (typeof value !== 'string') continue
      for (const more of HOSTILE)
        assert.throws(() => checkHostPlan(replaced(host, path, value + more)), isInvalid, path.join('.'))
    }
  })

  test('in no number that is none, or out of range', () => {
    for (const { path, value } of leavesOf(whole)) {
      if (typeof value !== 'number') continue
      for (const number of [-1, 1.5, Number.NaN, 10_000_000_000, '1'])
        if (path[0] !== 'generation' || typeof number !== 'number' || !Number.isInteger(number))
          assert.throws(
            () => checkVpcPlan(replaced(whole, path, number), plannedHost),
            isInvalid,
            path.join('.'),
          )
    }
  })
})

describe('a plan that contradicts itself is refused:', () => {
  const wrong: Record<string, Partial<VpcPlan>> = {
    'an address outside its subnet': { attachments: [{ ...attachment, address: '10.0.9.5' }] },
    'a machine in a subnet that is not there': { attachments: [{ ...attachment, subnet: 'other' }] },
    'the address of a VIP for a machine': {
      attachments: [{ ...attachment, address: vip.address }],
      vips: [{ ...vip, backends: [] }],
    },
    'the address of the gateway for a machine': { attachments: [{ ...attachment, address: subnet.gateway }] },
    'two machines with one id': { attachments: [attachment, { ...attachment, address: '10.0.1.77' }] },
    'a backend that is no attachment': { vips: [{ ...vip, backends: ['nobody'] }] },
    'a load balancer at the address of a VIP': {
      vips: [{ ...vip, backends: [] }],
      balancers: [{ ...plannedBalancer, address: vip.address }],
    },
    'a load balancer outside its subnet': { balancers: [{ ...plannedBalancer, address: '10.0.9.5' }] },
    'a load balancer at a port of the edge that is for something else': {
      balancers: [{ ...plannedBalancer, at: 53 }],
    },
    'two load balancers at one port of the edge': {
      balancers: [plannedBalancer, { ...plannedBalancer, id: 'other', address: '10.0.1.111' }],
    },
    'a port twice': { vips: [{ ...vip, ports: [...vip.ports, ...vip.ports] }] },
    'subnets that overlap': { subnets: [subnet, { ...subnet, id: 'other', cidr: '10.0.0.0/16' }] },
    'a subnet in the fabric': {
      subnets: [{ ...subnet, cidr: '100.120.5.0/24', gateway: '100.120.5.1' }],
      attachments: [],
    },
    'a subnet of link-local addresses': {
      subnets: [{ ...subnet, cidr: '169.254.1.0/24', gateway: '169.254.1.1' }],
      attachments: [],
    },
    'a published port outside of the range': { published: [{ ...published, host: 22 }] },
    'a published port twice': { published: [published, { ...published, container: 81 }] },
    'a published port of nobody': { published: [{ ...published, backends: ['nobody'] }] },
    'an uplink that is no /31': { uplink: { host: '100.120.1.3', vpc: '100.120.1.4' } },
    'an uplink outside the fabric': { uplink: { host: '10.0.0.2', vpc: '10.0.0.3' } },
  }
  for (const [what, more] of Object.entries(wrong)) {
    test(what, () => {
      assert.throws(() => checkVpcPlan({ ...base, vips: [], ...more }, plannedHost), isInvalid)
    })
  }

  test('a resolver outside the fabric, or a pool in it', () => {
    assert.throws(() => checkHostPlan({ ...plannedHost, resolver: '10.0.0.1' }), isInvalid)
    const external = [{ cidr: '100.120.1.0/24', masquerade: true }]
    assert.throws(() => checkHostPlan({ ...plannedHost, external }), isInvalid)
  })
})
