import assert from 'node:assert/strict'
import { test } from 'node:test'
import { elasticIp } from '#cloud/network/elastic-ip.kind.ts'
import { internetGateway } from '#cloud/network/internet-gateway.kind.ts'
import { routeTable } from '#cloud/network/route-table.kind.ts'
import { NIL } from './schema.ts'
import { actIn, instanceIn, networkOf } from './network.testing.ts'
import { testDialect } from './thecloud.testing.ts'

test('a VPC begins with a main table and the default range, and is found by id and name', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const made = await ann.data('POST', '/vpcs', { name: 'prod', cidr_block: null })
  assert.equal(made.cidr_block, '10.0.0.0/16')
  assert.equal(made.user_id, ann.id)
  assert.equal(made.arn, `arn:thecloud:vpc:local:${ann.tenant}:vpc/${made.id}`)
  assert.match(made.network_id, /^br-vpc-[0-9a-f]{8}$/)
  await it.world.settle()
  assert.equal((await ann.data('GET', '/vpcs/prod')).status, 'active')
  assert.equal((await ann.data('GET', `/vpcs/${made.id.toUpperCase()}`)).id, made.id)
  assert.deepEqual(
    (await ann.data('GET', '/vpcs')).map((one: { id: string }) => one.id),
    [made.id],
  )
  const tables = await actIn(it, ann, (verbs) => verbs.list(routeTable, [`vpc:${made.id}`]))
  assert.deepEqual(
    tables.map((one) => [one.name, one.spec.main, one.spec.routes.map(({ cidr, target }) => [cidr, target])]),
    [['main', true, [['10.0.0.0/16', 'local']]]],
  )
})

test('a name is one VPC’s in a tenant, and changes', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const prod = await ann.data('POST', '/vpcs', { name: 'prod' })
  await ann.data('POST', '/vpcs', { name: 'test', cidr_block: '10.1.0.0/16' })
  assert.equal((await ann.call('POST', '/vpcs', { name: 'prod' })).status, 409)
  // The contract has no word for it.
  const taken = await ann.call('PATCH', '/vpcs/prod', { name: 'test' }, { unchecked: true })
  assert.equal(taken.status, 409)
  assert.equal((await bob.call('POST', '/vpcs', { name: 'prod' })).status, 201)
  assert.equal((await ann.data('PATCH', '/vpcs/prod', { name: 'live' })).id, prod.id)
  assert.equal((await ann.call('GET', '/vpcs/prod')).status, 404)
  assert.equal((await ann.data('GET', '/vpcs/live')).id, prod.id)
  assert.equal((await ann.call('POST', '/vpcs', { name: 'prod' })).status, 201, 'the old name is free')
  for (const bad of [
    {},
    { name: '' },
    { name: 'x', cidr_block: '10.0.0.1/16' },
    { name: 'x', cidr_block: 'no' },
  ])
    assert.equal((await ann.call('POST', '/vpcs', bad)).status, 400, JSON.stringify(bad))
  assert.equal((await bob.call('PATCH', `/vpcs/${prod.id}`, { name: 'mine' })).status, 404)
})

test('a VPC is made once for a key', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const headers = { 'idempotency-key': 'once' }
  const make = async (name: string) => await ann.call('POST', '/vpcs', { name }, { headers })
  const both = await Promise.all([make('prod'), make('prod')])
  assert.deepEqual(
    both.map(({ status }) => status),
    [201, 201],
  )
  assert.equal(both[0].body.data.id, both[1].body.data.id)
  assert.equal((await make('other')).status, 409)
  assert.equal((await ann.data('GET', '/vpcs')).length, 1)
})

test('a VPC goes with its parts, but not while instances or peerings are in it', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const net = await networkOf(ann, 'prod', '10.0')
  const other = await networkOf(ann, 'other', '10.1')
  const instance = await instanceIn(it, ann, net, 'web')
  const { gateway, address, peering } = await actIn(it, ann, async (verbs) => ({
    gateway: await verbs.createInternetGateway({ name: 'out', vpc: net.vpc }),
    address: await verbs.createElasticIp({ name: 'out' }),
    peering: await verbs.createPeering({ name: 'both', vpc: net.vpc, peer: other.vpc }),
  }))
  await actIn(it, ann, (verbs) => verbs.associateElasticIp(address.id, instance))
  assert.equal((await bob.call('DELETE', `/vpcs/${net.vpc}`)).status, 404)
  const refused = await ann.call('DELETE', '/vpcs/prod?force=true')
  assert.equal(refused.status, 409)
  assert.match(refused.body.error.message, /web/)
  await actIn(it, ann, (verbs) => verbs.deleteWorkload(instance))
  await it.world.settle()
  assert.equal((await ann.call('DELETE', '/vpcs/prod')).status, 409, 'a peering that waits')
  await actIn(it, ann, (verbs) => verbs.decidePeering(peering.id, 'rejected'))
  assert.equal((await ann.call('DELETE', '/vpcs/prod')).status, 200)
  await it.world.settle()
  assert.deepEqual(
    (await ann.data('GET', '/vpcs/*/subnets')).map((one: { id: string }) => one.id),
    [other.web, other.data],
  )
  await actIn(it, ann, async (verbs) => {
    assert.equal((await verbs.get(internetGateway, gateway.id)).spec.vpc, undefined)
    assert.equal((await verbs.get(elasticIp, address.id)).spec.workload, undefined)
  })
})

