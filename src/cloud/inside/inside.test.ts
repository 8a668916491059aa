import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { AnyKind } from '#engine/resource.ts'
import { CloudError } from '#lib/errors.ts'
import { objectId, objectIdOf } from '#lib/object-id.ts'
import type { Caller } from '#cloud/access.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { replica, type Replica } from '#cloud/compute/replica.kind.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { membership } from '#cloud/identity/membership.kind.ts'
import { vpc as vpcKind } from '#cloud/network/vpc.kind.ts'
import type { InsideEvent, Instance } from './inside.ts'
import { vpnUser } from './vpn-user.kind.ts'

type Site = {
  readonly it: TestCloud
  readonly caller: Caller
  /** Makes one by its name in the native API. */
  make(kind: string, name: string, spec: object): Promise<string>
  patch(kind: string, id: string, spec: object): Promise<void>
  /** A VPC with a subnet. */
  vpc(name: string, spec?: object): Promise<{ id: string; subnet: string }>
  run(name: string, inVpc: { id: string; subnet: string }, spec?: object): Promise<string>
  /** The replicas of a workload as they would call. */
  callers(of: string): Promise<Instance[]>
}

async function site(it: TestCloud, name: string): Promise<Site> {
  const { caller } = await it.tenant(name)
  const kindOf = (kind: string): AnyKind => it.cloud.kinds.get(kind) ?? assert.fail(kind)
  const make: Site['make'] = async (kind, called, spec) =>
    (
      await it.cloud.act(
        caller,
        'test',
        async (verbs) => await verbs.create(kindOf(kind), { name: called, spec }),
      )
    ).id
  let subnets = 0
  return {
    it,
    caller,
    make,
    async patch(kind, id, spec) {
      await it.cloud.act(caller, 'test', async (verbs) => await verbs.patch(kindOf(kind), id, { spec }))
    },
    async vpc(called, spec = {}) {
      const id = await make('vpc', called, spec)
      return { id, subnet: await make('subnet', 'in', { vpc: id, cidr: `10.${++subnets}.0.0/24` }) }
    },
    run: async (called, { id: vpc, subnet }, spec = {}) =>
      await make('workload', called, { vpc, subnet, image: 'nginx', ...spec }),
    async callers(of) {
      const slots = await it.cloud.all(caller, replica, { terms: [`workload:${of}`] })
      return await Promise.all(
        slots.map(async ({ id }) => (await it.cloud.inside.instance(id)) ?? assert.fail('it is gone')),
      )
    },
  }
}

const one = <R>(all: readonly R[]): R => all[0] ?? assert.fail('there is none')
const task = (of: Instance) => ({ workload: objectId(of.workload.id), replica: objectId(of.replica.id) })

async function answering(listener: RequestListener): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

test('a token stands for one replica until it has another container, and is expired from then on', async () => {
  await using it = await testCloud()
  await using other = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const web = await acme.run('web', await acme.vpc('shop'), { replicas: 2 })
  await it.settle()
  const [first, second] = await acme.callers(web)
  assert.ok(first && second)
  const token = inside.token(first.replica)
  const whose = async (text: string) => {
    const found = await inside.authenticate(text)
    return typeof found === 'object' ? found.replica.id : found
  }
  assert.equal(await whose(token), first.replica.id)
  assert.equal(await whose(inside.token(second.replica)), second.replica.id)
  assert.equal(await whose(''), undefined)
  assert.equal(await whose(`${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`), undefined)
  assert.equal(await whose(token.replace('_1_', '_2_')), undefined)
  assert.equal(await whose(other.cloud.inside.token(first.replica)), undefined, 'of another installation')
  assert.doesNotMatch(
    JSON.stringify(await it.engine.store.get(first.replica.id)),
    new RegExp(token.slice(-40)),
  )

  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.restartWorkload(web))
  assert.equal(await whose(token), first.replica.id, 'its container still runs')
  await it.settle(60_000)
  assert.equal(await whose(token), 'expired')
  const now = one(await acme.callers(web))
  assert.equal(await whose(inside.token(now.replica)), first.replica.id)

  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.deleteWorkload(web))
  await it.settle(60_000)
  assert.equal(await whose(inside.token(now.replica)), 'expired')
})

