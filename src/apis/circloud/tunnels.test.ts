import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer, testDialect, type TestDialect, type TestTenant } from './circloud.testing.ts'

const NOBODY = '6f1c2f0e-6f5a-4c5e-9b8e-0d7c3a2f1b10'
const CONFIG = {
  external_subnet_cidr: '203.0.113.0/24',
  external_subnet_gateway: '203.0.113.1',
  peering_subnet_cidr: '172.30.0.0/24',
  cloudflare_domain: 'cloud.example',
}

type World = {
  readonly acme: TestTenant
  readonly pod: string
  readonly net: { vpc: string; subnet: string }
}

const podIn = async (of: TestTenant, net: World['net'], more: object = {}): Promise<Answer> =>
  await of.call('POST', '/pods', {
    tenant_id: of.id,
    vpc_id: net.vpc,
    subnet_id: net.subnet,
    name: 'web',
    container_image: 'nginx',
    ...more,
  })

/** A tenant with a running pod, under a default domain. */
async function world(it: TestDialect): Promise<World> {
  assert.equal((await it.admin('POST', '/provider-config', CONFIG)).status, 201)
  const acme = await it.tenant('acme')
  const net = await it.network(acme)
  const { body } = await podIn(acme, net)
  await it.world.settle()
  return { acme, pod: body.id as string, net }
}

test('a tunnel is made, listed with its pod and everywhere, and deleted', async () => {
  await using it = await testDialect()
  const { acme, pod } = await world(it)
  const made = await acme.call('POST', `/pods/${pod}/tunnel`, {
    tunnel_name: 'web-app',
    subdomain: 'app',
    protocol_type: 'http',
  })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  const { id, created_at: at, ...fields } = made.body
  assert.ok(id && at)
  assert.deepEqual(fields, {
    tunnel_name: 'web-app',
    hostname: 'app.cloud.example',
    protocol_type: 'http',
    status: 'pending',
    pod_id: pod,
    subdomain: 'app',
    domain: 'cloud.example',
    service_port: 80,
  })
  await it.world.settle()
  const shown = [{ ...made.body, status: 'active' }]
  assert.deepEqual((await acme.call('GET', '/tunnels')).body, shown)
  assert.deepEqual((await acme.call('GET', `/pods/${pod}/tunnels`)).body, shown)
  assert.deepEqual((await acme.call('GET', '/pods')).body[0].tunnels, shown)
  assert.deepEqual((await it.admin('GET', `/tenants/${acme.id}`)).body.tunnels, shown)
  assert.equal((await acme.call('DELETE', `/tunnels/${id}`)).status, 204)
  assert.deepEqual((await acme.call('GET', '/tunnels')).body, [])
  assert.equal((await acme.call('DELETE', `/tunnels/${id}`)).status, 404)
  await it.world.settle()
  assert.equal(it.world.front.fronts.size, 0)
})

test('names come from the pod where none is given', async () => {
  await using it = await testDialect()
  const { acme, pod } = await world(it)
  const create = async (subdomain: string) =>
    await acme.call('POST', `/tunnels?pod_id=${pod}`, {
      subdomain,
      protocol_type: 'tcp',
      service_port: 5432,
      tunnel_name: 'ignored',
    })
  const names = [(await create('a')).body, (await create('b')).body].map((one) => one.tunnel_name)
  assert.deepEqual(names, ['web-tunnel', 'web-tunnel-2'])
  const body = { subdomain: 'c', protocol_type: 'http' }
  assert.equal((await acme.call('POST', '/tunnels', body)).status, 400)
  assert.equal((await acme.call('POST', '/tunnels?pod_id=x', body)).status, 400)
  assert.equal((await acme.call('POST', `/tunnels?pod_id=${NOBODY}`, body)).status, 404)
})

