import assert from 'node:assert/strict'
import { test } from 'node:test'
import { circloud } from '#apis/circloud/server.ts'
import { native } from '#apis/native/server.ts'
import { message } from '#cloud/identity/message.kind.ts'
import { PASSWORD, testDialect, type TestDialect } from './thecloud.testing.ts'

/** What was put into the outbox last for an address. */
async function tokenFor({ world: { cloud, admin } }: TestDialect, email: string): Promise<string> {
  const waiting = (await cloud.all(admin, message)).filter((it) => it.spec.to === email)
  assert.doesNotMatch(JSON.stringify(waiting), /[0-9a-f]{64}/, 'a list shows no token')
  const [token = ''] = /[0-9a-f]{64}/.exec(await cloud.messageText(admin, waiting.at(-1)?.id ?? '')) ?? []
  return token
}

test('a person registers, logs in and is told who they are', async () => {
  await using it = await testDialect()
  const made = await it.ask('POST', '/auth/register', {
    body: { email: 'Ann@Example.com', password: PASSWORD, name: 'Ann Other', color: 'ignored' },
  })
  assert.equal(made.status, 201)
  assert.equal(made.body.data.message, 'user created successfully')
  assert.equal(made.body.data.user_id, made.body.data.id)
  assert.equal(made.body.id, made.body.data.id, 'members are repeated beside data')
  assert.equal(made.body.data.role, 'developer')
  assert.doesNotMatch(JSON.stringify(made.body), /argon|passwordHash|sealed/)
  const again = await it.ask('POST', '/auth/register', {
    body: { email: 'ann@example.com', password: PASSWORD, name: 'Ann Other' },
  })
  assert.equal(again.status, 409)
  assert.equal(again.body.error.type, 'CONFLICT')
  const login = await it.ask('POST', '/auth/login', {
    body: { email: 'ann@example.com', password: PASSWORD },
  })
  assert.match(login.body.data.api_key as string, /^thecloud_[0-9a-f]{32}$/)
  const key = login.body.data.api_key as string
  const me = await it.ask('GET', '/auth/me', { key })
  assert.equal(me.body.data.id, made.body.data.id)
  const tenants = await it.ask('GET', '/tenants', { key })
  assert.equal(tenants.body.data.length, 1)
  assert.equal(tenants.body.data[0].name, "Ann Other's Personal Tenant")
  assert.match(tenants.body.data[0].slug as string, /^personal-ann-other-[0-9a-f]{8}$/)
  assert.equal(tenants.body.data[0].owner_id, made.body.data.id)
})

test('two people of one name registered in the same moment have tenants of their own', async () => {
  await using it = await testDialect()
  const slugs = new Set<string>()
  for (const email of ['a@example.com', 'b@example.com']) {
    await it.ask('POST', '/auth/register', { body: { email, password: PASSWORD, name: 'Same' } })
    const login = await it.ask('POST', '/auth/login', { body: { email, password: PASSWORD } })
    const tenants = await it.ask('GET', '/tenants', { key: login.body.data.api_key })
    slugs.add(tenants.body.data[0].slug as string)
  }
  assert.equal(slugs.size, 2)
})

test('bad registrations are refused with the field', async () => {
  await using it = await testDialect()
  const good = { email: 'ann@example.com', password: PASSWORD, name: 'Ann' }
  for (const bad of [
    { password: 'short' },
    { password: 'x'.repeat(73) },
    { email: 'no address' },
    { name: 'A' },
    { email: null },
  ]) {
    const { status, body } = await it.ask('POST', '/auth/register', { body: { ...good, ...bad } })
    assert.equal(status, 400)
    assert.equal(body.error.type, 'INVALID_INPUT')
    assert.match(body.error.message as string, new RegExp(Object.keys(bad)[0] ?? '-'))
  }
  assert.equal((await it.ask('POST', '/auth/register')).status, 400)
  assert.equal((await it.ask('POST', '/auth/register', { raw: '{' })).status, 400)
})

test('five wrong passwords lock an account for a quarter of an hour, for the right one too', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const login = async (password: string, address = '10.0.0.1') =>
    await it.ask('POST', '/auth/login', {
      body: { email: ann.email, password },
      headers: { 'x-forwarded-for': address },
    })
  for (let n = 0; n < 4; n++) assert.equal((await login('wrong')).status, 401)
  assert.equal((await login(PASSWORD)).status, 200, 'four are forgiven')
  for (let n = 0; n < 5; n++) assert.equal((await login('wrong')).status, 401)
  const locked = await login(PASSWORD)
  const wrong = await login('wrong')
  assert.equal(locked.status, 401)
  assert.deepEqual(locked.body.error, wrong.body.error, 'locked and wrong are alike')
  await it.world.clock.advance(14 * 60_000)
  assert.equal((await login(PASSWORD)).status, 401)
  await it.world.clock.advance(60_001)
  assert.equal((await login(PASSWORD)).status, 200)
  assert.equal((await ann.call('GET', '/auth/me')).status, 200, 'keys go on working')
})

