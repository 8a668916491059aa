// What passes between machines of VPCs, the host and the outside, with real packets.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { systemClock } from '#lib/clock.ts'
import { jsonLog } from '#lib/log.ts'
import { enterSandbox, folder } from './sandbox.ts'
import {
  attach,
  attachment,
  HOST,
  HOST_IN_LAN,
  INTERNET,
  LAN,
  refused,
  surroundHost,
  vip,
  vpcPlan,
  type Answer,
} from './world.ts'

await enterSandbox(import.meta.filename)

const signal = AbortSignal.timeout(120_000)
const network = linuxNetwork({
  prefix: 'tpkt',
  directory: folder(),
  clock: systemClock,
  log: jsonLog('warn'),
})
const { internet, lan, host } = await surroundHost()

const DNS = '169.254.169.253'
const external = '100.72.0.10'
const a1 = attachment(1, 5, { egress: external })
const a2 = attachment(1, 6, { egress: '100.72.0.1' })
const a3 = attachment(1, 7, { in: 2 })
const b1 = attachment(2, 5, { egress: '100.72.0.2' })
const b2 = attachment(2, 6)
const c1 = attachment(3, 5, { egress: '100.72.0.3' })
const web = vip(1, 100, { backends: [a1.id, a2.id] })
const empty = vip(1, 101, { external: '100.72.0.11' })
const single = vip(1, 102, { backends: [a1.id], external })
const datagrams = vip(1, 103, { backends: [a1.id, a2.id], ports: [{ protocol: 'udp', port: 53 }] })
const first = vpcPlan(1, { attachments: [a1, a2, a3], vips: [web, empty, single, datagrams] })
await network.applyHost(HOST, signal)
await network.apply(first, signal)
await network.apply(vpcPlan(2, { attachments: [b1, b2] }), signal)
await network.apply(vpcPlan(3, { attachments: [c1], internet: false }), signal)

const [m1, m2, m3, n1, n2, o1] = await Promise.all([
  attach(network, a1.id, 'a1'),
  attach(network, a2.id, 'a2'),
  attach(network, a3.id, 'a3'),
  attach(network, b1.id, 'b1'),
  attach(network, b2.id, 'b2'),
  attach(network, c1.id, 'c1'),
])
after(() => [internet, lan, host, m1, m2, m3, n1, n2, o1].forEach((it) => it.stop()))
for (const it of [m1, m2, m3, n1, n2]) {
  await it.listen(80)
  await it.listen(81)
  await it.listen(53, { protocol: 'udp' })
}
await host.listen(53, { protocol: 'udp', address: HOST.resolver })
await host.listen(53, { address: HOST.resolver })
await internet.listen(53, { protocol: 'udp', address: INTERNET })

/** How many packets have come to the host from a VPC. */
const arrived = (index: number): number =>
  Number(readFileSync(`/sys/class/net/tpkt-u${index}/statistics/rx_packets`, 'utf8'))

test('two VPCs with the same addresses each reach their own, across subnets too', async () => {
  assert.deepEqual(await m2.ask(a1.address, 80), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m3.ask(a1.address, 80), { text: `a1 ${a3.address}` })
  assert.deepEqual(await n2.ask(a1.address, 80), { text: `b1 ${b2.address}` })
  assert.deepEqual(await n2.ask(a2.address, 80), { text: `b2 ${b2.address}` })
  await refused(n2.ask(a3.address, 80))
})

test('neighbours talk through the router, not to each other', async () => {
  await m2.ask(a1.address, 80)
  assert.match(m2.run('ip', 'neigh', 'show', a1.address), /lladdr (?!02:00:0a)/)
})

test('IPv6 reaches the VPC and no further', async () => {
  assert.deepEqual(await m2.ask(a1.address6, 80), { text: `a1 ${a2.address6}` })
  assert.deepEqual(await m3.ask(a1.address6, 80), { text: `a1 ${a3.address6}` })
  await refused(n1.ask(a1.address6, 80), m1.ask('2001:db8::1', 80), m1.ask('fd00:0:1:1::77', 80))
})

test('a packet to an address nobody has never leaves by the uplink', async () => {
  const before = arrived(1)
  await refused(
    m1.ask('10.0.1.77', 80),
    m1.ask('10.0.2.77', 80),
    m1.ask('10.0.1.77', 53, { protocol: 'udp' }),
    m1.ask('fd00:0:1:2::77', 80),
  )
  assert.equal(arrived(1), before)
})