test('what a tunnel may ask for', async () => {
  await using it = await testDialect()
  const { acme, pod } = await world(it)
  const other = await it.tenant('other')
  const path = `/pods/${pod}/tunnel`
  const good = { tunnel_name: 'one', subdomain: 'app', protocol_type: 'http' }
  assert.equal((await acme.call('POST', path, good)).status, 201)
  const before = await it.snapshot()
  for (const [fields, status, detail] of [
    [{}, 409, /app.cloud.example is in use/],
    [{ subdomain: 'b' }, 409, /Tunnel with this name already exists/],
    [{ tunnel_name: 'two' }, 409, /app.cloud.example is in use/],
    [{ protocol_type: 'ftp' }, 400, /protocol_type: must be/],
    [{ service_port: 0 }, 400, /service_port/],
    [{ service_port: 65536 }, 400, /service_port/],
    [{ subdomain: 'Bad_Name' }, 400, /subdomain/],
    [{ tunnel_name: '-x' }, 400, /tunnel_name/],
    [{ tunnel_name: undefined }, 400, /tunnel_name/],
    [{ domain: 'elsewhere.example' }, 400, /domain: .*below no domain/],
    [{ domain: 'example' }, 400, /domain/],
  ] as const) {
    const { status: seen, body } = await acme.call('POST', path, { ...good, ...fields })
    assert.equal(seen, status, JSON.stringify(fields))
    assert.match(body.detail as string, detail)
  }
  assert.equal((await other.call('POST', path, { ...good, subdomain: 'x' })).status, 404)
  assert.equal((await other.call('GET', `/pods/${pod}/tunnels`)).status, 404)
  assert.equal(await it.snapshot(), before)
  const approved = await it.admin('POST', `/tenants/${acme.id}/domains`, { domain: 'elsewhere.example' })
  assert.equal(approved.status, 201)
  const there = { ...good, tunnel_name: 'two', domain: 'Elsewhere.example' }
  assert.equal((await acme.call('POST', path, there)).body.hostname, 'app.elsewhere.example')
  assert.equal((await other.call('DELETE', `/tunnels/${NOBODY}`)).status, 404)
})

test('a pod comes with its tunnels or not at all, and takes them along', async () => {
  await using it = await testDialect()
  const { acme, net } = await world(it)
  const inline = [
    { subdomain: 'shop', protocol_type: 'http' },
    { subdomain: 'shell', protocol_type: 'ssh', service_port: 22, tunnel_name: 'shell' },
  ]
  const made = await podIn(acme, net, { name: 'shop', service_port: 8080, tunnels: inline })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  assert.deepEqual(
    made.body.tunnels.map((one: Answer['body']) => [one.tunnel_name, one.service_port, one.hostname]),
    [
      ['shop-tunnel', 8080, 'shop.cloud.example'],
      ['shell', 22, 'shell.cloud.example'],
    ],
  )
  const before = await it.snapshot()
  const clash = await podIn(acme, net, {
    name: 'late',
    tunnels: [{ ...inline[0], subdomain: 'new' }, inline[0]],
  })
  assert.deepEqual([clash.status, clash.body.detail.startsWith('tunnels[1].subdomain')], [409, true])
  assert.equal(await it.snapshot(), before)
  await it.world.settle()
  assert.equal((await acme.call('DELETE', `/pods/${made.body.id}`)).status, 204)
  assert.equal(
    (await acme.call('POST', `/pods/${made.body.id}/tunnel`, { ...inline[0], tunnel_name: 'n' })).status,
    409,
  )
  await it.world.settle(60_000)
  assert.deepEqual((await acme.call('GET', '/tunnels')).body, [])
  assert.equal(it.world.front.fronts.size, 0)
})

test("a service tunnel leads to the platform, for the administrator alone, and is in no tenant's list", async () => {
  await using it = await testDialect()
  const { acme } = await world(it)
  const body = { service: 'api', subdomain: 'api' }
  assert.equal((await acme.call('POST', '/service-tunnels', body)).status, 401)
  const made = await it.admin('POST', '/service-tunnels', body)
  assert.equal(made.status, 201, JSON.stringify(made.body))
  assert.deepEqual(
    [made.body.hostname, made.body.protocol_type, made.body.service_port, made.body.tunnel_name],
    ['api.cloud.example', 'https', 8080, 'api-tunnel'],
  )
  assert.equal((await it.admin('POST', '/service-tunnels', body)).status, 409)
  assert.equal((await it.admin('POST', '/service-tunnels', { ...body, service: 'shell' })).status, 400)
  assert.deepEqual((await acme.call('GET', '/tunnels')).body, [])
})

test('a topology with tunnels can be posted to an empty tenant once they are free', async () => {
  await using it = await testDialect()
  const { acme, net } = await world(it)
  await podIn(acme, net, { name: 'shop', tunnels: [{ subdomain: 'shop', protocol_type: 'http' }] })
  const document = (await acme.call('GET', `/tenants/${acme.id}/topology`)).body
  const next = await it.tenant('next')
  const path = `/tenants/${next.id}/topology`
  assert.equal((await next.call('POST', path, document)).status, 409)
  await acme.call('DELETE', `/tunnels/${document.pods[1].tunnels[0].id}`)
  const made = await next.call('POST', path, document)
  assert.equal(made.status, 201, JSON.stringify(made.body))
  assert.equal(made.body.pods[1].tunnels[0].hostname, 'shop.cloud.example')
})
