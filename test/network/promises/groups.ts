// Security groups, route tables, and the connections that a change of the plan ends.
import assert from 'node:assert/strict'
import { VPC_DNS_ADDRESS, type PlannedRule, type VpcPlan } from '#cloud/network/network.driver.ts'
import { HOST, INTERNET, machine, refused, uuid } from '../world.ts'
import { EGRESS, type Scene } from './scene.ts'
import type { Prove } from './suite.ts'

const WEB = uuid(0x901)
const CLIENTS = uuid(0x902)
const OTHER = uuid(0x903)

const rule = (direction: 'ingress' | 'egress', more: Partial<PlannedRule> = {}): PlannedRule => ({
  direction,
  protocol: 'any',
  peer: 'any',
  ...more,
})
const tcp80 = { protocol: 'tcp', ports: { from: 80, to: 80 } } as const

/** Three machines with a way out and nothing else; `change` applies what differs from that. */
function threeMachines({ machines, change }: Scene) {
  const { a1, a2, a3 } = machines
  const [at1, at2, at3] = [a1, a2, a3].map((it) => ({ ...it.at, egress: EGRESS })) as [
    Scene['machines']['a1']['at'],
    Scene['machines']['a1']['at'],
    Scene['machines']['a1']['at'],
  ]
  const changed = (more: Partial<VpcPlan>): Promise<VpcPlan> =>
    change(1, { attachments: [at1, at2, at3], vips: [], ...more })
  return { a1, a2, a3, at1, at2, at3, change: changed }
}

