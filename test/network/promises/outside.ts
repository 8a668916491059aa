// The ways between VPCs and what is beyond the host.
import assert from 'node:assert/strict'
import { INTERNET, LAN, refused } from '../world.ts'
import { statistic } from './inside.ts'
import { EXTERNAL } from './scene.ts'
import type { Prove } from './suite.ts'
import { bySelf } from './vips.ts'

const wayOut: Prove = ({ machines: { a1, a2, b1 } }, check) => {
  check('by TCP, UDP and ping', async () => {
    for (const it of [a1, a2, b1]) assert.match((await it.ask(INTERNET, 80)).text ?? 'none', /^internet /)
    assert.match((await a2.ask(INTERNET, 53, { protocol: 'udp' })).text ?? 'none', /^internet /)
    assert.ok(a1.ping(INTERNET))
  })
}

const OF_KERNEL_MAX = 3

const noWayOut: Prove = (scene, check) => {
  const { machines, internet, routers } = scene
  const { a3, b2, c1 } = machines
  check('whatever its machines are given', async () => {
    await internet.heard()
    const arrived = (): number => (routers ? Number(statistic(scene, routers.uplink(3), 'rx_packets')) : 0)
    const before = arrived()
    for (const it of [a3, b2, c1]) {
      await refused(
        it.ask(INTERNET, 80),
        it.ask(INTERNET, 53, { protocol: 'udp' }),
        it.ask(LAN, 80),
        it.ask('203.0.113.1', 80),
      )
      assert.equal(it.ping(INTERNET), false)
    }
    if (scene.promises.has('external-address')) await refused(c1.ask(EXTERNAL, 80))
    // Each machine alone would have sent more; a new link has a few of the kernel's own, looking for IPv6 routers.
    assert.ok(arrived() - before <= OF_KERNEL_MAX, `${arrived() - before} packets went out`)
    assert.deepEqual(await internet.heard(), [])
  })
  check('nor who had one, once it is taken away', async () => {
    const { a1 } = machines
    assert.match((await a1.open('out', INTERNET, 80)).text ?? 'none', /^internet /)
    await scene.change(1, { internet: false, vips: [] })
    await refused(a1.say('out'), a1.ask(INTERNET, 80), a1.ask(LAN, 80))
    await scene.reset()
    assert.match((await a1.ask(INTERNET, 80)).text ?? 'none', /^internet /)
  })
}

const externalSource: Prove = (scene, check) => {
  const { a1, a2, a3 } = scene.machines
  check('and where nobody outside routes its pool, the host', async () => {
    assert.deepEqual(await a1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    assert.deepEqual(await a2.ask(INTERNET, 53, { protocol: 'udp' }), { text: 'internet 203.0.113.2' })
    const routed = '198.51.100.140'
    await scene.change(1, { attachments: [{ ...a1.at, egress: routed }, a2.at, a3.at] })
    assert.deepEqual(await a1.ask(INTERNET, 80), { text: `internet ${routed}` })
    assert.deepEqual(await a2.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  })
}

const externalAddress: Prove = (scene, check) => {
  const { internet, lan, host, vip } = scene
  const { a1, a3, b1 } = scene.machines
  check('from the host, from beyond it, from VPCs, from itself', async () => {
    assert.deepEqual(await host.ask(EXTERNAL, 80), { text: 'a1 100.120.0.2' })
    assert.deepEqual(await internet.ask(EXTERNAL, 80), { text: 'a1 203.0.113.1' })
    assert.deepEqual(await lan.ask(EXTERNAL, 80), { text: `a1 ${LAN}` })
    // From another VPC, which is seen by its own external address; from its own; and from itself.
    assert.deepEqual(await b1.ask(EXTERNAL, 80), { text: `a1 ${b1.at.egress}` })
    assert.deepEqual(await a3.ask(EXTERNAL, 80), { text: `a1 ${a3.at.address}` })
    bySelf(await a1.ask(EXTERNAL, 80))
  })
  check('for its ports only', async () => {
    await refused(...[host, internet, lan, b1, a3].map((it) => it.ask(EXTERNAL, 81)))
  })
  check('and it is the source of its members towards other VPCs', async () => {
    await scene.change(2, { vips: [vip(2, 100, { backends: [b1.at.id], external: '100.72.0.20' })] })
    assert.deepEqual(await a1.ask('100.72.0.20', 80), { text: `b1 ${EXTERNAL}` })
  })
}

const privateAddress: Prove = ({ machines: { a1, b1, c1 }, internet, lan, host, routers, plans }, check) => {
  check('from the outside and from networks of the host', async () => {
    await refused(
      ...[a1, b1, c1].flatMap((it) => [internet.ask(it.at.address, 80), lan.ask(it.at.address, 80)]),
    )
  })
  if (!routers) return
  check('by the host only through a translation', async () => {
    const way = ['via', plans[1].uplink.vpc, 'dev', routers.uplink(1)]
    host.run('ip', 'route', 'add', `${a1.at.address}/32`, ...way)
    await refused(host.ask(a1.at.address, 80))
    host.run('ip', 'route', 'del', `${a1.at.address}/32`, ...way)
  })
}

export const OUTSIDE = {
  'way-out': wayOut,
  'no-way-out': noWayOut,
  'external-source': externalSource,
  'external-address': externalAddress,
  private: privateAddress,
} satisfies Partial<Record<string, Prove>>
