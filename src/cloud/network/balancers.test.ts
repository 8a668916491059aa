// Load balancers over a whole cloud with simulated drivers: what the router and the edge are given, and what is told of targets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Verbs } from '#cloud/cloud.ts'
import { patrolled, testCloud } from '#cloud/cloud.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { type LoadBalancer, loadBalancer } from './load-balancer.kind.ts'
import { BALANCER_PORTS } from './network.driver.ts'
import { subnet } from './subnet.kind.ts'

const SEEN_MS = 5000

async function balancedCloud() {
  const it = await testCloud()
  const { caller } = await it.tenant('acme')
  const act = <R>(work: (verbs: Verbs) => Promise<R>): Promise<R> => it.cloud.act(caller, 'test', work)
  const vpc = await act((verbs) => verbs.createVpc({ name: 'prod', internet: true }))
  const within = await act((verbs) =>
    verbs.createSubnet({ vpc: vpc.id, name: 'web', cidr: '10.1.1.0/24', gateway: '10.1.1.1' }),
  )
  const machine = async (name: string, of = vpc.id) => {
    const { id } = await act((verbs) => verbs.launchInstance({ vpc: of, name, image: 'nginx' }))
    const [slot] = await it.cloud.all(caller, replica, { terms: [`workload:${id}`] })
    assert.ok(slot)
    return { id, slot: slot.id, fabric: slot.spec.fabric }
  }
  const make = (more: Partial<Parameters<Verbs['createBalancer']>[0]> = {}): Promise<LoadBalancer> =>
    act((verbs) =>
      verbs.createBalancer({ vpc: vpc.id, name: 'front', port: 80, algorithm: 'round-robin', ...more }),
    )
  const now = async (id: string): Promise<LoadBalancer> => await it.cloud.get(caller, loadBalancer, id)
  return {
    ...it,
    caller,
    act,
    vpc,
    within,
    machine,
    make,
    now,
    /** Waits until its targets are told as healthy or not. */
    async told(id: string, expected: readonly boolean[]): Promise<void> {
      await patrolled(it, async () => {
        const healthy = Object.values((await now(id)).status.healthy)
        return JSON.stringify(healthy) === JSON.stringify(expected)
      })
    },
    route: (id: string) => it.front.fronts.get(vpc.id)?.routes.find((one) => one.id === id),
    [Symbol.asyncDispose]: it[Symbol.asyncDispose],
  }
}

test('a load balancer goes to the router and the edge, with those of its targets that run', async () => {
  await using it = await balancedCloud()
  const { act, vpc, within, machine, make } = it
  const [one, two] = [await machine('one'), await machine('two')]
  const lb = await make({ algorithm: 'least-conn' })
  await act((verbs) => verbs.addTarget(lb.id, { workload: one.id, port: 8080, weight: 3 }))
  await act((verbs) => verbs.addTarget(lb.id, { workload: two.id, port: 80, weight: 1 }))
  await it.settle(SEEN_MS)
  const { spec, status } = await it.now(lb.id)
  assert.equal(status.state, 'active')
  assert.match(spec.address ?? '', /^10\.1\.1\./)
  assert.deepEqual(it.network.plans.get(vpc.id)?.balancers, [
    { id: lb.id, subnet: within.id, address: spec.address, port: 80, at: BALANCER_PORTS.from },
  ])
  const { carry, port, least, origins } = it.route(lb.id) ?? {}
  assert.deepEqual([carry, port, least], ['tcp', BALANCER_PORTS.from, true])
  assert.deepEqual(origins, [
    { id: one.slot, address: one.fabric, port: 8080, weight: 3 },
    { id: two.slot, address: two.fabric, port: 80, weight: 1 },
  ])
  const audit = async () =>
    (await it.cloud.mend(it.admin, AbortSignal.timeout(SEEN_MS))).map((one) => `${one.what} ${one.thing}`)
  assert.deepEqual(await audit(), [])
  await it.front.remove(vpc.id, AbortSignal.timeout(SEEN_MS))
  assert.deepEqual(await audit(), ['missing front'])
  await it.settle(SEEN_MS)
  assert.deepEqual(await audit(), [])
  assert.equal(it.route(lb.id)?.origins.length, 2, 'the edge has it again')
  await it.told(lb.id, [true, true])
  it.front.down.add(two.slot)
  await it.told(lb.id, [true, false])
  it.front.down.clear()
  await act((verbs) => verbs.stopInstance(one.id))
  await it.told(lb.id, [false, true])
  assert.deepEqual(
    it.route(lb.id)?.origins.map((origin) => origin.id),
    [two.slot],
  )
  await act((verbs) => verbs.removeTarget(lb.id, two.id))
  await it.settle(SEEN_MS)
  assert.deepEqual(it.route(lb.id)?.origins, [])
  await act((verbs) => verbs.deleteWorkload(one.id))
  await it.settle(SEEN_MS)
  assert.deepEqual((await it.now(lb.id)).spec.targets, [], 'who is terminated is no target')
  await act((verbs) => verbs.remove(loadBalancer, lb.id))
  await it.settle(SEEN_MS)
  assert.deepEqual(await it.cloud.all(it.caller, loadBalancer), [])
  assert.equal(it.route(lb.id), undefined)
  assert.equal(it.network.plans.get(vpc.id)?.balancers, undefined)
})

