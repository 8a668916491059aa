// What is kept right on a host: drift, restarts, orphans, the host's own part, and that nothing is left.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { networkConformance, plannedHost } from '#cloud/network/network.conformance.ts'
import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import { linuxNetwork, type LinuxNetwork } from '#drivers/linux/linux.ts'
import { parseTableBody } from '#drivers/linux/listing.ts'
import { routerLink } from '#drivers/linux/names.ts'
import { lookAround } from '#drivers/linux/observe.ts'
import { anyPlan } from '#drivers/linux/plan.testing.ts'
import { vpcRules } from '#drivers/linux/render.ts'
import { openState } from '#drivers/linux/state.ts'
import { systemClock } from '#lib/clock.ts'
import { isCloudError } from '#lib/errors.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { enterSandbox, folder, sh, tryTo } from './sandbox.ts'
import {
  attach,
  attachment,
  HOST,
  HOST_IN_LAN,
  INTERNET,
  LAN,
  plugIn,
  surroundHost,
  uuid,
  vip,
  vpcPlan,
  wire,
  type Machine,
} from './world.ts'

await enterSandbox(import.meta.filename)

const signal = AbortSignal.timeout(180_000)
/** Of rules that are changed in a row. */
const PLANS = 8
const PREFIX = 'tupk'
const directory = folder()
const start = (): LinuxNetwork =>
  linuxNetwork({ prefix: PREFIX, directory, clock: systemClock, log: jsonLog('error') })

/** Everything of the host that a driver could leave something in. */
const inventory = (): string =>
  [
    // The links' names and our kind of routes: the kernel's own IPv6 ones come late.
    sh('ip', '-br', 'link').replace(/ .*/g, ''),
    sh('ip', '-4', 'route', 'show', 'table', 'all'),
    sh('ip', 'rule'),
    sh('ip', 'addr', 'show', 'dev', 'lo'),
    sh('ip', 'neigh', 'show', 'proxy'),
    sh('nft', 'list', 'ruleset'),
    readdirSync('/run/netns').toSorted().join(' '),
  ].join('\n')

const { internet, lan, host } = await surroundHost()
after(() => [internet, lan, host].forEach((it) => it.stop()))
const bare = inventory()

networkConformance('Linux', async () => {
  const driver = linuxNetwork({ prefix: 'tcon', directory: folder(), clock: systemClock, log: silentLog })
  await driver.applyHost(plannedHost, signal)
  return {
    driver,
    async [Symbol.asyncDispose]() {
      await driver.purge(signal)
      assert.equal(inventory(), bare)
    },
  }
})

const a1 = attachment(1, 5, { egress: '100.72.0.1' })
const a2 = attachment(1, 6, { egress: '198.51.100.130' })
const base = vpcPlan(1, {
  attachments: [a1, a2],
  vips: [vip(1, 100, { backends: [a1.id], external: '198.51.100.131' })],
})
const namespace = `${PREFIX}-${base.vpc.slice(-12)}`
const noPlan = [{ what: 'orphan', thing: 'namespace', detail: 'no plan is held' }]
const driftIn = async (network: LinuxNetwork): Promise<string[] | undefined> =>
  (await network.observe(base.vpc, signal))?.drift.map((it) => it.detail)
/** What an audit says beside what the list of VPCs does. */
const found = async (network: LinuxNetwork): Promise<string[]> =>
  (await network.audit(signal)).map((it) => `${it.what} ${it.detail}`)
const uplink = `${PREFIX}-u1`

