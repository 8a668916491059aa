import assert from 'node:assert/strict'
import { networkInterfaces } from 'node:os'
import { after, before, describe, test } from 'node:test'
import type { Pod, TestTenant } from './client.testing.ts'
import { startCloud, type TestCloud } from './cloud.testing.ts'
import {
  assertNothingLeft,
  hostSnapshot,
  ipIn,
  listenIn,
  makeOutside,
  reachableFrom,
  run,
  tcpFrom,
  udpFrom,
  type Outside,
  type Place,
} from './host.testing.ts'
import { askProbe, listening, placeOf } from './probe.testing.ts'
import { driftScenario } from './scenarios/drift.ts'
import { ownApiScenario } from './scenarios/own-api.ts'
import { everyStep } from './wait.testing.ts'

// What a workload that owns its network stack could try. Each attempt is made next to one that must succeed, so that
// a test cannot pass because its own packets were never sent.
const PORT = 8600
const DROPPED_MS = 1500
const UNASSIGNED = '10.100.1.200'

type Replica = { spec: { workload: string; fabric: string; address: string } }
type Address = { family: string; local: string; scope: string }

describe('isolation', { concurrency: false }, () => {
  let cloud: TestCloud
  let outside: Outside
  let host: Set<string>
  let a: TestTenant
  let b: TestTenant
  let attacker: Pod
  let victim: Pod
  let third: Pod
  let foreign: Pod
  let shut: Pod
  let from: Place
  let listeners: AsyncDisposable[]

  before(async () => {
    host = await hostSnapshot()
    outside = await makeOutside('iso')
    cloud = await startCloud()
    ;[a, b] = await Promise.all([cloud.tenant(), cloud.tenant()])
    const [open, theirs, closed] = await Promise.all([
      a.vpc('open').then((it) => a.subnet(it)),
      b.vpc('open').then((it) => b.subnet(it)),
      a.vpc('closed', false).then((it) => a.subnet(it)),
    ])
    ;[attacker, victim, third, foreign, shut] = (await Promise.all([
      a.pod(open, 'attacker', { external_access: true }).then((it) => a.running(it)),
      a.pod(open, 'victim').then((it) => a.running(it)),
      a.pod(open, 'third').then((it) => a.running(it)),
      b.pod(theirs, 'foreign', { external_access: true }).then((it) => b.running(it)),
      a.pod(closed, 'shut').then((it) => a.running(it)),
    ])) as [Pod, Pod, Pod, Pod, Pod]
    from = await placeOf(attacker)
    await listening(attacker, victim, third, foreign, shut)
    listeners = await Promise.all([
      listenIn(undefined, { do: 'http-listen', host: '::', port: PORT }),
      listenIn(outside, { do: 'http-listen', host: '0.0.0.0', port: PORT }),
    ])
  })
  after(async () => {
    await everyStep(
      ...(listeners ?? []).map((it) => () => it[Symbol.asyncDispose]()),
      () => Promise.all([a?.remove(), b?.remove()]),
      () => cloud?.emptied(),
      () => cloud?.[Symbol.asyncDispose](),
      () => outside?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  const fabricOf = async (pod: Pod): Promise<string> => {
    const as = { tenant: pod.tenant_id }
    const { items } = await cloud.native<{ items: Replica[] }>('GET', '/replica', 200, as)
    const found = items.find((it) => it.spec.workload === pod.id)
    assert.ok(found, `no replica of ${pod.name}`)
    return found.spec.fabric
  }
  const addressesIn = async (place: Place, family: 'inet' | 'inet6'): Promise<string[]> => {
    const links = JSON.parse(await ipIn(place, '-j', 'addr', 'show', 'dev', 'eth0')) as {
      addr_info: Address[]
    }[]
    return links.flatMap((it) =>
      it.addr_info.filter((at) => at.family === family && at.scope === 'global').map((at) => at.local),
    )
  }

  test('a packet to an address that nobody has goes nowhere, not even out by the uplink', async () => {
    await run('ip', '-n', outside.namespace, 'addr', 'add', `${UNASSIGNED}/32`, 'dev', 'lo')
    await run('ip', 'rule', 'add', 'to', `${UNASSIGNED}/32`, 'lookup', outside.table)
    try {
      await using trap = await listenIn(outside, { do: 'udp-listen', host: UNASSIGNED, port: PORT })
      await using far = await listenIn(outside, { do: 'udp-listen', host: outside.far, port: PORT })
      assert.notEqual(await tcpFrom(from, UNASSIGNED, PORT, { timeoutMs: DROPPED_MS }), 'connected')
      await udpFrom(from, UNASSIGNED, PORT, 'lost', { timeoutMs: DROPPED_MS })
      assert.ok('answer' in (await udpFrom(from, outside.far, PORT, 'hello')), 'the way out works')
      assert.equal(far.heard.length, 1)
      assert.deepEqual(trap.heard, [])
    } finally {
      await run('ip', 'rule', 'del', 'to', `${UNASSIGNED}/32`, 'lookup', outside.table)
      await run('ip', '-n', outside.namespace, 'addr', 'del', `${UNASSIGNED}/32`, 'dev', 'lo')
    }
  })

  for (const family of ['inet', 'inet6'] as const) {
    test(`a spoofed source is dropped (${family})`, async () => {
      const to = await placeOf(victim)
      const [target] = await addressesIn(to, family)
      const [own] = await addressesIn(from, family)
      const [neighbour] = await addressesIn(await placeOf(third), family)
      assert.ok(target && own && neighbour, `each pod has an ${family} address`)
      const invented =
        family === 'inet' ? ['10.100.1.77', '192.0.2.77'] : ['2001:db8::77', own.replace(/[^:]+$/, 'dead')]
      await using ear = await listenIn(to, { do: 'udp-listen', host: target, port: PORT })
      assert.ok(
        'answer' in (await udpFrom(from, target, PORT, 'true', { source: own })),
        'its own source passes',
      )
      for (const source of [neighbour, ...invented]) {
        const address = family === 'inet' ? [`${source}/32`] : [`${source}/128`, 'nodad']
        await ipIn(from, 'addr', 'add', ...address.slice(0, 1), 'dev', 'eth0', ...address.slice(1))
        try {
          await udpFrom(from, target, PORT, `spoofed ${source}`, { source, timeoutMs: DROPPED_MS })
        } finally {
          await ipIn(from, 'addr', 'del', ...address.slice(0, 1), 'dev', 'eth0')
        }
      }
      assert.deepEqual(
        ear.heard.map((it) => [it.text, it.from]),
        [['true', own]],
      )
    })
  }

  test('fabric addresses are for the platform alone', async () => {
    const [theirs, mine] = [await fabricOf(foreign), await fabricOf(victim)]
    const answer = await fetch(`http://${theirs}/hostname`, { signal: AbortSignal.timeout(5000) })
    assert.equal(answer.status, 200, 'the host itself reaches it')
    assert.deepEqual(await reachableFrom(from, [theirs, mine], 80), [])
    assert.deepEqual(
      await reachableFrom(outside, [theirs, mine], 80),
      [],
      'nor does a machine beyond the host',
    )
  })

  test('no address of the host answers, and no machine of its networks', async () => {
    const all = Object.values(networkInterfaces()).flatMap((it) => it ?? [])
    const v4 = all
      .filter((it) => it.family === 'IPv4' && !it.address.startsWith('127.'))
      .map((it) => it.address)
    const v6 = all
      .filter((it) => it.family === 'IPv6' && it.scopeid === 0 && it.address !== '::1')
      .map((it) => it.address)
    assert.ok(v4.includes(outside.hostLan))
    assert.deepEqual(
      await reachableFrom(outside, [outside.hostLan], PORT),
      [outside.hostLan],
      'the listener is there',
    )
    assert.deepEqual(await reachableFrom(from, [outside.far], PORT), [outside.far], 'the way out works')
    assert.deepEqual(await reachableFrom(from, [...v4, ...v6, '10.100.1.1', outside.neighbour], PORT), [])
  })

  test('another tenant cannot be reached by its uplink', async () => {
    const uplinks = await uplinksOf(outside.namespace)
    assert.ok(uplinks.length >= 3, `one uplink for each VPC: ${uplinks.join(', ')}`)
    assert.deepEqual(await reachableFrom(from, uplinks, 80), [])
    assert.deepEqual(await reachableFrom(from, uplinks, 53), [])
  })

  test('private addresses of a VPC are unknown outside it', async () => {
    const targets = [victim.vip, ...victim.ip_addresses, ...foreign.ip_addresses]
    assert.deepEqual(await reachableFrom(outside, targets, 80), [])
    assert.deepEqual(
      await reachableFrom(from, targets.slice(0, 2), 80),
      targets.slice(0, 2),
      'they answer inside',
    )
  })

  test('a VPC without internet has no way out', async () => {
    const closed = await placeOf(shut)
    await using ear = await listenIn(outside, { do: 'udp-listen', host: outside.far, port: PORT })
    assert.deepEqual(await reachableFrom(closed, [outside.far, outside.neighbour, '198.51.100.1'], PORT), [])
    await udpFrom(closed, outside.far, PORT, 'lost', { timeoutMs: DROPPED_MS })
    assert.deepEqual(ear.heard, [])
    assert.equal((await askProbe(shut, '/resolve?name=shut')).status, 200, 'its own names are known')
    assert.notEqual(
      (await askProbe(shut, '/resolve?name=example.com')).status,
      200,
      'no other name is looked up',
    )
  })

  driftScenario(() => ({ cloud, client: attacker, server: victim, third, foreign, shut }))
  ownApiScenario(() => ({ cloud, own: victim, neighbour: third, foreign }))
})

/** IPv4 addresses inside every namespace that is not ours but `except`, loopback left out. */
async function uplinksOf(except: string): Promise<string[]> {
  const namespaces = (await run('ip', 'netns', 'list')).split('\n').map((it) => it.split(' ')[0] ?? '')
  const found: string[] = []
  for (const namespace of namespaces.filter((it) => it !== '' && it !== except)) {
    const links = JSON.parse(await run('ip', '-n', namespace, '-j', 'addr')) as { addr_info: Address[] }[]
    for (const at of links.flatMap((it) => it.addr_info)) {
      if (at.family === 'inet' && at.local.startsWith('100.')) found.push(at.local)
    }
  }
  return found
}
