import assert from 'node:assert/strict'
import { test } from 'node:test'
import { instanceIn, networkOf } from './network.testing.ts'
import { NIL } from './schema.ts'
import { type Person, testDialect } from './thecloud.testing.ts'

type Ids = { id: string }[]
const idsAt = async (by: Person, path: string) => ((await by.data('GET', path)) as Ids).map((one) => one.id)
const statusOf = async (by: Person, method: string, path: string, body?: unknown) =>
  (await by.call(method, path, body)).status
const mainOf = async (by: Person, vpc: string) =>
  (await by.data('GET', `/route-tables?vpc_id=${vpc}`)).find((one: { is_main: boolean }) => one.is_main)

test('an internet gateway is attached to one VPC and goes when it is detached', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { vpc: vpc_id } = await networkOf(ann, 'prod', '10.0')
  const gateway = await ann.data('POST', '/internet-gateways')
  const path = `/internet-gateways/${gateway.id}`
  assert.deepEqual([gateway.status, gateway.user_id], ['detached', ann.id])
  assert.equal(gateway.arn, `arn:thecloud:vpc:local:${ann.tenant}:igw/${gateway.id}`)
  assert.equal(await statusOf(ann, 'POST', `${path}/detach`), 400)
  assert.equal(await statusOf(ann, 'POST', `${path}/attach`, { vpc_id: NIL }), 404)
  assert.equal(await statusOf(bob, 'POST', `${path}/attach`, { vpc_id }), 404)
  assert.equal(await statusOf(ann, 'POST', `${path}/attach`, { vpc_id }), 200)
  assert.equal(await statusOf(ann, 'POST', `${path}/attach`, { vpc_id }), 400, 'is attached')
  const { id: second } = await ann.data('POST', '/internet-gateways')
  assert.equal(await statusOf(ann, 'POST', `/internet-gateways/${second}/attach`, { vpc_id }), 409)
  assert.deepEqual(await idsAt(ann, '/internet-gateways'), [gateway.id, second])
  assert.deepEqual(await idsAt(bob, '/internet-gateways'), [])
  const seen = await ann.data('GET', path)
  assert.deepEqual([seen.status, seen.vpc_id, seen.user_id], ['attached', vpc_id, ann.id])
  assert.equal(await statusOf(ann, 'DELETE', path), 400)
  const main = await mainOf(ann, vpc_id)
  const target = { target_type: 'igw', target_id: gateway.id }
  const route = await ann.data('POST', `/route-tables/${main.id}/routes`, {
    destination_cidr: '192.0.2.0/24',
    ...target,
  })
  assert.equal(await statusOf(ann, 'POST', `${path}/detach`), 409)
  assert.equal(await statusOf(ann, 'DELETE', `/route-tables/${main.id}/routes?route_id=${route.id}`), 204)
  assert.equal(await statusOf(ann, 'POST', `${path}/detach`), 200)
  assert.equal((await mainOf(ann, vpc_id)).routes.length, 1, 'the automatic one went too')
  assert.equal(await statusOf(bob, 'DELETE', path), 404)
  assert.equal(await statusOf(ann, 'DELETE', path), 204)
  assert.equal(await statusOf(ann, 'GET', path), 404)
})