test('a replica sees its VPC, those that share a network with it, and of the machine what is its tenant’s', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const [shop, bank, lab] = [await acme.vpc('shop'), await acme.vpc('bank'), await acme.vpc('lab')]
  const web = await acme.run('web', shop, { replicas: 2 })
  const lb = await acme.run('lb', shop, { service: 'loadbalancer' })
  const vault = await acme.run('vault', bank)
  const probe = await acme.run('probe', lab)
  const net = await acme.make('network', 'backbone', { members: [{ vpc: shop.id }, { vpc: bank.id }] })
  const evil = await site(it, 'evil')
  const spy = await evil.run('web', await evil.vpc('shop'))
  await it.settle()
  const caller = one(await acme.callers(web))
  const names = (all: readonly { readonly workload: Workload }[]) => all.map((of) => of.workload.name)

  assert.deepEqual(names(await inside.workloads(caller)), ['web', 'lb'])
  assert.deepEqual(names(await inside.replicas(caller)), ['web', 'web', 'lb'])
  const environment = await inside.environment(caller)
  assert.deepEqual([environment.vpc.name, environment.subnets.length], ['shop', 1])
  assert.deepEqual(Object.keys(environment.services), ['loadbalancer'])
  assert.equal(environment.services.loadbalancer?.workload.id, lb)
  assert.deepEqual(
    (await inside.networks(caller)).map((of) => of.id),
    [net],
  )
  assert.deepEqual(
    (await inside.joined(caller)).map((of) => of.vpc.name),
    ['shop', 'bank'],
  )
  assert.deepEqual(names(await inside.joinedReplicas(caller)), ['web', 'web', 'lb', 'vault'])
  assert.deepEqual(names(await inside.serverReplicas(caller)), ['web', 'web', 'lb', 'vault', 'probe'])
  assert.deepEqual(names(await inside.serverWorkloads(caller)), ['web', 'lb', 'vault', 'probe'])

  assert.equal((await inside.workload(caller)).workload.id, web)
  assert.equal((await inside.workload(caller, objectId(lb))).workload.id, lb)
  assert.equal((await inside.replicasOf(caller, objectId(lb).toUpperCase())).length, 1)
  for (const foreign of [vault, probe, spy])
    for (const ask of [inside.workload, inside.replicasOf, inside.hostnames, inside.certificates])
      await assert.rejects(ask(caller, objectId(foreign)), { code: 'not_found' }, foreign)
  await assert.rejects(inside.workload(caller, 'x'), { code: 'invalid' })
  await assert.rejects(inside.replicasOf(caller, '0'.repeat(24)), { code: 'not_found' })

  const seen = one(await inside.replicas(caller))
  assert.match(seen.address6, /^fd[0-9a-f:]+$/)
  assert.match(seen.mac, /^02:ac:/)
  const stranger = one(await evil.callers(spy))
  assert.deepEqual(names(await inside.serverReplicas(stranger)), ['web'])
  assert.deepEqual(await inside.joined(stranger), [])
  assert.deepEqual((await inside.server(stranger)).id, (await inside.server(caller)).id)

  // A VPC that goes leaves the network.
  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.deleteVpc(bank.id))
  assert.deepEqual(
    (await inside.joined(caller)).map((of) => of.vpc.name),
    ['shop'],
  )
})

