import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { AnyKind } from '#engine/resource.ts'
import { createPicker } from '#engine/pick.ts'
import type { Caller } from './access.ts'
import { patrolled, PROVIDER, testCloud, type TestCloud, testOrigin } from './cloud.testing.ts'
import { createReplica } from './compute/compute.verbs.ts'
import { replica } from './compute/replica.kind.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import { DEFAULT_SETTINGS, quotaPool } from './context.ts'
import { tenant } from './identity/tenant.kind.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { subnet } from './network/subnet.kind.ts'
import { vpc, type Vpc } from './network/vpc.kind.ts'
import type { Verbs } from './verbs.ts'

type Net = { vpc: Vpc; subnet: string; caller: Caller }

async function network(
  it: TestCloud,
  caller: Caller,
  name = 'production',
  range = '10.100.1.0/24',
): Promise<Net> {
  return await it.cloud.act(caller, 'test', async (verbs) => {
    const made = await verbs.createVpc({ name, internet: true })
    const gateway = range.replace(/0\/\d+$/, '1')
    const within = await verbs.createSubnet({ vpc: made.id, name: 'web', cidr: range, gateway })
    return { vpc: made, subnet: within.id, caller }
  })
}

type Extra = Partial<Workload['spec']> & { inbound?: boolean }
async function pod(
  it: TestCloud,
  net: Net,
  name: string,
  { inbound, ...spec }: Extra = {},
): Promise<Workload> {
  return await it.cloud.act(
    net.caller,
    'test',
    async (verbs) =>
      await verbs.createWorkload({
        vpc: net.vpc.id,
        subnet: net.subnet,
        name,
        spec: { image: 'nginx:latest', ...spec },
        ...(inbound ? { inbound } : {}),
      }),
  )
}

const now = async (it: TestCloud, caller: Caller, made: Workload): Promise<Workload> =>
  await it.cloud.get(caller, workload, made.id)
const refused = (code: string, rule?: string) => (error: unknown) =>
  isCloudError(error) && error.code === code && (rule === undefined || error.details.rule === rule)

test('a pod gets its VIP and addresses at once and runs, and nothing is left after its VPC is deleted', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { replicas: 2 })
  assert.equal(made.status.replicas.length, 2)
  assert.equal(new Set([made.spec.vip, ...made.status.replicas.map((one) => one.address)]).size, 3)
  await it.settle()
  const running = await now(it, caller, made)
  assert.equal(running.status.state, 'running')
  assert.equal(running.status.ready, 2)
  assert.equal(running.observed, running.generation)
  const plan = it.network.plans.get(net.vpc.id)
  assert.equal(plan?.vips[0]?.backends.length, 2)
  assert.deepEqual(it.edge.zones.get(net.vpc.id)?.names['web.production.internal']?.a, [made.spec.vip])
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteVpc(net.vpc.id))
  await it.settle()
  for (const kind of [vpc, subnet, workload, replica] as AnyKind[])
    assert.equal((await it.cloud.list(caller, kind)).total, 0, kind.name)
  assert.equal(it.network.plans.size, 0)
  assert.equal(it.edge.zones.size, 0)
  assert.deepEqual(await it.cloud.leaks(it.admin, AbortSignal.timeout(1000)), [])
  assert.deepEqual(await it.engine.store.claims(`addresses:${net.subnet}`), [])
})

test('two tenants use the same range and never see each other', async () => {
  await using it = await testCloud()
  const a = await it.tenant('a')
  const b = await it.tenant('b')
  const netA = await network(it, a.caller)
  const netB = await network(it, b.caller)
  const podA = await pod(it, netA, 'web')
  const podB = await pod(it, netB, 'web')
  assert.equal(podA.spec.vip, podB.spec.vip)
  await assert.rejects(it.cloud.get(b.caller, workload, podA.id), refused('not_found'))
  await assert.rejects(
    it.cloud.act(b.caller, 'test', async (verbs) => await verbs.deleteWorkload(podA.id)),
    refused('not_found'),
  )
  await assert.rejects(pod(it, { ...netA, caller: b.caller }, 'sneak'), refused('not_found'))
  assert.equal((await it.cloud.list(b.caller, workload)).total, 1)
})

