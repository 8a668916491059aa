// Load balancers: addresses behind which the edge balances.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Origin } from '#cloud/edge/front.driver.ts'
import type { PlannedBalancer, PlannedRule } from '#cloud/network/network.driver.ts'
import { HOST, type Machine, refused, uuid } from '../world.ts'
import type { Placed, Scene } from './scene.ts'
import type { Prove } from './suite.ts'

const GROUP = uuid(0x921)
const SEEN_MS = 3000
const AT = 20_001

/** A load balancer in the first subnet of the first VPC. */
export const balancerOf = ({ plans }: Scene): PlannedBalancer => ({
  id: uuid(0x920),
  subnet: plans[1].subnets[0]?.id ?? '',
  address: '10.0.1.110',
  port: 8080,
  at: AT,
})

/** Who answers at a load balancer, by the name of the machine. */
const answering = async (by: Machine, it: PlannedBalancer): Promise<string> =>
  (await by.ask(it.address, it.port)).text?.slice(0, 2) ?? 'nobody'

/** Waits for a machine to answer there. */
export async function answers(by: Machine, it: PlannedBalancer, name: string): Promise<void> {
  const end = performance.now() + SEEN_MS
  while ((await answering(by, it)) !== name) {
    assert.ok(performance.now() < end, `${name} did not answer in time`)
    await sleep(20)
  }
}

export const targetOf = ({ at }: Placed, port: number, weight = 1): Origin => ({
  id: at.id,
  address: at.fabric,
  port,
  weight,
})

const balancers: Prove = (scene, check) => {
  const { balance = () => assert.fail('nobody balances') } = scene
  const { a1, a2, a3, b2 } = scene.machines
  const it = balancerOf(scene)
  const there = { balancers: [it] }
  const shares = async (times: number): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {}
    for (let time = 0; time < times; time++) {
      const name = await answering(a3, it)
      counts[name] = (counts[name] ?? 0) + 1
    }
    return counts
  }
  const until = async (name: string): Promise<void> => await answers(a3, it, name)

  check('by weight, each target at a port of its own', async () => {
    await scene.change(1, there)
    await using _ = await balance(it, [targetOf(a1, 80, 3), targetOf(a2, 81)])
    await until('a2')
    assert.deepEqual(await shares(8), { a1: 6, a2: 2 })
    assert.deepEqual(await a3.ask(it.address, 80), { error: 'ECONNREFUSED' })
    assert.ok(a3.ping(it.address))
    assert.deepEqual((await scene.network.observe(scene.plans[1].vpc, scene.signal))?.drift, [])
  })
  check('for nobody else, and the edge’s own port for nobody', async () => {
    await scene.change(1, there)
    await using _ = await balance(it, [targetOf(a1, 80)])
    await until('a1')
    await refused(
      b2.ask(it.address, it.port),
      b2.ask(HOST.resolver, it.at),
      a3.ask(HOST.resolver, it.at),
      scene.lan.ask(HOST.resolver, it.at),
      scene.internet.ask(HOST.resolver, it.at),
    )
  })
  check('only to those that can be connected to, and to none that was taken away', async () => {
    await scene.change(1, there)
    await using at = await balance(it, [targetOf(a1, 80), targetOf(a2, 82)])
    await until('a1')
    assert.deepEqual(await shares(6), { a1: 6 })
    await at.change([targetOf(a2, 80)])
    assert.deepEqual(await shares(4), { a2: 4 })
    await at.change([targetOf(a2, 82)])
    await until('nobody')
  })
  check('to the one with the fewest connections, where that is asked for', async () => {
    await scene.change(1, there)
    await using _ = await balance(it, [targetOf(a1, 80), targetOf(a2, 80)], true)
    await until('a1')
    const held = (await a3.open('held', it.address, it.port)).text?.slice(0, 2)
    for (let time = 0; time < 4; time++) {
      // The one before has ended for the edge too.
      await sleep(50)
      assert.equal(await answering(a3, it), held === 'a1' ? 'a2' : 'a1')
    }
  })
  check('for whom the security groups of the caller let', async () => {
    await using _ = await balance(it, [targetOf(a1, 80)])
    const member = async (...rules: Partial<PlannedRule>[]): Promise<void> => {
      const attachments = [a1.at, a2.at, { ...a3.at, groups: [GROUP] }]
      const all = rules.map(
        (rule) => ({ direction: 'egress', protocol: 'tcp', peer: 'any', ...rule }) as const,
      )
      await scene.change(1, { ...there, attachments, groups: [{ id: GROUP, rules: all }] })
    }
    await member({})
    await until('a1')
    assert.ok((await a3.open('let', it.address, it.port)).text)
    await member({ ports: { from: it.at, to: it.at } }, { peer: { cidr: `${HOST.resolver}/32` } })
    await refused(a3.ask(it.address, it.port), a3.say('let'))
    await member({ peer: { cidr: '10.0.1.0/24' }, ports: { from: it.port, to: it.port } })
    assert.equal(await answering(a3, it), 'a1')
    assert.equal(await answering(a2, it), 'a1', 'who is in no group')
  })
  check('to whom the security groups of the target let it, at once', async () => {
    await using _ = await balance(it, [targetOf(a1, 80)])
    const target = async (...rules: Partial<PlannedRule>[]): Promise<void> => {
      const attachments = [{ ...a1.at, groups: [GROUP] }, a2.at, a3.at]
      const all = rules.map(
        (rule) => ({ direction: 'ingress', protocol: 'tcp', peer: 'any', ...rule }) as const,
      )
      await scene.change(1, { ...there, attachments, groups: [{ id: GROUP, rules: all }] })
    }
    await target({ peer: { cidr: '10.0.1.0/24' }, ports: { from: 80, to: 80 } })
    await until('a1')
    assert.ok((await a3.open('kept', it.address, it.port)).text)
    for (const rule of [
      { ports: { from: 81, to: 89 } },
      { peer: { cidr: `${a3.at.address}/32` } },
      { peer: { cidr: `${HOST.resolver}/32` } },
      { peer: { group: GROUP } },
      { protocol: 'udp' },
    ] as const) {
      await target(rule)
      await refused(a3.say('kept'), a3.ask(it.address, it.port))
    }
    await target({})
    await until('a1')
    await target()
    await until('nobody')
    // What is in no group is let.
    await scene.change(1, there)
    await until('a1')
  })
  check('and not when it is gone', async () => {
    await using _ = await balance(it, [targetOf(a1, 80)])
    await scene.change(1, there)
    await until('a1')
    assert.ok((await a3.open('last', it.address, it.port)).text)
    await scene.change(1, {})
    await refused(a3.say('last'), a3.ask(it.address, it.port))
  })
}

export const BALANCERS = { balancers } satisfies Partial<Record<string, Prove>>