describe('drift made by hand is seen and repaired', () => {
  let network: LinuxNetwork
  const machines: Machine[] = []
  beforeEach(async () => {
    network = start()
    await network.applyHost(HOST, signal)
    await network.apply(base, signal)
    if (machines.length) return
    machines.push(await attach(network, a1.id, 'a1'), await attach(network, a2.id, 'a2'))
    await machines[0]?.listen(80)
    assert.ok((await machines[1]?.open('kept', a1.address, 80))?.text)
  })
  after(async () => {
    machines.forEach((it) => it.stop())
    await network.purge(signal)
    for (const it of ['m-a1', 'm-a2']) sh('ip', 'netns', 'del', it)
    assert.equal(inventory(), bare)
  })

  const inside = (...command: string[]): string => sh('nsenter', `--net=/run/netns/${namespace}`, ...command)
  const link = (): string => /(c[0-9a-v]{8})@/.exec(inside('ip', '-br', 'link'))?.[1] ?? ''
  const hands: [string, () => void, RegExp][] = [
    ['rules flushed', () => inside('nft', 'flush', 'ruleset'), /^rules flushed$/],
    ['a rule removed', () => inside('nft', 'flush', 'chain', 'inet', 'arcus', 'spoofing'), /^rules changed$/],
    [
      'an element added',
      () => inside('nft', 'add', 'element', 'inet', 'arcus', 'leaving', '{ 10.0.1.99 }'),
      /^rules changed$/,
    ],
    ['a route removed', () => inside('ip', 'route', 'del', '10.0.1.0/24'), /^route to 10.0.1.0\/24 missing$/],
    [
      'a route to a machine removed',
      () => inside('ip', 'route', 'del', '10.0.1.5/32'),
      /^route to 10.0.1.5\/32 missing$/,
    ],
    [
      'a route added',
      () => inside('ip', 'route', 'add', '192.0.2.0/24', 'dev', 'uplink'),
      /^route to 192.0.2.0\/24 not in the plan$/,
    ],
    [
      'the default changed',
      () => inside('ip', 'route', 'replace', 'unreachable', 'default'),
      /^route to default/,
    ],
    ['a VIP removed', () => inside('ip', 'addr', 'del', '10.0.1.100/32', 'dev', 'lo'), /^address 10.0.1.100/],
    ['a rule of routing removed', () => inside('ip', 'rule', 'del', 'pref', '100'), /^rule for addresses/],
    ['a link set down', () => inside('ip', 'link', 'set', link(), 'down'), /^link c.* up missing$/],
    ['the uplink removed', () => sh('ip', 'link', 'del', uplink), /^uplink missing$/],
    ['the uplink set down', () => sh('ip', 'link', 'set', uplink, 'down'), /^link tupk-u1 up missing$/],
    [
      'an address added',
      () => inside('ip', 'addr', 'add', '192.0.2.7/32', 'dev', 'uplink'),
      /^address 192.0.2.7\/32 on uplink not in the plan$/,
    ],
    [
      'a rule of routing added',
      () => inside('ip', 'rule', 'add', 'from', '10.9.9.9', 'lookup', '99'),
      /^rule \d+ from 10.9.9.9\/32 not in the plan$/,
    ],
    [
      'a table added',
      () => {
        inside('nft', 'add', 'table', 'ip', 'foreign')
        inside(
          'nft',
          'add',
          'chain',
          'ip',
          'foreign',
          'shut',
          '{ type filter hook forward priority 0; policy drop; }',
        )
      },
      /^table ip foreign not in the plan$/,
    ],
    [
      'a link added',
      () => {
        inside('ip', 'link', 'add', 'extra', 'type', 'veth', 'peer', 'name', 'extra2')
        inside('ip', 'addr', 'add', '192.0.2.9/24', 'dev', 'extra')
        inside('ip', 'link', 'set', 'extra', 'up')
      },
      /^link extra not in the plan$/,
    ],
    [
      'a setting of the kernel changed',
      () => inside('sysctl', '-qw', 'net.ipv4.conf.all.proxy_arp=0'),
      /^setting net.ipv4.conf.all.proxy_arp is 0, not 1$/,
    ],
    [
      'IPv6 switched off',
      () => inside('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'),
      /^setting net.ipv6.conf.all.disable_ipv6 is 1, not 0$/,
    ],
    [
      'a fabric route removed',
      () => sh('ip', 'route', 'del', `${a1.fabric}/32`),
      new RegExp(`^route to ${a1.fabric}/32 missing$`),
    ],
  ]
  for (const [what, hand, words] of hands) {
    test(what, async () => {
      assert.deepEqual((await network.observe(base.vpc, signal))?.drift, [])
      hand()
      const { drift = [] } = (await network.observe(base.vpc, signal)) ?? {}
      assert.ok(
        drift.some((it) => words.test(it.detail)),
        drift.map((it) => it.detail).join('; '),
      )
      await network.apply(base, signal)
      assert.deepEqual(
        (await network.list(signal)).map((it) => it.drift),
        [[]],
      )
      assert.deepEqual(await machines[1]?.ask('10.0.1.100', 80), { text: `a1 ${a2.address}` })
      assert.deepEqual(await machines[1]?.ask(INTERNET, 80), { text: `internet ${a2.egress}` })
      // What was connected before is connected still.
      assert.ok((await machines[1]?.say('kept'))?.text)
    })
  }

  test('what an apply of another plan repairs by the way is told by the next audit, once', async () => {
    sh('ip', 'netns', 'exec', namespace, 'nft', 'flush', 'ruleset')
    inside('ip', 'route', 'del', '10.0.1.0/24')
    await network.apply({ ...base, generation: 2, vips: [] }, signal)
    const told = ['missing rules flushed', 'missing route to 10.0.1.0/24 missing']
    assert.deepEqual(await found(network), told)
    assert.deepEqual(
      (await network.mend(signal)).map((it) => it.of),
      told.map(() => ({ kind: 'vpc', id: base.vpc })),
    )
    await network.apply({ ...base, generation: 3, groups: [] }, signal)
    await network.apply({ ...base, generation: 4 }, signal)
    assert.deepEqual(await found(network), [])
    await network.remove(base.vpc, signal)
    await network.apply(base, signal)
    for (const [id, name] of [
      [a1.id, 'm-a1'],
      [a2.id, 'm-a2'],
    ] as const)
      await plugIn(network, id, name)
    assert.ok((await machines[1]?.open('kept', a1.address, 80))?.text)
  })

  test('a link taken from a running machine is made again, and the others notice nothing', async () => {
    assert.ok((await machines[0]?.open('out', INTERNET, 80))?.text)
    inside('ip', 'link', 'del', routerLink(a2.id))
    assert.ok((await machines[1]?.ask(a1.address, 80))?.error)
    const pid = Number(sh('ip', 'netns', 'pids', 'm-a2').trim().split('\n')[0])
    await network.plugIn(a2.id, pid)
    assert.deepEqual(await driftIn(network), [])
    assert.deepEqual(await machines[1]?.ask(a1.address, 80), { text: `a1 ${a2.address}` })
    assert.deepEqual(await machines[1]?.ask(INTERNET, 80), { text: `internet ${a2.egress}` })
    assert.equal(machines[1]?.ping(a1.address6), true)
    assert.ok((await machines[0]?.say('out'))?.text)
    assert.ok((await machines[1]?.open('kept', a1.address, 80))?.text)
  })

  test('what is left over of ours is removed, and what is not ours stays', async () => {
    sh('ip', 'link', 'add', `${PREFIX}-u77`, 'type', 'veth', 'peer', 'name', `${PREFIX}-c0a1b2c3d`)
    sh('ip', 'link', 'add', 'other-u1', 'type', 'veth', 'peer', 'name', 'other-c1')
    sh('nft', 'add', 'table', 'inet', 'other')
    sh('ip', 'neigh', 'add', 'proxy', '198.51.100.77', 'dev', 'lan0')
    const [cut, broken] = [join(directory, 'cut-host'), join(directory, `vpc-${uuid(0xdead)}.json`)]
    for (const path of [cut, broken]) {
      writeFileSync(path, '{')
      utimesSync(path, 1_700_000_000, 1_700_000_000)
    }
    const theirs = (): string[] => [
      sh('ip', '-br', 'link', 'show', 'type', 'veth')
        .match(/^other-\w+/gm)
        ?.join() ?? '',
      sh('nft', 'list', 'tables').match(/inet other/)?.[0] ?? '',
      sh('ip', 'neigh', 'show', 'proxy').match(/198.51.100.77/)?.[0] ?? '',
    ]
    const before = theirs()
    assert.ok(before.every(Boolean), before.join())
    assert.deepEqual((await found(network)).toSorted(), [
      `orphan file ${cut} was left over`,
      `orphan link ${PREFIX}-c0a1b2c3d of nothing that is planned`,
      `orphan link ${PREFIX}-u77 of nothing that is planned`,
      `orphan plan ${broken} cannot be used`,
    ])
    await network.mend(signal)
    // The plan's file is of a VPC that the cloud may know.
    assert.deepEqual(await found(network), [`orphan plan ${broken} cannot be used`])
    await network.remove(uuid(0xdead), signal)
    assert.deepEqual(await found(network), [])
    assert.deepEqual(theirs(), before)
    sh('ip', 'link', 'del', 'other-u1')
    sh('nft', 'delete', 'table', 'inet', 'other')
    sh('ip', 'neigh', 'del', 'proxy', '198.51.100.77', 'dev', 'lan0')
  })

  test('flows of a freed address end on the host too, at once or by the next audit', async () => {
    assert.ok((await machines[1]?.open('out', INTERNET, 80))?.text)
    const tracked = (): boolean => tryTo('conntrack', '-L').includes(`src=${a2.egress} dst=${INTERNET}`)
    assert.ok(tracked())
    await network.apply({ ...base, generation: 2, attachments: [a1] }, signal)
    assert.equal(tracked(), false)
    await network.apply({ ...base, generation: 3 }, signal)
    tryTo('ip', '-n', 'm-a2', 'link', 'del', 'eth0')
    await plugIn(network, a2.id, 'm-a2')
    for (const it of machines.splice(0)) it.stop()
    for (const it of ['m-a1', 'm-a2']) sh('ip', 'netns', 'del', it)
    await network.remove(base.vpc, signal)
  })

  test('the namespace removed: made anew, and its machines can be plugged in again', async () => {
    sh('ip', 'netns', 'del', namespace)
    assert.deepEqual(await driftIn(network), ['namespace missing'])
    // Docker attaches a container again without waiting for anybody to apply.
    for (const [id, name] of [
      [a1.id, 'm-a1'],
      [a2.id, 'm-a2'],
    ] as const) {
      tryTo('ip', '-n', name, 'link', 'del', 'eth0')
      await plugIn(network, id, name)
    }
    assert.deepEqual((await network.observe(base.vpc, signal))?.drift, [])
    assert.deepEqual(await machines[1]?.ask(a1.address, 80), { text: `a1 ${a2.address}` })
  })

  test("the host's part is found changed, and mended", async () => {
    sh('nft', 'delete', 'table', 'inet', PREFIX)
    sh('ip', 'addr', 'del', `${HOST.resolver}/32`, 'dev', 'lo')
    sh('ip', 'neigh', 'del', 'proxy', '198.51.100.130', 'dev', 'lan0')
    assert.deepEqual(await found(network), [
      'missing table inet tupk missing',
      `missing address ${HOST.resolver} on lo missing`,
      'missing proxy neighbour 198.51.100.130 missing',
    ])
    await network.mend(signal)
    assert.match(sh('nft', 'list', 'table', 'inet', PREFIX), /from_vpc/)
    // The first VPC fills a set that was empty: no difference to anybody.
    await network.remove(base.vpc, signal)
    assert.deepEqual(await found(network), [])
    await network.apply(base, signal)
    assert.deepEqual(await found(network), [])
    assert.match(sh('ip', 'addr', 'show', 'dev', 'lo'), new RegExp(HOST.resolver))
    assert.match(sh('ip', 'neigh', 'show', 'proxy'), /198.51.100.130/)
    sh('nft', 'add', 'element', 'inet', PREFIX, 'allowed', '{ 0.0.0.0/1 }')
    assert.deepEqual(await found(network), ['drift rules of table inet tupk changed'])
    await network.mend(signal)
    assert.deepEqual(await found(network), [])
    assert.doesNotMatch(sh('nft', 'list', 'set', 'inet', PREFIX, 'allowed'), /0.0.0.0/)
  })

  test('a link is made once, and again when its container has gone', async () => {
    const first = await network.createLink(a1.id)
    const at = (): string => readFileSync(`/sys/class/net/${first.containerLink}/ifindex`, 'utf8')
    const index = at()
    assert.deepEqual(await network.createLink(a1.id), first)
    assert.equal(at(), index)
    sh('ip', 'netns', 'add', 'elsewhere')
    sh('ip', 'link', 'set', first.containerLink, 'netns', 'elsewhere')
    await network.createLink(a1.id)
    assert.notEqual(at(), index)
    assert.equal(tryTo('ip', '-n', 'elsewhere', '-br', 'link').includes(first.containerLink), false)
    sh('ip', 'netns', 'del', 'elsewhere')
    await network.removeLink(a1.id)
    await network.removeLink(a1.id)
    assert.doesNotMatch(sh('ip', '-br', 'link'), /tupk-c/)
    tryTo('ip', '-n', 'm-a1', 'link', 'del', 'eth0')
    await plugIn(network, a1.id, 'm-a1')
    assert.deepEqual((await network.observe(base.vpc, signal))?.drift, [])
    await assert.rejects(network.createLink('nobody'), (error) => isCloudError(error, 'not_found'))
  })
})