test('a stopped replica leaves the VIP first, keeps its slot, and comes back in a new container', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const web = await acme.run('web', shop, { replicas: 2, healing: true })
  const cron = await acme.run('cron', shop, { service: 'scheduler' })
  await it.settle()
  const [first] = await acme.callers(web)
  const scheduler = one(await acme.callers(cron))
  assert.ok(first)
  const look = async (): Promise<Replica> => await it.cloud.get(acme.caller, replica, first.replica.id)
  const backends = async (): Promise<readonly string[]> =>
    (await it.network.observe(shop.id, AbortSignal.timeout(1000)))
      ? (it.network.plans.get(shop.id)?.vips.find((one) => one.id === web)?.backends ?? [])
      : []
  assert.equal((await backends()).length, 2)

  await inside.stop(scheduler, task(first))
  assert.equal(replica.state(await look()), 'stopping')
  await it.settle(60_000)
  assert.equal(replica.state(await look()), 'stopped')
  assert.equal(await it.compute.observe(first.replica.id, AbortSignal.timeout(1000)), undefined)
  assert.deepEqual((await backends()).includes(first.replica.id), false)
  const pod = await it.cloud.get(acme.caller, workload, web)
  assert.deepEqual([pod.status.state, pod.status.ready, pod.status.desired], ['running', 1, 2])
  // Nothing heals it, and no audit takes it for lost.
  await it.settle(120_000)
  assert.equal(replica.state(await look()), 'stopped')
  assert.deepEqual(await it.cloud.leaks(it.admin, AbortSignal.timeout(5000)), [])
  await inside.stop(scheduler, task(first))

  const token = inside.token(await look())
  await inside.start(scheduler, task(first))
  await it.settle(60_000)
  const back = await look()
  assert.deepEqual([replica.state(back), back.spec.address], ['running', first.replica.spec.address])
  assert.equal(await inside.authenticate(token), 'expired')
  await inside.start(scheduler, task(first))
  assert.equal((await look()).generation, back.generation, 'one that runs is left alone')

  await assert.rejects(inside.start(scheduler, task(first), { token: 'claim' }), { code: 'invalid' })
  await assert.rejects(inside.stop(first, task(first)), { code: 'forbidden' })
  await assert.rejects(inside.stop(scheduler, { ...task(first), workload: objectId(cron) }), {
    code: 'not_found',
    details: { field: 'replica' },
  })
})

test('a function waits to be started, runs once with what it is given, and waits again', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const job = await acme.run('job', shop, { function: true, healing: true, replicas: 2 })
  const boss = await acme.run('boss', shop, { role: 'orchestrator' })
  await it.settle()
  const [slot] = await acme.callers(job)
  const orchestrator = one(await acme.callers(boss))
  assert.ok(slot)
  const look = async (): Promise<Replica> => await it.cloud.get(acme.caller, replica, slot.replica.id)
  assert.equal(replica.state(await look()), 'stopped')
  assert.equal((await it.cloud.get(acme.caller, workload, job)).status.state, 'stopped')
  // What waits can still be changed.
  await acme.patch('workload', job, { env: { MODE: 'fast' } })
  await it.settle()
  assert.equal(replica.state(await look()), 'stopped')

  const run = { token: 'claim-1', env: { INPUT: 'a secret input' } }
  await inside.start(orchestrator, task(slot), run)
  await it.settle()
  assert.equal(replica.state(await look()), 'running')
  const stored = JSON.stringify(await it.engine.store.get(slot.replica.id))
  assert.doesNotMatch(stored + JSON.stringify(await look()), /secret input|claim-1/)
  assert.equal(it.compute.wishes.get(slot.replica.id)?.healing, false)

  it.compute.exit(slot.replica.id, 0)
  await it.engine.wake(`replica/${slot.replica.id}`)
  await it.settle(60_000)
  assert.equal(replica.state(await look()), 'succeeded')
  await inside.start(orchestrator, task(slot), { token: 'claim-2' })
  await it.settle()
  assert.equal(replica.state(await look()), 'running')
})

