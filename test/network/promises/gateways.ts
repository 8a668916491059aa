// Ways that route tables and gateways decide: NAT gateways, elastic IPs, peerings.
import assert from 'node:assert/strict'
import type { PlannedRoute, PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { peeringLink } from '#drivers/linux/names.ts'
import { HOST, INTERNET, refused, uuid } from '../world.ts'
import { answers, balancerOf, targetOf } from './balancers.ts'
import type { Placed, Scene } from './scene.ts'
import type { Prove } from './suite.ts'

// Of the pool that is not masqueraded, so that the outside sees them.
const NAT = '198.51.100.140'
const ELASTIC = '198.51.100.141'
/** Another address of whoever is out there. */
const ELSEWHERE = '192.0.3.80'
const EVERYWHERE = '0.0.0.0/0'

/** Lets the outside ask for what is on port 80, and nothing else. */
export const WEB_FROM_OUTSIDE: PlannedRule = {
  direction: 'ingress',
  protocol: 'tcp',
  ports: { from: 80, to: 80 },
  peer: { cidr: '203.0.113.0/24' },
}

/** The first VPC with a table for each subnet. */
function routed({ plans, change }: Scene, first: readonly PlannedRoute[], second: readonly PlannedRoute[]) {
  const [one, two] = plans[1].subnets
  assert.ok(one && two)
  const subnets = [
    { ...one, routes: first },
    { ...two, routes: second },
  ]
  return (more: Partial<VpcPlan> = {}): Promise<VpcPlan> => change(1, { subnets, ...more })
}

const gateways: Prove = (scene, check) => {
  const { internet, network, plans, signal } = scene
  const { a1, a2, a3 } = scene.machines
  const nat: PlannedRoute = { cidr: EVERYWHERE, target: { nat: NAT } }
  check('a NAT gateway lets out who has no address of its own, under its own', async () => {
    await routed(scene, [], [nat])()
    assert.deepEqual(await a3.ask(INTERNET, 80), { text: `internet ${NAT}` })
    assert.deepEqual(await a3.ask(INTERNET, 53, { protocol: 'udp' }), { text: `internet ${NAT}` })
    assert.ok(a3.ping(INTERNET))
    // The other subnet has no route, although its machines have addresses.
    await refused(a1.ask(INTERNET, 80), a2.ask(INTERNET, 80))
    assert.deepEqual(await a1.ask(a3.at.address, 80), { text: `a3 ${a1.at.address}` })
    await refused(internet.ask(NAT, 80), internet.ask(NAT, 53, { protocol: 'udp' }))
    assert.deepEqual((await network.observe(plans[1].vpc, signal))?.drift, [])
  })

  check('the more specific route wins, and one to nowhere drops', async () => {
    internet.run('ip', 'addr', 'add', `${ELSEWHERE}/32`, 'dev', 'lo')
    const own: PlannedRoute = { cidr: `${INTERNET}/32`, target: 'internet' }
    await routed(scene, [nat, own], [nat, own])()
    assert.deepEqual(await a1.ask(INTERNET, 80), { text: 'internet 203.0.113.2' })
    assert.deepEqual(await a1.ask(ELSEWHERE, 80), { text: `internet ${NAT}` })
    // It has no address of its own.
    await refused(a3.ask(INTERNET, 80))
    assert.deepEqual(await a3.ask(ELSEWHERE, 80), { text: `internet ${NAT}` })
    await routed(scene, [], [nat, { cidr: '192.0.2.0/24', target: 'blackhole' }])()
    await refused(a3.ask(INTERNET, 80))
    assert.deepEqual(await a3.ask(ELSEWHERE, 80), { text: `internet ${NAT}` })
    internet.run('ip', 'addr', 'del', `${ELSEWHERE}/32`, 'dev', 'lo')
  })

  check('what went by a gateway ends when the route goes', async () => {
    await routed(scene, [nat], [nat])()
    assert.ok((await a3.open('by nat', INTERNET, 80)).text)
    assert.ok((await a1.open('kept', INTERNET, 80)).text)
    await routed(scene, [nat], [])()
    await refused(a3.say('by nat'), a3.ask(INTERNET, 80))
    assert.deepEqual(await a1.say('kept'), { text: 'still there' })
  })
}

const elasticIp: Prove = (scene, check) => {
  const { internet, lan, host } = scene
  const { a1, a2, a3, b1 } = scene.machines
  const given = (it: Placed) => ({ ...it.at, egress: ELASTIC, elastic: ELASTIC })
  const associated = (more: Partial<VpcPlan> = {}): Promise<VpcPlan> =>
    scene.change(1, { vips: [], attachments: [a1.at, given(a2), a3.at], ...more })
  check('it is reached on every port, from everywhere, and is seen as the source', async () => {
    await associated()
    for (const port of [80, 81])
      assert.deepEqual(await internet.ask(ELASTIC, port), { text: 'a2 203.0.113.1' })
    assert.deepEqual(await internet.ask(ELASTIC, 53, { protocol: 'udp' }), { text: 'a2 203.0.113.1' })
    assert.ok(internet.ping(ELASTIC))
    assert.match((await lan.ask(ELASTIC, 80)).text ?? 'none', /^a2 /)
    assert.match((await host.ask(ELASTIC, 80)).text ?? 'none', /^a2 /)
    assert.deepEqual(await b1.ask(ELASTIC, 80), { text: `a2 ${b1.at.egress}` })
    assert.deepEqual(await a3.ask(ELASTIC, 80), { text: `a2 ${a3.at.address}` })
    assert.deepEqual(await a2.ask(ELASTIC, 80), { text: `a2 ${ELASTIC}` })
    assert.deepEqual(await a2.ask(INTERNET, 80), { text: `internet ${ELASTIC}` })
  })

  check('security groups decide what comes by it', async () => {
    const group = uuid(0x911)
    await associated({
      attachments: [a1.at, { ...given(a2), groups: [group] }, a3.at],
      groups: [{ id: group, rules: [WEB_FROM_OUTSIDE] }],
    })
    assert.deepEqual(await internet.ask(ELASTIC, 80), { text: 'a2 203.0.113.1' })
    await refused(internet.ask(ELASTIC, 81), b1.ask(ELASTIC, 80), a2.ask(INTERNET, 80))
    assert.equal(internet.ping(ELASTIC), false)
  })

  check('what was begun by it ends when it moves on, and it leads to the next', async () => {
    await associated()
    assert.ok((await internet.open('in', ELASTIC, 80)).text)
    assert.ok((await a2.open('out', INTERNET, 80)).text)
    assert.ok((await a3.open('inside', a2.at.address, 80)).text)
    await associated({ attachments: [given(a1), a2.at, a3.at] })
    await refused(internet.say('in'), a2.say('out'))
    assert.deepEqual(await internet.ask(ELASTIC, 80), { text: 'a1 203.0.113.1' })
    assert.deepEqual(await a3.say('inside'), { text: 'still there' })
    await associated({ attachments: [a1.at, a2.at, a3.at] })
    await refused(internet.ask(ELASTIC, 80))
  })
}

const PEERING = uuid(0x921)
const THERE = '10.9.1.0/24'

const peering: Prove = (scene, check) => {
  const { network, plans, signal, internet, host, routers } = scene
  const { a1, a3, b1, c1 } = scene.machines
  const base = scene.vpcPlan(4)
  const [subnet] = base.subnets
  assert.ok(subnet)
  const own = { ...subnet, cidr: THERE, gateway: '10.9.1.1' }
  const at = scene.attachment(4, 5, { subnet: own.id, address: '10.9.1.5' })
  const here = plans[1].subnets.map((it) => it.cidr)
  const to = (...ranges: string[]): PlannedRoute[] =>
    ranges.map((range) => ({ cidr: range, target: { peering: PEERING } }))
  let generation = 0
  /** Both sides, the other one first, with these routes each. */
  const peered = async (
    routesThere: readonly PlannedRoute[],
    routesHere: readonly PlannedRoute[],
    accepted = true,
    more: Partial<VpcPlan> = {},
  ): Promise<void> => {
    const link = (vpc: string, ranges: string[]) =>
      accepted ? { peerings: [{ id: PEERING, vpc, ranges }] } : {}
    const subnets = [{ ...own, routes: routesThere }]
    await network.apply(
      {
        ...base,
        internet: false,
        generation: ++generation,
        attachments: [at],
        subnets,
        ...link(plans[1].vpc, here),
      },
      signal,
    )
    await routed(scene, routesHere, routesHere)({ ...link(base.vpc, [THERE]), ...more })
  }
  const drifts = async (): Promise<unknown[]> =>
    await Promise.all(
      [plans[1].vpc, base.vpc].map(async (vpc) => (await network.observe(vpc, signal))?.drift),
    )
  let d1: Placed | undefined
  const other = (): Placed => d1 ?? assert.fail('not attached')

  check('when both sides route to it, each under its own address', async () => {
    await peered(to(...here), to(THERE))
    d1 = { ...(await scene.attach(at, 'd1', [])), at }
    await d1.listen(80)
    await d1.listen(53, { protocol: 'udp' })
    for (const it of [a1, a3]) {
      assert.deepEqual(await it.ask(at.address, 80), { text: `d1 ${it.at.address}` })
      assert.deepEqual(await d1.ask(it.at.address, 80), { text: `${it.name} ${at.address}` })
      assert.deepEqual(await d1.ask(it.at.address, 53, { protocol: 'udp' }), {
        text: `${it.name} ${at.address}`,
      })
    }
    assert.ok(a1.ping(at.address))
    // A workload's address there leads to it as it does inside.
    assert.deepEqual(await d1.ask('10.0.1.102', 80), { text: `a1 ${at.address}` })
    assert.deepEqual(await drifts(), [[], []])
    // So does a load balancer's, as long as both sides route there.
    const balancer = balancerOf(scene)
    await using _ = await scene.balance?.(balancer, [targetOf(a1, 80)])
    await peered(to(...here), to(THERE), true, { balancers: [balancer] })
    await answers(a3, balancer, 'a1')
    await answers(d1, balancer, 'a1')
    assert.ok((await d1.open('balanced', balancer.address, balancer.port)).text)
    assert.deepEqual(await drifts(), [[], []])
    await refused(d1.ask(HOST.resolver, balancer.at), d1.ask(balancer.address, balancer.at))
    await peered(to(...here), [], true, { balancers: [balancer] })
    await refused(d1.say('balanced'), d1.ask(balancer.address, balancer.port))
  })

  check('and nothing else: other VPCs, the outside, the platform, IPv6, a foreign source', async () => {
    await peered(to(EVERYWHERE), to(THERE))
    assert.deepEqual(await other().ask(a1.at.address, 80), { text: `a1 ${at.address}` })
    await refused(b1.ask(at.address, 80), c1.ask(at.address, 80))
    await refused(
      other().ask(INTERNET, 80),
      other().ask(a1.at.fabric, 80),
      other().ask('100.72.0.11', 80),
      other().ask(plans[1].uplink.host, 80),
      other().ask(a1.at.address6, 80),
    )
    await refused(internet.ask(at.address, 80), host.ask(at.address, 80))
    // One of the other VPC's addresses that nobody has there, and one of this one's.
    for (const it of ['10.9.1.99', a3.at.address]) {
      other().run('ip', 'addr', 'add', `${it}/32`, 'dev', 'lo')
      await a1.heard()
      await refused(other().ask(a1.at.address, 53, { protocol: 'udp', from: it }))
      assert.deepEqual(await a1.heard(), [])
      other().run('ip', 'addr', 'del', `${it}/32`, 'dev', 'lo')
    }
  })

  check('not when one side does not route to it, and what passed ends then', async () => {
    await peered(to(...here), to(THERE))
    assert.ok((await a1.open('there', at.address, 80)).text)
    assert.ok((await other().open('here', a1.at.address, 80)).text)
    await peered(to(...here), [])
    await refused(a1.say('there'), other().say('here'))
    await refused(a1.ask(at.address, 80), other().ask(a1.at.address, 80))
    await peered([], to(THERE))
    await refused(a1.ask(at.address, 80), other().ask(a1.at.address, 80))
  })

  check('a link that somebody takes away comes back', async () => {
    await peered(to(...here), to(THERE))
    const namespace = routers?.namespace(base.vpc) ?? ''
    host.run('ip', '-n', namespace, 'link', 'del', peeringLink(PEERING))
    assert.notDeepEqual(await drifts(), [[], []])
    await peered(to(...here), to(THERE))
    assert.deepEqual(await a1.ask(at.address, 80), { text: `d1 ${a1.at.address}` })
    assert.deepEqual(await drifts(), [[], []])
  })

  check('and not when it is gone', async () => {
    assert.ok((await a1.open('last', at.address, 80)).text)
    await peered([], [], false)
    await refused(a1.say('last'), a1.ask(at.address, 80), other().ask(a1.at.address, 80))
    const links = host.run('ip', '-n', routers?.namespace(plans[1].vpc) ?? '', '-o', 'link', 'show')
    assert.ok(!links.includes(peeringLink(PEERING)))
    assert.deepEqual(await drifts(), [[], []])
    await network.remove(base.vpc, signal)
    other().stop()
  })
}

export const GATEWAYS = { gateways, 'elastic-ip': elasticIp, peering } satisfies Partial<
  Record<string, Prove>
>