describe('a router that grows', () => {
  const grown = vpcPlan(2, { attachments: [attachment(2, 5)], vips: [vip(2, 100)] })
  let network: LinuxNetwork
  before(async () => {
    network = start()
    await network.applyHost(HOST, signal)
    await network.apply(grown, signal)
  })
  after(async () => {
    await network.purge(signal)
    assert.equal(inventory(), bare)
  })
  const driftOf = async () => (await network.observe(grown.vpc, signal))?.drift

  test('is as its plan has it, with machines and VIPs that came and went', async () => {
    const [first] = grown.attachments
    assert.ok(first)
    const more = [first, attachment(2, 6, { egress: '100.72.0.2' }), attachment(2, 7)]
    const vips = [vip(2, 100, { backends: [first.id] }), vip(2, 101, { external: '198.51.100.132' })]
    await network.apply({ ...grown, generation: 2, attachments: more, vips }, signal)
    assert.deepEqual(await driftOf(), [])
    for (const it of more) await network.createLink(it.id)
    await network.apply({ ...grown, generation: 3, attachments: [...more, attachment(2, 8)], vips }, signal)
    assert.deepEqual(await driftOf(), [])
    await network.apply({ ...grown, generation: 4, attachments: more.slice(1), vips: vips.slice(1) }, signal)
    assert.deepEqual(await driftOf(), [])
    assert.deepEqual(await network.audit(signal), [])
  })

  test('is so when it goes back to what it was before it grew', async () => {
    await network.apply({ ...grown, generation: 5 }, signal)
    const more = [...grown.attachments, attachment(2, 7)]
    const vips = [...grown.vips, vip(2, 101, { external: '198.51.100.132' })]
    await network.apply({ ...grown, generation: 6, attachments: more, vips }, signal)
    await network.apply({ ...grown, generation: 7 }, signal)
    assert.deepEqual(await driftOf(), [])
  })

  test('a link is made once the plan that it is of is in force', async () => {
    const now = { ...grown, generation: 8, attachments: [...grown.attachments, attachment(2, 9)] }
    await assert.rejects(network.apply(now, AbortSignal.abort()))
    await network.createLink(attachment(2, 9).id)
    assert.deepEqual(await driftOf(), [])
  })
})