test('a spoofed source is dropped, of both families', async () => {
  const foreign = [`${a3.address}/32`, '192.0.2.99/32', `${a3.address6}/128`]
  for (const it of foreign) m2.run('ip', 'addr', 'add', it, 'dev', 'lo')
  await m1.listen(5353, { protocol: 'udp' })
  await m1.listen(5354, { protocol: 'udp', address: '::' })
  await m1.heard()
  await refused(
    m2.ask(a1.address, 5353, { protocol: 'udp', from: a3.address }),
    m2.ask(a1.address, 5353, { protocol: 'udp', from: '192.0.2.99' }),
    m2.ask(a1.address6, 5354, { protocol: 'udp', from: a3.address6 }),
  )
  assert.deepEqual(await m1.heard(), [])
  for (const it of foreign) m2.run('ip', 'addr', 'del', it, 'dev', 'lo')
  // The same with their own addresses, so that it is the source that counts.
  await m2.ask(a1.address, 5353, { protocol: 'udp', from: a2.address })
  await m2.ask(a1.address6, 5354, { protocol: 'udp', from: a2.address6 })
  assert.deepEqual(await m1.heard(), [a2.address, a2.address6])
})

test('a VIP balances evenly over its backends, with both families', async () => {
  for (const [address, seen] of [
    [web.address, a3.address],
    [web.address6, a3.address6],
  ] as const) {
    const counts = new Map<string, number>()
    for (let time = 0; time < 8; time++) {
      const { text = 'none' } = await m3.ask(address, 80)
      counts.set(text, (counts.get(text) ?? 0) + 1)
    }
    assert.deepEqual(Object.fromEntries(counts), { [`a1 ${seen}`]: 4, [`a2 ${seen}`]: 4 })
  }
})

test('a VIP refuses at once when nobody is ready, and answers ping', async () => {
  for (const address of [empty.address, empty.address6, empty.external ?? '']) {
    const started = performance.now()
    assert.deepEqual(await m3.ask(address, 80), { error: 'ECONNREFUSED' })
    assert.ok(performance.now() - started < 300)
  }
  assert.deepEqual(await m3.ask(datagrams.address, 54, { protocol: 'udp' }), { error: 'ECONNREFUSED' })
  assert.ok(m3.ping(web.address))
  assert.ok(m3.ping(web.address6))
})

test('a VIP serves its ports only', async () => {
  assert.deepEqual(await m3.ask(web.address, 81), { error: 'ECONNREFUSED' })
  assert.match((await m3.ask(datagrams.address, 53, { protocol: 'udp' })).text ?? '', /^a[12] /)
})

/** A machine that calls itself sees one of its VIPs as the caller. */
const bySelf = ({ text }: Answer): void =>
  assert.match(text ?? 'no answer', /^a1 (10\.0\.1\.10[023]|fd00:0:1:1::10[023])$/)

test('a machine reaches itself through its VIP', async () => {
  const answers = [await m1.ask(web.address, 80), await m1.ask(web.address, 80)]
  const [self, other] = answers.toSorted((a, b) => (a.text ?? '').localeCompare(b.text ?? ''))
  bySelf(self ?? {})
  assert.deepEqual(other, { text: `a2 ${a1.address}` })
  bySelf(await m1.ask(single.address6, 80))
})