test('variables are given by their rules, and those of addresses once for each start', async () => {
  await using it = await testCloud({ settings: { allowedNetworks: ['127.0.0.0/8'] } })
  let asked = 0
  await using source = await answering((request, response) => {
    if (request.url === '/token') response.end('Bearer one\n')
    else if (request.url === '/broken') response.writeHead(500).end('no')
    else
      response.end(
        `${request.headers.authorization as string} ${request.headers['x-key'] as string} ${++asked}`,
      )
  })
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const web = await acme.run('web', shop, { deploymentVersion: 'v2' })
  const api = await acme.run('api', shop)
  const everywhere = { global: true, workloads: [], names: [] }
  const variable = async (name: string, spec: object): Promise<string> =>
    await acme.make('scoped-variable', name, {
      vpc: shop.id,
      scope: everywhere,
      access: { api: {} },
      ...spec,
    })
  await variable('PLAIN', { value: 'for all' })
  await variable('PLAIN', { value: 'for web', scope: { ...everywhere, workloads: [web] } })
  await variable('PLAIN', { value: 'by name', scope: { ...everywhere, names: ['web', 'api'] } })
  await variable('SECRET', { secret: 'hush' })
  await variable('V1', { value: 'old', deploymentVersion: 'v1' })
  await variable('V2', { value: 'new', deploymentVersion: 'v2' })
  await variable('FILE', { value: 'Zm9v', access: { file: { decode: true }, env: { key: 'OTHER' } } })
  await variable('SOON', { value: 'short', access: { api: { durationSeconds: 60 } } })
  await variable('URL', { url: `${source.url}/`, headers: { 'x-key': 'k' }, authUrl: `${source.url}/token` })
  await variable('BROKEN', { url: `${source.url}/broken` })
  await variable('CLOSED', { url: 'http://169.254.169.254/latest' })
  await it.settle()
  const [first] = await acme.callers(web)
  assert.ok(first)
  const expected = {
    PLAIN: 'for web',
    SECRET: 'hush',
    V2: 'new',
    SOON: 'short',
    URL: 'Bearer one k 1',
    BROKEN: '',
    CLOSED: '',
  }
  assert.deepEqual(await inside.variables(first), expected)
  assert.equal((await inside.variables(one(await acme.callers(api))))['PLAIN'], 'by name')
  assert.deepEqual(
    (await inside.given(first)).map(({ variable: of, value }) => [of.name, value]),
    [['FILE', 'Zm9v']],
  )
  await it.clock.advance(61_000)
  await inside.variables(first)
  const later = await inside.variables(first)
  assert.equal(later['SOON'], undefined)
  assert.equal(later['URL'], 'Bearer one k 1')
  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.restartWorkload(web))
  await it.settle(60_000)
  const renewed = await inside.variables(one(await acme.callers(web)))
  assert.deepEqual([renewed['SOON'], renewed['URL']], ['short', 'Bearer one k 3'])

  const refusals: [string, object][] = [
    ['BOTH', { value: 'a', secret: 'b' }],
    ['NONE', {}],
    ['NOWHERE', { value: 'a', access: {} }],
    ['../up', { value: 'a' }],
    ['FOREIGN', { value: 'a', scope: { ...everywhere, workloads: [shop.id] } }],
    ['LOST', { value: 'a', headers: { a: 'b' } }],
  ]
  for (const [name, spec] of refusals) await assert.rejects(variable(name, spec), { code: 'invalid' }, name)
})

