import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDialect } from './circloud.testing.ts'
import { EXAMPLE } from './topology.ts'

test('a topology comes whole by the body’s token alone and goes round to an empty tenant', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const path = `/tenants/${acme.id}/topology`
  const made = await it.ask('POST', path, { body: { token: acme.token, ...EXAMPLE } })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  assert.deepEqual([made.body.vpcs.length, made.body.subnets.length, made.body.pods.length], [1, 1, 1])
  assert.deepEqual([made.body.subnets[0].vpc_name, made.body.pods[0].subnet_name], ['production', 'web'])
  assert.equal(made.body.pods[0].dns_name, 'nginx.production.internal')
  for (const list of ['/vpcs', '/subnets', '/pods'])
    assert.equal((await acme.call('GET', list)).body.length, 1, list)
  await it.world.settle()
  const before = await it.snapshot()
  const again = await it.ask('POST', path, { body: { token: acme.token, ...EXAMPLE } })
  assert.deepEqual([again.status, again.body.detail], [409, 'VPC with this name already exists'])
  assert.equal(await it.snapshot(), before)
  const shown = await acme.call('GET', path)
  assert.equal(shown.status, 200)
  const copied = await beta.call('POST', `/tenants/${beta.id}/topology`, shown.body)
  assert.equal(copied.status, 201, JSON.stringify(copied.body))
  const wish = ({
    vip: _vip,
    ip_addresses: _ips,
    id: _id,
    tenant_id: _tenant,
    vpc_id: _vpc,
    subnet_id: _subnet,
    status: _status,
    ready_replicas: _ready,
    created_at: _created,
    updated_at: _updated,
    ...rest
  }: Record<string, unknown>) => rest
  assert.deepEqual(copied.body.pods.map(wish), shown.body.pods.map(wish))
})

test('who may deploy: the header if there is one, else the body', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const path = `/tenants/${acme.id}/topology`
  const empty = { vpcs: [], subnets: [] }
  const post = async (body: unknown, auth?: string) =>
    (await it.ask('POST', path, { body, ...(auth === undefined ? {} : { auth }) })).status
  assert.equal(await post(empty), 401)
  assert.equal(await post({ token: 'wrong', ...empty }), 401)
  assert.equal(await post({ token: 5, ...empty }), 401)
  assert.equal(await post({ token: beta.token, ...empty }), 401)
  assert.equal(await post({ token: it.world.credentials.token, ...empty }), 401)
  assert.equal(await post({ token: acme.token, ...empty }, 'wrong'), 401)
  assert.equal(await post({ token: beta.token, ...empty }, acme.token), 401)
  assert.equal(await post({ token: acme.token, ...empty }, beta.token), 401)
  assert.equal(await post({ token: acme.token, vpcs: [] }), 400)
  assert.equal(await post({ token: acme.token, ...empty }), 201)
  assert.equal(await post(empty, acme.token), 201)
  assert.equal(await post({ token: acme.token, ...empty }, acme.token), 201)
  assert.equal((await it.ask('POST', path, { raw: '{' })).status, 400)
  assert.equal((await it.ask('POST', path)).status, 401)
  assert.equal(
    (await it.ask('POST', '/tenants/no-uuid/topology', { body: { token: acme.token, ...empty } })).status,
    401,
  )
})

test('one wrong item, and nothing is made; the place of it is told', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const [subnet] = EXAMPLE.subnets
  const [pod] = EXAMPLE.pods
  const before = await it.snapshot()
  for (const [change, status, detail] of [
    [{ subnets: [{ ...subnet, vpc_name: 'none' }] }, 400, 'subnets[0].vpc_name: there is no VPC none'],
    [{ pods: [pod, { ...pod, name: 'b', vpc_name: 'none' }] }, 400, 'pods[1].vpc_name: there is no VPC none'],
    [
      { pods: [{ ...pod, subnet_name: 'none' }] },
      400,
      'pods[0].subnet_name: there is no subnet none in VPC production',
    ],
    [{ pods: [{ ...pod, replica_count: 11 }] }, 400, 'pods[0].replica_count: must be between 1 and 10'],
    [
      { pods: [{ ...pod, external_inbound: true }] },
      400,
      'pods[0].external_inbound: requires external_access',
    ],
    [
      { pods: [{ ...pod, tunnels: [{ subdomain: 'a', protocol_type: 'ssh' }] }] },
      400,
      'pods[0].tunnels[0].domain: there is no default domain: name one of your domains, or ask an administrator',
    ],
    [
      { vpcs: [{ name: 'production', enable_internet: false }], pods: [{ ...pod, external_access: true }] },
      400,
      'pods[0].external_access: the VPC has no internet access',
    ],
    [
      { subnets: [{ ...subnet, gateway_ip: '10.0.0.1' }] },
      400,
      'subnets[0].gateway_ip: must be a usable address inside 10.100.1.0/24',
    ],
    [{ subnets: [subnet, { ...subnet, name: 'b', cidr: '10.100.1.0/25' }] }, 409, undefined],
    [{ vpcs: [...EXAMPLE.vpcs, ...EXAMPLE.vpcs] }, 409, undefined],
    [{ pods: [pod, pod] }, 409, undefined],
    [{ pods: {} }, 400, 'pods: must be a list'],
    [{ vpcs: [null] }, 400, 'vpcs[0]: must be an object'],
  ] as const) {
    const answer = await acme.call('POST', `/tenants/${acme.id}/topology`, { ...EXAMPLE, ...change })
    assert.equal(answer.status, status, JSON.stringify([change, answer.body]))
    if (detail !== undefined) assert.equal(answer.body.detail, detail)
  }
  assert.equal(await it.snapshot(), before)
})

test('names are also those of what the tenant already has', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  await it.network(acme)
  const path = `/tenants/${acme.id}/topology`
  const made = await acme.call('POST', path, { vpcs: [], subnets: [], pods: EXAMPLE.pods })
  assert.equal(made.status, 201)
  assert.deepEqual([made.body.vpcs.length, made.body.subnets.length, made.body.pods.length], [0, 0, 1])
  await acme.call('DELETE', `/vpcs/${made.body.pods[0].vpc_id}`)
  assert.deepEqual((await acme.call('GET', path)).body, {
    tenant_id: acme.id,
    vpcs: [],
    subnets: [],
    pods: [],
  })
  assert.equal((await acme.call('POST', path, { vpcs: [], subnets: [], pods: EXAMPLE.pods })).status, 400)
  assert.equal((await acme.call('POST', path, EXAMPLE)).status, 201)
})
