// Security groups, route tables, and the flows that a change of the plan ends, with real packets.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { systemClock } from '#lib/clock.ts'
import { jsonLog } from '#lib/log.ts'
import { enterSandbox, folder, sh, tryTo } from './sandbox.ts'
import {
  attach,
  attachment,
  HOST,
  INTERNET,
  plugIn,
  refused,
  surroundHost,
  uuid,
  vip,
  vpcPlan,
} from './world.ts'

await enterSandbox(import.meta.filename)

const signal = AbortSignal.timeout(120_000)
const network = linuxNetwork({
  prefix: 'tgrp',
  directory: folder(),
  clock: systemClock,
  log: jsonLog('warn'),
})
const { internet, lan, host } = await surroundHost()

const WEB = uuid(0x901)
const CLIENTS = uuid(0x902)
const OTHER = uuid(0x903)
const a1 = attachment(1, 5, { egress: '100.72.0.1' })
const a2 = attachment(1, 6, { egress: '100.72.0.1' })
const a3 = attachment(1, 7, { in: 2, egress: '100.72.0.1' })
const base = vpcPlan(1, { attachments: [a1, a2, a3] })
const namespace = `tgrp-${base.vpc.slice(-12)}`
let generation = 1
let plan = base

/** Applies the plan with what differs from the one with three machines and nothing else. */
async function change(more: Partial<VpcPlan>): Promise<void> {
  plan = { ...base, ...more, generation: ++generation }
  await network.apply(plan, signal)
}

await network.applyHost(HOST, signal)
await network.apply(base, signal)
const [m1, m2, m3] = await Promise.all([
  attach(network, a1.id, 'a1'),
  attach(network, a2.id, 'a2'),
  attach(network, a3.id, 'a3'),
])
after(() => [internet, lan, host, m1, m2, m3].forEach((it) => it.stop()))
for (const it of [m1, m2, m3]) {
  for (const port of [80, 81]) await it.listen(port)
  for (const port of [53, 54]) await it.listen(port, { protocol: 'udp' })
}
await internet.listen(53, { protocol: 'udp', address: INTERNET })

const rule = (direction: 'ingress' | 'egress', more: Partial<PlannedRule> = {}): PlannedRule => ({
  direction,
  protocol: 'any',
  peer: 'any',
  ...more,
})
const tcp80 = { protocol: 'tcp', ports: { from: 80, to: 80 } } as const
const flows = (): string => tryTo('nsenter', `--net=/run/netns/${namespace}`, 'conntrack', '-L')

test('a member gets only what a group of its allows, others everything', async () => {
  await change({
    attachments: [{ ...a1, groups: [WEB] }, a2, a3],
    groups: [{ id: WEB, rules: [rule('ingress', tcp80)] }],
  })
  assert.deepEqual(await m2.ask(a1.address, 80), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m2.ask(a1.address6, 80), { text: `a1 ${a2.address6}` })
  await refused(m2.ask(a1.address, 81), m2.ask(a1.address6, 81))
  assert.equal(m2.ping(a1.address), false)
  // No rule lets it begin anything; answers to what was let in pass all the same.
  await refused(m1.ask(a2.address, 80), m1.ask(INTERNET, 80))
  assert.deepEqual(await m2.ask(a3.address, 81), { text: `a3 ${a2.address}` })
  // The platform's own way in is not the tenant's to close, nor is DNS.
  assert.deepEqual(await host.ask(a1.fabric, 81), { text: 'a1 100.120.0.2' })
})

test('a member of a group without rules, or of one the plan lacks, is closed', async () => {
  await change({
    attachments: [{ ...a1, groups: [WEB] }, { ...a2, groups: [OTHER] }, a3],
    groups: [{ id: WEB, rules: [] }],
  })
  await refused(m3.ask(a1.address, 80), m3.ask(a2.address, 80), m2.ask(a3.address, 80))
})