describe('a restart', () => {
  const kept = (): string[] => readdirSync(directory).toSorted()

  test('finds the plans again, readable by root alone, and everything in order', async () => {
    const before = start()
    await before.applyHost(HOST, signal)
    await before.apply(base, signal)
    await before.createLink(a1.id)
    assert.deepEqual(kept(), ['host.json', `vpc-${base.vpc}.json`])
    for (const it of kept()) assert.equal(statSync(join(directory, it)).mode & 0o777, 0o600)
    const network = start()
    assert.equal(network.attachment(a1.id)?.plan.address, a1.address)
    assert.equal(network.findByAddress(base.vpc, a2.address)?.plan.id, a2.id)
    assert.equal(network.attachment(a1.id)?.mtu, 1500)
    assert.deepEqual(await network.list(signal), [
      { vpc: base.vpc, generation: 1, attachments: [a1.id, a2.id], drift: [] },
    ])
    await assert.rejects(network.apply({ ...base, generation: 0 }, signal), (error) =>
      isCloudError(error, 'conflict'),
    )
    await assert.rejects(network.applyHost({ ...HOST, generation: 0 }, signal), (error) =>
      isCloudError(error, 'conflict'),
    )
  })

  test('of the host: a container gets its network from the kept plan alone', async () => {
    sh('ip', 'netns', 'del', namespace)
    tryTo('ip', 'link', 'del', uplink)
    sh('nft', 'flush', 'ruleset')
    sh('ip', 'addr', 'del', `${HOST.resolver}/32`, 'dev', 'lo')
    const network = start()
    const machine = await attach(network, a2.id, 'again')
    try {
      assert.deepEqual(await machine.ask(INTERNET, 80), { text: `internet ${a2.egress}` })
      assert.ok((await machine.ask(LAN, 80)).error)
      assert.deepEqual((await network.observe(base.vpc, signal))?.drift, [])
    } finally {
      machine.stop()
      sh('ip', 'netns', 'del', 'm-again')
    }
  })

  test('with a file that cannot be read goes on with the others', async () => {
    writeFileSync(join(directory, `vpc-${base.vpc}.json`), '{"format":1,')
    const network = start()
    assert.equal(network.attachment(a1.id), undefined)
    assert.deepEqual(await network.list(signal), [
      { vpc: base.vpc, generation: undefined, attachments: [], drift: noPlan },
    ])
    await network.apply(base, signal)
    assert.deepEqual(
      (await network.list(signal)).map((it) => it.drift),
      [[]],
    )
    await network.purge(signal)
    assert.deepEqual(kept(), [])
    assert.equal(inventory(), bare)
  })
})

