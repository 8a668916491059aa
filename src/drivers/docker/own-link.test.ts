import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressesOn, digitsOf, hasLink, lacksIpv6 } from './own-link.ts'
import { testReal } from './wish.testing.ts'

const IF_INET6 = `00000000000000000000000000000001 01 80 10 80       lo
fd770001000000000000000000000009 18d 80 00 80     eth0
fe80000000000000004d0bfffe4d0005 18d 40 20 80     eth0
`

test('IPv6 addresses of one link are read from the kernel, and compared as it writes them', () => {
  const [address] = addressesOn('eth0', IF_INET6)
  assert.equal(addressesOn('eth0', IF_INET6).length, 2)
  assert.deepEqual(addressesOn('eth1', IF_INET6), [])
  for (const text of ['fd77:1::9', 'fd77:1:0:0:0:0:0:9', 'fd77:0001::0:9'])
    assert.equal(digitsOf(text), address)
  assert.equal(digitsOf('::1'), addressesOn('lo', IF_INET6)[0])
  assert.equal(digitsOf('fd77::'), 'fd77'.padEnd(32, '0'))
})

test('a process that ended is said to lack nothing', async () => {
  const gone = testReal({ pid: 2 ** 22 + 1 })
  assert.equal(await lacksIpv6(gone, 'fd77:1::9'), false)
  assert.equal(await hasLink(gone), true)
})

test('nor is one that is not of the container, whatever links it has', async () => {
  const own = testReal({ pid: process.pid, runtimeId: 'no such container' })
  assert.equal(await lacksIpv6(own, 'fd77:1::9'), false)
  assert.equal(await hasLink(own), true)
})
