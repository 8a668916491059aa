import assert from 'node:assert/strict'
import { test } from 'node:test'
import Type from 'typebox'
import type { FastifyRequest } from 'fastify'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { isPaged, pageOf } from './page.ts'
import { byIdOrName } from './lookup.ts'
import { networkOf } from './network.testing.ts'
import { NIL, withoutUnset } from './schema.ts'
import { testDialect } from './thecloud.testing.ts'

// What the official client sends and decodes (contract, section C).

test('what the client did not set is absent, however it says so, and so is what no schema names', () => {
  const schema = Type.Object({
    name: Type.String(),
    vpc_id: Type.Optional(Type.String({ format: 'uuid' })),
    key: Type.String({ format: 'uuid' }),
    note: Type.Optional(Type.String()),
    count: Type.Optional(Type.Integer()),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    rules: Type.Optional(Type.Array(Type.Object({ id: Type.Optional(Type.String({ format: 'uuid' })) }))),
  })
  assert.deepEqual(
    withoutUnset(schema, {
      name: '',
      vpc_id: NIL,
      key: NIL,
      note: '',
      count: null,
      labels: { gone: '', kept: 'a' },
      rules: [{ id: '', other: 'of another server' }, { id: 'x' }],
      tenant_id: NIL,
      unknown: 1,
    }),
    {
      name: '',
      key: NIL,
      labels: { gone: '', kept: 'a' },
      rules: [{}, { id: 'x' }],
    },
  )
  for (const odd of [null, 5, 'text', [null]]) assert.deepEqual(withoutUnset(schema, odd), odd)
})

test('a list is flat, and a nested page where limit or offset is above zero', () => {
  const asked = (query: object): FastifyRequest => ({ query }) as FastifyRequest
  const all = Array.from({ length: 120 }, (_, at) => at)
  for (const query of [{}, { limit: '0' }, { limit: '-1' }, { offset: '0' }, { limit: 'x' }])
    assert.equal(isPaged(asked(query)), false, JSON.stringify(query))
  assert.deepEqual(pageOf(asked({ limit: '2', offset: '1' }), all), {
    data: [1, 2],
    total_count: 120,
    has_more: true,
  })
  assert.deepEqual(pageOf(asked({ offset: '119' }), all), { data: [119], total_count: 120, has_more: false })
  assert.equal(pageOf(asked({ limit: '5000' }), all).data.length, 120)
})

test('the client decodes every answer: JSON, ids and times in their forms, lists that are never null', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const { id } = await ann.data('POST', '/volumes', { name: 'data', size_gb: 1 })
  await ann.data('POST', '/snapshots', { volume_id: id })
  await ann.data('POST', '/instances', { name: 'web', image: 'nginx' })
  const net = await networkOf(ann, 'prod', '10.60')
  const other = await networkOf(ann, 'other', '10.61')
  await ann.data('POST', '/security-groups', { vpc_id: net.vpc, name: 'web' })
  await ann.data('POST', '/internet-gateways')
  const address = await ann.data('POST', '/elastic-ips')
  await ann.data('POST', '/nat-gateways', { subnet_id: net.web, elastic_ip_id: address.id })
  const zone = await ann.data('POST', '/dns/zones', { name: 'corp.internal', vpc_id: net.vpc })
  // As the client sends it.
  const record = { name: 'db', type: 'A', content: '10.60.1.9', ttl: 3600, priority: null }
  const { id: recordId } = await ann.data('POST', `/dns/zones/${zone.id}/records`, record)
  await ann.data('POST', '/vpc-peerings', { requester_vpc_id: net.vpc, accepter_vpc_id: other.vpc })
  for (const path of [
    '/auth/me',
    '/auth/keys',
    '/tenants',
    '/rbac/roles',
    '/rbac/bindings',
    '/iam/policies',
    '/iam/service-accounts',
    '/audit',
    '/events',
    '/billing/summary',
    '/billing/usage',
    '/instances',
    '/instances/web',
    '/instance-types',
    '/ssh-keys',
    '/volumes',
    '/volumes/data',
    '/snapshots',
    '/vpcs',
    '/vpcs/prod',
    '/vpcs/*/subnets',
    '/security-groups',
    '/security-groups/web',
    '/internet-gateways',
    '/elastic-ips',
    '/vpc-peerings',
    '/dns/zones',
    '/dns/zones/corp.internal',
    `/dns/zones/${zone.id}/records`,
    `/dns/records/${recordId}`,
    `/nat-gateways?vpc_id=${net.vpc}`,
    `/route-tables?vpc_id=${net.vpc}`,
  ]) {
    const { headers, body } = await ann.call('GET', path)
    assert.match(String(headers['content-type']), /^application\/json/)
    assert.notEqual(body.data, null, path)
    const walk = (value: unknown, name = ''): void => {
      if (value === null || typeof value !== 'object') {
        // Of an instance type and a container the id is a text of its own.
        const isText =
          path === '/instance-types' || /^(request|resource|container|network|vxlan|powerdns)_id$/.test(name)
        if (/(^|_)id$/.test(name) && !isText)
          assert.match(String(value), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, `${path} ${name}`)
        if (/_at$|_start$|_end$/.test(name))
          assert.ok(!Number.isNaN(Date.parse(String(value))), `${path} ${name}`)
      } else for (const [key, it] of Object.entries(value)) walk(it, Array.isArray(value) ? name : key)
    }
    walk(body)
    for (const [key, value] of Object.entries((Array.isArray(body.data) ? {} : body.data) as object))
      assert.deepEqual(body[key], value, `${path} repeats ${key}`)
  }
  // create-demo sends an empty key.
  assert.equal((await it.ask('POST', '/auth/keys', { key: '', body: { name: 'demo' } })).status, 401)
})

test('a path takes an id, or a name that one alone has', async () => {
  await using it = await testDialect()
  const { cloud } = it.world
  const { caller } = await it.world.tenant('acme')
  const other = await it.world.tenant('other')
  const made = await cloud.act(caller, 'test', (verbs) => verbs.createVpc({ name: 'prod', internet: true }))
  const find = async (text: string, by = caller) => (await byIdOrName(cloud, by, vpc, text, 'VPC')).id
  assert.equal(await find(made.id.toUpperCase()), made.id)
  assert.equal(await find('prod'), made.id)
  for (const text of ['none', NIL])
    await assert.rejects(find(text), { code: 'not_found', message: 'VPC not found' })
  await assert.rejects(find(made.id, other.caller), { code: 'not_found' })
  await assert.rejects(find('prod', other.caller), { code: 'not_found' })
  await cloud.act(caller, 'test', (verbs) => verbs.deleteVpc(made.id))
  await assert.rejects(find(made.id), { code: 'not_found' }, 'what is on its way out is gone')
})

test('an id is the same in upper case, whether a path, a query or a body names it', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const { vpc, web } = await networkOf(ann, 'prod', '10.0')
  const body = { vpc_id: vpc.toUpperCase(), name: 'front' }
  const made = await ann.data('POST', '/security-groups', body)
  assert.equal(made.vpc_id, vpc)
  const found = await ann.data('GET', `/security-groups/front?vpc_id=${vpc.toUpperCase()}`)
  assert.equal(found.id, made.id)
  assert.equal((await ann.call('DELETE', `/subnets/${web.toUpperCase()}`)).status, 200)
})
