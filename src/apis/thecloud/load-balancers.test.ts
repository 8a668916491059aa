import assert from 'node:assert/strict'
import { test } from 'node:test'
import { patrolled } from '#cloud/cloud.testing.ts'
import { networkOf } from './network.testing.ts'
import { NIL } from './schema.ts'
import { testDialect } from './thecloud.testing.ts'

const SEEN_MS = 5000

test('a load balancer is made once for a key, gets targets and loses them', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const [net, other] = [await networkOf(ann, 'prod', '10.1'), await networkOf(ann, 'other', '10.2')]
  const launch = async (name: string, of: typeof net): Promise<string> =>
    (await ann.data('POST', '/instances', { name, image: 'nginx', vpc_id: of.vpc, subnet_id: of.web })).id
  const [web, foreign] = [await launch('web', net), await launch('foreign', other)]
  const body = { name: 'front', vpc_id: net.vpc, port: 80, algorithm: null }
  const repeat = { headers: { 'idempotency-key': 'once' } }
  const first = await ann.call('POST', '/lb', body, repeat)
  const again = await ann.call('POST', '/lb', body, repeat)
  assert.deepEqual([first.status, again.status, again.body.data.id], [202, 202, first.body.data.id])
  const lb = first.body.data
  assert.deepEqual(
    [lb.name, lb.vpc_id, lb.port, lb.algorithm, lb.status, lb.user_id, lb.tenant_id, lb.version],
    ['front', net.vpc, 80, 'round-robin', 'CREATING', ann.id, ann.tenant, 1],
  )
  assert.match(lb.ip, /^10\.1\.1\./)
  const path = `/lb/${lb.id}`
  const typeOf = async (method: string, at: string, sent?: unknown, by = ann) => {
    const { status, body: answer } = await by.call(method, at, sent)
    return [status, answer?.error?.type]
  }
  const target = { instance_id: web, port: 8080, weight: 0 }
  assert.deepEqual(await typeOf('POST', `${path}/targets`, target), [201, undefined])
  assert.deepEqual(await typeOf('POST', `${path}/targets`, target), [409, 'LB_TARGET_EXISTS'])
  assert.deepEqual(await typeOf('POST', `${path}/targets`, { ...target, instance_id: foreign }), [
    400,
    'LB_CROSS_VPC',
  ])
  assert.deepEqual(await typeOf('POST', `${path}/targets`, { ...target, instance_id: NIL }), [
    404,
    'NOT_FOUND',
  ])
  assert.deepEqual(await typeOf('POST', `/lb/${NIL}/targets`, target), [404, 'LB_NOT_FOUND'])
  assert.deepEqual(await typeOf('POST', '/lb', { ...body, vpc_id: NIL }), [404, 'NOT_FOUND'])
  for (const bad of [
    { ...body, port: 0 },
    { ...body, algorithm: 'random' },
    { ...body, name: '' },
    { port: 80 },
  ])
    assert.deepEqual(await typeOf('POST', '/lb', bad), [400, 'INVALID_INPUT'], JSON.stringify(bad))
  for (const bad of [{ ...target, weight: -1 }, { ...target, port: 70_000 }, { port: 80 }])
    assert.deepEqual(
      await typeOf('POST', `${path}/targets`, bad),
      [400, 'INVALID_INPUT'],
      JSON.stringify(bad),
    )
  for (const [method, at, sent] of [
    ['GET', path],
    ['DELETE', path],
    ['GET', `${path}/targets`],
    ['POST', `${path}/targets`, target],
    ['DELETE', `${path}/targets/${web}`],
  ] as const)
    assert.deepEqual(await typeOf(method, at, sent, bob), [404, 'LB_NOT_FOUND'], `${method} ${at}`)

  const [seen] = await ann.data('GET', `${path}/targets`)
  assert.deepEqual(
    [seen.lb_id, seen.instance_id, seen.port, seen.weight, seen.health],
    [lb.id, web, 8080, 1, 'unknown'],
  )
  const told = async (health: string): Promise<void> =>
    await patrolled(it.world, async () => (await ann.data('GET', `${path}/targets`))[0].health === health)
  await told('healthy')
  assert.equal((await ann.data('GET', '/lb/front')).status, 'ACTIVE')
  await ann.call('POST', `/instances/${web}/stop`)
  await told('unhealthy')
  assert.deepEqual(await typeOf('DELETE', `${path}/targets/${web}`), [200, undefined])
  assert.deepEqual(await typeOf('DELETE', `${path}/targets/${web}`), [404, 'LB_NOT_FOUND'])
  assert.deepEqual(await ann.data('GET', `${path}/targets`), [])
  assert.equal((await ann.data('DELETE', path)).message, 'load balancer deletion initiated')
  assert.deepEqual(await typeOf('GET', path), [404, 'LB_NOT_FOUND'])
  await it.world.settle(SEEN_MS)
  assert.deepEqual(await ann.data('GET', '/lb'), [])
})

test('a VPC keeps its load balancers unless it is forced', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const { id } = await ann.data('POST', '/vpcs', { name: 'prod' })
  await ann.data('POST', '/lb', { name: 'front', vpc_id: id, port: 443, algorithm: 'least-conn' })
  for (const query of ['', '?force=false']) {
    const { status, body } = await ann.call('DELETE', `/vpcs/${id}${query}`)
    assert.deepEqual([status, body.error.type], [409, 'CONFLICT'])
    assert.match(body.error.message, /load-balancer front/)
  }
  assert.equal((await ann.call('DELETE', `/vpcs/${id}?force=true`)).status, 200)
  await it.world.settle(SEEN_MS)
  assert.deepEqual(await ann.data('GET', '/lb'), [])
})