test('several groups are a union, and a peer can be a group', async () => {
  await change({
    attachments: [
      { ...a1, groups: [WEB, OTHER] },
      { ...a2, groups: [CLIENTS] },
      { ...a3, groups: [OTHER] },
    ],
    groups: [
      { id: WEB, rules: [rule('ingress', { ...tcp80, peer: { group: CLIENTS } })] },
      { id: CLIENTS, rules: [rule('egress', { protocol: 'tcp' })] },
      {
        id: OTHER,
        rules: [rule('ingress', { protocol: 'icmp' }), rule('egress', { peer: { cidr: '10.0.0.0/16' } })],
      },
    ],
  })
  assert.deepEqual(await m2.ask(a1.address, 80), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m2.ask(a1.address6, 80), { text: `a1 ${a2.address6}` })
  await refused(m3.ask(a1.address, 80))
  assert.ok(m3.ping(a1.address))
  assert.ok(!m2.ping(a1.address), 'clients may begin TCP only')
  await refused(m1.ask(INTERNET, 80))
  assert.deepEqual(await m2.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
})

test('a VIP does not lead around the groups of its backends', async () => {
  const front = vip(1, 100, { backends: [a1.id], external: '100.72.0.9' })
  await change({
    attachments: [{ ...a1, groups: [WEB] }, { ...a2, groups: [CLIENTS] }, a3],
    vips: [front],
    groups: [
      { id: WEB, rules: [rule('ingress', { ...tcp80, peer: { group: CLIENTS } })] },
      { id: CLIENTS, rules: [rule('egress')] },
    ],
  })
  assert.deepEqual(await m2.ask(front.address, 80), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m2.ask('100.72.0.9', 80), { text: `a1 ${a2.address}` })
  await refused(m3.ask(front.address, 80), m3.ask(front.address6, 80), internet.ask('100.72.0.9', 80))
})

test('a rule that is removed ends exactly the flows it allowed', async () => {
  const groups = (...rules: PlannedRule[]) => [{ id: WEB, rules: [rule('egress'), ...rules] }]
  const attachments = [{ ...a1, groups: [WEB] }, a2, a3]
  const udp53 = rule('ingress', { protocol: 'udp', ports: { from: 53, to: 53 } })
  const udp54 = rule('ingress', { protocol: 'udp', ports: { from: 54, to: 54 } })
  await change({ attachments, groups: groups(rule('ingress', tcp80), udp53, udp54) })
  assert.ok((await m2.open('web', a1.address, 80)).text)
  assert.ok((await m2.open('web6', a1.address6, 80)).text)
  assert.ok((await m2.open('gone', a1.address, 53, { protocol: 'udp' })).text)
  assert.ok((await m2.open('kept', a1.address, 54, { protocol: 'udp' })).text)
  assert.ok((await m1.open('out', a3.address, 81)).text)
  await change({ attachments, groups: groups(udp54) })
  assert.deepEqual(await m2.say('kept'), { text: `a1 ${a2.address}` })
  assert.deepEqual(await m1.say('out'), { text: 'still there' })
  // The other side must not bring it to life again by going on, although it may begin what it likes.
  await m1.push()
  await refused(m2.say('web'), m2.say('web6'), m2.say('gone'))
  assert.doesNotMatch(flows(), /dst=(10.0.1.5|fd00:0:1:1::5) sport=\d+ dport=80 /)
})

test('a datagram client goes on with another backend when its own leaves', async () => {
  const udp = (backends: string[]) => [
    vip(1, 103, { backends, ports: [{ protocol: 'udp' as const, port: 53 }] }),
  ]
  await change({ vips: udp([a1.id]) })
  assert.deepEqual(await m3.open('client', '10.0.1.103', 53, { protocol: 'udp' }), {
    text: `a1 ${a3.address}`,
  })
  await change({ vips: udp([a2.id]) })
  assert.deepEqual(await m3.say('client'), { text: `a2 ${a3.address}` })
  await change({ vips: udp([]) })
  await refused(m3.say('client'))
  await change({ vips: udp([a1.id]) })
  await m3.say('client')
  assert.deepEqual(await m3.say('client'), { text: `a1 ${a3.address}` })
})

test('a connection through a VIP ends on a backend that takes no new ones', async () => {
  const front = (backends: string[]) => [vip(1, 100, { backends })]
  await change({ vips: front([a1.id]) })
  assert.deepEqual(await m3.open('drain', '10.0.1.100', 80), { text: `a1 ${a3.address}` })
  await change({ vips: front([a2.id]) })
  assert.deepEqual(await m3.say('drain'), { text: 'still there' })
  assert.deepEqual(await m3.ask('10.0.1.100', 80), { text: `a2 ${a3.address}` })
})

test('flows of an address that is freed or changes hands are ended', async () => {
  await change({ vips: [vip(1, 100, { backends: [a2.id] })] })
  assert.ok((await m3.open('direct', a2.address, 80)).text)
  assert.ok((await m3.open('by vip', '10.0.1.100', 80)).text)
  const heir = { ...a2, id: uuid(0x1f00000) }
  await change({ attachments: [a1, heir, a3], vips: [vip(1, 100, { backends: [heir.id] })] })
  assert.ok(!flows().includes(a2.address), flows())
  await refused(m3.say('direct'), m3.say('by vip'))
  await change({ attachments: [a1, a3] })
  assert.equal(network.attachment(heir.id), undefined)
  // The link went with the attachment; put it back for the next test.
  await change({})
  tryTo('ip', '-n', 'm-a2', 'link', 'del', 'eth0')
  await plugIn(network, a2.id, 'm-a2')
  assert.deepEqual(await m3.ask(a2.address, 80), { text: `a2 ${a3.address}` })
})

test('losing the way out ends what went that way', async () => {
  await change({})
  assert.ok((await m1.open('tcp', INTERNET, 80)).text)
  assert.ok((await m1.open('udp', INTERNET, 53, { protocol: 'udp' })).text)
  assert.ok((await m2.open('inside', a1.address, 80)).text)
  const { egress: _, ...closed } = a1
  await change({ attachments: [closed, a2, a3] })
  await refused(m1.say('tcp'), m1.say('udp'))
  assert.deepEqual(await m2.say('inside'), { text: 'still there' })
  assert.ok((await m2.open('other', INTERNET, 53, { protocol: 'udp' })).text)
  await change({ internet: false })
  await refused(m2.say('other'))
  assert.deepEqual(await m2.say('inside'), { text: 'still there' })
})

test('a subnet with a table goes where the table says', async () => {
  const [one, two] = base.subnets
  if (!one || !two) throw new Error('no subnets')
  const tables = (routes: NonNullable<typeof two.routes>) => change({ subnets: [one, { ...two, routes }] })
  await tables([])
  await refused(m3.ask(INTERNET, 80))
  // What is not routing stays: neighbours, the platform, DNS.
  assert.deepEqual(await m3.ask(a1.address, 80), { text: `a1 ${a3.address}` })
  assert.deepEqual(await host.ask(a3.fabric, 80), { text: 'a3 100.120.0.2' })
  await host.listen(53, { protocol: 'udp', address: HOST.resolver })
  assert.deepEqual(await m3.ask('169.254.169.253', 53, { protocol: 'udp' }), { text: `host ${a3.fabric}` })

  await tables([{ cidr: '0.0.0.0/0', target: 'internet' }])
  assert.deepEqual(await m3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  await tables([
    { cidr: '0.0.0.0/0', target: 'internet' },
    { cidr: `${INTERNET}/32`, target: 'blackhole' },
  ])
  await refused(m3.ask(INTERNET, 80))
  assert.deepEqual(await m1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
})

test('a route to a machine of the VPC lets it be a gateway', async () => {
  const [one, two] = base.subnets
  if (!one || !two) throw new Error('no subnets')
  const { egress: _, ...closed } = a3
  const subnets = [one, { ...two, routes: [{ cidr: '0.0.0.0/0', target: { address: a1.address } }] }]
  await change({ attachments: [a1, a2, closed], subnets })
  // A gateway without translation would send for others, which is spoofing.
  m1.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
  await refused(m3.ask(INTERNET, 80))
  m1.run(
    'nft',
    'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname eth0 ip saddr 10.0.2.0/24 masquerade',
  )
  assert.deepEqual(await m3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  assert.deepEqual((await network.observe(plan.vpc, signal))?.drift, [])
  // When the gateway's link goes, so does the way; when it is back, so is the way.
  await network.removeLink(a1.id)
  await network.apply(plan, signal)
  await refused(m3.ask(INTERNET, 80))
  await plugIn(network, a1.id, 'm-a1')
  assert.deepEqual(await m3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  assert.deepEqual((await network.observe(plan.vpc, signal))?.drift, [])
  sh('ip', '-n', 'm-a1', 'link', 'show', 'eth0')
})