test('an elastic IP is an instance’s or a NAT gateway’s, one at a time', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const net = await networkOf(ann, 'prod', '10.0')
  const instance_id = await instanceIn(it, ann, net, 'web')
  const address = await ann.data('POST', '/elastic-ips')
  const path = `/elastic-ips/${address.id}`
  assert.deepEqual([address.status, address.user_id], ['allocated', ann.id])
  assert.equal(address.arn, `arn:thecloud:vpc:local:${ann.tenant}:eip/${address.id}`)
  assert.equal(await statusOf(ann, 'POST', `${path}/disassociate`), 400)
  assert.equal(await statusOf(ann, 'POST', `${path}/associate`, { instance_id: NIL }), 404)
  assert.equal(await statusOf(bob, 'POST', `${path}/associate`, { instance_id }), 404)
  for (const what of ['first', 'a repeat'])
    assert.equal(await statusOf(ann, 'POST', `${path}/associate`, { instance_id }), 200, what)
  const { id: second } = await ann.data('POST', '/elastic-ips')
  assert.equal(await statusOf(ann, 'POST', `/elastic-ips/${second}/associate`, { instance_id }), 409)
  assert.equal(await statusOf(ann, 'DELETE', path), 409)
  const nat = { subnet_id: net.data, eip_id: null, elastic_ip_id: address.id }
  assert.equal(await statusOf(ann, 'POST', '/nat-gateways', nat), 400, 'is in use')
  const seen = await ann.data('GET', path)
  assert.deepEqual([seen.status, seen.instance_id, seen.vpc_id], ['associated', instance_id, net.vpc])
  assert.equal((await ann.data('POST', `${path}/disassociate`)).status, 'allocated')
  assert.equal((await ann.data('GET', path)).user_id, ann.id)

  assert.equal(await statusOf(ann, 'POST', '/nat-gateways', { subnet_id: net.data }), 400)
  assert.equal(await statusOf(ann, 'POST', '/nat-gateways', { ...nat, subnet_id: NIL }), 404)
  assert.equal(await statusOf(bob, 'POST', '/nat-gateways', nat), 404)
  const made = await ann.data('POST', '/nat-gateways', nat)
  assert.deepEqual([made.elastic_ip_id, made.vpc_id, made.user_id], [address.id, net.vpc, ann.id])
  assert.match(made.private_ip, /^10\.0\.2\./)
  assert.equal(await statusOf(ann, 'POST', '/nat-gateways', { subnet_id: net.data, eip_id: second }), 400)
  assert.equal((await ann.data('GET', path)).status, 'associated')
  assert.equal(await statusOf(ann, 'DELETE', path), 409)
  assert.deepEqual(await idsAt(ann, `/nat-gateways?vpc_id=${net.vpc}`), [made.id])
  assert.equal(await statusOf(ann, 'GET', '/nat-gateways'), 400)
  await it.world.settle()
  assert.equal((await ann.data('GET', `/nat-gateways/${made.id}`)).status, 'active')
  assert.equal(await statusOf(bob, 'DELETE', `/nat-gateways/${made.id}`), 404)
  assert.equal(await statusOf(ann, 'DELETE', `/nat-gateways/${made.id}`), 204)
  await it.world.settle()
  assert.deepEqual(
    (await ann.data('GET', '/elastic-ips')).map((one: { status: string }) => one.status),
    ['allocated', 'allocated'],
  )
  assert.equal(await statusOf(ann, 'DELETE', path), 200)
})

test('a route table decides for the subnets that it is associated with', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { vpc: vpc_id, web: subnet_id } = await networkOf(ann, 'prod', '10.0')
  const table = await ann.data('POST', '/route-tables', { vpc_id, name: 'public', is_main: null })
  assert.deepEqual([table.is_main, table.routes.length, table.associations], [false, 1, []])
  assert.equal(await statusOf(ann, 'POST', '/route-tables', { vpc_id, name: 'public' }), 409)
  assert.equal(await statusOf(ann, 'POST', '/route-tables', { vpc_id, name: 'two', is_main: true }), 409)
  assert.equal(await statusOf(bob, 'POST', '/route-tables', { vpc_id, name: 'mine' }), 404)
  const main = await mainOf(ann, vpc_id)
  assert.equal(await statusOf(ann, 'DELETE', `/route-tables/${main.id}`), 400)
  const path = `/route-tables/${table.id}`
  const other = await ann.data('POST', '/route-tables', { vpc_id, name: 'private' })
  for (const form of ['associate', 'associations'])
    assert.equal(await statusOf(ann, 'POST', `/route-tables/${other.id}/${form}`, { subnet_id }), 200)
  assert.equal(await statusOf(ann, 'POST', `${path}/associate`, { subnet_id }), 200)
  assert.deepEqual((await ann.data('GET', `/route-tables/${other.id}`)).associations, [], 'it was replaced')
  assert.equal((await ann.data('GET', path)).associations[0].subnet_id, subnet_id)
  assert.equal(await statusOf(ann, 'POST', `${path}/associate`, { subnet_id: NIL }), 404)
  assert.equal(await statusOf(bob, 'POST', `${path}/associate`, { subnet_id }), 404)
  assert.equal(await statusOf(ann, 'POST', `${path}/disassociate`, { subnet_id }), 200)
  assert.equal(await statusOf(ann, 'DELETE', `${path}/associations/${subnet_id}`), 200, 'a repeat')
  assert.deepEqual((await ann.data('GET', path)).associations, [])

  const add = async (body: object) => await ann.call('POST', `${path}/routes`, body)
  const local = { destination_cidr: '10.9.0.0/16', target_type: 'local', target_id: '' }
  const { data: route } = (await add(local)).body
  assert.deepEqual([route.target_type, route.route_table_id], ['local', table.id])
  assert.equal((await add(local)).status, 409)
  for (const bad of [
    { ...local, destination_cidr: 'everywhere' },
    { destination_cidr: '0.0.0.0/0', target_type: 'igw' },
    { destination_cidr: '0.0.0.0/0', target_type: 'nat', target_id: NIL },
    { destination_cidr: '0.0.0.0/0', target_type: 'moon', target_id: table.id },
    { destination_cidr: '0.0.0.0/0', target_type: 'peering', target_id: table.id },
  ])
    assert.equal((await add(bad)).status, 400, JSON.stringify(bad))
  assert.equal(await statusOf(ann, 'DELETE', `${path}/routes`), 400)
  assert.equal(await statusOf(bob, 'DELETE', `${path}/routes/${route.id}`), 404)
  assert.equal(await statusOf(ann, 'DELETE', `${path}/routes/${route.id}`), 204)
  assert.equal(await statusOf(ann, 'DELETE', `${path}/routes?route_id=${route.id}`), 404)
  assert.equal(await statusOf(ann, 'DELETE', path), 204)
  assert.equal(await statusOf(ann, 'GET', path), 404)
})

