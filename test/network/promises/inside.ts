// What machines of VPCs can reach of each other.
import assert from 'node:assert/strict'
import { INTERNET, machine, refused } from '../world.ts'
import type { Scene } from './scene.ts'
import type { Prove } from './suite.ts'

/** The addresses in this VPC's subnets that nobody has. */
const unassigned = ({ plans, promises }: Scene): string[] =>
  plans[1].subnets.flatMap((it) => [
    it.cidr.replace('.0/24', '.77'),
    ...(promises.has('ipv6') ? [it.cidr6.replace('::/64', '::77')] : []),
  ])

const neighbours: Prove = ({ machines: { a1, a2 } }, check) => {
  check('by TCP and UDP, both ways', async () => {
    assert.deepEqual(await a2.ask(a1.at.address, 80), { text: `a1 ${a2.at.address}` })
    assert.deepEqual(await a1.ask(a2.at.address, 80), { text: `a2 ${a1.at.address}` })
    const datagram = await a2.ask(a1.at.address, 53, { protocol: 'udp' })
    assert.deepEqual(datagram, { text: `a1 ${a2.at.address}` })
  })
  check('a port where nobody listens refuses', async () => {
    assert.deepEqual(await a2.ask(a1.at.address, 82), { error: 'ECONNREFUSED' })
  })
}

const isolation: Prove = (scene, check) => {
  const { a1, a3, b1, b2, c1 } = scene.machines
  check('whatever address is tried, by whatever protocol, in any direction', async () => {
    const groups = [[a1, a3], [b1, b2], [c1]]
    for (const mine of groups) {
      const theirs = groups.filter((it) => it !== mine).flat()
      for (const it of theirs) await it.heard()
      const asked = mine.flatMap((from) =>
        theirs.flatMap((to) =>
          scene.addressesOf(to).flatMap((address) =>
            ([80, 81, 53] as const).map(async (port) => ({
              from,
              to,
              address,
              answer: await from.ask(address, port, { protocol: port === 53 ? 'udp' : 'tcp' }),
            })),
          ),
        ),
      )
      for (const { from, to, address, answer } of await Promise.all(asked))
        assert.ok(!answer.text?.startsWith(`${to.name} `), `${from.name} reached ${to.name} by ${address}`)
      const own = new Set(mine.flatMap((it) => scene.addressesOf(it)))
      for (const it of theirs)
        for (const source of await it.heard())
          assert.ok(scene.promises.has('same-ranges') || !own.has(source), `${it.name} heard ${source}`)
    }
    // The packets were sent: at home the same addresses answer.
    assert.deepEqual(await a3.ask(a1.at.address, 80), { text: `a1 ${a3.at.address}` })
    assert.deepEqual(await b2.ask(b1.at.address, 80), { text: `b1 ${b2.at.address}` })
  })
}

const sameRanges: Prove = ({ machines: { a1, a2, a3, b2 } }, check) => {
  check('each reaches its own', async () => {
    assert.deepEqual(await a2.ask(a1.at.address, 80), { text: `a1 ${a2.at.address}` })
    assert.deepEqual(await b2.ask(a1.at.address, 80), { text: `b1 ${b2.at.address}` })
    assert.deepEqual(await b2.ask(a2.at.address, 80), { text: `b2 ${b2.at.address}` })
    await refused(b2.ask(a3.at.address, 80))
  })
}

const unassignedAddress: Prove = (scene, check) => {
  const { machines, internet, routers } = scene
  check('not even by who has a way out', async () => {
    const { a1 } = machines
    const nobodys = unassigned(scene)
    // Whoever got such a packet out there would answer it.
    const trap = machine('trap', 'internet')
    for (const it of nobodys) internet.run('ip', 'addr', 'add', it, 'dev', 'lo', ...nodad(it))
    try {
      for (const address of nobodys) await trap.listen(53, { protocol: 'udp', address })
      await internet.heard()
      const arrived = (): string => (routers ? statistic(scene, routers.uplink(1), 'rx_packets') : '')
      const before = arrived()
      await refused(...nobodys.flatMap((it) => [a1.ask(it, 80), a1.ask(it, 53, { protocol: 'udp' })]))
      assert.equal(arrived(), before)
      assert.deepEqual(await trap.heard(), [])
      const sent = await a1.ask(INTERNET, 53, { protocol: 'udp' })
      assert.match(sent.text ?? 'no way out', /^internet /)
      assert.equal((await internet.heard()).length, 1)
    } finally {
      trap.stop()
      for (const it of nobodys) internet.run('ip', 'addr', 'del', it, 'dev', 'lo')
    }
  })
}

const nodad = (address: string): string[] => (address.includes(':') ? ['nodad'] : [])

/** A counter of a link of the host. */
export const statistic = ({ host }: Scene, link: string, name: string): string =>
  host.run('cat', `/sys/class/net/${link}/statistics/${name}`).trim()

const spoofing: Prove = ({ machines: { a1, a2, a3 } }, check) => {
  check('while its own passes', async () => {
    const foreign = [`${a3.at.address}/32`, '192.0.2.99/32', `${a3.at.address6}/128`]
    for (const it of foreign) a2.run('ip', 'addr', 'add', it, 'dev', 'lo')
    await a1.listen(5353, { protocol: 'udp' })
    await a1.listen(5354, { protocol: 'udp', address: '::' })
    await a1.heard()
    await refused(
      a2.ask(a1.at.address, 5353, { protocol: 'udp', from: a3.at.address }),
      a2.ask(a1.at.address, 5353, { protocol: 'udp', from: '192.0.2.99' }),
      a2.ask(a1.at.address6, 5354, { protocol: 'udp', from: a3.at.address6 }),
    )
    assert.deepEqual(await a1.heard(), [])
    for (const it of foreign) a2.run('ip', 'addr', 'del', it, 'dev', 'lo')
    // The same with their own addresses, so that it is the source that counts.
    await a2.ask(a1.at.address, 5353, { protocol: 'udp', from: a2.at.address })
    await a2.ask(a1.at.address6, 5354, { protocol: 'udp', from: a2.at.address6 })
    assert.deepEqual(await a1.heard(), [a2.at.address, a2.at.address6])
  })
}

export const INSIDE = {
  neighbours,
  isolation,
  'same-ranges': sameRanges,
  unassigned: unassignedAddress,
  spoofing,
  subnets: ({ machines: { a1, a3 } }, check) => {
    check('both ways', async () => {
      assert.notEqual(a1.at.subnet, a3.at.subnet)
      assert.deepEqual(await a3.ask(a1.at.address, 80), { text: `a1 ${a3.at.address}` })
      assert.deepEqual(await a1.ask(a3.at.address, 80), { text: `a3 ${a1.at.address}` })
    })
  },
  'own-link': ({ machines: { a1, a2 } }, check) => {
    check('a neighbour is behind the link address of the router', async () => {
      await a2.ask(a1.at.address, 80)
      assert.match(a2.run('ip', 'neigh', 'show', a1.at.address), /lladdr (?!02:00:0a)/)
    })
  },
  ipv6: ({ machines: { a1, a2, a3, b1 } }, check) => {
    check('in a subnet, across subnets, not to another VPC, not out', async () => {
      assert.deepEqual(await a2.ask(a1.at.address6, 80), { text: `a1 ${a2.at.address6}` })
      assert.deepEqual(await a3.ask(a1.at.address6, 80), { text: `a1 ${a3.at.address6}` })
      await refused(b1.ask(a1.at.address6, 80), a1.ask('2001:db8::1', 80), a1.ask('fd00:0:1:1::77', 80))
    })
  },
} satisfies Partial<Record<string, Prove>>
