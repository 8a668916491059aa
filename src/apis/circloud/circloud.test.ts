import assert from 'node:assert/strict'
import { test } from 'node:test'
import { natGateway } from '#cloud/network/nat-gateway.kind.ts'
import { testDialect } from './circloud.testing.ts'

const NOBODY = '00000000-0000-7000-8000-000000000000'

test('health and version need no token, unknown paths answer in the same shape', async () => {
  await using it = await testDialect()
  assert.deepEqual((await it.ask('GET', '/healthz')).body, { status: 'ok' })
  assert.deepEqual((await it.ask('GET', '/version')).body, {
    version: '0.0.0',
    name: 'circloud',
    commit: null,
  })
  for (const path of [
    '/nope',
    '/',
    '',
    '/pods/',
    '/vpcs/x/y',
    '/tunnels/x/y',
    '/pods/%zz/restart/',
    '/%ff',
  ]) {
    const { status, body } = await it.ask('GET', path, { unchecked: true })
    assert.equal(status, 404, path)
    assert.deepEqual(body, { detail: 'Not found' })
  }
})

test('a wrong method is 405 with the right ones, whatever else is wrong', async () => {
  await using it = await testDialect()
  for (const [method, path, allow] of [
    ['PUT', '/vpcs', 'GET, HEAD, POST'],
    ['GET', '/admin/login', 'POST'],
    ['OPTIONS', '/pods', 'GET, HEAD, POST'],
    ['PATCH', `/pods/${NOBODY}`, 'DELETE'],
    ['HEAD', `/pods/${NOBODY}/restart`, 'POST'],
  ] as const) {
    const { status, body, headers } = await it.ask(method, path, { raw: '{', unchecked: true })
    assert.equal(status, 405, `${method} ${path}`)
    assert.equal(headers['allow'], allow)
    if (method !== 'HEAD') assert.deepEqual(body, { detail: 'Method not allowed' })
  }
  assert.equal((await it.ask('HEAD', '/healthz', { unchecked: true })).status, 200)
})

test('an administrator logs in by password and only that token opens what is the administrator’s', async () => {
  await using it = await testDialect()
  const { username, password } = it.world.credentials
  const login = await it.ask('POST', '/admin/login', { body: { username, password } })
  assert.equal(login.status, 200)
  assert.equal(login.body.username, username)
  assert.equal((await it.ask('GET', '/tenants', { admin: login.body.api_token })).status, 200)
  assert.equal((await it.ask('POST', '/admin/login', { body: { username, password: 'wrong' } })).status, 401)
  assert.equal((await it.ask('POST', '/admin/login', { body: { username: 'nobody', password } })).status, 401)
  const missing = await it.ask('POST', '/admin/login', { body: { username } })
  assert.deepEqual([missing.status, missing.body], [400, { detail: 'password: is required' }])
  const acme = await it.tenant('acme')
  const tenantLogin = await it.ask('POST', '/admin/login', { body: { username: 'acme', password: 'gui-pw' } })
  assert.equal(tenantLogin.status, 401)
  for (const how of [
    {},
    { admin: acme.token },
    { auth: acme.token },
    { auth: login.body.api_token },
    { admin: '' },
  ])
    assert.equal((await it.ask('GET', '/tenants', how)).status, 401, JSON.stringify(how))
  assert.equal((await it.ask('GET', '/pods', { auth: login.body.api_token })).status, 401)
})

test('too many wrong passwords are refused for a while', async () => {
  await using it = await testDialect()
  const { username } = it.world.credentials
  let last = 401
  for (let tries = 0; tries < 30 && last === 401; tries++) {
    const answer = await it.ask('POST', '/admin/login', {
      body: { username, password: 'wrong' },
      unchecked: true,
    })
    last = answer.status
    if (last === 429) assert.ok(Number(answer.headers['retry-after']) > 0)
  }
  assert.equal(last, 429)
})