test('a login to the VPN is checked by what the VPC says, kept, and limited', async () => {
  await using it = await testCloud({ settings: { allowedNetworks: ['127.0.0.0/8'] } })
  const asked: string[] = []
  await using hook = await answering((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      asked.push(body)
      response.writeHead(body.includes('carol') ? 200 : 401).end()
    })
  })
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const vpn = await acme.run('vpn', shop, { service: 'vpn' })
  await acme.make('vpn-user', 'bob', { vpc: shop.id, password: 'long: enough' })
  await it.settle()
  const tries = async (username: string, password: string): Promise<boolean> =>
    await inside.vpnLogin(one(await acme.callers(vpn)), { username, password })
  assert.equal(await tries('bob', 'long: enough'), false, 'no VPN is enabled')
  const { username: admin, password } = it.credentials
  await acme.patch('vpc', shop.id, { vpn: { enabled: true, vpnUsers: true, users: false } })
  assert.deepEqual(
    [await tries('bob', 'long: enough'), await tries('bob', 'wrong'), await tries(admin, password)],
    [true, false, false],
  )
  const [bob] = await it.cloud.all(acme.caller, vpnUser)
  assert.equal(bob?.spec.lastLoginAt, it.clock.now())
  assert.equal('passwordHash' in (bob?.spec ?? {}), false)
  await acme.patch('vpc', shop.id, { vpn: { users: true, webhook: `${hook.url}/` } })
  assert.deepEqual(
    [await tries(admin, password), await tries('carol', 'x'), await tries('eve', 'x')],
    [true, true, false],
  )
  assert.deepEqual(JSON.parse(asked[0] ?? ''), { username: 'carol', password: 'x' })
  const kept = await it.cloud.vpnLogins(acme.caller, shop.id, {})
  assert.deepEqual(
    kept.map((of) => [of.username, of.success]),
    [
      ['bob', false],
      ['bob', true],
      ['bob', false],
      [admin, false],
      [admin, true],
      ['carol', true],
      ['eve', false],
    ],
  )
  assert.doesNotMatch(JSON.stringify(kept), /long: enough|wrong/)
  for (let count = 0; count < 9; count++) await tries('bob', `guess ${count}`)
  await assert.rejects(tries('bob', 'long: enough'), { code: 'rate_limited' })

  await acme.patch('vpn-user', bob?.id ?? '', { password: 'another one' })
  await it.clock.advance(16 * 60_000)
  assert.deepEqual([await tries('bob', 'long: enough'), await tries('bob', 'another one')], [false, true])
  await assert.rejects(acme.patch('vpn-user', bob?.id ?? '', { passwordHash: 'mine' }), { code: 'invalid' })
  await acme.patch('vpc', shop.id, { vpn: { enabled: false } })
  assert.equal(await tries('bob', 'another one'), false, 'it is switched off')
})

/** A VPC whose VPN lets in users of the platform, and what it says to a name and password. */
async function vpnOf(of: Site, name: string) {
  const inVpc = await of.vpc(name, { vpn: { enabled: true, vpnUsers: false, users: true } })
  const vpn = await of.run('vpn', inVpc, { service: 'vpn' })
  return async (username: string, password: string): Promise<boolean> =>
    await of.it.cloud.inside.vpnLogin(one(await of.callers(vpn)), { username, password })
}

test('who may act in a tenant logs in to its VPN, however they came to belong to it', async () => {
  await using it = await testCloud()
  const [acme, other] = [await site(it, 'acme'), await site(it, 'other')]
  const [tries, elsewhere] = [await vpnOf(acme, 'shop'), await vpnOf(other, 'shop')]
  const bob = { name: 'bob', password: 'long: enough', admin: false, memberships: [] }
  const { id } = await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.createUser(bob))
  assert.equal(await tries('bob', bob.password), false, 'a stranger')
  const joined = await it.cloud.act(
    acme.caller,
    'test',
    async (verbs) => await verbs.addMember({ user: { id }, role: 'viewer' }),
  )
  assert.deepEqual([await tries('bob', bob.password), await elsewhere('bob', bob.password)], [true, false])
  await it.cloud.act(
    acme.caller,
    'test',
    async (verbs) => await verbs.remove(membership as unknown as AnyKind, joined.id),
  )
  assert.equal(await tries('bob', bob.password), false, 'let go')
})

test('guesses of a password of the platform count in all VPCs of a tenant together', async () => {
  await using it = await testCloud()
  const [acme, other] = [await site(it, 'acme'), await site(it, 'other')]
  const first = await vpnOf(acme, 'first')
  const [second, elsewhere] = [await vpnOf(acme, 'second'), await vpnOf(other, 'shop')]
  const { username, password } = it.credentials
  for (let count = 0; count < 5; count++) {
    assert.equal(await first(username, `guess ${count}`), false)
    assert.equal(await second(username, `another ${count}`), false)
  }
  assert.deepEqual(
    [await second(username, password), await elsewhere(username, password)],
    [false, true],
    'those of a tenant are not held against another',
  )
  await it.clock.advance(16 * 60_000)
  assert.equal(await second(username, password), true)
})

