import assert from 'node:assert/strict'
import { test } from 'node:test'
import { workload } from '#cloud/compute/workload.kind.ts'
import { actIn, instanceIn, networkOf } from './network.testing.ts'
import { NIL } from './schema.ts'
import { testDialect } from './thecloud.testing.ts'

const RULE = { direction: 'ingress', protocol: 'tcp', cidr: '0.0.0.0/0', port_min: 80, port_max: 90 }

test('a group begins with the rules for neighbours; its name is its own in its VPC', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const net = await networkOf(ann, 'prod', '10.0')
  const other = await networkOf(ann, 'other', '10.1')
  const make = async (vpc_id: string, by = ann) =>
    await by.call('POST', '/security-groups', { vpc_id, name: 'web', description: null })
  const { data: made } = (await make(net.vpc)).body
  assert.equal(made.arn, `arn:thecloud:vpc:local:${ann.tenant}:security-group/${made.id}`)
  assert.equal(made.user_id, ann.id)
  assert.deepEqual(
    made.rules.map((one: Record<string, unknown>) => [one.direction, one.protocol, one.priority, one.cidr]),
    [
      ['ingress', 'arp', 1000, '0.0.0.0/0'],
      ['egress', 'arp', 1000, '0.0.0.0/0'],
    ],
  )
  assert.equal((await make(net.vpc)).status, 409)
  assert.equal((await make(net.vpc, bob)).status, 404)
  assert.equal((await make(NIL)).status, 404)
  const second = (await make(other.vpc)).body.data
  const ids = async (query: string, by = ann) =>
    (await by.data('GET', `/security-groups${query}`)).map((one: { id: string }) => one.id)
  assert.deepEqual(await ids(''), [made.id, second.id])
  assert.deepEqual(await ids(`?vpc_id=${other.vpc}`), [second.id])
  assert.deepEqual(await ids('', bob), [])
  assert.equal((await ann.data('GET', `/security-groups/web?vpc_id=${other.vpc}`)).id, second.id)
  assert.equal((await ann.call('GET', `/security-groups/none?vpc_id=${other.vpc}`)).status, 404)
  assert.equal((await ann.call('GET', '/security-groups/web')).status, 400, 'two have the name')
  assert.equal((await bob.call('GET', `/security-groups/${made.id}`)).status, 404)
  assert.equal((await bob.call('DELETE', `/security-groups/${made.id}`)).status, 404)
})

test('a rule is taken as the client sends it, and refused when it says nothing', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { vpc } = await networkOf(ann, 'prod', '10.0')
  const group = await ann.data('POST', '/security-groups', { vpc_id: vpc, name: 'web' })
  const path = '/security-groups/web/rules'
  const web = await ann.data('POST', path, { ...RULE, priority: 5, id: '', group_id: '' })
  assert.deepEqual([web.group_id, web.port_min, web.port_max, web.priority], [group.id, 80, 90, 5])
  const all = { direction: 'egress', protocol: 'all', cidr: '10.0.0.0/8', port_min: 0, port_max: 0 }
  const out = await ann.data('POST', path, all)
  assert.deepEqual([out.protocol, out.port_min, out.cidr], ['all', undefined, '10.0.0.0/8'])
  await ann.data('POST', path, { ...all, protocol: 'icmp', cidr: 'fd00::/8', port_min: null })
  for (const bad of [
    { direction: 'both' },
    { protocol: 'arp' },
    { cidr: 'anywhere' },
    { cidr: null },
    { port_min: 0 },
    { port_min: null },
    { port_max: 79 },
    { port_max: 65_536 },
    { priority: -1 },
  ])
    assert.equal((await ann.call('POST', path, { ...RULE, ...bad })).status, 400, JSON.stringify(bad))
  assert.equal((await bob.call('POST', `/security-groups/${group.id}/rules`, RULE)).status, 404)
  const { rules } = await ann.data('GET', '/security-groups/web')
  assert.deepEqual(
    rules.map((one: { priority: number }) => one.priority),
    [5, 100, 100, 1000, 1000],
  )
  const rule = `/security-groups/rules/${web.id}`
  assert.equal((await bob.call('DELETE', rule)).status, 404)
  assert.equal((await ann.call('DELETE', rule)).status, 204)
  assert.equal((await ann.call('DELETE', rule)).status, 404)
})

test('instances are put into groups of their VPC, which stay until nobody is in them', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const net = await networkOf(ann, 'prod', '10.0')
  const other = await networkOf(ann, 'other', '10.1')
  const instance_id = await instanceIn(it, ann, net, 'web')
  const [group, foreign, theirs] = await Promise.all([
    ann.data('POST', '/security-groups', { vpc_id: net.vpc, name: 'web' }),
    ann.data('POST', '/security-groups', { vpc_id: other.vpc, name: 'web' }),
    networkOf(bob, 'bobs', '10.2').then((it) =>
      bob.data('POST', '/security-groups', { vpc_id: it.vpc, name: 'b' }),
    ),
  ])
  const attach = async (group_id: string, by = ann) =>
    (await by.call('POST', '/security-groups/attach', { instance_id, group_id })).status
  assert.equal(await attach(group.id), 200)
  assert.equal(await attach(group.id), 200, 'a repeat')
  assert.equal(await attach(foreign.id), 400, 'of another VPC')
  assert.equal(await attach(theirs.id), 404)
  assert.equal(await attach(theirs.id, bob), 404)
  const groupsOf = async () =>
    (await actIn(it, ann, (verbs) => verbs.get(workload, instance_id))).spec.securityGroups
  assert.deepEqual(await groupsOf(), [group.id])
  assert.equal((await ann.call('DELETE', `/security-groups/${group.id}`)).status, 409)
  const detach = { instance_id, group_id: group.id }
  assert.equal((await ann.call('POST', '/security-groups/detach', detach)).status, 200)
  assert.equal((await ann.call('POST', '/security-groups/detach', detach)).status, 200)
  assert.deepEqual(await groupsOf(), [])
  await it.world.settle()
  assert.equal((await ann.call('DELETE', `/security-groups/${group.id}`)).status, 204)
  assert.equal((await ann.call('GET', `/security-groups/${group.id}`)).status, 404)
})
