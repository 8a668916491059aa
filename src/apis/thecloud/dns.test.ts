import assert from 'node:assert/strict'
import { test } from 'node:test'
import { networkOf } from './network.testing.ts'
import { NIL } from './schema.ts'
import { testDialect } from './thecloud.testing.ts'

test('a VPC has one private zone, which goes by its id or name', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const [one, two] = [await networkOf(ann, 'one', '10.1'), await networkOf(ann, 'two', '10.2')]
  const body = { name: 'corp.internal', vpc_id: one.vpc, description: null }
  const made = await ann.data('POST', '/dns/zones', body)
  assert.deepEqual(
    [made.name, made.vpc_id, made.user_id, made.tenant_id, made.default_ttl, made.powerdns_id],
    ['corp.internal', one.vpc, ann.id, ann.tenant, 300, 'corp.internal.'],
  )
  await it.world.settle()
  const statusOf = async (by: typeof ann, method: string, path: string, sent?: unknown) =>
    (await by.call(method, path, sent)).status
  assert.equal((await ann.data('GET', '/dns/zones/corp.internal')).status, 'ACTIVE')
  assert.equal(await statusOf(ann, 'POST', '/dns/zones', { ...body, name: 'other.internal' }), 409)
  assert.equal(await statusOf(ann, 'POST', '/dns/zones', { ...body, vpc_id: two.vpc }), 409)
  assert.equal(await statusOf(ann, 'POST', '/dns/zones', { name: 'x.internal', vpc_id: NIL }), 404)
  assert.equal(await statusOf(bob, 'POST', '/dns/zones', body), 404)
  for (const bad of [{ vpc_id: two.vpc }, { name: 'a b', vpc_id: two.vpc }, { name: 'x.internal' }])
    assert.equal(await statusOf(ann, 'POST', '/dns/zones', bad), 400, JSON.stringify(bad))
  for (const at of [made.id, 'corp.internal']) {
    assert.equal(await statusOf(bob, 'GET', `/dns/zones/${at}`), 404)
    assert.equal(await statusOf(bob, 'GET', `/dns/zones/${at}/records`), 404)
    assert.equal(await statusOf(bob, 'DELETE', `/dns/zones/${at}`), 404)
  }
  assert.deepEqual(
    (await ann.data('GET', '/dns/zones')).map((zone: { id: string }) => zone.id),
    [made.id],
  )
  assert.equal(await statusOf(ann, 'DELETE', '/dns/zones/corp.internal'), 204)
  assert.equal(await statusOf(ann, 'GET', `/dns/zones/${made.id}`), 404)
})

test('records are made, changed and deleted; those of instances are kept', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { vpc, web } = await networkOf(ann, 'prod', '10.1')
  const zone = await ann.data('POST', '/dns/zones', { name: 'corp.internal', vpc_id: vpc })
  const path = `/dns/zones/${zone.id}/records`
  const launched = { name: 'Web', image: 'nginx', vpc_id: vpc, subnet_id: web }
  const instance = await ann.data('POST', '/instances', launched)
  const mail = { name: '@', type: 'MX', content: 'mail.corp.internal', ttl: null, priority: null }
  const mx = await ann.data('POST', path, mail)
  assert.deepEqual(
    [mx.zone_id, mx.tenant_id, mx.name, mx.ttl, mx.priority, mx.disabled, mx.auto_managed, mx.instance_id],
    [zone.id, ann.tenant, '@', 300, 10, false, false, undefined],
  )
  const db = await ann.data('POST', path, { name: 'db', type: 'A', content: '10.1.1.9', ttl: 3600, id: NIL })
  assert.deepEqual([db.ttl, 'priority' in db], [3600, false])
  assert.notEqual(db.id, NIL, 'an id is not for the caller to choose')
  const all = await ann.data('GET', '/dns/zones/corp.internal/records')
  const [kept] = all.filter((one: { auto_managed: boolean }) => one.auto_managed)
  assert.equal(all.length, 3)
  assert.deepEqual(
    [kept.name, kept.type, kept.content, kept.ttl, kept.instance_id],
    ['web', 'A', (await ann.data('GET', `/instances/${instance.id}`)).private_ip, 300, instance.id],
  )
  assert.deepEqual(await ann.data('GET', `/dns/records/${kept.id}`), kept)
  const changed = await ann.data('PUT', `/dns/records/${mx.id}`, {
    content: 'other.corp.internal',
    ttl: 10,
    priority: 0,
  })
  assert.deepEqual([changed.content, changed.ttl, changed.priority], ['other.corp.internal', 60, 0])
  const again = await ann.data('PUT', `/dns/records/${mx.id}`, { content: 'more.corp.internal' })
  assert.deepEqual([again.ttl, again.priority, again.name, again.type], [60, 0, '@', 'MX'])

  const statusOf = async (by: typeof ann, method: string, at: string, sent?: unknown) =>
    (await by.call(method, at, sent)).status
  for (const bad of [
    { name: 'db', type: 'A', content: '10.1.1.9' },
    { name: 'db', type: 'CNAME', content: 'x.example' },
    { name: 'x', type: 'A', content: 'somewhere' },
    { name: 'x', type: 'A', content: '10.1.1.9', priority: 1 },
    { name: 'x', type: 'NS', content: 'ns.example' },
    { name: 'x', type: 'A', content: '10.1.1.9', ttl: 'long' },
    { name: '*', type: 'A', content: '10.1.1.9' },
    { type: 'A', content: '10.1.1.9' },
  ])
    assert.equal(await statusOf(ann, 'POST', path, bad), 400, JSON.stringify(bad))
  assert.equal(await statusOf(ann, 'PUT', `/dns/records/${kept.id}`, { content: '10.1.1.9' }), 400)
  assert.equal(await statusOf(ann, 'DELETE', `/dns/records/${kept.id}`), 400)
  assert.equal(await statusOf(ann, 'PUT', `/dns/records/${db.id}`, { content: 'fd00::1' }), 400)
  for (const [method, sent] of [['GET'], ['PUT', { content: '10.1.1.9' }], ['DELETE']] as const)
    for (const id of [db.id, kept.id, NIL])
      assert.equal(await statusOf(bob, method, `/dns/records/${id}`, sent), 404, `${method} ${id}`)
  assert.equal(await statusOf(ann, 'DELETE', `/dns/records/${db.id}`), 204)
  assert.equal(await statusOf(ann, 'GET', `/dns/records/${db.id}`), 404)
  assert.equal(await statusOf(ann, 'DELETE', `/instances/${instance.id}`), 200)
  assert.deepEqual(
    (await ann.data('GET', path)).map((one: { id: string }) => one.id),
    [mx.id],
  )
})