test('a pod takes no security group of another VPC, which would keep that from being deleted', async () => {
  await using it = await testCloud()
  const [a, b] = [await it.tenant('a'), await it.tenant('b')]
  const [netA, second] = [await network(it, a.caller), await network(it, a.caller, 'second', '10.100.2.0/24')]
  const netB = await network(it, b.caller)
  const groupIn = async (net: Net): Promise<string> =>
    await it.cloud.act(net.caller, 'test', async (verbs) => {
      const spec = { vpc: net.vpc.id, rules: [] }
      return (await verbs.create(securityGroup as unknown as AnyKind, { name: 'web', spec })).id
    })
  const made = await pod(it, netA, 'web')
  const take = async (group: string): Promise<unknown> =>
    await it.cloud.act(a.caller, 'test', async (verbs) => {
      const change = { spec: { securityGroups: [group] } }
      return await verbs.patch(workload as unknown as AnyKind, made.id, change)
    })
  await take(await groupIn(netA))
  await assert.rejects(take(await groupIn(second)), refused('invalid'))
  const foreign = await groupIn(netB)
  await assert.rejects(take(foreign), refused('invalid'))
  await it.cloud.act(b.caller, 'test', async (verbs) => await verbs.deleteVpc(netB.vpc.id))
})

test('a clashing name, an overlapping subnet and a full quota are refused and change nothing', async () => {
  await using it = await testCloud({
    settings: {
      quotas: {
        vpcs: 1,
        subnets: 5,
        workloads: 5,
        replicas: 2,
        cpuMillicores: 10_000,
        memoryMib: 10_000,
        externalAddresses: 1,
        publishedPorts: 1,
      },
    },
  })
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  await assert.rejects(network(it, caller), refused('already_exists'))
  await assert.rejects(network(it, caller, 'second'), refused('exhausted'))
  const overlap = async (range: string): Promise<unknown> =>
    await it.cloud.act(
      caller,
      'test',
      async (verbs) =>
        await verbs.createSubnet({
          vpc: net.vpc.id,
          name: 'other',
          cidr: range,
          gateway: range.replace(/\d+\/\d+$/, '129'),
        }),
    )
  await assert.rejects(overlap('10.100.1.128/25'), refused('conflict', 'in_use'))
  await assert.rejects(pod(it, net, 'big', { replicas: 3 }), refused('exhausted'))
  assert.equal((await it.cloud.list(caller, workload)).total, 0)
  await pod(it, net, 'web', { replicas: 2 })
  await assert.rejects(pod(it, net, 'web'), refused('already_exists'))
})

test('healing brings a dead replica back; without it the pod stops until it is restarted', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const healing = await pod(it, net, 'healing', { healing: true })
  const plain = await pod(it, net, 'plain')
  await it.settle()
  for (const one of [healing, plain]) {
    it.compute.exit(one.status.replicas[0]?.id ?? '', 1)
    await it.engine.wake(`replica/${one.status.replicas[0]?.id}`)
  }
  await it.settle()
  const back = await now(it, caller, healing)
  assert.equal(back.status.state, 'running')
  assert.equal(back.status.replicas[0]?.restarts, 1)
  const stopped = await now(it, caller, plain)
  assert.equal(stopped.status.state, 'stopped')
  await assert.rejects(
    it.cloud.act(caller, 'test', async (verbs) => await verbs.configureWorkload(plain.id, { healing: true })),
    refused('conflict', 'wrong_state'),
  )
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.restartWorkload(plain.id))
  await it.settle()
  const again = await now(it, caller, plain)
  assert.equal(again.status.state, 'running')
  assert.deepEqual(
    again.status.replicas.map((one) => one.address),
    plain.status.replicas.map((one) => one.address),
  )
})