test('one of a VPC without a subnet has its address with its first target', async () => {
  await using it = await balancedCloud()
  const bare = await it.act((verbs) => verbs.createVpc({ name: 'bare', internet: false }))
  const lb = await it.make({ vpc: bare.id })
  await it.settle(SEEN_MS)
  assert.deepEqual([(await it.now(lb.id)).status.state, lb.spec.address], ['active', undefined])
  const place = { vpc: bare.id, name: 'late', cidr: '10.2.0.0/24' }
  const { id } = await it.act((verbs) => verbs.createSubnet(place))
  const { id: target } = await it.machine('late', bare.id)
  await it.act((verbs) => verbs.addTarget(lb.id, { workload: target, port: 80, weight: 1 }))
  await it.settle(SEEN_MS)
  const { spec } = await it.now(lb.id)
  assert.equal(spec.subnet, id)
  assert.equal(it.network.plans.get(bare.id)?.balancers?.[0]?.address, spec.address)
  await assert.rejects(
    it.act((verbs) => verbs.remove(subnet, id)),
    { code: 'conflict' },
    'its subnet stays',
  )
})

test('what cannot be a target is refused, and a VPC waits for its load balancers', async () => {
  await using it = await balancedCloud()
  const { act, machine, make, vpc } = it
  const elsewhere = await act((verbs) => verbs.createVpc({ name: 'other', internet: false }))
  await act((verbs) => verbs.createSubnet({ vpc: elsewhere.id, name: 'web', cidr: '10.3.0.0/24' }))
  const [one, foreign] = [await machine('one'), await machine('foreign', elsewhere.id)]
  const lb = await make()
  const add = (workload: string) => act((verbs) => verbs.addTarget(lb.id, { workload, port: 80, weight: 1 }))
  await assert.rejects(add(foreign.id), {
    code: 'invalid',
    details: { field: 'workload', rule: 'other_vpc' },
  })
  await assert.rejects(add(vpc.id), { code: 'not_found', details: { rule: 'no_target' } })
  await add(one.id)
  await assert.rejects(add(one.id), { code: 'already_exists' })
  await assert.rejects(
    act((verbs) => verbs.removeTarget(lb.id, foreign.id)),
    { code: 'not_found' },
  )
  const hold = ['load-balancer']
  await assert.rejects(
    act((verbs) => verbs.deleteVpc(vpc.id, { hold })),
    { code: 'conflict', message: /load-balancer front/ },
  )
  const second = await make({ name: 'second' })
  assert.notEqual(second.spec.at, lb.spec.at)
  assert.notEqual(second.spec.address, lb.spec.address)
  await act((verbs) => verbs.deleteVpc(vpc.id))
  await it.settle(SEEN_MS)
  assert.deepEqual(await it.cloud.all(it.caller, loadBalancer), [], 'it takes them along')
})

test('a tenant goes with its load balancers', async () => {
  await using it = await balancedCloud()
  const { act, machine, make, caller } = it
  const { id } = await machine('one')
  const lb = await make()
  await act((verbs) => verbs.addTarget(lb.id, { workload: id, port: 80, weight: 1 }))
  await it.settle(SEEN_MS)
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.deleteTenant(caller.tenant))
  await it.settle(60_000)
  assert.deepEqual([...it.front.fronts.keys(), ...it.network.plans.keys()], [])
  assert.equal(await it.engine.store.get(lb.id), undefined)
})

test('its targets are a list to the native API', async () => {
  await using it = await balancedCloud()
  const { act, machine, vpc } = it
  const [one, two] = [await machine('one'), await machine('two')]
  const target = (workload: string, more: object = {}) => ({ workload, port: 80, ...more })
  const made = (await act((verbs) =>
    verbs.create(loadBalancer as never, {
      name: 'front',
      spec: { vpc: vpc.id, port: 80, targets: [target(one.id)] },
    }),
  )) as LoadBalancer
  assert.deepEqual(
    made.spec.targets.map((it) => [it.workload, it.port, it.weight]),
    [[one.id, 80, 1]],
  )
  const [kept] = made.spec.targets
  const changed = (await act((verbs) =>
    verbs.patch(loadBalancer as never, made.id, {
      spec: { algorithm: 'least-conn', targets: [target(one.id), target(two.id, { weight: 2 })] },
    }),
  )) as LoadBalancer
  assert.equal(changed.spec.algorithm, 'least-conn')
  assert.deepEqual(changed.spec.targets[0], kept, 'the same one')
  assert.deepEqual(
    changed.spec.targets.map((it) => it.workload),
    [one.id, two.id],
  )
  for (const spec of [{ port: 81 }, { address: '10.1.1.9' }, { targets: [target('nobody')] }, { targets: 5 }])
    await assert.rejects(
      act((verbs) => verbs.patch(loadBalancer as never, made.id, { spec })),
      JSON.stringify(spec),
    )
})
