import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { patrolled, PROVIDER, testCloud } from '#cloud/cloud.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { EVERY_PROMISE } from '#cloud/network/promises.driver.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { certificate } from './certificate.kind.ts'
import { route } from './route.kind.ts'
import { serviceTunnel } from './service-tunnel.kind.ts'
import { tunnel } from './tunnel.kind.ts'
import { CLOUDFLARE, routesOf, tunnelTo, type World, world } from './edge.testing.ts'

const DAY_MS = 86_400_000

type Accesses = Awaited<ReturnType<World['cloud']['accesses']>>

test('a tunnel leads to every ready replica, with a certificate of its own', async () => {
  await using it = await world()
  const { id } = await tunnelTo(it)
  await it.settle()
  assert.deepEqual((await it.cloud.get(it.acme, tunnel, id)).status, { state: 'active' })
  const [led] = routesOf(it)
  assert.equal(led?.hostname, 'app.acme.example')
  assert.equal(led.carry, 'http')
  assert.equal(led.origins.length, 2)
  const served = it.front.certificates.get(led.certificate ?? '')
  assert.deepEqual(served?.issued?.names, ['app.acme.example'])
  assert.equal(new X509Certificate(served.issued.chain).checkHost('app.acme.example'), 'app.acme.example')
})

test('each protocol is carried in its own way', async () => {
  await using it = await world()
  for (const [protocol, port] of [
    ['http', 80],
    ['https', 443],
    ['ssh', 22],
    ['tcp', 5432],
    ['udp', 27015],
  ] as const)
    await tunnelTo(it, { protocol, port, hostname: `${protocol}.acme.example` })
  await it.settle()
  assert.deepEqual(
    routesOf(it).map((one) => [one.carry, one.port, one.certificate !== undefined, one.origins[0]?.port]),
    [
      ['http', undefined, true, 80],
      ['passthrough', undefined, false, 443],
      ['stream', undefined, true, 22],
      ['stream', undefined, true, 5432],
      ['datagram', 27015, false, 27015],
    ],
  )
})

test('only what is ready is led to, and a change of it follows at once', async () => {
  await using it = await world()
  await tunnelTo(it)
  await it.settle()
  const [first] = routesOf(it)[0]?.origins ?? []
  it.compute.vanish(first?.id ?? '')
  await it.engine.wake(`replica/${first?.id ?? ''}`)
  await it.cloud.settle(0)
  assert.deepEqual(
    routesOf(it)[0]
      ?.origins.map((one) => one.id)
      .includes(first?.id ?? ''),
    false,
  )
  await it.settle()
  assert.equal(routesOf(it)[0]?.origins.length, 2)
})

test('a replica that is going leaves the table first and ends what it has begun', async () => {
  await using it = await world({ settings: { drainSeconds: 20 } })
  await tunnelTo(it)
  await it.settle()
  const [, newest] = it.web.status.replicas
  const id = newest?.id ?? ''
  it.front.occupy(id, 3)
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.scaleWorkload(it.web.id, -1, 10))
  await it.settle(5000)
  assert.equal(routesOf(it)[0]?.origins.length, 1)
  assert.ok(it.compute.wishes.get(id), 'it is still there to answer')
  it.front.occupy(id, 0)
  await it.settle(15_000)
  assert.equal(it.compute.wishes.get(id), undefined)
})

test('what never ends is waited for no longer than the drain time', async () => {
  await using it = await world({ settings: { drainSeconds: 20 } })
  await tunnelTo(it)
  await it.settle()
  const id = it.web.status.replicas[1]?.id ?? ''
  it.front.occupy(id, 1)
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.scaleWorkload(it.web.id, -1, 10))
  await it.settle(19_000)
  assert.ok(it.compute.wishes.get(id))
  await it.settle(20_000)
  assert.equal(it.compute.wishes.get(id), undefined)
})