test('what workloads measure is kept, and shown to Prometheus', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const [web, lb] = [await acme.run('web', shop), await acme.run('lb', shop, { service: 'loadbalancer' })]
  await it.settle()
  const [caller, balancer] = [one(await acme.callers(web)), one(await acme.callers(lb))]
  const at = it.clock.now()
  await inside.takeMetrics(caller, [
    {
      metric: 'queue',
      type: 'gauge',
      labels: { 'a"b\n': 'c"d\n\\' },
      tags: ['t'],
      points: [{ at, values: [3, 4] }],
    },
    { metric: 'none', type: 'count', labels: {}, tags: [], points: [] },
  ])
  const snapshot = { cumulative: { metrics: { requests: 7, connections: 2 } } }
  await inside.takeSnapshots(balancer, [{ controller: 'port-443', at, body: snapshot }])
  await assert.rejects(inside.takeSnapshots(caller, []), { code: 'forbidden' })

  const metrics = await it.cloud.workloadMetrics(acme.caller, web, {})
  assert.deepEqual(
    metrics.map((of) => [of.metric, of.points, of.replica]),
    [
      ['queue', [[at, 3, 4]], caller.replica.id],
      ['none', [], caller.replica.id],
    ],
  )
  const [kept] = await it.cloud.balancerSnapshots(acme.caller, lb, {})
  assert.deepEqual(kept?.snapshot, { ...snapshot, time: at })
  const text = await it.cloud.metrics()
  assert.match(
    text,
    /arcus_workload_metric\{tenant="[^"]+",.*metric="queue",type="gauge",label_a_b_="c\\"d\\n\\\\"\} 4\n/,
  )
  assert.match(text, /arcus_balancer_total\{.*controller="port-443",count="requests"\} 7\n/)
  const evil = await site(it, 'evil')
  await assert.rejects(it.cloud.workloadMetrics(evil.caller, web, {}), { code: 'not_found' })
})

test('an image that a workload names is fetched, and stands among those of the tenant', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const web = await acme.run('web', shop)
  await acme.run('job', shop, { function: true, image: 'registry.test/job:1' })
  await acme.run('bad', shop, { function: true, image: 'registry.test/missing' })
  await it.settle()
  const caller = one(await acme.callers(web))
  const references = async () => (await inside.images(caller)).map((of) => of.reference)
  assert.deepEqual(await references(), ['nginx:latest'])
  const fetched = async (reference: string) => {
    const work = inside.fetchImage(caller, objectIdOf(reference), AbortSignal.timeout(5000))
    const ended = work.then(
      () => {},
      () => {},
    )
    for (let isDone = false; !isDone;) {
      isDone = await Promise.race([
        ended.then(() => true),
        new Promise<false>((done) => setTimeout(done, 5, false)),
      ])
      if (!isDone) await it.clock.advance(250)
    }
    return await work
  }
  assert.equal((await fetched('registry.test/job:1')).usedAt, it.clock.now())
  assert.deepEqual(await references(), ['nginx:latest', 'registry.test/job:1'])
  await assert.rejects(fetched('registry.test/missing:latest'), {
    code: 'unavailable',
    message: /no such image/,
  })
  await assert.rejects(fetched('somebody/else:1'), { code: 'not_found' })
})

test('a fetch of an image whose driver fails says so, and is there the next time', async () => {
  let fails = ''
  await using it = await testCloud({
    fault: (verb) => {
      if (verb === fails) throw new CloudError('unavailable', `${verb} fails`)
    },
  })
  const acme = await site(it, 'acme')
  const web = await acme.run('web', await acme.vpc('shop'))
  await it.settle()
  const caller = one(await acme.callers(web))
  const fetch = async () =>
    await it.cloud.inside.fetchImage(caller, objectIdOf('nginx:latest'), AbortSignal.timeout(5000))
  for (const verb of ['compute.fetchImage', 'compute.observeImage']) {
    fails = verb
    await assert.rejects(fetch(), { code: 'unavailable', message: `${verb} fails` })
  }
  await assert.rejects(it.cloud.inside.images(caller), { code: 'unavailable' })
  fails = ''
  assert.equal((await fetch()).reference, 'nginx:latest')
})

