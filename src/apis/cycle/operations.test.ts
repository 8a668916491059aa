import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import createClient from 'openapi-fetch'
import { Agent, fetch, Request } from 'undici'
import { objectId } from '#lib/object-id.ts'
import { type Asking, askSocket, checkAnswer, type Member } from './cycle.testing.ts'
import { seededWorld, snapshot } from './seed.testing.ts'

const CONTRACT = new URL('../../../test/contracts/cycle.json', import.meta.url)

const world = await seededWorld()
after(async () => await world[Symbol.asyncDispose]())
const web = await world.member('web')
const short = (name: string): string => objectId(world.workloads[name]?.id ?? '')
const ids = (list: readonly { id: string }[]): string[] => list.map((it) => it.id)
const SERVICES = ['discovery', 'loadbalancer', 'vpn', 'scheduler']
const HERE = ['web', 'orders', 'resize', 'conductor', ...SERVICES]
const basic = (login: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(login).toString('base64')}`,
})

/** Each operation with what makes it succeed, and whose it is; the answer itself is checked against the contract. */
const GOOD: Readonly<Record<string, Asking & { query?: string; by?: string; status?: number }>> = {
  'GET /v1/hub/integrations': { query: 'vendor=backblaze-b2' },
  'GET /v1/virtual-machine': { query: `virtual-machine-id=${'0'.repeat(24)}`, status: 404 },
  'GET /v1/virtual-machine/domains': { query: `virtual-machine-id=${'0'.repeat(24)}`, status: 404 },
  'GET /v1/virtual-machine/gateways': { query: `virtual-machine-id=${'0'.repeat(24)}`, status: 404 },
  'GET /v1/object-cache': { query: 'scope=container&key=rates' },
  'POST /v1/object-cache': { body: { scope: 'container', expires: '10m', key: 'rates', value: '{}' } },
  'POST /v1/environment/services/lb/telemetry/snapshots': {
    by: 'loadbalancer',
    body: { 'port-443': snapshot() },
  },
  'POST /v1/monitoring/metrics': {
    body: [
      { metric: 'orders', type: 'count', points: [{ time: '2026-03-27T11:15:00Z', values: [1, 2] }] },
      { metric: 'empty', type: 'gauge' },
    ],
  },
  'POST /v1/monitoring/events': { body: [{ event: 'backlog', type: 'warning', priority: 'high' }] },
  'POST /v1/conductor/tasks': {
    by: 'conductor',
    body: {
      action: 'container.instance.stop',
      contents: {
        instance_id: objectId((await world.member('orders')).replica.id),
        container_id: short('orders'),
      },
    },
  },
  'POST /v1/vpn/login': { headers: basic('ada:long: enough') },
  'POST /v1/server/images/download': {
    body: { image_id: (await web.data('GET', '/v1/container')).image.id },
  },
  // No container has power over the machine that it shares.
  'POST /v1/server/power/poweroff': { status: 403 },
  'POST /v1/server/power/reboot': { status: 403 },
}

type Asked = Asking & {
  readonly member: Member
  readonly method: string
  readonly path: string
  readonly query?: string | undefined
}
type Called = { readonly data?: unknown; readonly error?: unknown; readonly response: Response }

/** Asks as that client does: openapi-fetch over undici, which has one connection pool for each socket. */
function openClient() {
  const pools = new Map<string, Agent>()
  const poolOf = (socketPath: string): Agent => {
    const pool = pools.get(socketPath) ?? new Agent({ connect: { socketPath } })
    pools.set(socketPath, pool)
    return pool
  }
  return {
    async ask({ member, method, path, query, body, headers = {} }: Asked) {
      const client = createClient<object>({
        baseUrl: 'http://localhost',
        headers: { 'X-CYCLE-TOKEN': member.token },
        // Their types are those of another version of undici, which Node has built in.
        Request: Request as unknown as typeof globalThis.Request,
        fetch: ((it: Request) =>
          fetch(it, { dispatcher: poolOf(member.socket) })) as unknown as typeof globalThis.fetch,
      }) as unknown as Record<string, (path: string, init: object) => Promise<Called>>
      const params = { query: Object.fromEntries(new URLSearchParams(query)) }
      const called = await client[method]?.(path, {
        params,
        headers,
        ...(body === undefined ? {} : { body }),
      })
      assert.ok(called)
      const { data, error, response } = called
      assert.equal(data !== undefined, response.ok)
      checkAnswer(method, path, response.status, data ?? error)
      return { status: response.status, body: data ?? error }
    },
    async [Symbol.asyncDispose]() {
      for (const pool of pools.values()) await pool.close()
    },
  }
}

/** Asks every operation of the contract once; what is kept is asked for after it. */
async function askAll(ask: (asked: Asked) => Promise<{ status: number; body: unknown }>): Promise<void> {
  const { paths } = JSON.parse(readFileSync(CONTRACT, 'utf8')) as {
    paths: Record<string, Record<string, unknown>>
  }
  const all = Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item).map((it) => [path, it.toUpperCase()] as const),
  )
  assert.equal(all.length, 34)
  for (const [path, method] of all.toSorted((a, b) => b[1].localeCompare(a[1]))) {
    const { query, by = 'web', status = 200, ...how } = GOOD[`${method} ${path}`] ?? {}
    const answer = await ask({ member: await world.member(by), method, path, query, ...how })
    assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.body)}`)
  }
}