test('a restart goes through the replicas one by one, so that one always answers', async () => {
  await using it = await world()
  await tunnelTo(it)
  await it.settle()
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.restartWorkload(it.web.id))
  let fewest = Infinity
  for (let step = 0; step < 200; step++) {
    await it.cloud.settle(0)
    await it.clock.advance(100)
    fewest = Math.min(fewest, routesOf(it)[0]?.origins.length ?? 0)
  }
  await it.settle()
  const attempts = it.web.status.replicas.map((one) => it.compute.wishes.get(one.id)?.attempt)
  assert.deepEqual([fewest, attempts], [1, [2, 2]])
})

test('what went through a tunnel is told in its status, in the metrics and, once, in its log', async () => {
  await using it = await world()
  const { id } = await tunnelTo(it)
  await it.settle()
  const [counted] = await it.front.traffic(AbortSignal.timeout(1000))
  assert.ok(counted)
  const statuses = { '1': 0, '2': 6, '3': 0, '4': 1, '5': 2 }
  const latency = counted.latency.map((_, at) => (at === 3 ? 8 : at === 13 ? 1 : 0))
  it.front.counted.set(id, { ...counted, requests: 9, statuses, latency, latencySumMs: 12_064, active: 1 })
  const access = { route: id, tenant: it.web.tenant, client: '192.0.2.1', hostname: 'app.acme.example' }
  for (let at = 0; at < 2500; at++)
    it.front.visit({ ...access, at: it.clock.now() + at, receivedBytes: 0, sentBytes: 3, durationMs: 4 })
  const counts = async () => (await it.cloud.get(it.acme, tunnel, id)).status.traffic
  const logged = async (after?: string): Promise<Accesses> =>
    await it.cloud.accesses(it.acme, tunnel, id, { limit: 1000, ...(after === undefined ? {} : { after }) })
  await patrolled(it, async () => (await counts())?.requests === 9)
  const told = await counts()
  assert.deepEqual([told?.faults, told?.active, told?.latencySumMs], [2, 1, 12_064])
  assert.deepEqual(told?.statuses, statuses)
  assert.deepEqual(told?.latency, [
    { upToMs: 10, count: 8 },
    { upToMs: null, count: 1 },
  ])
  const metrics = await it.cloud.metrics()
  for (const line of [
    `arcus_edge_requests_total{route="${id}"} 9`,
    `arcus_edge_responses_total{route="${id}",status="5xx"} 2`,
    `arcus_edge_request_duration_seconds_bucket{route="${id}",le="0.01"} 8`,
    `arcus_edge_request_duration_seconds_bucket{route="${id}",le="+Inf"} 9`,
    `arcus_edge_request_duration_seconds_count{route="${id}"} 9`,
  ])
    assert.ok(metrics.split('\n').includes(line), `${line}\n${metrics}`)
  const all: Accesses[number][] = []
  for (let page = await logged(); page.length; page = await logged(page.at(-1)?.cursor)) all.push(...page)
  assert.equal(all.length, 2500)
  assert.equal(all[0]?.client, '192.0.2.1')
  // They are kept for 7 days.
  await it.settle(9 * DAY_MS)
  await patrolled(it, async () => !(await logged()).length)
})

test('what is no hostname gets no certificate', async () => {
  await using it = await world()
  for (const name of [
    '../x.acme.example',
    'a b.acme.example',
    'x,O=other.acme.example',
    'a\0.acme.example',
    'App.acme.example',
  ])
    await assert.rejects(
      it.cloud.act(it.acme, 'test', (verbs) =>
        verbs.createCertificate({ name: 'own', spec: { names: ['acme.example', name], source: 'internal' } }),
      ),
      { code: 'invalid' },
      name,
    )
})