test('outbound traffic takes the egress address, or has no way out', async () => {
  // The pool is masqueraded: the internet sees the host.
  assert.deepEqual(await m1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  assert.deepEqual(await m2.ask(INTERNET, 53, { protocol: 'udp' }), { text: 'internet 203.0.113.2' })
  await refused(m3.ask(INTERNET, 80))
  await refused(n2.ask(INTERNET, 80))
  assert.ok(m1.ping(INTERNET))
})

test('a VPC without internet has no way out, whatever its machines are given', async () => {
  const before = arrived(3)
  await refused(o1.ask(INTERNET, 80))
  await refused(o1.ask(external, 80))
  assert.equal(o1.ping(INTERNET), false)
  assert.equal(arrived(3), before)
})

test('an external address leads to its VIP from everywhere', async () => {
  assert.deepEqual(await host.ask(external, 80), { text: 'a1 100.120.0.2' })
  assert.deepEqual(await internet.ask(external, 80), { text: 'a1 203.0.113.1' })
  assert.deepEqual(await lan.ask(external, 80), { text: `a1 ${LAN}` })
  // From another VPC, which is seen by its own external address; from its own; and from itself.
  assert.deepEqual(await n1.ask(external, 80), { text: `a1 ${b1.egress}` })
  assert.deepEqual(await m3.ask(external, 80), { text: `a1 ${a3.address}` })
  bySelf(await m1.ask(external, 80))
})

test('an external address is for its ports, and the source of its members', async () => {
  await refused(...[host, internet, lan, n1, m3].map((it) => it.ask(external, 81)))
  const second = vpcPlan(2, {
    generation: 2,
    attachments: [b1, b2],
    vips: [vip(2, 100, { backends: [b1.id], external: '100.72.0.20' })],
  })
  await network.apply(second, signal)
  assert.deepEqual(await m1.ask('100.72.0.20', 80), { text: `b1 ${external}` })
})

test('the platform reaches every machine by its fabric address, and nobody else does', async () => {
  assert.deepEqual(await host.ask(a1.fabric, 80), { text: 'a1 100.120.0.2' })
  assert.deepEqual(await host.ask(b1.fabric, 80), { text: 'b1 100.120.0.4' })
  assert.deepEqual(await host.ask(c1.fabric, 80), { error: 'ECONNREFUSED' })
  // Bound to another of the host's addresses it is still the platform.
  assert.deepEqual(await host.ask(a1.fabric, 80, { from: HOST_IN_LAN }), { text: 'a1 100.120.0.2' })
  await refused(...[m2, m3, n1, n2, o1, lan, internet].map((it) => it.ask(a1.fabric, 80)))
})

test('a private address is reached through a translation only, by the host too', async () => {
  const uplink = ['via', '100.120.0.3', 'dev', 'tpkt-u1']
  host.run('ip', 'route', 'add', `${a1.address}/32`, ...uplink)
  await refused(host.ask(a1.address, 80))
  host.run('ip', 'route', 'del', `${a1.address}/32`, ...uplink)
})

test('nothing of the host can be reached from a VPC', async () => {
  for (const address of [HOST_IN_LAN, '203.0.113.2', '100.120.0.2', '100.120.0.4', HOST.resolver]) {
    await refused(m1.ask(address, 80), n1.ask(address, 80))
    assert.equal(m1.ping(address), false)
  }
  await refused(m1.ask(LAN, 80), m1.ask('203.0.113.1', 80))
})

test('the resolver is asked at its link-local address and knows the caller', async () => {
  for (const protocol of ['udp', 'tcp'] as const) {
    assert.deepEqual(await m2.ask(DNS, 53, { protocol }), { text: `host ${a2.fabric}` })
    assert.deepEqual(await n2.ask(DNS, 53, { protocol }), { text: `host ${b2.fabric}` })
    assert.deepEqual(await o1.ask(DNS, 53, { protocol }), { text: `host ${c1.fabric}` })
  }
  await refused(m2.ask(HOST.resolver, 53), m2.ask(DNS, 80), lan.ask(HOST.resolver, 53))
})

test('the router itself cannot be logged into or spoken to', async () => {
  for (const address of ['10.0.1.1', '10.0.2.1', '100.120.0.3'])
    for (const port of [22, 53, 80]) await refused(m1.ask(address, port))
  await refused(host.ask('100.120.0.3', 80))
})

test('nothing of all this is drift', async () => {
  for (const it of await network.list(signal)) assert.deepEqual(it.drift, [])
})

test('a router that has lost its rules sends nothing untranslated past the host', async () => {
  await internet.heard()
  host.run('nsenter', `--net=/run/netns/tpkt-${first.vpc.slice(-12)}`, 'nft', 'flush', 'ruleset')
  await refused(m3.ask(INTERNET, 53, { protocol: 'udp' }), m1.ask(INTERNET, 53, { protocol: 'udp' }))
  assert.deepEqual(await internet.heard(), [])
  await network.apply(first, signal)
  assert.deepEqual(await m1.ask(INTERNET, 53, { protocol: 'udp' }), { text: 'internet 203.0.113.2' })
})
