// Ports of the host that lead to workloads.
import assert from 'node:assert/strict'
import type { PlannedPort, VpcPlan } from '#cloud/network/network.driver.ts'
import { HOST_IN_LAN, LAN, refused, uuid } from '../world.ts'
import { WEB_FROM_OUTSIDE } from './gateways.ts'
import type { Placed, Scene } from './scene.ts'
import type { Prove } from './suite.ts'

const HOST_IN_WAN = '203.0.113.2'
const OF_HOST = ['127.0.0.1', '127.0.0.9', HOST_IN_LAN, HOST_IN_WAN]
const TCP = 30_080
const UDP = 30_053
const UNPUBLISHED = 30_081
/** What a process of the host gets. */
const OWN = 30_090

const leading = (host: number, container: number, ...to: readonly Placed[]): PlannedPort => ({
  id: uuid(0x931),
  protocol: container === 53 ? 'udp' : 'tcp',
  host,
  container,
  backends: to.map((it) => it.at.id),
})

/** Who answered, as often as asked. */
async function turns(ask: () => Promise<{ readonly text?: string }>, times: number): Promise<Set<string>> {
  const names = new Set<string>()
  for (let time = 0; time < times; time++) names.add((await ask()).text ?? 'none')
  return names
}

const published: Prove = (scene: Scene, check) => {
  const { internet, lan, host, plans } = scene
  const { a1, a2, a3, b1, c1 } = scene.machines
  const open = (ports: readonly PlannedPort[], more: Partial<VpcPlan> = {}): Promise<VpcPlan> =>
    scene.change(1, { published: ports, ...more })
  const both = [leading(TCP, 80, a1, a2), leading(UDP, 53, a1)]
  const udp = { protocol: 'udp' } as const

  check('in turn, at another port of theirs, and they see who asks', async () => {
    await open(both)
    assert.deepEqual(
      await turns(() => internet.ask(HOST_IN_WAN, TCP), 4),
      new Set(['a1 203.0.113.1', 'a2 203.0.113.1']),
    )
    assert.deepEqual(await turns(() => lan.ask(HOST_IN_LAN, TCP), 4), new Set([`a1 ${LAN}`, `a2 ${LAN}`]))
    assert.deepEqual(await internet.ask(HOST_IN_WAN, UDP, udp), { text: 'a1 203.0.113.1' })
    for (const address of OF_HOST) {
      assert.deepEqual(
        await turns(() => host.ask(address, TCP), 2),
        new Set(['a1 100.120.0.2', 'a2 100.120.0.2']),
      )
      assert.deepEqual(await host.ask(address, UDP, udp), { text: 'a1 100.120.0.2' })
    }
  })

  check('from nowhere else, and no other port', async () => {
    await open(both)
    const { uplink } = plans[1]
    await refused(
      ...[HOST_IN_LAN, HOST_IN_WAN, uplink.host, uplink.vpc].flatMap((address) =>
        [a1, a3, b1, c1].map((it) => it.ask(address, TCP)),
      ),
      ...[internet, lan].map((it) => it.ask(uplink.vpc, TCP)),
      ...[internet, lan].map((it) => it.ask('127.0.0.1', TCP)),
      ...[internet, lan, host].map((it) => it.ask(HOST_IN_WAN, UNPUBLISHED)),
      internet.ask(HOST_IN_WAN, UDP),
      internet.ask(HOST_IN_WAN, TCP, udp),
    )
    assert.deepEqual(await internet.ask(HOST_IN_WAN, 80), { text: 'host 203.0.113.1' })
  })

  check('to a VPC that has no internet, whose machines get nowhere by it', async () => {
    await scene.change(3, { published: [leading(TCP, 80, c1)] })
    assert.deepEqual(await internet.ask(HOST_IN_WAN, TCP), { text: 'c1 203.0.113.1' })
    assert.deepEqual(await host.ask('127.0.0.1', TCP), { text: 'c1 100.120.0.6' })
    await refused(c1.ask('203.0.113.1', 80), c1.ask(HOST_IN_WAN, 80))
    await scene.reset()
  })

  check('a client that has an address of the VPC’s range is answered too', async () => {
    await open(both)
    lan.run('ip', 'addr', 'add', '10.0.1.77/32', 'dev', 'lo')
    host.run('ip', 'route', 'add', '10.0.1.77/32', 'via', LAN)
    assert.match((await lan.ask(HOST_IN_LAN, TCP, { from: '10.0.1.77' })).text ?? 'none', / 100\.120\.0\.2$/)
    host.run('ip', 'route', 'del', '10.0.1.77/32')
    lan.run('ip', 'addr', 'del', '10.0.1.77/32', 'dev', 'lo')
  })

  check('security groups decide who may', async () => {
    const group = uuid(0x932)
    const members = [{ ...a1.at, groups: [group] }, a2.at, a3.at]
    await open([leading(TCP, 80, a1), leading(UNPUBLISHED, 81, a1)], {
      attachments: members,
      groups: [{ id: group, rules: [WEB_FROM_OUTSIDE] }],
    })
    assert.deepEqual(await internet.ask(HOST_IN_WAN, TCP), { text: 'a1 203.0.113.1' })
    assert.ok((await internet.open('let', HOST_IN_WAN, TCP)).text)
    await refused(
      internet.ask(HOST_IN_WAN, UNPUBLISHED),
      lan.ask(HOST_IN_LAN, TCP),
      host.ask('127.0.0.1', TCP),
    )
    await open([leading(TCP, 80, a1)], { attachments: members, groups: [{ id: group, rules: [] }] })
    await refused(internet.say('let'), internet.ask(HOST_IN_WAN, TCP))
  })

  check('where nobody is ready it refuses at once', async () => {
    await open([leading(TCP, 80)])
    for (const answer of [
      internet.ask(HOST_IN_WAN, TCP),
      lan.ask(HOST_IN_LAN, TCP),
      host.ask('127.0.0.1', TCP),
      internet.ask(HOST_IN_WAN, TCP),
    ])
      assert.deepEqual(await answer, { error: 'ECONNREFUSED' })
  })

  check('what came by it ends when it is taken back or is another’s, and nothing else', async () => {
    await open(both)
    const opened = [
      internet.open('gone', HOST_IN_WAN, TCP),
      host.open('gone', '127.0.0.1', TCP),
      internet.open('datagrams', HOST_IN_WAN, UDP, { ...udp, fromPort: 5353 }),
      a3.open('kept', a1.at.address, 80),
    ]
    for (const it of opened) assert.ok((await it).text)
    await open([leading(UNPUBLISHED, 80, a1)])
    await refused(internet.say('gone'), host.say('gone'), internet.say('datagrams'))
    await refused(internet.ask(HOST_IN_WAN, TCP), host.ask('127.0.0.1', TCP))
    assert.deepEqual(await a3.say('kept'), { text: 'still there' })
    assert.deepEqual(await internet.ask(HOST_IN_WAN, UNPUBLISHED), { text: 'a1 203.0.113.1' })
    await scene.change(2, { published: [leading(TCP, 80, b1), leading(UDP, 53, b1)] })
    assert.deepEqual(await internet.ask(HOST_IN_WAN, TCP), { text: 'b1 203.0.113.1' })
    // The same flow of datagrams, which the host knew as another VPC's.
    assert.deepEqual(await internet.say('datagrams'), { text: 'b1 203.0.113.1' })
    await scene.reset()
    await refused(internet.ask(HOST_IN_WAN, TCP), internet.ask(HOST_IN_WAN, UNPUBLISHED))
  })

  check('never one that the host listens on, and what somebody changed is seen and put right', async () => {
    const { network, signal } = scene
    const told = async (): Promise<string[]> => (await network.audit(signal)).map((it) => it.detail)
    // What others found and repaired before is told only once.
    await network.mend(signal)
    await open([...both, leading(OWN, 80, a1)])
    assert.deepEqual(await told(), [])
    assert.deepEqual(await host.ask('127.0.0.1', OWN), { text: 'a1 100.120.0.2' })
    await host.listen(OWN)
    assert.ok((await network.listening(signal)).some((it) => it.protocol === 'tcp' && it.port === OWN))
    const words = `published port ${OWN}/tcp`
    assert.deepEqual(await told(), [`${words} open, though a program of the host listens on it`])
    await network.mend(signal)
    assert.deepEqual(await host.ask('127.0.0.1', OWN), { text: 'host 127.0.0.1' })
    assert.deepEqual(await internet.ask(HOST_IN_WAN, OWN), { text: 'host 203.0.113.1' })
    assert.deepEqual(await told(), [`${words} not open: a program of the host listens on it`])
    await open(both)
    const { routers } = scene
    assert.ok(routers)
    const setting = `net.ipv4.conf.${routers.uplink(1)}.route_localnet`
    host.run('sysctl', '-qw', `${setting}=0`)
    await refused(host.ask('127.0.0.1', TCP))
    assert.deepEqual(await told(), [`setting ${setting} is 0, not 1`])
    await network.mend(signal)
    assert.match((await host.ask('127.0.0.1', TCP)).text ?? 'none', /^a\d /)
    const [table] = /^table inet \S+ \{$/m.exec(host.run('nft', 'list', 'tables').replace(/$/gm, ' {')) ?? []
    host.run('nft', 'flush', 'map', 'inet', table?.split(' ')[2] ?? '', 'published')
    await refused(internet.ask(HOST_IN_WAN, TCP))
    assert.equal((await told()).length, 1)
    await network.mend(signal)
    assert.match((await internet.ask(HOST_IN_WAN, TCP)).text ?? 'none', /^a\d /)
    assert.deepEqual(await told(), [])
  })
}

export const PUBLISHED = { published } satisfies Partial<Record<string, Prove>>