test('below the domain of the installation a hostname and its certificates are of one tenant', async () => {
  await using it = await world()
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({ ...PROVIDER, cloudflareDomain: 'cloud.example' }),
  )
  const { caller: other } = await it.tenant('other')
  const certify = async (names: string[], by = other) =>
    await it.cloud.act(by, 'test', (verbs) =>
      verbs.createCertificate({ name: 'own', spec: { names, source: 'internal' } }),
    )
  const taken = { code: 'already_exists' }
  await tunnelTo(it, { hostname: 'app.cloud.example' })
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.createServiceTunnel({ service: 'api', protocol: 'https', subdomain: 'api' }),
  )
  for (const hostname of ['app.cloud.example', 'api.cloud.example'])
    await assert.rejects(certify(['own.cloud.example', hostname]), taken, hostname)
  await assert.rejects(certify(['*.cloud.example']), { code: 'invalid' })
  await assert.rejects(certify(['*.app.cloud.example']), { code: 'invalid' })
  await certify(['app.cloud.example'], it.acme)
  const { id } = await certify(['shop.cloud.example'])
  await assert.rejects(tunnelTo(it, { hostname: 'shop.cloud.example' }), taken)
  const more = { spec: { names: ['shop.cloud.example', 'app.cloud.example'] } }
  await assert.rejects(
    it.cloud.act(other, 'test', (verbs) => verbs.patch(certificate as never, id, more)),
    taken,
  )
  await it.cloud.act(other, 'test', (verbs) => verbs.remove(certificate as never, id))
  await tunnelTo(it, { hostname: 'shop.cloud.example' })
})

test('a part of the domain of the installation that is given to a tenant is nobody else’s', async () => {
  await using it = await world()
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({ ...PROVIDER, cloudflareDomain: 'cloud.example' }),
  )
  const { id } = await it.tenant('other')
  await tunnelTo(it, { hostname: 'app.team.cloud.example' })
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'team.cloud.example'))
  for (const hostname of ['team.cloud.example', 'web.team.cloud.example'])
    await assert.rejects(tunnelTo(it, { hostname }), { code: 'invalid' }, hostname)
  await tunnelTo(it, { hostname: 'steam.cloud.example' })
})

test('a certificate is renewed at two thirds of its life, before anybody sees it end', async () => {
  await using it = await world()
  await tunnelTo(it)
  await it.settle()
  const [made] = await it.cloud.all(it.acme, certificate)
  const first = it.front.certificates.get(made?.id ?? '')?.issued?.chain ?? ''
  const life = new X509Certificate(first)
  await it.settle(55 * DAY_MS)
  assert.equal(it.front.certificates.get(made?.id ?? '')?.issued?.chain, first)
  await it.settle(10 * DAY_MS)
  const second = it.front.certificates.get(made?.id ?? '')?.issued?.chain ?? ''
  assert.notEqual(second, first)
  assert.ok(it.clock.now() < life.validToDate.getTime())
})

test('the key of a certificate is sealed in the store and shown to nobody', async () => {
  await using it = await world()
  await tunnelTo(it)
  await it.settle()
  const [made] = await it.cloud.all(it.acme, certificate)
  const key = it.front.certificates.get(made?.id ?? '')?.issued?.key ?? ''
  assert.match(key, /BEGIN PRIVATE KEY/)
  assert.equal(made?.status.key, undefined)
  const stored = JSON.stringify(await it.engine.store.get(made?.id ?? ''))
  assert.ok(stored.includes('sealed:1:') && !stored.includes('PRIVATE KEY'))
})

test('an issue that fails says why and when it is tried next, and is tried', async () => {
  let fails = true
  await using broken = await testCloud({
    issue: () => {
      if (fails) throw new Error('the authority is on holiday')
    },
  })
  const { id: tenant, caller } = await broken.tenant('acme')
  await broken.cloud.act(broken.admin, 'test', (verbs) => verbs.addDomain(tenant, 'acme.example'))
  const spec = { names: ['acme.example'], source: 'internal' as const }
  const made = await broken.cloud.act(caller, 'test', (verbs) =>
    verbs.createCertificate({ name: 'own', spec }),
  )
  await broken.cloud.settle(0)
  const seen = await broken.cloud.get(caller, certificate, made.id)
  assert.equal(seen.status.state, 'error')
  assert.match(seen.status.message ?? '', /not issued: the authority is on holiday; tried again in 10 s/)
  fails = false
  await broken.settle(60_000)
  assert.equal((await broken.cloud.get(caller, certificate, made.id)).status.state, 'issued')
})

