// The host, the platform's own addresses, and what one VPC can do to all.
import assert from 'node:assert/strict'
import { HOST, HOST_IN_LAN, INTERNET, LAN, refused } from '../world.ts'
import type { Prove } from './suite.ts'

/** More flows at once than any of the stages lets one VPC have. */
const FLOOD_FLOWS = 200
/** So many are answered later than one is. */
const FLOOD_MS = 1500

/** Addresses of the host: in its networks, of its uplinks, of its resolver. */
const OF_HOST = [HOST_IN_LAN, '203.0.113.2', '100.120.0.2', '100.120.0.4', HOST.resolver]

const fabric: Prove = ({ machines: { a1, a2, a3, b1, b2, c1 }, host, lan, internet }, check) => {
  check('the host, from whatever address of its own', async () => {
    assert.deepEqual(await host.ask(a1.at.fabric, 80), { text: 'a1 100.120.0.2' })
    assert.deepEqual(await host.ask(b1.at.fabric, 80), { text: 'b1 100.120.0.4' })
    assert.deepEqual(await host.ask(c1.at.fabric, 82), { error: 'ECONNREFUSED' })
    // Bound to another of the host's addresses it is still the platform.
    const bound = await host.ask(a1.at.fabric, 80, { from: HOST_IN_LAN })
    assert.deepEqual(bound, { text: 'a1 100.120.0.2' })
  })
  check('nobody else', async () => {
    await refused(...[a2, a3, b1, b2, c1, lan, internet].map((it) => it.ask(a1.at.fabric, 80)))
  })
}

const router: Prove = (scene, check) => {
  const { a1, a3 } = scene.machines
  const { host, internet, plans, routers } = scene
  check('nobody reaches a port of it', async () => {
    for (const address of [...plans[1].subnets.map((it) => it.gateway), plans[1].uplink.vpc])
      await refused(...[22, 53, 80].map((port) => a1.ask(address, port)))
    await refused(host.ask(plans[1].uplink.vpc, 80))
  })
  check('without its rules it sends nothing untranslated past the host', async () => {
    assert.ok(routers)
    await internet.heard()
    const inside = `--net=/run/netns/${routers.namespace(plans[1].vpc)}`
    host.run('nsenter', inside, 'nft', 'flush', 'ruleset')
    await refused(a3.ask(INTERNET, 53, { protocol: 'udp' }), a1.ask(INTERNET, 53, { protocol: 'udp' }))
    assert.deepEqual(await internet.heard(), [])
    await scene.change(1, {})
    assert.deepEqual(await a1.ask(INTERNET, 53, { protocol: 'udp' }), { text: 'internet 203.0.113.2' })
  })
}

const flood: Prove = ({ machines: { a1, b1 } }, check) => {
  check('new ones of that VPC beyond its limit are dropped, those of others are not', async () => {
    const floodOf = async (flows: number): Promise<number> => {
      const asked = Array.from({ length: flows }, () =>
        b1.ask(INTERNET, 53, { protocol: 'udp', ms: FLOOD_MS }),
      )
      return (await Promise.all(asked)).filter((it) => it.text).length
    }
    const answered = await floodOf(FLOOD_FLOWS)
    assert.ok(answered > 0 && answered < FLOOD_FLOWS, `${answered} answered`)
    // While these last there is room for no more than those of before that ended meanwhile.
    const more = await floodOf(FLOOD_FLOWS / 2)
    assert.ok(more < FLOOD_FLOWS / 2, `${more} answered beyond ${answered}`)
    for (let time = 0; time < 3; time++)
      assert.deepEqual(await a1.ask(INTERNET, 53, { protocol: 'udp' }), { text: 'internet 203.0.113.2' })
    assert.deepEqual(await a1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  })
}

export const PLATFORM = {
  fabric,
  router,
  flood,
  'host-ports': ({ machines: { a1, b1, c1 } }, check) => {
    check('from who has a way out, and from who has none', async () => {
      for (const address of OF_HOST) {
        await refused(...[a1, b1, c1].flatMap((it) => [it.ask(address, 80), it.ask(address, 22)]))
        assert.equal(a1.ping(address), false)
      }
    })
  },
  'host-networks': ({ machines: { a1, b1 }, host }, check) => {
    check('while the host itself reaches it', async () => {
      assert.deepEqual(await host.ask(LAN, 80), { text: `lan ${HOST_IN_LAN}` })
      await refused(...[a1, b1].flatMap((it) => [it.ask(LAN, 80), it.ask('203.0.113.1', 80)]))
    })
  },
} satisfies Partial<Record<string, Prove>>