test('every operation of the contract answers as it says', async () => {
  await askAll(
    async ({ member, method, path, query, ...how }) =>
      await member.ask(method, `${path}${query ? `?${query}` : ''}`, how),
  )
})

test("every operation answers the library that the vendor's TypeScript client is made of", async () => {
  await using client = openClient()
  await askAll(client.ask)
})

test("a login that is refused comes to the vendor's client as its error", async () => {
  await using client = openClient()
  const login = async (text: string) =>
    await client.ask({ member: web, method: 'POST', path: '/v1/vpn/login', headers: basic(text) })
  assert.deepEqual(await login('ada:wrong'), { status: 403, body: { data: false } })
})

test('the environment, its services and its addresses', async () => {
  const it = await web.data('GET', '/v1/environment')
  assert.equal(it.id, objectId(world.vpcs.shop.id))
  assert.equal(it.state.current, 'live')
  assert.equal(it.events.deleted, '0001-01-01T00:00:00Z')
  assert.deepEqual(it.deployments, { tags: { live: 'v1.4.0', next: 'v1.5.0-rc.1' } })
  assert.match(it.private_network.ipv6.cidr, /^fd[0-9a-f:]+::\/48$/)
  assert.equal(it.services.scheduler.high_availablity, false)
  assert.equal(it.services.vpn.config.auth.vpn_accounts, true)
  assert.equal(it.services.gateway, null)
  const services = await web.data('GET', '/v1/environment/services')
  assert.deepEqual(Object.keys(services).toSorted(), SERVICES.toSorted())
  for (const name of SERVICES) {
    assert.equal(services[name].container.id, short(name))
    assert.equal(services[name].instances[0].service, name)
    assert.equal('role' in services[name].container, false)
  }
  const ips = await web.data('GET', '/v1/environment/ips')
  const own = ips.find((one: { assignment: unknown }) => one.assignment !== null)
  assert.equal(own.assignment.container_id, short('web'))
  assert.deepEqual(own.assingment, own.assignment)
})

test('containers and instances are those of the environment, with their real addresses', async () => {
  const containers = await web.data('GET', '/v1/environment/containers')
  assert.deepEqual(ids(containers), HERE.map(short))
  const [first] = containers
  assert.equal(first.state.current, 'running')
  assert.equal(first.deployment.version, 'v1.4.0')
  assert.deepEqual(first.config.network.ports, ['80:80'])
  assert.equal(first.config.deploy.health_check.command, 'wget -q http://localhost/healthz')
  assert.equal(first.instances, 2)
  const instances = await web.data('GET', '/v1/environment/instances')
  assert.equal(instances.length, HERE.length + 1)
  const mine = instances.find((it: { id: string }) => it.id === objectId(web.replica.id))
  assert.equal(mine.environment.subnet, '1')
  const [range] = mine.environment.ipv6.cidr.split('::/64')
  assert.ok(mine.environment.ipv6.ip.startsWith(`${range}:`), JSON.stringify(mine.environment))
  assert.equal(mine.state.current, 'running')
  assert.equal(mine.state.health.healthy, true)
  const orders = containers.find((it: { id: string }) => it.id === short('orders'))
  assert.equal(orders.stateful, true)
  assert.equal(orders.volumes[0].config.destination, '/data')
  const resize = containers.find((it: { id: string }) => it.id === short('resize'))
  assert.deepEqual([resize.state.current, resize.config.deploy.strategy], ['function', 'function'])
})