test('a renewal is tried again though the clock was set back since it failed', async () => {
  let fails = false
  await using it = await testCloud({
    issue: () => {
      if (fails) throw new Error('the authority is on holiday')
    },
  })
  const { id: tenant, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(tenant, 'acme.example'))
  const spec = { names: ['acme.example'], source: 'internal' as const }
  const made = await it.cloud.act(caller, 'test', (verbs) => verbs.createCertificate({ name: 'own', spec }))
  const status = async () => (await it.cloud.get(caller, certificate, made.id)).status
  await it.cloud.settle(0)
  const { renewAt = 0 } = await status()
  fails = true
  await it.clock.advance(renewAt + 86_400_000 - it.clock.now())
  await it.cloud.settle(0)
  assert.match((await status()).message ?? '', /^not renewed/)
  fails = false
  await it.clock.advance(-7_200_000)
  await it.engine.wake(`certificate/${made.id}`)
  await it.cloud.settle(0)
  assert.ok(((await status()).renewAt ?? 0) > renewAt)
})

test('a hostname has one holder, and is below a domain of the tenant', async () => {
  await using it = await world()
  const { caller: other } = await it.tenant('other')
  await tunnelTo(it)
  const refused = async (work: Promise<unknown>, code: string): Promise<void> =>
    await assert.rejects(work, (error: unknown) => isCloudError(error) && error.code === code)
  await refused(tunnelTo(it, { name: 'second' }), 'already_exists')
  await refused(tunnelTo(it, { hostname: 'app.other.example' }), 'invalid')
  await refused(tunnelTo(it, { hostname: 'acme.example.evil.example' }), 'invalid')
  await refused(tunnelTo(it, { hostname: '*.acme.example' }), 'invalid')
  await refused(tunnelTo(it, { protocol: 'udp', port: 53, hostname: 'dns.acme.example' }), 'invalid')
  await refused(
    it.cloud.act(other, 'test', (verbs) =>
      verbs.createTunnel({ workload: it.web.id, protocol: 'http', hostname: 'x.acme.example', port: 80 }),
    ),
    'not_found',
  )
  await tunnelTo(it, { protocol: 'udp', port: 7000, hostname: 'a.acme.example' })
  await refused(tunnelTo(it, { protocol: 'udp', port: 7000, hostname: 'b.acme.example' }), 'already_exists')
})

test('routes share a hostname by path, divide by weight and keep what they lead to', async () => {
  await using it = await world()
  const create = async (name: string, pathPrefix: string, weights: readonly number[]) =>
    await it.cloud.act(it.acme, 'test', (verbs) =>
      verbs.createRoute({
        name,
        spec: {
          vpc: it.web.spec.vpc,
          hostname: 'shop.acme.example',
          pathPrefix,
          stripPrefix: false,
          protocol: 'http',
          plain: false,
          targets: weights.map((weight, at) => ({ workload: it.web.id, port: 80 + at, weight })),
        },
      }),
    )
  await create('all', '/', [1])
  const api = await create('api', '/api', [3, 1])
  await assert.rejects(create('again', '/api', [1]), (error: unknown) =>
    isCloudError(error, 'already_exists'),
  )
  await assert.rejects(tunnelTo(it, { hostname: 'shop.acme.example' }), (error: unknown) =>
    isCloudError(error, 'already_exists'),
  )
  await it.settle()
  assert.equal((await it.cloud.get(it.acme, route, api.id)).status.state, 'active')
  const led = routesOf(it).find((one) => one.id === api.id)
  assert.deepEqual(
    led?.origins.map((one) => [one.port, one.weight]),
    [
      [80, 1.5],
      [80, 1.5],
      [81, 0.5],
      [81, 0.5],
    ],
  )
  await assert.rejects(
    it.cloud.act(it.acme, 'test', (verbs) => verbs.deleteWorkload(it.web.id)),
    (error: unknown) => isCloudError(error, 'conflict') && error.details.rule === 'in_use',
  )
})

