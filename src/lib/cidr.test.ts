import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  cidr,
  contains,
  formatCidr,
  formatIpv4,
  isUsable,
  lastOf,
  nextFree,
  overlaps,
  parseCidr,
  parseIpv4,
  sizeOf,
} from './cidr.ts'

const address = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const network = fc
  .tuple(address, fc.integer({ min: 8, max: 32 }))
  .map(([value, prefix]) => ({ base: value - (value % 2 ** (32 - prefix)), prefix }))

test('addresses and networks survive being written and read', () => {
  fc.assert(fc.property(address, (it) => assert.equal(parseIpv4(formatIpv4(it)), it)))
  fc.assert(fc.property(network, (it) => assert.deepEqual(parseCidr(formatCidr(it)), it)))
})

test('refuses what is no address or has host bits', () => {
  for (const text of ['', '1.2.3', '1.2.3.256', '01.2.3.4', '1.2.3.4.5', ' 1.2.3.4', '1.2.3.-4', '::1'])
    assert.equal(parseIpv4(text), undefined, text)
  for (const text of ['10.0.0.0', '10.0.0.1/24', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/24/1', 'x/8'])
    assert.equal(parseCidr(text), undefined, text)
})

test('two networks overlap exactly when one holds the other', () => {
  fc.assert(
    fc.property(network, network, (a, b) =>
      assert.equal(overlaps(a, b), contains(a, b.base) || contains(b, a.base)),
    ),
  )
})

test('nextFree gives a usable address that nobody has, going on from the last', () => {
  const range = cidr('10.0.0.0/29')
  const taken = new Set<number>()
  let last = range.base
  for (let count = 0; count < sizeOf(range) - 2; count++) {
    const free = nextFree(range, (it) => taken.has(it), last)
    assert.ok(free !== undefined && isUsable(range, free) && !taken.has(free))
    taken.add(free)
    last = free
  }
  assert.equal(
    nextFree(range, (it) => taken.has(it), last),
    undefined,
  )
  taken.delete(range.base + 1)
  assert.equal(
    nextFree(range, (it) => taken.has(it), lastOf(range) - 1),
    range.base + 1,
  )
})