test('tenants are made, listed without secrets, and gone with their token', async () => {
  await using it = await testDialect()
  const made = await it.admin('POST', '/tenants', {
    name: 'acme',
    description: 'Demo',
    password: 'gui-pw',
    plan: 'ignored',
  })
  assert.equal(made.status, 201)
  assert.match(made.body.api_token, /^tnt_/)
  assert.equal((await it.admin('POST', '/tenants', { name: 'acme', password: 'x' })).status, 409)
  for (const name of ['Bad_Name', '-a', 'a-', '', 'a'.repeat(64), 'ä', 7, null])
    assert.equal((await it.admin('POST', '/tenants', { name, password: 'x' })).status, 400, String(name))
  const listed = await it.admin('GET', '/tenants')
  const { api_token: token, ...shown } = made.body
  assert.deepEqual(listed.body, [shown])
  assert.equal(JSON.stringify(listed.body).includes('gui-pw'), false)
  const other = await it.admin('POST', '/tenants', { name: 'other', password: 'y', description: null })
  assert.deepEqual(
    (await it.admin('GET', '/tenants')).body.map((one: { name: string }) => one.name),
    ['acme', 'other'],
  )
  assert.equal((await it.admin('GET', `/tenants/${NOBODY}`)).status, 404)
  assert.equal((await it.admin('GET', '/tenants/no-uuid')).status, 404)
  assert.equal((await it.admin('GET', `/tenants/${other.body.id.toUpperCase()}`)).status, 200)
  assert.equal((await it.admin('DELETE', `/tenants/${made.body.id}`)).status, 204)
  assert.equal((await it.ask('GET', '/vpcs', { auth: token })).status, 401)
  assert.equal((await it.admin('DELETE', `/tenants/${made.body.id}`)).status, 404)
  assert.equal((await it.admin('GET', `/tenants/${made.body.id}`)).status, 404)
  assert.equal((await it.admin('GET', '/tenants')).body.length, 1)
  assert.equal((await it.admin('POST', '/tenants', { name: 'acme', password: 'x' })).status, 201)
})

test('a tenant’s detail shows everything it has with live figures', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const { vpc, subnet } = await it.network(acme)
  await it.admin('POST', `/tenants/${acme.id}/domains`, { domain: 'example.com' })
  const pod = await acme.call('POST', '/pods', {
    tenant_id: acme.id,
    token: acme.token,
    vpc_id: vpc,
    subnet_id: subnet,
    name: 'web',
    container_image: 'nginx:latest',
    auto_scaling: true,
  })
  assert.equal(pod.status, 201)
  await it.world.settle()
  const detail = await it.admin('GET', `/tenants/${acme.id}`)
  assert.equal(detail.status, 200)
  assert.equal(detail.body.name, 'acme')
  assert.deepEqual(
    [detail.body.vpcs.length, detail.body.subnets.length, detail.body.pods.length, detail.body.tunnels],
    [1, 1, 1, []],
  )
  assert.equal(detail.body.domains[0].domain, 'example.com')
  const live = detail.body.pod_status[pod.body.id]
  assert.equal(live.status, 'running')
  assert.equal(live.ready_replicas, 2)
  assert.deepEqual(
    live.replicas.map((one: { name: string }) => one.name),
    ['web-0', 'web-1'],
  )
  assert.equal(live.autoscaler.min_replicas, 2)
  assert.equal(live.autoscaler.target_cpu_millicores, 200)
})

test('domains are approved once in the installation, in lower case', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const path = `/tenants/${acme.id}/domains`
  const made = await it.admin('POST', path, { domain: 'Shop.Example.com' })
  assert.deepEqual([made.status, made.body.domain, made.body.tenant_id], [201, 'shop.example.com', acme.id])
  assert.equal((await it.admin('POST', path, { domain: 'shop.example.com' })).status, 409)
  assert.equal(
    (await it.admin('POST', `/tenants/${beta.id}/domains`, { domain: 'SHOP.example.com' })).status,
    409,
  )
  for (const domain of ['example', 'a..b', '-a.com', 'a_b.com', `${'a.'.repeat(130)}com`, '', 5])
    assert.equal((await it.admin('POST', path, { domain })).status, 400, String(domain))
  assert.equal((await it.admin('POST', `/tenants/${NOBODY}/domains`, { domain: 'b.com' })).status, 404)
  assert.equal((await it.admin('POST', `/tenants/${NOBODY}/domains`, { domain: 'b' })).status, 400)
  assert.deepEqual((await it.admin('GET', path)).body, [made.body])
  assert.deepEqual((await it.admin('GET', `/tenants/${beta.id}/domains`)).body, [])
  assert.equal((await it.admin('GET', `/tenants/${NOBODY}/domains`)).status, 404)
  assert.equal((await it.ask('GET', path, { auth: acme.token })).status, 401)
})