test('a container is the own one or one of the environment, and no other', async () => {
  assert.equal((await web.data('GET', '/v1/container')).id, short('web'))
  assert.equal((await web.data('GET', '/v1/container?container-id=')).id, short('web'))
  assert.equal((await web.data('GET', `/v1/container?container-id=${short('orders')}`)).id, short('orders'))
  assert.equal((await web.data('GET', '/v1/container/instances')).length, 2)
  const absent = await web.ask('GET', `/v1/container?container-id=${'f'.repeat(24)}`)
  assert.deepEqual([absent.status, absent.body.error.code], [404, '404.container'])
  assert.equal(absent.body.error.source, '/query/container-id')
  const foreign = await web.ask('GET', `/v1/container?container-id=${short('ledger')}`)
  assert.deepEqual(foreign.body, absent.body)
  const wrong = await web.ask('GET', '/v1/container?container-id=web')
  assert.deepEqual([wrong.status, wrong.body.error.code], [422, '422.invalid-argument'])
})

test('hostnames and certificates of what leads to a container', async () => {
  const domains = await web.data('GET', '/v1/containers/domains')
  const [tunnel, route] = domains
  assert.equal(tunnel.fqdn, 'shop.harbor.example')
  assert.equal(tunnel.record.type.linked.container_id, short('web'))
  assert.equal(tunnel.record.type.linked.deployment, null)
  assert.equal(route.record.type.linked.routing.http.match_path, '/images')
  const certificates = await web.data('GET', '/v1/containers/certificates')
  assert.deepEqual(certificates.flatMap((it: { domains: string[] }) => it.domains).toSorted(), [
    'shop.harbor.example',
    'shop2.harbor.example',
  ])
  assert.match(certificates[0].private_key, /^-----BEGIN/)
  assert.match(certificates[0].bundle, /^-----BEGIN CERTIFICATE/)
  assert.equal(tunnel.record.features.certificate.id, certificates[0].id)
  const { body } = await askSocket(web.socket, 'GET', '/v1/container/certificates', { token: web.token })
  assert.deepEqual(body.data, certificates)
  assert.deepEqual(await (await world.member('orders')).data('GET', '/v1/containers/certificates'), [])
})

test('the machine shows what is of the hub, and networks join environments', async () => {
  const server = await web.data('GET', '/v1/server')
  const instances = await web.data('GET', '/v1/server/instances')
  assert.equal(instances.length, HERE.length + 2)
  assert.ok(instances.every((it: { server_id: string }) => it.server_id === server.id))
  assert.equal((await web.data('GET', '/v1/server/containers')).length, HERE.length + 1)
  const [network] = await web.data('GET', '/v1/sdn/networks')
  assert.equal(network.environments.length, 2)
  assert.deepEqual(
    ids(await web.data('GET', '/v1/sdn/networks/environments')),
    [world.vpcs.shop, world.vpcs.office].map((it) => objectId(it.id)),
  )
  assert.equal((await web.data('GET', '/v1/sdn/networks/instances')).length, HERE.length + 2)
  await world.it.settle()
  const telemetry = await web.data('GET', '/v1/server/instances/telemetry')
  assert.ok(telemetry.some((it: { instance_id: string }) => it.instance_id === objectId(web.replica.id)))
  const [image] = await web.data('GET', '/v1/server/images')
  assert.equal(image.id, (await web.data('GET', '/v1/container')).image.id)
})

test('the hub and its integrations', async () => {
  assert.equal((await web.data('GET', '/v1/hub')).id, objectId(world.tenant.id))
  const it = await web.data('GET', '/v1/hub/integrations?identifier=offsite&vendor=backblaze-b2')
  assert.deepEqual([it.auth.secret, it.auth.api_key, it.extra.prefix], ['a secret', null, 'prod'])
  for (const [query, status, code] of [
    ['', 422, '422.missing-argument'],
    ['identifier=', 422, '422.missing-argument'],
    ['identifier=offsite&vendor=other', 404, '404.hub.integration'],
    ['vendor=nobody', 404, '404.hub.integration'],
  ] as const) {
    const { status: seen, body } = await web.ask('GET', `/v1/hub/integrations?${query}`)
    assert.deepEqual([seen, body.error.code], [status, code], query)
  }
})

test('variables are those that name the container, as long as they may be read', async () => {
  const before = await web.data('GET', '/v1/environment/scoped-variables')
  assert.deepEqual(before, { REGION: 'eu', BOOT: 'only for a minute' })
  assert.deepEqual(await (await world.member('orders')).data('GET', '/v1/environment/scoped-variables'), {
    REGION: 'eu',
  })
  await world.it.clock.advance(61_000)
  assert.deepEqual(await web.data('GET', '/v1/environment/scoped-variables'), { REGION: 'eu' })
})

