import assert from 'node:assert/strict'
import { test } from 'node:test'
import { native } from '#apis/native/server.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { createLogs } from '#cloud/observe/logs.ts'
import { costsOf } from './billing.ts'
import { testDialect } from './thecloud.testing.ts'

test('the audit tells who did what to which resource, in both sets of members', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const role = await ann.data(
    'POST',
    '/rbac/roles',
    { name: 'net' },
    { headers: { 'user-agent': 'tests/1' } },
  )
  await it.ask('POST', '/../native/vpc', {
    bearer: ann.key,
    body: { name: 'prod', spec: {} },
    unchecked: true,
  })
  const [vpc, made] = await ann.data('GET', '/audit?limit=2')
  assert.equal(made.action, 'IAM_ROLE_CREATE')
  assert.equal(made.resource_id, role.id)
  assert.equal(made.resource_type, 'role')
  assert.equal(made.resource, `role/${role.id.slice(0, 8)}`)
  assert.equal(made.actor, ann.email)
  assert.equal(made.user_id, ann.id)
  assert.equal(made.user_agent, 'tests/1')
  assert.equal(made.ip_address, '127.0.0.1')
  assert.equal(made.timestamp, made.created_at)
  assert.equal(vpc.action, 'VPC_CREATE')
  assert.equal(vpc.details.dialect, 'native')
  const all = await ann.data('GET', '/audit?limit=nonsense')
  assert.deepEqual(
    all.map((one: { action: string }) => one.action),
    ['VPC_CREATE', 'IAM_ROLE_CREATE', 'USER_LOGIN', 'USER_REGISTER'],
  )
  assert.equal(new Set(all.map((one: { id: string }) => one.id)).size, 4)
  const bob = await it.person('bob')
  assert.doesNotMatch(JSON.stringify(await bob.data('GET', '/audit')), /VPC_CREATE/)
})

test('events are those of the audit and those that came by themselves, newest first', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  await ann.data('POST', '/iam/policies', {
    name: 'p',
    statements: [{ effect: 'Deny', action: ['a:b'], resource: ['*'] }],
  })
  await it.world.clock.advance(1)
  await it.world.engine.transact(async (draft) => {
    const body = { reason: 'it ended' }
    draft.record({ stream: 'event', tenant: ann.tenant, subject: ann.id, what: 'replica.restarted', body })
    await Promise.resolve()
  })
  const events = await ann.data('GET', '/events')
  assert.deepEqual(
    events
      .slice(0, 2)
      .map((one: { action: string }) => one.action)
      .toSorted(),
    ['IAM_POLICY_CREATE', 'REPLICA_RESTARTED'],
  )
  assert.equal((await ann.data('GET', '/events?limit=1')).length, 1)
})