test('the provider configuration is one, replaced whole, its token never shown', async () => {
  await using it = await testDialect()
  const path = '/provider-config'
  const least = {
    external_subnet_cidr: '203.0.113.0/24',
    external_subnet_gateway: '203.0.113.1',
    peering_subnet_cidr: '172.30.0.0/24',
  }
  assert.equal((await it.admin('GET', path)).status, 404)
  const first = await it.admin('POST', path, least)
  assert.equal(first.status, 201)
  assert.deepEqual(
    [
      first.body.cloudflare_api_token,
      first.body.pod_dns_ndots,
      first.body.pod_dns_nameservers,
      first.body.cloudflare_domain,
    ],
    [null, null, [], null],
  )
  assert.equal((await it.admin('GET', path)).body.cloudflare_api_token, null)
  const full = {
    ...least,
    pod_dns_nameservers: ['1.1.1.1'],
    pod_dns_ndots: 2,
    cloudflare_account_id: 'acc-1',
    cloudflare_api_token: 'cf-secret-token',
    cloudflare_domain: 'yourdomain.com',
  }
  const second = await it.admin('POST', path, full)
  assert.equal(second.status, 200)
  const shown = await it.admin('GET', path)
  assert.deepEqual(shown.body, {
    ...full,
    cloudflare_api_token: '********',
    updated_at: shown.body.updated_at,
  })
  const kept = await it.admin('POST', path, { ...least, cloudflare_api_token: '********' })
  assert.deepEqual(
    [kept.status, kept.body.cloudflare_api_token, kept.body.pod_dns_ndots],
    [200, '********', null],
  )
  assert.equal((await it.admin('POST', path, least)).body.cloudflare_api_token, null)
  for (const wrong of [
    { external_subnet_gateway: '203.0.114.1' },
    { external_subnet_cidr: '203.0.113.1/24' },
    { peering_subnet_cidr: '203.0.113.128/25' },
    { peering_subnet_cidr: '300.0.0.0/8' },
    { pod_dns_nameservers: ['dns.example'] },
    { pod_dns_ndots: 16 },
    { pod_dns_ndots: 1.5 },
    { cloudflare_api_token: 5 },
  ])
    assert.equal((await it.admin('POST', path, { ...least, ...wrong })).status, 400, JSON.stringify(wrong))
})

test('an external subnet in use is not replaced', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const first = {
    external_subnet_cidr: '203.0.113.0/24',
    external_subnet_gateway: '203.0.113.1',
    peering_subnet_cidr: '172.30.0.0/24',
  }
  await it.admin('POST', '/provider-config', first)
  const { vpc, subnet } = await it.network(acme)
  const pod = await acme.call('POST', '/pods', {
    tenant_id: acme.id,
    vpc_id: vpc,
    subnet_id: subnet,
    name: 'web',
    container_image: 'nginx',
    external_access: true,
    external_inbound: true,
  })
  assert.match(pod.body.external_ip, /^203\.0\.113\./)
  const moved = { ...first, external_subnet_cidr: '198.51.100.0/24', external_subnet_gateway: '198.51.100.1' }
  assert.equal((await it.admin('POST', '/provider-config', moved)).status, 409)
})

test('the header decides, and the body’s token and tenant must agree with it', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const vpc = { tenant_id: acme.id, token: acme.token, name: 'production', enable_internet: true }
  const post = async (body: unknown, auth?: string) =>
    (await it.ask('POST', '/vpcs', { body, ...(auth === undefined ? {} : { auth }) })).status
  assert.equal(await post(vpc), 401)
  assert.equal(await post(vpc, 'wrong'), 401)
  assert.equal(await post(vpc, beta.token), 401)
  assert.equal(await post({ ...vpc, token: beta.token }, acme.token), 401)
  assert.equal(await post({ ...vpc, token: null }, acme.token), 401)
  assert.equal(await post({ ...vpc, tenant_id: beta.id }, acme.token), 401)
  assert.equal(await post({ ...vpc, tenant_id: NOBODY, name: 'Bad' }, acme.token), 401)
  assert.equal(await post({ ...vpc, tenant_id: 'no-uuid' }, acme.token), 400)
  assert.equal(await post({ ...vpc, tenant_id: undefined }, acme.token), 400)
  assert.equal(await post({ ...vpc, token: undefined }, acme.token), 201)
  assert.equal(await post({ ...vpc, tenant_id: acme.id.toUpperCase(), name: 'second' }, acme.token), 201)
})