test('a service tunnel leads to the platform, and everything goes with its owner', async () => {
  await using it = await world()
  await tunnelTo(it)
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({
      ...PROVIDER,
      cloudflareDomain: 'cloud.example',
    }),
  )
  const service = await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.createServiceTunnel({ service: 'api', protocol: 'https', subdomain: 'api' }),
  )
  await it.settle()
  assert.equal((await it.cloud.get(it.admin, serviceTunnel, service.id)).status.state, 'active')
  assert.equal(it.front.fronts.get('platform')?.routes[0]?.hostname, 'api.cloud.example')
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.deleteVpc(it.web.spec.vpc))
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.remove(serviceTunnel as never, service.id))
  await it.settle(60_000)
  assert.deepEqual([await it.cloud.all(it.acme, vpc), await it.cloud.all(it.acme, workload)], [[], []])
  assert.deepEqual([it.front.fronts.size, it.front.certificates.size], [0, 0])
})

test('what somebody else handed to the edge meanwhile is seen and taken over', async () => {
  await using it = await world()
  const { id } = await tunnelTo(it)
  await it.settle()
  const signal = AbortSignal.timeout(10_000)
  const [made] = await it.cloud.all(it.acme, certificate)
  const front = it.front.fronts.get(it.web.spec.vpc) ?? assert.fail()
  const served = it.front.certificates.get(made?.id ?? '') ?? assert.fail()
  await it.front.apply({ ...front, generation: 40, routes: [] }, signal)
  await it.front.applyCertificate({ ...served, generation: 40 }, signal)
  const second = await tunnelTo(it, { hostname: 'two.acme.example', name: 'two' })
  await it.settle(60_000)
  assert.deepEqual(
    routesOf(it)
      .map((one) => one.id)
      .toSorted(),
    [id, second.id].toSorted(),
  )
  await it.settle(61 * DAY_MS)
  assert.notEqual(it.front.certificates.get(made?.id ?? '')?.issued?.chain, served.issued?.chain)
})

test('a wish that goes back while the answer about it is lost is handed over again', async () => {
  let lost = false
  await using it = await world()
  const apply = it.front.apply.bind(it.front)
  it.front.apply = async (front, signal) => {
    await apply(front, signal)
    if (lost) throw new CloudError('unavailable', 'the answer is lost')
  }
  await tunnelTo(it)
  await it.settle()
  const [one] = routesOf(it)[0]?.origins ?? []
  const id = one?.id ?? ''
  lost = true
  it.compute.pretend(id, { ready: false })
  await it.engine.wake(`replica/${id}`)
  await it.cloud.settle(0)
  assert.equal(routesOf(it)[0]?.origins.length, 1)
  lost = false
  it.compute.pretend(id)
  await it.engine.wake(`replica/${id}`)
  await it.settle(60_000)
  assert.equal(routesOf(it)[0]?.origins.length, 2)
})

test('a change is not said to be in force before the edge has it', async () => {
  let away = false
  await using it = await world({
    fault: (verb) => {
      if (away && verb === 'front.apply') throw new CloudError('unavailable', 'the edge does not answer')
    },
  })
  const { id } = await tunnelTo(it)
  await it.settle()
  const other = await it.cloud.act(it.acme, 'test', (verbs) =>
    verbs.createCertificate({ name: 'other', spec: { names: ['*.acme.example'], source: 'internal' } }),
  )
  await it.settle()
  away = true
  await it.cloud.act(it.acme, 'test', (verbs) =>
    verbs.patch(tunnel as never, id, { spec: { certificate: other.id } }),
  )
  await it.settle(20_000)
  const waiting = await it.cloud.get(it.acme, tunnel, id)
  assert.ok(waiting.observed < waiting.generation)
  assert.equal(waiting.status.state, 'active', 'as before, it is still served')
  away = false
  await it.settle(60_000)
  const changed = await it.cloud.get(it.acme, tunnel, id)
  assert.deepEqual([changed.observed, routesOf(it)[0]?.certificate], [changed.generation, other.id])
})