test('a peering is decided once, and leads both ways when it was accepted', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const [one, two, same] = [
    await networkOf(ann, 'one', '10.1'),
    await networkOf(ann, 'two', '10.2'),
    await ann.data('POST', '/vpcs', { name: 'same', cidr_block: '10.1.0.0/16' }),
  ]
  const ask = async (from: string, to: string, by = ann) =>
    await by.call('POST', '/vpc-peerings', { requester_vpc_id: from, accepter_vpc_id: to })
  assert.equal((await ask(one.vpc, one.vpc)).status, 400)
  assert.equal((await ask(one.vpc, same.id)).status, 400)
  assert.equal((await ask(one.vpc, NIL)).status, 404)
  assert.equal((await ask(one.vpc, two.vpc, bob)).status, 404)
  const { data: first } = (await ask(one.vpc, two.vpc)).body
  assert.equal(first.status, 'pending-acceptance')
  assert.equal(first.arn, `arn:thecloud:vpc-peering:local:${ann.tenant}:peering/${first.id}`)
  assert.equal((await ask(two.vpc, one.vpc)).status, 409)
  const path = `/vpc-peerings/${first.id}`
  for (const [method, at] of [
    ['GET', path],
    ['POST', `${path}/accept`],
    ['POST', `${path}/reject`],
    ['DELETE', path],
  ] as const)
    assert.equal(await statusOf(bob, method, at), 404, `${method} ${at}`)
  assert.equal(await statusOf(ann, 'POST', `${path}/accept`), 200)
  assert.equal(await statusOf(ann, 'POST', `${path}/accept`), 400)
  assert.equal(await statusOf(ann, 'POST', `${path}/reject`), 400)
  await it.world.settle()
  assert.equal((await ann.data('GET', path)).status, 'active')
  const ways = async (vpc: string) =>
    (await mainOf(ann, vpc)).routes.map((it: Record<string, unknown>) => [
      it.destination_cidr,
      it.target_type,
    ])
  assert.deepEqual(await ways(one.vpc), [
    ['10.1.0.0/16', 'local'],
    ['10.2.0.0/16', 'peering'],
  ])
  assert.equal(await statusOf(ann, 'DELETE', path), 200)
  assert.deepEqual(await ways(two.vpc), [['10.2.0.0/16', 'local']])
  await it.world.settle()
  const { data: second } = (await ask(one.vpc, two.vpc)).body
  assert.equal(await statusOf(ann, 'POST', `/vpc-peerings/${second.id}/reject`), 200)
  assert.equal((await ann.data('GET', `/vpc-peerings/${second.id}`)).status, 'rejected')
  assert.deepEqual(await idsAt(ann, '/vpc-peerings'), [second.id])
})