test('an integration is found by its name, slug, id or vendor, with its secrets', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const web = await acme.run('web', await acme.vpc('shop'))
  const first = await acme.make('integration', 'Off Site', { vendor: 'b2', secret: 'hush', keyId: 'k' })
  await acme.make('integration', 'Second', { vendor: 'b2' })
  await it.settle()
  const caller = one(await acme.callers(web))
  for (const by of [
    { identifier: 'Off Site' },
    { identifier: 'off-site' },
    { identifier: objectId(first) },
    { vendor: 'b2' },
    { vendor: 'b2', identifier: 'off-site' },
  ]) {
    const found = await inside.integration(caller, by)
    assert.deepEqual([found.id, found.spec.secret, found.spec.keyId], [first, 'hush', 'k'])
  }
  await assert.rejects(inside.integration(caller, {}), { code: 'invalid' })
  await assert.rejects(inside.integration(caller, { vendor: 'other', identifier: 'off-site' }), {
    code: 'not_found',
  })
  const evil = await site(it, 'evil')
  const spy = await evil.run('web', await evil.vpc('shop'))
  await it.settle()
  await assert.rejects(inside.integration(one(await evil.callers(spy)), { vendor: 'b2' }), {
    code: 'not_found',
  })
})

test('hostnames and certificates lead to the workload that they serve', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const [web, api] = [await acme.run('web', shop), await acme.run('api', shop)]
  await it.cloud.act(
    it.admin,
    'test',
    async (verbs) => await verbs.addDomain(acme.caller.tenant, 'acme.test'),
  )
  await acme.make('tunnel', 't', { workload: web, protocol: 'http', hostname: 'web.acme.test' })
  await acme.make('tunnel', 's', { workload: web, protocol: 'https', hostname: 'own.acme.test' })
  const targets = [web, api].map((of) => ({ workload: of, port: 80, weight: 1 }))
  await acme.make('route', 'r', { vpc: shop.id, hostname: 'both.acme.test', targets })
  await it.settle(60_000)
  const caller = one(await acme.callers(web))
  const hostnames = await inside.hostnames(caller)
  assert.deepEqual(
    hostnames.map((of) => [of.hostname, of.by.kind, of.isActive, of.certificate !== undefined]),
    [
      ['web.acme.test', 'tunnel', true, true],
      ['own.acme.test', 'tunnel', true, false],
      ['both.acme.test', 'route', true, true],
    ],
  )
  const certificates = await inside.certificates(caller)
  assert.deepEqual(
    certificates.map((of) => of.names),
    [['web.acme.test'], ['both.acme.test']],
  )
  for (const of of certificates) {
    assert.match(of.chain, /BEGIN CERTIFICATE/)
    assert.match(of.key, /BEGIN (EC )?PRIVATE KEY/)
  }
  assert.deepEqual(
    (await inside.hostnames(caller, objectId(api))).map((of) => of.hostname),
    ['both.acme.test'],
  )
})

test('external addresses of a VPC are those of its workloads, and the one that they share', async () => {
  await using it = await testCloud()
  const acme = await site(it, 'acme')
  const shop = await acme.vpc('shop')
  const web = await acme.run('web', shop, { egress: true, inbound: true })
  await acme.run('job', shop, { egress: true })
  await it.settle()
  const caller = one(await acme.callers(web))
  const pod = await it.cloud.get(acme.caller, workload, web)
  const { natAddress } = (await it.cloud.get(acme.caller, vpcKind, shop.id)).spec
  const found = await it.cloud.inside.addresses(caller)
  assert.deepEqual(
    found.map((of) => [of.address, of.workload?.id, of.replicas.length, of.cidr]),
    [
      [pod.spec.externalAddress, web, 1, '100.64.0.0/16'],
      [natAddress, undefined, 0, '100.64.0.0/16'],
    ],
  )
})

