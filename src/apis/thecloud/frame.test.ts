import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CloudError } from '#lib/errors.ts'
import { testDialect } from './thecloud.testing.ts'

test('every answer has its headers, and a browser may ask', async () => {
  await using it = await testDialect()
  const { headers, body } = await it.ask('GET', '/health/live', { headers: { 'x-request-id': 'mine-1' } })
  assert.equal(headers['x-request-id'], 'mine-1')
  assert.deepEqual(body, { status: 'ok' })
  for (const [name, value] of [
    ['x-content-type-options', 'nosniff'],
    ['x-frame-options', 'DENY'],
    ['access-control-allow-origin', '*'],
  ])
    assert.equal(headers[name ?? ''], value)
  assert.match(String(headers['content-security-policy']), /^default-src 'self'/)
  assert.ok(headers['strict-transport-security'] && headers['referrer-policy'])
  const before = await it.ask('OPTIONS', '/no/such/path', { unchecked: true })
  assert.equal(before.status, 204)
  assert.match(String(before.headers['access-control-allow-headers']), /X-Tenant-ID.*Idempotency-Key/)
  const refused = await it.ask('GET', '/tenants', { headers: { 'x-request-id': 'mine-2' } })
  assert.equal(refused.status, 401)
  assert.deepEqual(refused.body.error, {
    type: 'UNAUTHORIZED',
    code: 'UNAUTHORIZED',
    message: refused.body.error.message,
  })
  assert.equal(refused.body.meta.request_id, 'mine-2')
  assert.match(refused.body.meta.timestamp as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  assert.equal(refused.headers['x-frame-options'], 'DENY')
})

test('unknown paths and wrong methods are not found', async () => {
  await using it = await testDialect()
  assert.equal((await it.ask('GET', '/nothing')).body.error.type, 'NOT_FOUND')
  assert.equal((await it.ask('DELETE', '/tenants')).status, 404)
})

test('a field that no document names is left out, whatever it is called', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  for (const field of ['constructor', 'toString', 'public', 'more']) {
    const body = { name: 'disk', os: 'linux', version: '1', [field]: true }
    const { status, body: made } = await ann.call('POST', '/images', body)
    assert.equal(status, 201)
    assert.equal(made.data.is_public, false)
  }
})

test('a tenant is chosen by header: malformed is wrong, foreign is forbidden', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const ask = async (tenant: string) => (await ann.call('GET', '/auth/me', undefined, { tenant })).status
  assert.equal(await ask(ann.tenant), 200)
  assert.equal(await ask(ann.tenant.toUpperCase()), 200)
  assert.equal(await ask('acme'), 400)
  assert.equal(await ask(bob.tenant), 403)
  assert.equal(await ask('0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000'), 403)
})

test('an address may try five passwords a minute', async () => {
  await using it = await testDialect({ settings: { rates: { perSecond: 0, burst: 0, loginsPerMinute: 5 } } })
  const login = async () =>
    await it.ask('POST', '/auth/login', { body: { email: 'a@example.com', password: 'wrong' } })
  for (let n = 0; n < 5; n++) assert.equal((await login()).status, 401)
  const { status, headers } = await login()
  assert.equal(status, 429)
  assert.equal(headers['retry-after'], '12')
  await it.world.clock.advance(12_000)
  assert.equal((await login()).status, 401)
  assert.equal((await login()).status, 429)
})

test('a key has its own bucket of requests', async () => {
  const rates = { perSecond: 10, burst: 20, loginsPerMinute: 0 }
  await using it = await testDialect({ settings: { rates } })
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const statuses: number[] = []
  for (let n = 0; n < 22; n++) statuses.push((await ann.call('GET', '/auth/me')).status)
  assert.deepEqual(statuses, [...Array.from({ length: 20 }, () => 200), 429, 429])
  assert.equal((await bob.call('GET', '/auth/me')).status, 200)
  await it.world.clock.advance(100)
  assert.equal((await ann.call('GET', '/auth/me')).status, 200)
})

test('health tells what the cloud stands on', async () => {
  await using it = await testDialect()
  const { body } = await it.ask('GET', '/health/ready')
  assert.deepEqual(body.checks, { database: 'CONNECTED', docker: 'CONNECTED' })
  assert.equal((await it.ask('GET', '/health')).status, 200)
  assert.equal((await it.ask('GET', '/health/ovs')).body.status, 'healthy')
  assert.equal((await it.ask('POST', '/internal/admin/reset-circuit-breakers')).body.reset, true)
  const page = await it.ask('GET', '/swagger/index.html', { unchecked: true })
  assert.equal(page.status, 200)
  assert.match(page.body as string, /<h1>The Cloud API<\/h1>/)
  assert.match((await it.ask('GET', '/metrics', { unchecked: true })).body as string, /^# HELP/m)
})

test('health says what does not answer', async () => {
  const broken = new Set<string>()
  await using it = await testDialect({
    fault: (verb) => {
      if (broken.has(verb)) throw new CloudError('unavailable', `${verb} is down`)
    },
  })
  const look = async (path: string) => {
    // What was seen is given again for a few seconds.
    await it.world.clock.advance(5_000)
    return await it.ask('GET', path)
  }
  assert.equal((await look('/health/ready')).status, 200)
  broken.add('compute.list')
  const down = await look('/health/ready')
  assert.equal(down.status, 503)
  assert.deepEqual(down.body.checks, { database: 'CONNECTED', docker: 'DISCONNECTED' })
  broken.add('network.missing')
  assert.equal((await look('/health/ovs')).body.status, 'unavailable')
  broken.clear()
  assert.equal((await look('/health')).status, 200)
  assert.equal((await it.ask('GET', '/health/ovs')).body.status, 'healthy')
})