test('a process that is killed at any moment leaves nothing that the next does not put right', async () => {
  const alive = { least: 20, most: 400 }
  for (let round = 0; round < 5; round++) {
    const worker = spawn(process.execPath, [join(import.meta.dirname, 'worker.ts'), PREFIX, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise((resolve) => worker.stdout.once('data', resolve))
    // Spread over what one change takes, in steps that no change's length divides.
    await sleep(alive.least + ((round * 157) % alive.most))
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    worker.kill('SIGKILL')
    await ended

    const network = start()
    await network.applyHost({ ...HOST, generation: 1 }, signal)
    const seen = await network.list(signal)
    for (const number of [1, 2, 3]) {
      const { generation = 0 } = seen.find((it) => it.vpc === vpcPlan(number).vpc) ?? {}
      const attachments = [attachment(number, 5), attachment(number, 6)]
      await network.apply(vpcPlan(number, { generation: generation + 1, attachments }), signal)
    }
    const right = await network.list(signal)
    assert.equal(right.length, 3)
    for (const it of right) {
      assert.deepEqual(it.drift, [], `round ${round}`)
      const inside = `--net=/run/netns/${PREFIX}-${it.vpc.slice(-12)}`
      const files = ['ipv4/ip_forward', 'ipv4/conf/all/proxy_arp', 'netfilter/nf_conntrack_tcp_loose']
      const values = sh('nsenter', inside, 'cat', ...files.map((name) => `/proc/sys/net/${name}`))
      assert.deepEqual(values.trim().split('\n'), ['1', '1', '0'], `round ${round}`)
    }
  }
  await start().purge(signal)
  assert.equal(inventory(), bare)
})

test('rules that are changed piece by piece are what they are when written whole, and nothing else is touched', async () => {
  const network = start()
  await network.applyHost(HOST, signal)
  const inside = `--net=/run/netns/${namespace}`
  const list = (within: string): ReadonlyMap<string, string> =>
    parseTableBody(sh('nsenter', within, 'nft', '-s', 'list', 'table', 'inet', 'arcus'))
  const members = [5, 6, 7, 8].map((last) => attachment(1, last))
  const plans = fc
    .sample(anyPlan, { numRuns: PLANS, seed: PLANS })
    .map(({ groups, attachments: from }, at) => ({
      ...base,
      generation: 1 + at,
      attachments: members.map((it, n) => ({ ...it, groups: from[n % from.length]?.groups ?? [] })),
      groups,
      vips: [vip(1, 100, { backends: members.slice(at % 4).map((it) => it.id) })],
    }))
  sh('ip', 'netns', 'add', 'whole')
  for (const plan of plans) {
    await network.apply(plan, signal)
    if (plan.generation === 1) sh('nsenter', inside, 'nft', 'add', 'table', 'ip', 'foreign')
    const text = join(folder(), 'whole')
    writeFileSync(text, vpcRules(plan, HOST, routerLink))
    sh('nsenter', '--net=/run/netns/whole', 'nft', '-f', text)
    assert.deepEqual(list(inside), list('--net=/run/netns/whole'))
  }
  // No apply looked at the rest; a look does, and finds its own rules as they should be.
  assert.deepEqual(await driftIn(network), ['table ip foreign not in the plan'])
  await network.apply(plans.at(-1) ?? base, signal)
  assert.deepEqual(await driftIn(network), [])
  // What somebody took away cannot be changed piece by piece.
  sh('nsenter', inside, 'nft', 'flush', 'ruleset')
  await network.apply({ ...base, ...plans[0], generation: 1 + PLANS }, signal)
  assert.deepEqual(await driftIn(network), [])
  sh('ip', 'netns', 'del', 'whole')
  await network.purge(signal)
  assert.equal(inventory(), bare)
})

test('what was repaired is told once, whatever plan is held by then, and not what is repaired meanwhile', async () => {
  const state = openState({ prefix: PREFIX, directory: folder(), clock: systemClock, log: silentLog })
  const [first, second] = ['one', 'two'].map((detail) => ({ what: 'drift', thing: 'rule', detail }) as const)
  assert.ok(first && second)
  state.held.put(base).repaired = [first]
  const [told, ...more] = await lookAround(state, signal)
  assert.deepEqual([told?.finding.detail, more], ['one', []])
  const now = state.held.put({ ...base, generation: 2 })
  now.repaired = [...now.repaired, second]
  await told?.fix?.(signal)
  assert.deepEqual(now.repaired, [second])
})

test('what no plan is held for is found and can be removed by what the list calls it', async () => {
  const network = start()
  await network.applyHost(HOST, signal)
  sh('ip', 'netns', 'add', `${PREFIX}-0123456789ab`)
  sh('ip', 'netns', 'add', 'someone-elses')
  const [orphan] = await network.list(signal)
  assert.deepEqual(orphan, {
    vpc: '0123456789ab',
    generation: undefined,
    attachments: [],
    drift: noPlan,
  })
  await network.remove('0123456789ab', signal)
  assert.deepEqual(await network.list(signal), [])
  sh('ip', 'netns', 'del', 'someone-elses')
  await network.purge(signal)
  assert.equal(inventory(), bare)
})

describe('plans that are not exact are refused before anything is done', () => {
  const wrong: [string, Partial<VpcPlan>][] = [
    ['text in an address', { attachments: [{ ...a1, address: '10.0.1.5\nflush ruleset' }] }],
    ['text in a name', { vpc: 'x; reboot' }],
    ['an address outside its subnet', { attachments: [{ ...a1, address: '10.0.9.5' }] }],
    ['an address twice', { attachments: [a1, { ...a2, address: a1.address }] }],
    ['a fabric address outside the fabric', { attachments: [{ ...a1, fabric: '192.168.0.1' }] }],
    ['overlapping subnets', { subnets: base.subnets.map((it) => ({ ...it, cidr: '10.0.1.0/24' })) }],
    ['a backend that is none', { vips: [vip(1, 100, { backends: ['nobody'] })] }],
    ['a port out of range', { vips: [vip(1, 100, { ports: [{ protocol: 'tcp', port: 70_000 }] })] }],
    ['an uplink that is no pair', { uplink: { host: '100.120.0.3', vpc: '100.120.0.4' } }],
  ]
  for (const [what, more] of wrong) {
    test(what, async () => {
      const network = start()
      await network.applyHost(HOST, signal)
      await assert.rejects(network.apply({ ...base, ...more }, signal), (error) =>
        isCloudError(error, 'invalid'),
      )
      await network.purge(signal)
      assert.equal(inventory(), bare)
    })
  }
})

describe('on the host', () => {
  let network: LinuxNetwork
  const generation = { host: 1 }
  const applyHost = (more: Partial<HostPlan>): Promise<void> =>
    network.applyHost({ ...HOST, ...more, generation: ++generation.host }, signal)
  const machines: Machine[] = []
  const machine = (at: number): Machine => machines[at] ?? assert.fail()

  test('(set up)', async () => {
    network = start()
    await network.applyHost(HOST, signal)
    await network.apply(base, signal)
    await network.apply(vpcPlan(2, { attachments: [attachment(2, 5, { egress: '100.72.0.2' })] }), signal)
    machines.push(
      await attach(network, a1.id, 'h1'),
      await attach(network, a2.id, 'h2'),
      await attach(network, attachment(2, 5).id, 'h3'),
    )
    await machine(0).listen(80)
  })

  test('a network of the host is closed unless allowed, and closed again at once', async () => {
    assert.ok((await machine(0).ask(LAN, 80)).error)
    await applyHost({ allowed: [`${LAN}/32`] })
    assert.deepEqual(await machine(0).open('lan', LAN, 80), { text: `lan ${HOST_IN_LAN}` })
    assert.ok((await machine(0).ask(HOST_IN_LAN, 80)).error)
    await applyHost({ allowed: [] })
    assert.ok((await machine(0).say('lan')).error)
    assert.ok((await machine(0).ask(LAN, 80)).error)
  })

  test('a network is closed by what was broken off and is told again, too', async () => {
    await applyHost({ allowed: [`${LAN}/32`] })
    assert.deepEqual(await machine(0).open('lan', LAN, 80), { text: `lan ${HOST_IN_LAN}` })
    const closed = { ...HOST, allowed: [], generation: ++generation.host }
    await assert.rejects(network.applyHost(closed, AbortSignal.abort()))
    await network.applyHost(closed, signal)
    assert.ok((await machine(0).say('lan')).error)
  })

  test('a network that appears is closed before anybody looks, and after', async () => {
    wire('br-new', 'new', '172.30.0.1/16', '172.30.0.9/16')
    sh('ip', '-n', 'new', 'route', 'add', 'default', 'via', '172.30.0.1')
    const inNew = (await import('./world.ts')).machine('new', 'new')
    try {
      await inNew.listen(80)
      assert.deepEqual(await host.ask('172.30.0.9', 80), { text: 'new 172.30.0.1' })
      assert.ok((await machine(0).ask('172.30.0.9', 80)).error)
      assert.ok((await machine(0).ask('172.30.0.1', 80)).error)
      await applyHost({})
      assert.ok((await machine(0).ask('172.30.0.9', 80)).error)
      // A second network on the link that leads out is closed once somebody looked.
      sh('ip', 'addr', 'add', '172.31.0.1/24', 'dev', 'wan0')
      sh('ip', '-n', 'internet', 'addr', 'add', '172.31.0.9/24', 'dev', 'eth0')
      await applyHost({})
      assert.ok((await machine(0).ask('172.31.0.9', 80)).error)
      assert.deepEqual(await machine(0).ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    } finally {
      inNew.stop()
      sh('ip', 'addr', 'del', '172.31.0.1/24', 'dev', 'wan0')
      sh('ip', 'link', 'del', 'br-new')
      sh('ip', 'netns', 'del', 'new')
    }
  })

  test('an external address in a network of the host is answered for there', async () => {
    // The neighbour has no route to it but asks who has it; the host's own setting lets it wait for up to 0.8 s.
    const answer = await lan.ask('198.51.100.131', 80, { ms: 2_000 })
    assert.deepEqual(answer, { text: `h1 ${LAN}` })
    assert.deepEqual(await machine(2).ask('198.51.100.131', 80), { text: 'h1 100.72.0.2' })
    await network.apply({ ...base, generation: 2, vips: [] }, signal)
    assert.doesNotMatch(sh('ip', 'neigh', 'show', 'proxy'), /198.51.100.131/)
    await network.apply({ ...base, generation: 3 }, signal)
    assert.match(sh('ip', 'neigh', 'show', 'proxy'), /198.51.100.131/)
  })

  test('what passed while rules were changed by hand ends as they are put right', async () => {
    const group = { id: uuid(0x61), rules: [] }
    const shut = { ...base, groups: [group], attachments: [{ ...a1, groups: [group.id] }, a2] }
    await network.apply({ ...shut, generation: 4 }, signal)
    assert.ok((await machine(1).ask(a1.address, 80)).error)
    const inside = `--net=/run/netns/${namespace}`
    sh('nsenter', inside, 'nft', 'insert', 'rule', 'inet', 'arcus', 'forward', 'accept')
    assert.ok((await machine(1).open('hand', a1.address, 80)).text)
    await network.apply({ ...shut, generation: 5 }, signal)
    assert.ok((await machine(1).say('hand')).error)
    await network.apply({ ...base, generation: 6 }, signal)
    // What was put right is told, once.
    await network.mend(signal)
  })

  test('what is routed to a machine whose link is gone takes no wider route', async () => {
    const routes = [
      { cidr: '0.0.0.0/0', target: 'internet' as const },
      { cidr: '192.0.2.0/24', target: { address: a1.address } },
    ]
    const subnets = base.subnets.map((it) => ({ ...it, routes }))
    await network.apply({ ...base, subnets, generation: 7 }, signal)
    sh('ip', '-n', namespace, 'link', 'del', routerLink(a1.id))
    assert.ok((await machine(1).ask(INTERNET, 80)).error)
    await plugIn(network, a1.id, 'm-h1')
    assert.deepEqual(await driftIn(network), [])
    await network.apply({ ...base, generation: 8 }, signal)
    assert.deepEqual(await machine(1).ask(INTERNET, 80), { text: `internet ${a2.egress}` })
  })

  test("a client whose address lies in the VPC's range is translated on entry", async () => {
    sh('ip', '-n', 'lan', 'addr', 'add', '10.0.1.77/32', 'dev', 'lo')
    sh('ip', 'route', 'add', '10.0.1.77/32', 'via', LAN)
    assert.deepEqual(await lan.ask('198.51.100.131', 80, { from: '10.0.1.77' }), { text: 'h1 100.120.0.2' })
    sh('ip', 'route', 'del', '10.0.1.77/32')
  })

  test("Docker's policy does not close VPCs, nor does our rule in its chain open anything", async () => {
    const asVpc2 = (): ReturnType<Machine['ask']> => machine(2).ask(INTERNET, 80)
    sh('iptables', '-N', 'DOCKER-USER')
    sh('iptables', '-A', 'DOCKER-USER', '-j', 'RETURN')
    sh('iptables', '-A', 'FORWARD', '-j', 'DOCKER-USER')
    sh('iptables', '-P', 'FORWARD', 'DROP')
    try {
      assert.ok((await asVpc2()).error)
      await network.dockerStarted()
      assert.deepEqual(await asVpc2(), { text: 'internet 203.0.113.2' })
      assert.ok((await machine(2).ask(LAN, 80)).error)
      assert.deepEqual(await machine(2).ask('198.51.100.131', 80), { text: 'h1 100.72.0.2' })
      await network.dockerStarted()
      assert.equal(sh('iptables', '-S', 'DOCKER-USER').match(/tupk/g)?.length, 2)
      sh('iptables', '-F', 'DOCKER-USER')
      assert.deepEqual(await found(network), ["missing rules for VPCs in Docker's chain DOCKER-USER missing"])
      await network.mend(signal)
      assert.deepEqual(await asVpc2(), { text: 'internet 203.0.113.2' })
    } finally {
      sh('iptables', '-P', 'FORWARD', 'ACCEPT')
    }
  })

  test('a purge takes back everything', async () => {
    await network.purge(signal)
    machines.forEach((it) => it.stop())
    assert.doesNotMatch(sh('iptables', '-S'), /tupk/)
    sh('iptables', '-F')
    sh('iptables', '-X', 'DOCKER-USER')
    sh('nft', 'delete', 'table', 'ip', 'filter')
    for (const it of ['m-h1', 'm-h2', 'm-h3']) sh('ip', 'netns', 'del', it)
    assert.equal(inventory(), bare)
  })
})