test('VPCs and subnets: names, ranges, gateways, overlaps', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const { vpc, subnet } = await it.network(acme)
  const again = await acme.call('POST', '/vpcs', {
    tenant_id: acme.id,
    name: 'production',
    enable_internet: false,
  })
  assert.deepEqual([again.status, again.body], [409, { detail: 'VPC with this name already exists' }])
  for (const enable_internet of ['true', 1, null])
    assert.equal(
      (await acme.call('POST', '/vpcs', { tenant_id: acme.id, name: 'x', enable_internet })).status,
      400,
    )
  const whole = {
    tenant_id: acme.id,
    vpc_id: vpc,
    name: 'db',
    cidr: '10.100.2.0/24',
    gateway_ip: '10.100.2.1',
  }
  for (const [change, status] of [
    [{ gateway_ip: '10.200.0.1' }, 400],
    [{ gateway_ip: '10.100.2.0' }, 400],
    [{ gateway_ip: '10.100.2.255' }, 400],
    [{ gateway_ip: 'x' }, 400],
    [{ cidr: '10.100.2.5/24' }, 400],
    [{ cidr: '10.100.2.0/30', gateway_ip: '10.100.2.1' }, 400],
    [{ cidr: '0.0.0.0/7', gateway_ip: '0.0.0.1' }, 400],
    [{ cidr: '10.100.2.0' }, 400],
    [{ cidr: '10.100.2.999/24' }, 400],
    [{ vpc_id: 'no-uuid' }, 400],
    [{ vpc_id: NOBODY, cidr: '10.100.2.5/24' }, 400],
    [{ vpc_id: NOBODY }, 404],
    [{ cidr: '10.100.1.128/25', gateway_ip: '10.100.1.129' }, 409],
    [{ cidr: '10.0.0.0/8', gateway_ip: '10.0.0.1' }, 409],
    [{ name: 'web' }, 409],
  ] as const)
    assert.equal(
      (await acme.call('POST', '/subnets', { ...whole, ...change })).status,
      status,
      JSON.stringify(change),
    )
  assert.equal((await acme.call('POST', '/subnets', whole)).status, 201)
  const other = await it.network(acme, 'staging')
  const listed = await acme.call('GET', '/subnets')
  assert.deepEqual(listed.body.map((one: { id: string }) => one.id).slice(0, 1), [subnet])
  assert.equal(listed.body.length, 3)
  await it.world.settle()
  const vpcs = await acme.call('GET', '/vpcs')
  assert.deepEqual(
    vpcs.body.map((one: { name: string; status: string }) => [one.name, one.status]),
    [
      ['production', 'active'],
      ['staging', 'active'],
    ],
  )
  assert.equal((await acme.call('DELETE', `/vpcs/${vpc}`)).status, 204)
  await it.world.settle(60_000)
  assert.deepEqual(
    (await acme.call('GET', '/vpcs')).body.map((one: { id: string }) => one.id),
    [other.vpc],
  )
  assert.deepEqual(
    (await acme.call('GET', '/subnets')).body.map((one: { id: string }) => one.id),
    [other.subnet],
  )
  assert.equal((await acme.call('DELETE', `/vpcs/${vpc}`)).status, 404)
  assert.equal((await acme.call('DELETE', '/vpcs/no-uuid')).status, 404)
})

test('a VPC goes with its pods, but not with gateways and peerings, which are not shown here', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const { vpc, subnet } = await it.network(acme, 'production')
  const caller = { ...it.world.admin, tenant: acme.id }
  const nat = await it.world.cloud.act(caller, 'test', async (verbs) => {
    const { id } = await verbs.createElasticIp({ name: 'nat' })
    return await verbs.createNatGateway({ name: 'nat', subnet, elasticIp: id })
  })
  // The contract speaks of no refusal here, since it knows of nothing that could keep a VPC.
  const refused = await it.ask('DELETE', `/vpcs/${vpc}`, { auth: acme.token, unchecked: true })
  assert.equal(refused.status, 409)
  assert.match(refused.body.detail, /nat-gateway nat/)
  await it.world.cloud.act(caller, 'test', async (verbs) => await verbs.remove(natGateway, nat.id))
  await it.world.settle()
  assert.equal((await acme.call('DELETE', `/vpcs/${vpc}`)).status, 204)
})

test('registry credentials are kept without ever showing a password', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const path = `/tenants/${acme.id}/registry-credentials`
  const sent = {
    name: 'docker.hub',
    server: 'https://index.docker.io/v1/',
    username: 'me',
    password: 'registry-secret',
  }
  const made = await acme.call('POST', path, sent)
  assert.equal(made.status, 201)
  const listed = await acme.call('GET', path)
  assert.deepEqual(listed.body, [made.body])
  assert.equal(JSON.stringify([made.body, listed.body]).includes('registry-secret'), false)
  assert.equal((await acme.call('POST', path, sent)).status, 409)
  assert.equal((await acme.call('POST', path, { ...sent, name: 'Bad_' })).status, 400)
  assert.equal((await acme.call('POST', path, { ...sent, name: 'x', password: '' })).status, 400)
  assert.equal((await beta.call('GET', path)).status, 401)
  assert.equal((await beta.call('DELETE', `${path}/docker.hub`)).status, 401)
  assert.equal((await beta.call('GET', '/tenants/no-uuid/registry-credentials')).status, 401)
  assert.equal((await beta.call('POST', `/tenants/${beta.id}/registry-credentials`, sent)).status, 201)
  const gone = await acme.call('DELETE', `${path}/docker.hub`)
  assert.deepEqual([gone.status, gone.body], [200, { message: 'Credential deleted', name: 'docker.hub' }])
  assert.equal((await acme.call('DELETE', `${path}/docker.hub`)).status, 404)
  assert.equal((await acme.call('DELETE', `${path}/%2e%2e`)).status, 404)
  assert.deepEqual((await acme.call('GET', path)).body, [])
})