test('replicas are added and removed one by one within their limits', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { replicas: 2 })
  await it.settle()
  const scale = async (by: 1 | -1): Promise<Workload> =>
    await it.cloud.act(caller, 'test', async (verbs) => await verbs.scaleWorkload(made.id, by, 10))
  assert.equal((await scale(1)).spec.replicas, 3)
  await it.settle()
  assert.equal((await now(it, caller, made)).status.ready, 3)
  await scale(-1)
  await scale(-1)
  await assert.rejects(scale(-1), refused('conflict'))
  await it.settle()
  const small = await now(it, caller, made)
  assert.deepEqual(
    small.status.replicas.map((one) => one.id),
    [made.status.replicas[0]?.id],
  )
  assert.equal((await it.cloud.list(caller, replica)).total, 1)
})

test('a slot that is filled between a look and the commit is no refusal', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { replicas: 1 })
  await it.settle()
  const picker = createPicker()
  // Another address than the verb picks, as in one process where both have one picker: nothing but the slot is taken.
  const address: typeof picker.address = async (...from) => {
    await picker.address(...from)
    return await picker.address(...from)
  }
  const kit = { settings: DEFAULT_SETTINGS, pick: { ...picker, address } }
  let raced = false
  const scaled = await it.cloud.act(caller, 'test', async (verbs) => {
    const wanted = await verbs.scaleWorkload(made.id, 1, 10)
    // As the reconciler does that finds a replica missing.
    if (!raced) await it.engine.transact(async (draft) => await createReplica({ draft, ...kit }, made, 1))
    raced = true
    return wanted
  })
  assert.equal(scaled.spec.replicas, 2)
  await it.settle()
  assert.equal((await now(it, caller, made)).status.ready, 2)
  assert.equal((await it.cloud.list(caller, replica)).total, 2)
})

test('a change reaches replicas that live, beside one that is scaled away meanwhile', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { replicas: 2 })
  await it.settle()
  let raced = false
  const restarted = await it.cloud.act(caller, 'test', async (verbs) => {
    const wanted = await verbs.restartWorkload(made.id)
    const last = (await it.cloud.all(caller, replica)).at(-1)
    if (!raced && last) await it.engine.transact(async (draft) => await Promise.resolve(draft.mark(last)))
    raced = true
    return wanted
  })
  assert.equal(restarted.spec.attempt, 2)
  await it.settle()
  assert.equal((await now(it, caller, made)).status.ready, 2)
})

test('a loaded workload scales up within its bounds and follows Circloud’s rules when switched off', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', {
    autoscaling: { enabled: true, min: 2, max: 4, cpuTargetMillicores: 200 },
  })
  assert.equal(made.spec.replicas, 2)
  assert.equal(made.spec.healing, true)
  await it.settle()
  const load = async (): Promise<void> => {
    for (const one of (await it.cloud.list(caller, replica)).items) it.compute.load(one.id, 900)
  }
  for (let round = 0; round < 6; round++) {
    await load()
    await it.settle(16_000)
  }
  assert.equal((await now(it, caller, made)).status.desired, 4)
  const off = await it.cloud.act(
    caller,
    'test',
    async (verbs) => await verbs.configureWorkload(made.id, { healing: false }),
  )
  assert.deepEqual([off.spec.autoscaling.enabled, off.spec.healing, off.spec.replicas], [false, false, 4])
  assert.equal(off.spec.vip, made.spec.vip)
})

test('the first container of a slot is begun beside its router, and counts once that is made; a later one waits', async () => {
  let fails = true
  await using it = await testCloud({
    fault(verb) {
      if (fails && verb === 'network.apply') throw new Error('injected')
    },
  })
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web')
  const [slot] = made.status.replicas
  assert.ok(slot)
  await it.settle(3000)
  assert.equal(it.compute.wishes.get(slot.id)?.attempt, 1)
  assert.equal((await now(it, caller, made)).status.state, 'pending')
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.restartWorkload(made.id))
  await it.settle(3000)
  assert.equal(it.compute.wishes.get(slot.id)?.attempt, 1)
  fails = false
  await it.settle(60_000)
  assert.equal(it.compute.wishes.get(slot.id)?.attempt, 2)
  assert.equal((await now(it, caller, made)).status.state, 'running')
})