test('a tunnel is not active before the edge has its certificate', async () => {
  let away = true
  await using it = await world({
    fault: (verb) => {
      if (away && verb === 'front.applyCertificate') throw new CloudError('unavailable', 'the disk is full')
    },
  })
  const { id } = await tunnelTo(it)
  await it.settle(20_000)
  const { status } = await it.cloud.get(it.acme, tunnel, id)
  assert.deepEqual(status.state, 'pending')
  assert.match(status.message ?? '', /^waits for certificate app.acme.example: the disk is full$/)
  away = false
  await it.settle(60_000)
  assert.equal((await it.cloud.get(it.acme, tunnel, id)).status.state, 'active')
})

test('Cloudflare carries tunnels where its access is set, all in one tunnel of its own, and UDP stays here', async () => {
  await using it = await world()
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.putProvider(CLOUDFLARE))
  const web = await tunnelTo(it)
  const base = await tunnelTo(it, { protocol: 'tcp', port: 5432, hostname: 'db.acme.example' })
  const game = await tunnelTo(it, { protocol: 'udp', port: 7000, hostname: 'game.acme.example' })
  await it.settle()
  for (const { id } of [web, base, game])
    assert.equal((await it.cloud.get(it.acme, tunnel, id)).status.state, 'active')
  assert.equal((await it.cloud.get(it.acme, tunnel, web.id)).status.backend, 'cloudflare')
  assert.equal((await it.cloud.get(it.acme, tunnel, game.id)).status.backend, undefined)
  const { ingress, pointed } = it.world.cloudflare
  const [first] = it.web.status.replicas
  const slots = await it.cloud.all(it.acme, replica)
  const fabric = slots.find((one) => one.id === first?.id)?.spec.fabric
  assert.deepEqual(
    [...ingress.values()],
    [
      [
        { hostname: 'app.acme.example', service: 'https://127.0.0.1:443', serverName: 'app.acme.example' },
        { hostname: 'db.acme.example', service: `tcp://${fabric}:5432` },
      ],
    ],
  )
  assert.deepEqual([...pointed].toSorted(), ['app.acme.example', 'db.acme.example'])
  assert.match(it.world.connector.token() ?? '', /^token of arcus-/)
  it.compute.vanish(first?.id ?? '')
  await it.engine.wake(`replica/${first?.id ?? ''}`)
  await it.cloud.settle(0)
  assert.ok(
    !JSON.stringify([...ingress.values()]).includes(fabric ?? '-'),
    'a lost replica is led to no more',
  )
  await it.settle()
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.deleteTunnel(web.id))
  await it.settle()
  assert.deepEqual([...pointed], ['db.acme.example'])
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({ ...CLOUDFLARE, cloudflareAccountId: null, cloudflareToken: '' }),
  )
  await it.settle()
  assert.equal(it.world.connector.token(), undefined)
  assert.equal((await it.cloud.get(it.acme, tunnel, base.id)).status.backend, undefined)
})

test('what Cloudflare refuses is told and tried again when it says', async () => {
  let limited = true
  await using it = await world({
    fault: (verb) => {
      if (limited && verb === 'world.point')
        throw new CloudError('rate_limited', 'Cloudflare refused: slow down (971)', { retryAfterSeconds: 30 })
    },
  })
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.putProvider(CLOUDFLARE))
  const { id } = await tunnelTo(it)
  await it.settle(20_000)
  const seen = await it.cloud.get(it.acme, tunnel, id)
  assert.deepEqual([seen.status.state, seen.status.message], ['error', 'Cloudflare refused: slow down (971)'])
  limited = false
  await it.settle(40_000)
  assert.equal((await it.cloud.get(it.acme, tunnel, id)).status.state, 'active')
})

test('a network without fabric addresses refuses what would lead nowhere', async () => {
  await using it = await world({ promises: EVERY_PROMISE.filter((promise) => promise !== 'fabric') })
  await assert.rejects(tunnelTo(it), (error: unknown) => isCloudError(error, 'unsupported'))
})