test('a key is listed without itself, rotated, and revoked for good in every dialect', async () => {
  await using it = await testDialect({ others: [circloud, native] })
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const made = await ann.data('POST', '/auth/keys', { name: 'ci' })
  assert.match(made.key as string, /^thecloud_[0-9a-f]{32}$/)
  const listed = await ann.data('GET', '/auth/keys')
  assert.deepEqual(
    listed.map((one: { name: string }) => one.name),
    ['Default Key', 'ci'],
  )
  assert.ok(listed.every((one: object) => !('key' in one)))
  const works = async (key: string) => [
    (await it.ask('GET', '/auth/me', { key })).status,
    (await it.ask('GET', '/../circloud/vpcs', { headers: { 'x-auth-token': key }, unchecked: true })).status,
    (await it.ask('GET', '/../native/vpc', { bearer: key, unchecked: true })).status,
  ]
  assert.deepEqual(await works(made.key), [200, 200, 200])
  assert.equal((await bob.call('POST', `/auth/keys/${made.id}/rotate`)).status, 404)
  assert.equal((await bob.call('DELETE', `/auth/keys/${made.id}`)).body.error.type, 'OBJECT_NOT_FOUND')
  const rotated = await ann.data('POST', `/auth/keys/${made.id}/rotate`)
  assert.deepEqual(await works(made.key), [401, 401, 401])
  assert.deepEqual(await works(rotated.key), [200, 200, 200])
  const again = await ann.data('POST', `/auth/keys/${rotated.id}/regenerate`)
  assert.notEqual(again.key, rotated.key)
  assert.equal((await ann.call('DELETE', `/auth/keys/${again.id}`)).status, 204)
  assert.deepEqual(await works(again.key), [401, 401, 401])
  assert.equal((await ann.call('DELETE', `/auth/keys/${again.id}`)).status, 404)
  assert.equal((await ann.call('DELETE', '/auth/keys/nonsense')).status, 400)
})

test('of two that rotate a key at once one has the new key, and the other is told that the old one is gone', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const made = await ann.data('POST', '/auth/keys', { name: 'ci' })
  const rotate = async () => (await ann.call('POST', `/auth/keys/${made.id}/rotate`)).status
  const statuses = await Promise.all([rotate(), rotate()])
  assert.deepEqual(
    statuses.toSorted((a, b) => a - b),
    [200, 404],
  )
  assert.equal((await ann.data('GET', '/auth/keys')).length, 2)
})

test('the last use of a key is told', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const at = it.world.clock.now()
  await it.world.clock.advance(600_000)
  await ann.call('GET', '/auth/me')
  const [key] = await ann.data('GET', '/auth/keys')
  assert.equal(key.created_at, new Date(at).toISOString())
  assert.equal(key.last_used, new Date(at + 600_000).toISOString())
})

test('a forgotten password is set anew with what lies in the outbox, once', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const unknown = await it.ask('POST', '/auth/forgot-password', { body: { email: 'nobody@example.com' } })
  const known = await it.ask('POST', '/auth/forgot-password', { body: { email: ann.email } })
  assert.deepEqual(unknown.body.data, known.body.data)
  const token = await tokenFor(it, ann.email)
  const reset = async (given: string) =>
    await it.ask('POST', '/auth/reset-password', { body: { token: given, new_password: 'another horse' } })
  assert.equal((await reset('f'.repeat(64))).status, 400)
  const both = await Promise.all([reset(token), reset(token)])
  assert.deepEqual(
    both.map((one) => one.status).toSorted((a, b) => a - b),
    [200, 400],
  )
  assert.equal((await reset(token)).body.error.type, 'INVALID_INPUT')
  const login = async (password: string) =>
    (await it.ask('POST', '/auth/login', { body: { email: ann.email, password } })).status
  assert.equal(await login(PASSWORD), 401)
  assert.equal(await login('another horse'), 200)
  assert.equal((await ann.call('GET', '/auth/me')).status, 401, 'keys of earlier logins end')
})

test('what was sent to reset a password is worth nothing once it was reset', async () => {
  await using it = await testDialect()
  const [ann, bob] = [await it.person('ann'), await it.person('bob')]
  const ask = async (email: string): Promise<string> => {
    await it.ask('POST', '/auth/forgot-password', { body: { email } })
    return await tokenFor(it, email)
  }
  const [first, second, other] = [await ask(ann.email), await ask(ann.email), await ask(bob.email)]
  const reset = async (token: string) =>
    (await it.ask('POST', '/auth/reset-password', { body: { token, new_password: 'another horse' } })).status
  assert.equal(await reset(second), 200)
  assert.equal(await reset(first), 400)
  assert.equal(await reset(other), 200, 'of somebody else')
})

test('what resets a password is too old after an hour', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  await it.ask('POST', '/auth/forgot-password', { body: { email: ann.email } })
  const token = await tokenFor(it, ann.email)
  await it.world.clock.advance(3_600_001)
  const { status } = await it.ask('POST', '/auth/reset-password', {
    body: { token, new_password: 'another horse' },
  })
  assert.equal(status, 400)
})

test('registration can be closed', async () => {
  await using it = await testDialect({ settings: { registration: false } })
  const { status, body } = await it.ask('POST', '/auth/register', {
    body: { email: 'ann@example.com', password: PASSWORD, name: 'Ann' },
    unchecked: true,
  })
  assert.equal(status, 403)
  assert.match(body.error.message as string, /closed/)
})