test('a container that somebody removed is told of once, also when its end was seen first', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const made = await pod(it, await network(it, caller), 'web', { replicas: 1 })
  await it.settle()
  const slot = (await now(it, caller, made)).status.replicas[0] ?? assert.fail()
  const runs = it.compute.observe(slot.id, AbortSignal.timeout(1000))
  const { runtimeId = '' } = (await runs) ?? assert.fail()
  const views = [
    { state: 'waiting', ready: false, runtimeId },
    { state: 'starting', ready: false, runtimeId: 'another' },
    { state: 'running', ready: true, runtimeId: 'another', restarts: 1 },
  ] as const
  for (const view of views) {
    it.compute.pretend(slot.id, view)
    await it.engine.wake(`replica/${slot.id}`)
    await it.settle(100)
  }
  const { records } = await it.engine.store.records({ stream: 'event', tenant: made.tenant, limit: 100 })
  const told = records.filter((one) => one.subject === slot.id).map((one) => one.what)
  assert.deepEqual(told.toSorted(), ['replica.drifted', 'replica.restarted'])
})

test('what cannot be pulled ends in error and says why', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { image: 'missing:latest' })
  await it.settle()
  const failed = await now(it, caller, made)
  assert.equal(failed.status.state, 'error')
  assert.match(failed.status.message ?? '', /no such image/)
})

test('every driver verb that fails once is tried again', async () => {
  const failed = new Set<string>()
  await using it = await testCloud({
    fault(verb) {
      // Samples are taken by a patrol, which a settling test has none of.
      if (failed.has(verb) || verb === 'compute.samples') return
      failed.add(verb)
      throw new Error(`injected: ${verb}`)
    },
  })
  const { caller } = await it.tenant('acme')
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { replicas: 2, persistence: { enabled: true, path: '/data' } })
  await it.settle(120_000)
  assert.equal((await now(it, caller, made)).status.state, 'running')
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteVpc(net.vpc.id))
  await it.settle(120_000)
  assert.equal((await it.cloud.list(caller, vpc)).total, 0)
  for (const verb of [
    'network.apply',
    'network.remove',
    'edge.apply',
    'edge.remove',
    'compute.apply',
    'compute.observe',
    'compute.remove',
    'compute.removeVolume',
  ])
    assert.ok(failed.has(verb), `${verb} was never called`)
})

test('an external address comes from the configured pool, which cannot be taken away under it', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const config = { ...PROVIDER, nameservers: ['1.1.1.1'], ndots: 2 }
  const put = async (change = {}): Promise<unknown> =>
    await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.putProvider({ ...config, ...change }))
  await put()
  const net = await network(it, caller)
  const made = await pod(it, net, 'web', { egress: true, inbound: true })
  assert.match(made.spec.externalAddress ?? '', /^203\.0\.113\./)
  assert.notEqual(made.spec.externalAddress, '203.0.113.1')
  await assert.rejects(
    put({ externalCidr: '198.51.100.0/24', externalGateway: '198.51.100.1' }),
    refused('conflict', 'in_use'),
  )
  await it.settle()
  assert.equal(it.network.host()?.external[1]?.cidr, '203.0.113.0/24')
  assert.equal(it.network.plans.get(net.vpc.id)?.attachments[0]?.egress, made.spec.externalAddress)
  assert.deepEqual(it.edge.zones.get(net.vpc.id)?.nameservers, ['1.1.1.1'])
})