test('a name and password open the VPN, or are refused without an error', async () => {
  const login = async (how: Asking) => {
    const { status, body } = await web.ask('POST', '/v1/vpn/login', how)
    return [status, body.data ?? body.error?.code]
  }
  assert.deepEqual(await login({ headers: basic('ada:long: enough') }), [200, true])
  assert.deepEqual(await login({ headers: basic('ada:long: enough'), token: null }), [200, true])
  assert.deepEqual(await login({ headers: basic('ada:wrong') }), [403, false])
  assert.deepEqual(await login({ headers: basic('nobody:long: enough') }), [403, false])
  assert.deepEqual(await login({ headers: basic('ada:long: enough'), token: 'x' }), [401, '401.auth-invalid'])
  assert.deepEqual(await login({}), [422, '422.missing-argument'])
  assert.deepEqual(await login({ headers: basic('nocolon') }), [422, '422.missing-argument'])
  assert.deepEqual(await login({ token: null }), [401, '401.auth-invalid'])
})

test('a value is kept for those whom its scope names', async () => {
  const [, second] = await world.members(world.caller, world.workloads['web']?.id ?? '')
  const others = { second, orders: await world.member('orders'), ledger: await world.member('ledger') }
  const reach = { global: 3, environment: 2, container: 1, instance: 0 }
  for (const [scope, count] of Object.entries(reach)) {
    await web.data('POST', '/v1/object-cache', { body: { scope, expires: '10m', key: scope, value: 'here' } })
    const seen = await Promise.all(
      Object.values(others).map(
        async (it) => (await it?.ask('GET', `/v1/object-cache?scope=${scope}&key=${scope}`))?.status,
      ),
    )
    assert.equal(seen.filter((it) => it === 200).length, count, scope)
  }
  await world.it.clock.advance(600_000)
  assert.equal((await web.ask('GET', '/v1/object-cache?scope=instance&key=instance')).status, 404)
  const refused = async (change: object) =>
    (
      await web.ask('POST', '/v1/object-cache', {
        body: { scope: 'global', expires: '1s', key: 'k', value: 'v', ...change },
      })
    ).body.error.code
  assert.equal(await refused({ expires: 'soon' }), '422.invalid-argument')
  assert.equal(await refused({ expires: '1y' }), '422.max-exceeded')
  assert.equal(await refused({ value: 'x'.repeat(300_000) }), '422.max-exceeded')
  assert.equal(await refused({ scope: 'all' }), '422.invalid-argument')
})

test('what instances send can be read by whom they belong to', async () => {
  const { cloud } = world.it
  const idOf = (name: string): string => world.workloads[name]?.id ?? ''
  const [metric] = await cloud.workloadMetrics(world.caller, idOf('web'), {})
  assert.deepEqual([metric?.metric, metric?.replica], ['orders', web.replica.id])
  assert.deepEqual(metric?.points, [[Date.parse('2026-03-27T11:15:00Z'), 1, 2]])
  const [told] = await cloud.workloadEvents(world.caller, idOf('web'), {})
  assert.deepEqual(told?.event, { event: 'backlog', type: 'warning', priority: 'high' })
  const [counted] = await cloud.balancerSnapshots(world.caller, idOf('loadbalancer'), {})
  assert.equal(counted?.controller, 'port-443')
})

test('an instance that is stopped by a task is stopped', async () => {
  await world.it.settle()
  const [stopped] = await web.data('GET', `/v1/container/instances?container-id=${short('orders')}`)
  assert.equal(stopped.state.current, 'stopped')
  const contents = { instance_id: stopped.id, container_id: short('orders') }
  const conductor = await world.member('conductor')
  const task = { body: { action: 'container.instance.start', contents: { ...contents, function: null } } }
  const { status, body } = await conductor.ask('POST', '/v1/conductor/tasks', task)
  assert.deepEqual([status, body], [200, {}])
  await world.it.settle()
  const [started] = await web.data('GET', `/v1/container/instances?container-id=${short('orders')}`)
  assert.equal(started.state.current, 'running')
  const run = { function: { token: 't', runtime_variables: {} } }
  const wrong = { action: 'container.instance.start', contents: { ...contents, ...run } }
  const refused = await conductor.ask('POST', '/v1/conductor/tasks', { body: wrong })
  assert.deepEqual([refused.status, refused.body.error.code], [422, '422.not-compatible'])
})

test('no secret and no token is in the log', () => {
  const said = world.said.join('')
  assert.match(said, /conductor\/tasks/, 'the log is the whole one')
  for (const word of [web.token, 'a secret', 'only for a minute', 'long: enough', 'PRIVATE KEY', 'LOG_LEVEL'])
    assert.ok(!said.includes(word), word)
})

test('nothing was a bug', () => assert.deepEqual(world.bugs, []))