const groups: Prove = (scene, check) => {
  const { host, internet, vip } = scene
  const { a1, a2, a3, at1, at2, at3, change } = threeMachines(scene)
  check('a member gets only what a group of its allows, others everything', async () => {
    await change({
      attachments: [{ ...at1, groups: [WEB] }, at2, at3],
      groups: [{ id: WEB, rules: [rule('ingress', tcp80)] }],
    })
    assert.deepEqual(await a2.ask(at1.address, 80), { text: `a1 ${at2.address}` })
    assert.deepEqual(await a2.ask(at1.address6, 80), { text: `a1 ${at2.address6}` })
    await refused(a2.ask(at1.address, 81), a2.ask(at1.address6, 81))
    assert.equal(a2.ping(at1.address), false)
    // No rule lets it begin anything; answers to what was let in pass all the same.
    await refused(a1.ask(at2.address, 80), a1.ask(INTERNET, 80))
    assert.deepEqual(await a2.ask(at3.address, 81), { text: `a3 ${at2.address}` })
    // The platform's own way in is not the tenant's to close, nor is DNS.
    assert.deepEqual(await host.ask(at1.fabric, 81), { text: 'a1 100.120.0.2' })
  })

  check('a member of a group without rules, or of one the plan lacks, is closed', async () => {
    await change({
      attachments: [{ ...at1, groups: [WEB] }, { ...at2, groups: [OTHER] }, at3],
      groups: [{ id: WEB, rules: [] }],
    })
    await refused(a3.ask(at1.address, 80), a3.ask(at2.address, 80), a2.ask(at3.address, 80))
  })

  check('several groups are a union, and a peer can be a group', async () => {
    await change({
      attachments: [
        { ...at1, groups: [WEB, OTHER] },
        { ...at2, groups: [CLIENTS] },
        { ...at3, groups: [OTHER] },
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
    assert.deepEqual(await a2.ask(at1.address, 80), { text: `a1 ${at2.address}` })
    assert.deepEqual(await a2.ask(at1.address6, 80), { text: `a1 ${at2.address6}` })
    await refused(a3.ask(at1.address, 80))
    assert.ok(a3.ping(at1.address))
    assert.ok(!a2.ping(at1.address), 'clients may begin TCP only')
    await refused(a1.ask(INTERNET, 80))
    assert.deepEqual(await a2.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  })

  check('a VIP does not lead around the groups of its backends', async () => {
    const front = vip(1, 100, { backends: [at1.id], external: '100.72.0.9' })
    await change({
      attachments: [{ ...at1, groups: [WEB] }, { ...at2, groups: [CLIENTS] }, at3],
      vips: [front],
      groups: [
        { id: WEB, rules: [rule('ingress', { ...tcp80, peer: { group: CLIENTS } })] },
        { id: CLIENTS, rules: [rule('egress')] },
      ],
    })
    assert.deepEqual(await a2.ask(front.address, 80), { text: `a1 ${at2.address}` })
    assert.deepEqual(await a2.ask('100.72.0.9', 80), { text: `a1 ${at2.address}` })
    await refused(a3.ask(front.address, 80), a3.ask(front.address6, 80), internet.ask('100.72.0.9', 80))
  })
}

const revocation: Prove = (scene, check) => {
  const { host, network, plans, routers, signal, vip } = scene
  const { a1, a2, a3, at1, at2, at3, change } = threeMachines(scene)
  const flows = (): string =>
    host.run('nsenter', `--net=/run/netns/${routers?.namespace(plans[1].vpc)}`, 'conntrack', '-L')
  check('a rule that is removed ends exactly the flows it allowed', async () => {
    const groups = (...rules: PlannedRule[]) => [{ id: WEB, rules: [rule('egress'), ...rules] }]
    const attachments = [{ ...at1, groups: [WEB] }, at2, at3]
    const udp53 = rule('ingress', { protocol: 'udp', ports: { from: 53, to: 53 } })
    const udp54 = rule('ingress', { protocol: 'udp', ports: { from: 54, to: 54 } })
    await change({ attachments, groups: groups(rule('ingress', tcp80), udp53, udp54) })
    assert.ok((await a2.open('web', at1.address, 80)).text)
    assert.ok((await a2.open('web6', at1.address6, 80)).text)
    assert.ok((await a2.open('gone', at1.address, 53, { protocol: 'udp' })).text)
    assert.ok((await a2.open('kept', at1.address, 54, { protocol: 'udp' })).text)
    assert.ok((await a1.open('out', at3.address, 81)).text)
    await change({ attachments, groups: groups(udp54) })
    assert.deepEqual(await a2.say('kept'), { text: `a1 ${at2.address}` })
    assert.deepEqual(await a1.say('out'), { text: 'still there' })
    // The other side must not bring it to life again by going on, although it may begin what it likes.
    await a1.push()
    await refused(a2.say('web'), a2.say('web6'), a2.say('gone'))
    assert.doesNotMatch(flows(), /dst=(10.0.1.5|fd00:0:1:1::5) sport=\d+ dport=80 /)
  })

  check('a datagram client goes on with another backend when its own leaves', async () => {
    const udp = (backends: string[]) => [
      vip(1, 103, { backends, ports: [{ protocol: 'udp' as const, port: 53 }] }),
    ]
    await change({ vips: udp([at1.id]) })
    assert.deepEqual(await a3.open('client', '10.0.1.103', 53, { protocol: 'udp' }), {
      text: `a1 ${at3.address}`,
    })
    await change({ vips: udp([at2.id]) })
    assert.deepEqual(await a3.say('client'), { text: `a2 ${at3.address}` })
    await change({ vips: udp([]) })
    await refused(a3.say('client'))
    await change({ vips: udp([at1.id]) })
    await a3.say('client')
    assert.deepEqual(await a3.say('client'), { text: `a1 ${at3.address}` })
  })

  check('a connection through a VIP ends on a backend that takes no new ones', async () => {
    const front = (backends: string[]) => [vip(1, 100, { backends })]
    await change({ vips: front([at1.id]) })
    assert.deepEqual(await a3.open('drain', '10.0.1.100', 80), { text: `a1 ${at3.address}` })
    await change({ vips: front([at2.id]) })
    assert.deepEqual(await a3.say('drain'), { text: 'still there' })
    assert.deepEqual(await a3.ask('10.0.1.100', 80), { text: `a2 ${at3.address}` })
  })

  check('flows of an address that is freed or changes hands are ended', async () => {
    await change({ vips: [vip(1, 100, { backends: [at2.id] })] })
    assert.ok((await a3.open('direct', at2.address, 80)).text)
    assert.ok((await a3.open('by vip', '10.0.1.100', 80)).text)
    const heir = { ...at2, id: uuid(0x1f00000) }
    await change({ attachments: [at1, heir, at3], vips: [vip(1, 100, { backends: [heir.id] })] })
    assert.ok(!flows().includes(at2.address), flows())
    await refused(a3.say('direct'), a3.say('by vip'))
    await change({ attachments: [at1, at3] })
    assert.ok(!(await network.observe(plans[1].vpc, signal))?.attachments.includes(heir.id))
    // The link went with the attachment; put it back for the next test.
    await change({})
    await routers?.plugIn(at2.id, a2.name)
    assert.deepEqual(await a3.ask(at2.address, 80), { text: `a2 ${at3.address}` })
  })

  check('losing the way out ends what went that way', async () => {
    await change({})
    assert.ok((await a1.open('tcp', INTERNET, 80)).text)
    assert.ok((await a1.open('udp', INTERNET, 53, { protocol: 'udp' })).text)
    assert.ok((await a2.open('inside', at1.address, 80)).text)
    const { egress: _, ...closed } = at1
    await change({ attachments: [closed, at2, at3] })
    await refused(a1.say('tcp'), a1.say('udp'))
    assert.deepEqual(await a2.say('inside'), { text: 'still there' })
    assert.ok((await a2.open('other', INTERNET, 53, { protocol: 'udp' })).text)
    await change({ internet: false })
    await refused(a2.say('other'))
    assert.deepEqual(await a2.say('inside'), { text: 'still there' })
  })
}

const routes: Prove = (scene, check) => {
  const { host, network, plans, routers, signal } = scene
  const { a1, a3, at1, at2, at3, change } = threeMachines(scene)
  const [one, two] = plans[1].subnets
  if (!one || !two) throw new Error('two subnets are needed')
  const drift = async (): Promise<unknown> => (await network.observe(plans[1].vpc, signal))?.drift
  check('a subnet with a table goes where the table says', async () => {
    const tables = (routes: NonNullable<typeof two.routes>) => change({ subnets: [one, { ...two, routes }] })
    await tables([])
    await refused(a3.ask(INTERNET, 80))
    // What is not routing stays: neighbours, the platform, DNS.
    assert.deepEqual(await a3.ask(at1.address, 80), { text: `a1 ${at3.address}` })
    assert.deepEqual(await host.ask(at3.fabric, 80), { text: 'a3 100.120.0.2' })
    const resolver = machine('resolver')
    await resolver.listen(53, { protocol: 'udp', address: HOST.resolver })
    const known = await a3.ask(VPC_DNS_ADDRESS, 53, { protocol: 'udp' })
    resolver.stop()
    assert.deepEqual(known, { text: `resolver ${at3.fabric}` })

    await tables([{ cidr: '0.0.0.0/0', target: 'internet' }])
    assert.deepEqual(await a3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    await tables([
      { cidr: '0.0.0.0/0', target: 'internet' },
      { cidr: `${INTERNET}/32`, target: 'blackhole' },
    ])
    await refused(a3.ask(INTERNET, 80))
    assert.deepEqual(await a1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
  })

  check('a route to a machine of the VPC lets it be a gateway', async () => {
    const { egress: _, ...closed } = at3
    const subnets = [one, { ...two, routes: [{ cidr: '0.0.0.0/0', target: { address: at1.address } }] }]
    const plan = await change({ attachments: [at1, at2, closed], subnets })
    // A gateway without translation would send for others, which is spoofing.
    a1.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
    await refused(a3.ask(INTERNET, 80))
    a1.run(
      'nft',
      'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname eth0 ip saddr 10.0.2.0/24 masquerade',
    )
    assert.deepEqual(await a3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    assert.deepEqual(await drift(), [])
    // When the gateway's link goes, so does the way; when it is back, so is the way.
    await routers?.unplug(at1.id)
    await network.apply(plan, signal)
    await refused(a3.ask(INTERNET, 80))
    await routers?.plugIn(at1.id, a1.name)
    assert.deepEqual(await a3.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    assert.deepEqual(await drift(), [])
    a1.run('nft', 'delete', 'table', 'ip', 'nat')
    a1.run('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward')
  })
}

export const GROUPS = { groups, revocation, routes } satisfies Partial<Record<string, Prove>>