test('subnets lie in the range of their VPC and apart', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { id } = await ann.data('POST', '/vpcs', { name: 'prod' })
  const path = `/vpcs/${id}/subnets`
  const web = await ann.data('POST', path, { name: 'web', cidr_block: '10.0.1.0/24' })
  assert.equal(web.gateway_ip, '10.0.1.1')
  assert.equal(web.availability_zone, 'us-east-1a')
  assert.equal(web.user_id, ann.id)
  assert.equal(web.arn, `arn:thecloud:subnet:local:${ann.tenant}:subnet/${web.id}`)
  const data = await ann.data('POST', path, {
    name: 'data',
    cidr_block: '10.0.2.0/24',
    availability_zone: 'us-east-1b',
  })
  await it.world.settle()
  const seen = await ann.data('GET', `/subnets/${data.id}`)
  assert.deepEqual([seen.availability_zone, seen.status], ['us-east-1b', 'available'])
  for (const [status, body] of [
    [409, { name: 'web', cidr_block: '10.0.3.0/24' }],
    [409, { name: 'again', cidr_block: '10.0.1.128/25' }],
    [400, { name: 'far', cidr_block: '10.1.1.0/24' }],
    [400, { name: 'odd', cidr_block: '10.0.1.1/24' }],
    [400, { name: '', cidr_block: '10.0.3.0/24' }],
    [400, { name: 'none' }],
  ] as const)
    assert.equal((await ann.call('POST', path, body)).status, status, JSON.stringify(body))
  const ids = async (at: string, by = ann) => (await by.data('GET', at)).map((one: { id: string }) => one.id)
  assert.deepEqual(await ids(path), [web.id, data.id])
  assert.deepEqual(await ids('/vpcs/*/subnets'), [web.id, data.id])
  assert.deepEqual(await ids('/vpcs/*/subnets', bob), [])
  assert.equal((await ann.call('GET', '/vpcs/prod/subnets')).status, 400)
  assert.equal((await ann.call('GET', `/vpcs/${NIL}/subnets`)).status, 404)
  for (const [method, at] of [
    ['GET', path],
    ['GET', `/subnets/${web.id}`],
    ['DELETE', `/subnets/${web.id}`],
  ] as const)
    assert.equal((await bob.call(method, at)).status, 404, `${method} ${at}`)
  const foreign = await bob.call('POST', path, { name: 'mine', cidr_block: '10.0.9.0/24' })
  assert.equal(foreign.status, 404)
})

test('a subnet goes when nothing is in it, out of its route table too', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const net = await networkOf(ann, 'prod', '10.0')
  const instance = await instanceIn(it, ann, net, 'web')
  const table = await actIn(it, ann, async (verbs) => {
    const spec = { vpc: net.vpc, subnets: [net.web], routes: [] }
    const made = await verbs.createRouteTable({ name: 'public', spec })
    const { id } = await verbs.createElasticIp({ name: 'nat' })
    await verbs.createNatGateway({ name: 'nat', subnet: net.data, elasticIp: id })
    return made
  })
  assert.equal((await ann.call('DELETE', `/subnets/${net.web}`)).status, 409)
  assert.equal((await ann.call('DELETE', `/subnets/${net.data}`)).status, 409)
  await actIn(it, ann, (verbs) => verbs.deleteWorkload(instance))
  await it.world.settle()
  assert.equal((await ann.call('DELETE', `/subnets/${net.web}`)).status, 200)
  assert.equal((await ann.call('GET', `/subnets/${net.web}`)).status, 404)
  assert.equal((await ann.call('DELETE', `/subnets/${net.web}`)).status, 404)
  const left = await actIn(it, ann, (verbs) => verbs.get(routeTable, table.id))
  assert.deepEqual(left.spec.subnets, [])
})