test('a deleted tenant takes everything along and its token opens nothing', async () => {
  await using it = await testCloud()
  const { id, token, caller } = await it.tenant('acme')
  const net = await network(it, caller)
  await pod(it, net, 'web')
  await it.settle()
  await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.deleteTenant(id))
  assert.equal(await it.cloud.authenticate(token, caller.origin), undefined)
  await it.settle()
  assert.equal(it.network.plans.size, 0)
  assert.equal((await it.cloud.list(it.admin, workload)).total, 0)
  assert.equal(await it.engine.store.get(id), undefined)
})

test('logins are counted: after ten wrong ones even the right password waits', async () => {
  await using it = await testCloud()
  const { username, password } = it.credentials
  const origin = { dialect: 'test', address: '127.0.0.1', requestId: 'r' }
  const { token } = await it.cloud.login({ username, password }, origin)
  assert.equal((await it.cloud.authenticate(token, origin))?.scope, 'admin')
  for (let count = 0; count < 10; count++)
    await assert.rejects(it.cloud.login({ username, password: 'wrong' }, origin), refused('unauthenticated'))
  await assert.rejects(it.cloud.login({ username, password }, origin), refused('rate_limited'))
  await it.cloud.login({ username, password }, { ...origin, address: '127.0.0.2' })
})

test('a replica that is made while its workload is resized counts at the new size', async () => {
  await using it = await testCloud()
  const { caller, id } = await it.tenant('acme')
  const made = await pod(it, await network(it, caller), 'web', { cpuMillicores: 100 })
  await it.settle()
  const change = async (spec: object, meanwhile = async (): Promise<void> => {}) =>
    await it.cloud.act(caller, 'test', async (verbs) => {
      await verbs.patch(workload as unknown as AnyKind, made.id, { spec })
      await meanwhile()
    })
  await change({ replicas: 2 })
  let isFirst = true
  await change({ cpuMillicores: 400 }, async () => {
    if (isFirst) await it.settle()
    isFirst = false
  })
  await it.settle()
  assert.equal((await now(it, caller, made)).status.ready, 2)
  assert.equal((await it.engine.store.pool(quotaPool(id, 'cpuMillicores'))).used, 800)
})

test('guesses that come at once are counted like those that come one by one', async () => {
  await using it = await testCloud()
  const { username } = it.credentials
  const origin = { dialect: 'test', address: '127.0.0.1', requestId: 'r' }
  const guesses = Array.from({ length: 15 }, async (_, n) => {
    const error: unknown = await it.cloud
      .login({ username, password: `guess ${n}` }, origin)
      .catch((reason: unknown) => reason)
    return isCloudError(error) ? error.code : 'let in'
  })
  const looked = (await Promise.all(guesses)).filter((code) => code === 'unauthenticated')
  assert.equal(looked.length, 10)
})

test('keys and tenants that are asked for at once are no more than those that are one by one', async () => {
  await using it = await testCloud()
  const ann = { email: 'ann@example.com', password: 'correct horse' }
  const { user } = await it.cloud.accounts.register({ ...ann, name: 'Ann' }, testOrigin)
  const { key } = await it.cloud.accounts.login(ann, testOrigin)
  const caller = (await it.cloud.authenticate(key, testOrigin)) ?? assert.fail()
  const atOnce = async (work: (verbs: Verbs, n: number) => Promise<unknown>): Promise<number> => {
    const all = Array.from({ length: 110 }, (_, n) => it.cloud.act(caller, 'test', (verbs) => work(verbs, n)))
    return (await Promise.allSettled(all)).filter((one) => one.status === 'fulfilled').length
  }
  assert.equal(await atOnce((verbs, n) => verbs.createKey(`key ${n}`)), 100)
  // She has one already.
  assert.equal(await atOnce((verbs, n) => verbs.createOwnTenant({ title: 'T', slug: `slug-${n}` })), 99)
  assert.equal((await it.cloud.ownTenants({ ...caller, subject: user.id })).length, 100)
})