test('events are told as they happen, to who may know, and again after a cursor', async () => {
  await using it = await testCloud()
  const { inside } = it.cloud
  const acme = await site(it, 'acme')
  const [shop, bank, lab] = [await acme.vpc('shop'), await acme.vpc('bank'), await acme.vpc('lab')]
  const [web, api, vault] = [
    await acme.run('web', shop),
    await acme.run('api', shop),
    await acme.run('vault', bank),
  ]
  const evil = await site(it, 'evil')
  const spy = await evil.run('web', await evil.vpc('shop'))
  await it.settle()
  const stop = new AbortController()
  let isOver = false
  const follow = async (of: string, by: Site, after?: string): Promise<InsideEvent[]> => {
    const heard: InsideEvent[] = []
    const how = after === undefined ? {} : { after }
    const stream = inside.events(one(await by.callers(of)), how, stop.signal)
    void (async () => {
      for await (const event of stream) heard.push(event)
      isOver = true
    })()
    await new Promise((done) => setTimeout(done, 20))
    return heard
  }
  const [heard, foreign] = [await follow(web, acme), await follow(spy, evil)]
  const until = async (has: () => boolean): Promise<void> => {
    for (let tries = 0; tries < 200 && !has(); tries++) await new Promise((done) => setTimeout(done, 5))
    assert.ok(has(), JSON.stringify(heard))
  }
  const words = (all: readonly InsideEvent[]) => all.map((of) => of.what)

  await acme.patch('vpc', shop.id, { deployments: { production: 'v1' } })
  await acme.patch('vpc', lab.id, { deployments: { production: 'v1' } })
  await until(() => heard.length > 0)
  await acme.patch('vpc', shop.id, { deployments: { production: 'v2' } })
  await until(() => heard.length > 1)
  assert.deepEqual(
    heard.map((of) => [of.what, of.subject, of.from, of.to]),
    [
      ['vpc.deployments.changed', shop.id, undefined, { production: 'v1' }],
      ['vpc.deployments.changed', shop.id, { production: 'v1' }, { production: 'v2' }],
    ],
  )

  const net = await acme.make('network', 'backbone', { members: [{ vpc: shop.id }, { vpc: bank.id }] })
  await acme.patch('vpc', bank.id, { deployments: { production: 'v9' } })
  await until(() => heard.length > 3)
  assert.deepEqual(words(heard.slice(2)), ['network.created', 'vpc.deployments.changed'])
  await acme.patch('network', net, { members: [{ vpc: shop.id }] })
  await acme.patch('vpc', bank.id, { deployments: { production: 'v10' } })
  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.restartWorkload(vault))
  await acme.make('scoped-variable', 'KEY', {
    vpc: shop.id,
    scope: { global: true, workloads: [], names: [] },
    access: { api: {} },
    value: 'x',
  })
  await until(() => heard.length > 5)
  assert.deepEqual(words(heard.slice(4)), ['network.changed', 'vpc.variables.changed'])

  const again = await follow(web, acme, heard[1]?.cursor)
  await until(() => again.length >= 3)
  assert.deepEqual(again.at(0)?.cursor, heard[2]?.cursor)

  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.restartWorkload(api))
  await it.settle(60_000)
  await until(() => heard.at(-1)?.what === 'workload.state.changed' && heard.at(-1)?.to === 'running')
  assert.ok(words(heard).includes('workload.replicas.changed'))
  const states = heard.filter((of) => of.what === 'workload.state.changed').map((of) => [of.from, of.to])
  assert.deepEqual(states[0], ['running', 'restarting'])
  assert.deepEqual(states.at(-1), ['restarting', 'running'])
  assert.deepEqual(foreign, [])

  // Another container has another token: what was opened with the one of before ends.
  assert.equal(isOver, false)
  await it.cloud.act(acme.caller, 'test', async (verbs) => await verbs.restartWorkload(web))
  await it.settle(60_000)
  await until(() => isOver)
  stop.abort()
})
