import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { cidr, contains, formatIpv4, overlaps, parseIpv4 } from '#lib/cidr.ts'
import { DEFAULT_SETTINGS } from '#cloud/context.ts'
import {
  address6Of,
  cidr6Of,
  fabricPool,
  macOf,
  randomRange6,
  uplinkOf,
  vpcIndexMax,
} from './addresses.driver.ts'

const { fabric } = DEFAULT_SETTINGS

test('no two VPCs share an uplink address, and none is an attachment or the resolver', () => {
  const pool = fabricPool(fabric)
  const range = cidr(fabric)
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: vpcIndexMax(fabric) }),
      fc.integer({ min: 0, max: vpcIndexMax(fabric) }),
      (a, b) => {
        const one = uplinkOf(fabric, a)
        const other = uplinkOf(fabric, b)
        assert.equal(one.host === other.host, a === b)
        assert.notEqual(one.host, other.vpc)
        for (const text of [one.host, one.vpc]) {
          const value = parseIpv4(text) ?? 0
          assert.ok(contains(range, value) && !contains(pool, value))
          assert.notEqual(text, DEFAULT_SETTINGS.resolver)
        }
      },
    ),
  )
})

test('the default ranges keep apart', () => {
  assert.equal(overlaps(cidr(fabric), cidr(DEFAULT_SETTINGS.externalCidr)), false)
})

test('IPv6 addresses and MACs belong one to one to IPv4 addresses', () => {
  const range6 = randomRange6()
  assert.match(range6, /^fd[0-9a-f]{2}:[0-9a-f]{4}:[0-9a-f]{4}::\/48$/)
  assert.match(cidr6Of(range6, 7), /:7::\/64$/)
  const address = fc.integer({ min: 1, max: 2 ** 32 - 2 }).map(formatIpv4)
  fc.assert(
    fc.property(address, address, (a, b) => {
      assert.ok(isIPv6(address6Of(range6, 7, a)))
      assert.equal(address6Of(range6, 7, a) === address6Of(range6, 7, b), a === b)
      assert.match(macOf(a), /^02(:[0-9a-f]{2}){5}$/)
      assert.equal(macOf(a) === macOf(b), a === b)
    }),
  )
})