test('the bill is real minutes, and comes to what its intervals come to', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const { world } = it
  const make = async (kind: string, name: string, spec: object) =>
    (await it.ask('POST', `/../native/${kind}`, { bearer: ann.key, body: { name, spec }, unchecked: true }))
      .body
  const vpc = await make('vpc', 'prod', {})
  const subnet = await make('subnet', 'web', { vpc: vpc.id, cidr: '10.1.0.0/24' })
  const made = await make('workload', 'web', { vpc: vpc.id, subnet: subnet.id, image: 'nginx', replicas: 2 })
  await world.settle()
  await world.clock.advance(600_000)
  const bill = await ann.data('GET', '/billing/summary')
  const month = new Date(world.clock.now())
  assert.equal(
    bill.period_start,
    new Date(Date.UTC(month.getUTCFullYear(), month.getUTCMonth())).toISOString(),
  )
  assert.equal(bill.currency, 'USD')
  assert.deepEqual(Object.keys(bill.usage_by_type), ['compute', 'storage', 'database'])
  assert.ok(bill.total_amount > 0.19 && bill.total_amount < 0.22, `two for ten minutes: ${bill.total_amount}`)
  const usage = await ann.data('GET', '/billing/usage')
  const instances = usage.filter((one: { resource_type: string }) => one.resource_type === 'INSTANCE')
  assert.equal(instances.length, 2)
  assert.equal(instances[0].unit, 'minutes')
  const sum = instances.reduce((all: number, one: { quantity: number }) => all + one.quantity * 0.01, 0)
  assert.ok(Math.abs(sum - bill.total_amount) < 0.000_01)
  const from = new Date(world.clock.now()).toISOString()
  assert.equal((await ann.data('GET', `/billing/summary?start=${from}`)).total_amount, 0)
  assert.ok((await ann.data('GET', '/billing/summary?start=nonsense')).total_amount > 0)
  await it.ask('DELETE', `/../native/workload/${made.id}`, { bearer: ann.key, unchecked: true })
  await world.settle()
  assert.equal((await world.cloud.all(world.admin, replica)).length, 0)
  const ended = (await ann.data('GET', '/billing/summary')).total_amount
  await world.clock.advance(600_000)
  assert.equal((await ann.data('GET', '/billing/summary')).total_amount, ended, 'what is gone costs nothing')
})

test('a total is what its parts are, wherever a period is cut', () => {
  const of = { what: 'replica', cpuMillicores: 1000, memoryMib: 512 } as const
  const intervals = [
    { subject: 'a', from: 0, to: 90_000, of },
    { subject: 'b', from: 30_000, of },
    { subject: 'c', from: 0, of: { what: 'address', address: '100.64.0.9' } as const },
  ]
  const whole = costsOf(intervals, { from: 0, to: 120_000 })['compute'] ?? 0
  assert.equal(whole, 0.03)
  for (const cut of [1, 30_000, 60_000, 119_999]) {
    const parts = [
      costsOf(intervals, { from: 0, to: cut })['compute'] ?? 0,
      costsOf(intervals, { from: cut, to: 120_000 })['compute'] ?? 0,
    ]
    assert.ok(Math.abs((parts[0] ?? 0) + (parts[1] ?? 0) - whole) < 0.000_002, String(cut))
  }
})

test('kept lines are searched by all that is given, newest first, within a tenant', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const { bulk, clock } = it.world
  const logs = createLogs(bulk, clock)
  const start = clock.now()
  for (const [resource, level, message] of [
    ['web', 'INFO', 'Started'],
    ['web', 'ERROR', 'It broke: 100%'],
    ['db', 'INFO', 'started too'],
  ] as const) {
    logs.keep(ann.tenant, { resource, type: 'instance', level, message })
    await clock.advance(1000)
  }
  logs.keep(bob.tenant, { resource: 'web', type: 'instance', level: 'INFO', message: 'of bob' })
  const found = async (query: string) =>
    ((await ann.data('GET', `/logs${query}`)).entries as { message: string }[]).map((one) => one.message)
  assert.deepEqual(await found(''), ['started too', 'It broke: 100%', 'Started'])
  assert.deepEqual(await found('?search=START'), ['started too', 'Started'])
  assert.deepEqual(await found('?search=START&resource_id=web'), ['Started'])
  assert.deepEqual(await found('?level=error&search='), ['It broke: 100%'])
  assert.deepEqual(await found('?limit=1&offset=1'), ['It broke: 100%'])
  assert.deepEqual(await found(`?end_time=${new Date(start + 1000).toISOString()}`), ['Started'])
  assert.deepEqual(await found('/db'), ['started too'])
  assert.deepEqual(await found('/none'), [])
  const page = await ann.data('GET', '/logs?limit=5000')
  assert.deepEqual([page.total, page.limit, page.offset], [3, 1000, 0])
  for (const bad of ['?offset=1000001', '?offset=-1', '?limit=x', '?start_time=never'])
    assert.equal((await ann.call('GET', `/logs${bad}`)).status, 400, bad)
})