test('a viewer looks and changes nothing; a tenant does not touch the installation', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const viewer: Caller = { ...caller, role: 'viewer' }
  assert.equal((await it.cloud.list(viewer, vpc)).total, 0)
  await assert.rejects(network(it, viewer), refused('forbidden'))
  const another = it.cloud.act(
    caller,
    'test',
    async (verbs) => await verbs.createTenant({ name: 'y', description: null }),
  )
  await assert.rejects(another, refused('forbidden'))
  await assert.rejects(it.cloud.leaks(caller, AbortSignal.timeout(1000)), refused('forbidden'))
})

test('nobody is told of commits for a watch that ended', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const { store } = it.engine
  const { onChange } = store
  let told = 0
  store.onChange = (wake) => {
    const stop = onChange(wake)
    told++
    return () => {
      told--
      stop()
    }
  }
  const watch = (after: string) => it.cloud.watch(caller, { after }, AbortSignal.timeout(10_000))
  const { cursor } = await it.cloud.list(caller, vpc)
  await assert.rejects(
    watch(String(Number(cursor) + 1000))
      [Symbol.asyncIterator]()
      .next(),
    refused('gone'),
  )
  await network(it, caller)
  for await (const change of watch(cursor)) if (change.what === 'created') break
  assert.equal(told, 0)
})

test('what was recorded long enough ago goes within one pass, however much it is', async () => {
  await using it = await testCloud()
  const { store } = it.engine
  const at = it.clock.now() - 31 * 86_400_000
  const record = { stream: 'event', tenant: 'acme', at, what: 'test', body: null } as const
  await store.commit(Array.from({ length: 12_345 }, () => ({ do: 'record', record })))
  const left = async () => (await store.records({ stream: 'event', tenant: 'acme', limit: 1 })).records.length
  assert.equal(await left(), 1)
  await patrolled(it, async () => (await left()) === 0)
})

test('what replicas use is kept a sample a minute, for their tenant alone', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const stranger = await it.tenant('other')
  const made = await pod(it, await network(it, caller), 'web')
  await it.settle()
  const id = made.status.replicas[0]?.id ?? ''
  const stop = new AbortController()
  const running = it.cloud.run(stop.signal)
  for (let minute = 0; minute < 3; minute++) {
    for (let round = 0; round < 13; round++) await it.clock.advance(5000)
    const waited = AbortSignal.timeout(5000)
    while ((await it.cloud.history(caller, id, {})).length <= minute) waited.throwIfAborted()
  }
  stop.abort()
  await running
  const kept = await it.cloud.history(caller, id, {})
  for (const [at, one] of kept.entries()) assert.ok(one.at - (kept[at - 1]?.at ?? 0) >= 60_000)
  assert.equal(kept[0]?.cpuMillicores, 1)
  await assert.rejects(it.cloud.history(stranger.caller, id, {}), refused('not_found'))
})

test('a suspended tenant sees what it has, changes nothing, and is told', async () => {
  await using it = await testCloud()
  const acme = await it.tenant('acme')
  const suspend = async (suspended: boolean) =>
    await it.cloud.act(
      it.admin,
      'test',
      async (verbs) => await verbs.patch(tenant, acme.id, { spec: { suspended } }),
    )
  const create = async (caller: Caller, name: string) =>
    await it.cloud.act(caller, 'test', async (verbs) => await verbs.createVpc({ name, internet: true }))
  const now = async () => {
    const caller = await it.cloud.authenticate(acme.token, testOrigin)
    assert.ok(caller)
    return caller
  }
  const { id } = await create(await now(), 'before')
  await suspend(true)
  assert.equal((await it.cloud.get(await now(), vpc, id)).name, 'before')
  await assert.rejects(
    create(await now(), 'late'),
    (error) => isCloudError(error, 'forbidden') && error.details.rule === 'suspended',
  )
  await create(await it.cloud.inTenant(it.admin, acme.id), 'by-the-administrator')
  const { records } = await it.cloud.records(await now(), { stream: 'audit', subject: acme.id })
  assert.deepEqual(
    records.map((one) => one.what),
    ['tenant.suspended'],
  )
  await suspend(false)
  await create(await now(), 'after')
})