test('what is not JSON is 400 in the same shape, after the token and before anything else', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const before = await it.snapshot()
  for (const raw of [
    '',
    '{',
    'null',
    '[]',
    '7',
    '"text"',
    '{"name":}',
    '\u0000',
    '{"__proto__":{"name":"x"}}',
  ]) {
    const { status, body } = await it.ask('POST', '/vpcs', { auth: acme.token, raw })
    assert.equal(status, 400, raw)
    assert.equal(typeof body.detail, 'string')
    assert.equal((await it.ask('POST', '/vpcs', { raw })).status, 401, raw)
    assert.equal(
      (await it.ask('POST', '/tenants', { admin: it.world.credentials.token, raw })).status,
      400,
      raw,
    )
  }
  const good = JSON.stringify({ tenant_id: acme.id, name: 'x', enable_internet: true })
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonx',
    'multipart/form-data; boundary=x',
  ]) {
    const answer = await it.ask('POST', '/vpcs', {
      auth: acme.token,
      raw: good,
      headers: { 'content-type': type },
    })
    assert.deepEqual(
      [answer.status, answer.body],
      [400, { detail: 'Body must be JSON with Content-Type: application/json' }],
    )
  }
  const large = await it.ask('POST', '/vpcs', {
    auth: acme.token,
    raw: JSON.stringify({ name: 'x'.repeat(2 ** 20) }),
  })
  assert.deepEqual([large.status, large.body], [400, { detail: 'Body is too large' }])
  assert.equal(await it.snapshot(), before)
  const charset = { 'content-type': 'application/json; charset=utf-8' }
  assert.equal((await it.ask('POST', '/vpcs', { auth: acme.token, raw: good, headers: charset })).status, 201)
})

test('one tenant sees and reaches nothing of another', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const { vpc, subnet } = await it.network(acme)
  const theirs = await it.network(beta)
  const spec = { name: 'web', container_image: 'nginx' }
  const pod = await acme.call('POST', '/pods', {
    tenant_id: acme.id,
    vpc_id: vpc,
    subnet_id: subnet,
    ...spec,
  })
  const before = await it.snapshot()
  for (const path of ['/pods']) assert.deepEqual((await beta.call('GET', path)).body, [])
  assert.equal((await beta.call('GET', '/vpcs')).body.length, 1)
  for (const [method, path, body, status] of [
    ['DELETE', `/pods/${pod.body.id}`, undefined, 404],
    ['POST', `/pods/${pod.body.id}/replicas`, undefined, 404],
    ['DELETE', `/pods/${pod.body.id}/replicas`, undefined, 404],
    ['POST', `/pods/${pod.body.id}/restart`, undefined, 404],
    ['PATCH', `/pods/${pod.body.id}/config`, { auto_healing: true }, 404],
    ['DELETE', `/vpcs/${vpc}`, undefined, 404],
    [
      'POST',
      '/subnets',
      { tenant_id: beta.id, vpc_id: vpc, name: 'x', cidr: '10.9.0.0/24', gateway_ip: '10.9.0.1' },
      404,
    ],
    ['POST', '/pods', { tenant_id: beta.id, vpc_id: vpc, subnet_id: subnet, ...spec }, 404],
    ['POST', '/pods', { tenant_id: beta.id, vpc_id: theirs.vpc, subnet_id: subnet, ...spec }, 404],
    ['POST', '/pods', { tenant_id: acme.id, vpc_id: vpc, subnet_id: subnet, ...spec }, 401],
    ['GET', `/tenants/${acme.id}/topology`, undefined, 401],
    ['POST', `/tenants/${acme.id}/topology`, { token: beta.token, vpcs: [], subnets: [] }, 401],
  ] as const) {
    assert.equal((await beta.call(method, path, body)).status, status, `${method} ${path}`)
  }
  assert.equal(await it.snapshot(), before)
})
