import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { NetworkCreateOptions } from 'dockerode'
import type { DockerApi } from './docker.ts'
import { dockerNetworks, setsIpv6Itself } from './networks.ts'
import { testAttachment, testHeld } from './wish.testing.ts'

const { plan, subnet } = testAttachment
const owner = { label: 'owner', owns: () => true }

/** A Docker that speaks this version, with a network that is there already or none. */
function opened(version: string, there?: { EnableIPv6: boolean }) {
  const made: NetworkCreateOptions[] = []
  const api = {
    version: () => Promise.resolve(version),
    networks: () => Promise.resolve(there ? [there] : []),
    createNetwork: (options: NetworkCreateOptions) => Promise.resolve(made.push(options)),
  } as unknown as DockerApi
  return { made, networks: dockerNetworks(api, 'arcus', 'arcus', owner) }
}

describe("Docker's networks of subnets", () => {
  test('Docker 24 and later set IPv6 themselves', () => {
    for (const version of ['1.43', '1.44', '1.100', '2.0'])
      assert.equal(setsIpv6Itself(version), true, version)
    for (const version of ['1.41', '1.42', '1.9']) assert.equal(setsIpv6Itself(version), false, version)
  })

  for (const [version, ipv6] of [
    ['1.41', false],
    ['1.47', true],
  ] as const)
    test(`with version ${version} of the API a network and its endpoints have ${ipv6 ? 'both families' : 'IPv4 alone'}`, async () => {
      const { made, networks } = opened(version)
      await networks.ensure(testAttachment)
      assert.equal(made[0]?.EnableIPv6, ipv6)
      const ranges = made[0]?.IPAM?.Config?.map((it) => it['Subnet'])
      assert.deepEqual(ranges, ipv6 ? [subnet.cidr, subnet.cidr6] : [subnet.cidr])
      const { endpoint } = networks.joining(testAttachment, testHeld().wish)
      assert.equal(endpoint.IPAMConfig?.IPv4Address, plan.address)
      assert.equal(endpoint.IPAMConfig?.IPv6Address, ipv6 ? plan.address6 : undefined)
    })

  test('a network that is there stays what it was made as, whatever Docker is now', async () => {
    for (const [version, ipv6] of [
      ['1.41', true],
      ['1.47', false],
    ] as const) {
      const { made, networks } = opened(version, { EnableIPv6: ipv6 })
      await networks.ensure(testAttachment)
      assert.deepEqual(made, [])
      const { endpoint } = networks.joining(testAttachment, testHeld().wish)
      assert.equal(endpoint.IPAMConfig?.IPv6Address, ipv6 ? plan.address6 : undefined)
    }
  })

  test('a doubt that comes between a network and what joins it takes nothing from either', async () => {
    const { made, networks } = opened('1.47')
    await networks.ensure(testAttachment)
    // As when another container's start failed meanwhile.
    networks.doubt()
    const { endpoint } = networks.joining(testAttachment, testHeld().wish)
    assert.equal(endpoint.IPAMConfig?.IPv6Address, plan.address6)
    await networks.ensure(testAttachment)
    assert.equal(made.length, 2, 'and it is looked for again')
  })

  test('one that Docker does not let go of is stuck until it does', async () => {
    let refuses = true
    const refusal = Object.assign(new Error('has active endpoints'), { statusCode: 403 })
    const api = { removeNetwork: () => (refuses ? Promise.reject(refusal) : Promise.resolve()) }
    const networks = dockerNetworks(api as unknown as DockerApi, 'arcus', 'arcus', owner)
    await networks.remove(subnet.id)
    assert.equal(networks.isStuck(subnet.id), true)
    refuses = false
    await networks.remove(subnet.id)
    assert.equal(networks.isStuck(subnet.id), false)
  })
})
