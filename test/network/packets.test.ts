import assert from 'node:assert/strict'
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
  surroundHost,
  vip,
  vpcPlan,
  type Machine,
} from './world.ts'

await enterSandbox(import.meta.filename)

const signal = AbortSignal.timeout(120_000)
const network = linuxNetwork({
  prefix: 'tpkt',
  directory: folder(),
  clock: systemClock,
  log: jsonLog('warn'),
})
const machines: Machine[] = []
after(() => machines.forEach((it) => it.stop()))

const { internet, lan, host } = await surroundHost()
machines.push(internet, lan, host)
await network.applyHost(HOST, signal)

const a1 = attachment(1, 5, { egress: '100.72.0.1' })
const a2 = attachment(1, 6)
const a3 = attachment(1, 7, { in: 2 })
const b1 = attachment(2, 5, { egress: '100.72.0.2' })
const first = vpcPlan(1, {
  attachments: [a1, a2, a3],
  vips: [vip(1, 100, { backends: [a1.id, a2.id] }), vip(1, 101)],
})
const second = vpcPlan(2, { attachments: [b1] })
await network.apply(first, signal)
await network.apply(second, signal)
const [m1, m2, m3, n1] = await Promise.all([
  attach(network, a1.id, 'a1'),
  attach(network, a2.id, 'a2'),
  attach(network, a3.id, 'a3'),
  attach(network, b1.id, 'b1'),
])
machines.push(m1, m2, m3, n1)
for (const it of [m1, m2, m3, n1]) await it.listen(80)

test('two VPCs with the same addresses reach their own', async () => {
  assert.deepEqual(await m2.ask(a1.address, 80), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m3.ask(a1.address, 80), { text: `a1 ${a3.address}` })
  assert.deepEqual(await n1.ask(a1.address, 80), { text: `b1 ${b1.address}` })
})

test('IPv6 inside the VPC', async () => {
  assert.deepEqual(await m2.ask(a1.address6, 80), { text: `a1 ${a2.address6}` })
  assert.deepEqual(await m3.ask(a1.address6, 80), { text: `a1 ${a3.address6}` })
  assert.ok((await n1.ask(a1.address6, 80)).error)
})

test('VIP', async () => {
  const answers = new Set<string>()
  for (let time = 0; time < 4; time++) answers.add((await m3.ask('10.0.1.100', 80)).text ?? 'none')
  assert.deepEqual([...answers].toSorted(), [`a1 ${a3.address}`, `a2 ${a3.address}`])
  assert.deepEqual(await m3.ask('10.0.1.101', 80), { error: 'ECONNREFUSED' })
  assert.ok(m3.ping('10.0.1.100'))
  const own = [await m1.ask('10.0.1.100', 80), await m1.ask('10.0.1.100', 80)]
  assert.deepEqual(own.map((it) => it.text ?? '').toSorted(), ['a1 10.0.1.100', `a2 ${a1.address}`])
})

test('egress', async () => {
  assert.deepEqual(await m1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  assert.ok((await m2.ask(INTERNET, 80)).error)
  assert.ok((await m1.ask(LAN, 80)).error)
  assert.ok((await m1.ask(HOST_IN_LAN, 80)).error)
})

test('fabric', async () => {
  assert.deepEqual(await host.ask(a1.fabric, 80), { text: 'a1 100.120.0.2' })
  assert.deepEqual(await host.ask(b1.fabric, 80), { text: 'b1 100.120.0.4' })
  assert.ok((await n1.ask(a1.fabric, 80)).error)
  assert.ok((await m2.ask(a1.fabric, 80)).error)
})

test('no drift', async () => {
  const seen = await network.list(signal)
  assert.deepEqual(
    seen.map((it) => it.drift),
    [[], []],
  )
})
