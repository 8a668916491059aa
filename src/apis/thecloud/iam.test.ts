import assert from 'node:assert/strict'
import { test } from 'node:test'
import { circloud } from '#apis/circloud/server.ts'
import { native } from '#apis/native/server.ts'
import type { Caller } from '#cloud/access.ts'
import { testOrigin } from '#cloud/cloud.testing.ts'
import { membership } from '#cloud/identity/membership.kind.ts'
import type { AnyKind } from '#engine/resource.ts'
import { type Person, testDialect, type TestDialect } from './thecloud.testing.ts'

/** A person who belongs to another's tenant in a role and acts there. */
async function member(it: TestDialect, of: Person, name: string, role: string): Promise<Person> {
  const made = await it.person(name)
  await of.data('POST', `/tenants/${of.tenant}/members`, { email: made.email, role })
  await made.data('POST', `/tenants/${of.tenant}/switch`)
  return made
}

const other = async (it: TestDialect, key: string, method: string, path: string, body?: unknown) =>
  await it.ask(method, `/../native${path}`, { bearer: key, body, unchecked: true })

test('switching a tenant changes what the same key sees, in every dialect', async () => {
  await using it = await testDialect({ others: [circloud, native] })
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const second = await ann.data('POST', '/tenants', { name: 'Second', slug: 'second' })
  assert.equal((await ann.call('POST', '/tenants', { name: 'Again', slug: 'second' })).status, 409)
  const whoami = async () => (await other(it, ann.key, 'GET', '/whoami')).body.tenant.id as string
  assert.equal(await whoami(), ann.tenant)
  assert.equal((await bob.call('POST', `/tenants/${second.id}/switch`)).status, 403)
  await ann.data('POST', `/tenants/${second.id}/switch`)
  assert.equal(await whoami(), second.id)
  assert.equal((await ann.data('GET', '/auth/me')).tenant_id, second.id)
  const made = await other(it, ann.key, 'POST', '/vpc', { name: 'here', spec: {} })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  const vpcs = async () =>
    (await it.ask('GET', '/../circloud/vpcs', { headers: { 'x-auth-token': ann.key }, unchecked: true })).body
      .length as number
  assert.equal(await vpcs(), 1)
  await ann.data('POST', `/tenants/${ann.tenant}/switch`)
  assert.equal(await vpcs(), 0)
  const [login] = [
    await it.ask('POST', '/auth/login', { body: { email: ann.email, password: ann.password } }),
  ]
  assert.equal(login.body.data.user.tenant_id, ann.tenant)
  // A tenant that goes leaves the key in the first that is left.
  await ann.data('POST', `/tenants/${second.id}/switch`)
  const { cloud, admin } = it.world
  await cloud.act(admin, 'test', async (verbs) => await verbs.deleteTenant(second.id))
  assert.equal(await whoami(), ann.tenant)
})

test('a tenant keeps an owner: the last one neither leaves nor becomes less, in any dialect', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'owner')
  const place = async (of: Person, by: Person): Promise<string> => {
    const { items } = (await other(it, by.key, 'GET', '/membership')).body
    return (
      (items as { id: string; spec: { user: string } }[]).find((one) => one.spec.user === of.id)?.id ?? ''
    )
  }
  const [annThere, bobThere] = [await place(ann, ann), await place(bob, ann)]
  // Each lets the other go at once: one of them stays.
  const both = await Promise.all([
    other(it, ann.key, 'DELETE', `/membership/${bobThere}`),
    other(it, bob.key, 'DELETE', `/membership/${annThere}`),
  ])
  const [stays, went] = both[0].status < 300 ? [ann, bob] : [bob, ann]
  assert.deepEqual(both.filter((one) => one.status < 300).length, 1)
  await it.world.settle()
  const there = `/membership/${await place(stays, stays)}`
  const become = async (path: string, role: string) =>
    (await other(it, stays.key, 'PATCH', path, { spec: { role } })).status
  const bind = async (role: string) =>
    await stays.call('POST', '/rbac/bindings', { user_identifier: stays.id, role_name: role })
  assert.equal((await other(it, stays.key, 'DELETE', there)).status, 409)
  assert.equal(await become(there, 'viewer'), 409)
  const refused = await bind('viewer')
  assert.deepEqual([refused.status, refused.body.error.type], [400, 'INVALID_INPUT'])
  assert.match(refused.body.error.message as string, /no owner left/)
  assert.equal(await become(there, 'admin'), 200, 'another role that may everything')
  const all = await stays.data('POST', '/rbac/roles', { name: 'all', permissions: ['*'] })
  assert.equal(await become(there, 'all'), 200)
  for (const [status, method, path, body] of [
    [400, 'DELETE', `/rbac/roles/${all.id}`, undefined],
    [400, 'DELETE', `/rbac/roles/${all.id}/permissions/*`, undefined],
    [400, 'PUT', `/rbac/roles/${all.id}`, { name: 'all', permissions: ['vpc:read'] }],
    [400, 'PUT', `/rbac/roles/${all.id}`, { name: 'other', permissions: ['*'] }],
  ] as const)
    assert.equal((await stays.call(method, path, body)).status, status, `${method} ${JSON.stringify(body)}`)
  const less = { spec: { permissions: ['vpc:read'] } }
  assert.equal((await other(it, stays.key, 'PATCH', `/role/${all.id}`, less)).status, 409)
  assert.equal((await other(it, stays.key, 'DELETE', `/role/${all.id}`)).status, 409)
  assert.equal(await become(there, 'owner'), 200)
  assert.equal((await stays.call('DELETE', `/rbac/roles/${all.id}`)).status, 204)
  await stays.data('POST', `/tenants/${ann.tenant}/members`, { email: went.email, role: 'developer' })
  assert.equal((await other(it, stays.key, 'DELETE', there)).status, 409, 'a developer is no owner')
  assert.equal(await become(`/membership/${await place(went, stays)}`, 'owner'), 200)
  assert.equal((await bind('viewer')).status, 204)
})

test('a member whose role was changed is gone when let go, also one whom the user was made with', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const { cloud, admin } = it.world
  const old = { name: 'old', password: 'long: enough', admin: false }
  const memberships = [{ tenant: ann.tenant, role: 'owner' as const }]
  const { id } = await cloud.act(
    admin,
    'test',
    async (verbs) => await verbs.createUser({ ...old, memberships }),
  )
  const { token } = (
    await it.ask('POST', '/../native/login', {
      body: { username: 'old', password: old.password },
      unchecked: true,
    })
  ).body
  const status = async () => (await other(it, token, 'GET', '/vpc')).status
  await ann.data('POST', '/rbac/bindings', { user_identifier: id, role_name: 'viewer' })
  assert.equal((await other(it, token, 'POST', '/vpc', { name: 'mine', spec: {} })).status, 403)
  assert.equal(await status(), 200)
  const { items } = (await other(it, ann.key, 'GET', '/membership')).body
  const place = (items as { id: string; spec: { user: string } }[]).find((one) => one.spec.user === id)
  assert.equal((await other(it, ann.key, 'DELETE', `/membership/${place?.id}`)).status, 202)
  assert.equal(await status(), 401)
})

test('a user makes so many tenants, whoever leaves or joins them', async () => {
  await using it = await testDialect()
  const { cloud } = it.world
  const callerOf = async ({ key }: Person) =>
    (await cloud.authenticate(key, testOrigin)) ?? assert.fail('the key is not known')
  const [ann, bob] = [await it.person('ann'), await it.person('bob')]
  const [annCalls, bobCalls] = [await callerOf(ann), await callerOf(bob)]
  const make = async (by: Caller, slug: string) =>
    await cloud.act(by, 'test', async (verbs) => await verbs.createOwnTenant({ title: slug, slug }))
  // The first is there from registration.
  for (let count = 1; count < 100; count++) {
    const { id } = await make(annCalls, `a-${count}`)
    const inside = await cloud.inTenant(annCalls, id)
    await cloud.act(inside, 'test', async (verbs) => {
      await verbs.addMember({ user: { id: bob.id }, role: 'owner' })
      const [own] = await verbs.list(membership, [`user:${ann.id}`])
      await verbs.remove(membership as unknown as AnyKind, own?.id ?? '')
    })
  }
  await assert.rejects(make(annCalls, 'one-more'), { code: 'exhausted' })
  assert.equal((await make(bobCalls, 'own')).name, 'own', 'what others put a user into is not counted')
})

test('who has a key of the tenant itself may let its members go', async () => {
  await using it = await testDialect({ others: [native] })
  const { token } = await it.world.tenant('acme')
  const ann = await it.person('ann')
  const made = await other(it, token, 'POST', '/membership', {
    name: 'ann',
    spec: { user: ann.id, role: 'owner' },
  })
  assert.equal(made.status, 201)
  assert.equal((await other(it, token, 'DELETE', `/membership/${made.body.id}`)).status, 202)
})

test('a user who is the last owner of a tenant does not go, by an administrator either', async () => {
  await using it = await testDialect({ others: [native] })
  const { token } = it.world.credentials
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'developer')
  const path = `/user/${ann.id}`
  const { name } = (await other(it, token, 'GET', `/tenant/${ann.tenant}`)).body
  const refused = await other(it, token, 'DELETE', path)
  assert.equal(refused.status, 409)
  assert.match(
    refused.body.error.message as string,
    new RegExp(`The tenant ${name} would have no owner left`),
  )
  const { items } = (await other(it, ann.key, 'GET', '/membership')).body
  const of = (items as { id: string; spec: { user: string } }[]).find((one) => one.spec.user === bob.id)
  const given = await other(it, ann.key, 'PATCH', `/membership/${of?.id}`, { spec: { role: 'owner' } })
  assert.equal(given.status, 200)
  assert.equal((await other(it, token, 'DELETE', path)).status, 202)
  // Bob's own tenant goes before him.
  const bobs = `/user/${bob.id}`
  assert.equal((await other(it, token, 'DELETE', bobs)).status, 409)
  for (const tenant of [ann.tenant, bob.tenant])
    assert.equal((await other(it, token, 'DELETE', `/tenant/${tenant}`)).status, 202)
  assert.equal((await other(it, token, 'DELETE', bobs)).status, 202)
})

test('members are added by id or e-mail, once, with a role that is not above one’s own', async () => {
  await using it = await testDialect()
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const add = async (body: object, by = ann, tenant = ann.tenant) =>
    await by.call('POST', `/tenants/${tenant}/members`, body)
  assert.equal((await add({ role: 'member', user_id: bob.id, email: '' })).status, 200)
  assert.equal((await add({ role: 'member', email: bob.email })).status, 409)
  assert.equal((await add({ role: 'viewer', email: 'nobody@example.com' })).status, 404)
  assert.equal((await add({ role: 'no-such-role', email: bob.email })).status, 400)
  assert.equal((await add({ role: 'viewer' })).status, 404)
  assert.equal((await add({ role: 'owner', user_id: bob.id }, bob)).status, 403, 'by a developer')
  assert.equal(
    (await add({ role: 'owner', user_id: bob.id }, ann, bob.tenant)).status,
    404,
    'to a foreign one',
  )
  const [, developer] = await ann.data('GET', '/rbac/bindings')
  assert.equal(developer.email, bob.email)
  assert.equal(developer.role, 'developer')
  const cat = await it.person('cat')
  const byDeveloper = await bob.call(
    'POST',
    `/tenants/${ann.tenant}/members`,
    { role: 'viewer', email: cat.email },
    { tenant: ann.tenant },
  )
  assert.equal(byDeveloper.status, 403)
})

test('roles are made, changed, given and taken away', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const names = (await ann.data('GET', '/rbac/roles')).map((one: { name: string }) => one.name)
  assert.deepEqual(names, ['admin', 'owner', 'developer', 'viewer'])
  const [, , developer] = await ann.data('GET', '/rbac/roles')
  assert.equal((await ann.call('PUT', `/rbac/roles/${developer.id}`, { name: 'x' })).status, 403)
  assert.equal((await ann.call('POST', '/rbac/roles', { name: 'viewer' })).status, 409)
  const role = await ann.data('POST', '/rbac/roles', { name: 'net', permissions: ['vpc:read'] })
  assert.equal((await ann.call('POST', '/rbac/roles', { name: 'net' })).status, 409)
  assert.equal((await ann.data('GET', '/rbac/roles/net')).id, role.id)
  assert.equal((await ann.data('GET', `/rbac/roles/${role.id}`)).name, 'net')
  assert.equal((await ann.call('GET', '/rbac/roles/none')).status, 404)
  const bob = await member(it, ann, 'bob', 'net')
  const may = async (method: string, path: string, body?: unknown) =>
    (await other(it, bob.key, method, path, body)).status
  assert.equal(await may('GET', '/vpc'), 200)
  assert.equal(await may('GET', '/workload'), 403)
  assert.equal(await may('POST', '/vpc', { name: 'a', spec: {} }), 403)
  await ann.call('POST', `/rbac/roles/${role.id}/permissions`, { permission: 'vpc:create' })
  assert.equal(await may('POST', '/vpc', { name: 'a', spec: {} }), 201)
  assert.equal((await ann.call('DELETE', `/rbac/roles/${role.id}/permissions/vpc:create`)).status, 204)
  assert.equal((await ann.call('DELETE', `/rbac/roles/${role.id}/permissions/vpc:create`)).status, 404)
  assert.equal(await may('POST', '/vpc', { name: 'b', spec: {} }), 403)
  const changed = await ann.data('PUT', `/rbac/roles/${role.id}`, {
    name: 'net',
    permissions: ['instance:*'],
  })
  assert.deepEqual(changed.permissions, ['instance:*'])
  assert.equal(await may('GET', '/vpc'), 403)
  assert.equal(await may('GET', '/workload'), 200)
  assert.equal((await bob.call('GET', '/rbac/roles')).status, 403)
  const bind = async (who: string, name: string) =>
    (await ann.call('POST', '/rbac/bindings', { user_identifier: who, role_name: name })).status
  assert.equal(await bind(bob.email, 'developer'), 204)
  assert.equal(await may('POST', '/vpc', { name: 'c', spec: {} }), 201)
  assert.equal(await bind(bob.id, 'net'), 204)
  assert.equal(await bind('nobody@example.com', 'net'), 404)
  assert.equal(await bind(bob.id, 'none'), 404)
  const stranger = await it.person('stranger')
  assert.equal(await bind(stranger.id, 'viewer'), 404, 'who is no member')
  assert.equal((await ann.call('DELETE', `/rbac/roles/${role.id}`)).status, 204)
  assert.equal(await may('GET', '/workload'), 403, 'a role that is gone allows nothing')
})

test('the viewer of the contract sees instances, VPCs, volumes and snapshots, and no more', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'viewer')
  const may = async (method: string, path: string, body?: unknown) =>
    (await other(it, bob.key, method, path, body)).status
  assert.equal(await may('GET', '/vpc'), 200)
  assert.equal(await may('GET', '/workload'), 200)
  assert.equal(await may('GET', '/tunnel'), 403)
  assert.equal(await may('POST', '/vpc', { name: 'a', spec: {} }), 403)
  assert.equal((await bob.call('GET', '/auth/me')).status, 200)
  assert.equal((await bob.call('POST', '/auth/keys', { name: 'mine' })).status, 201)
})

const POLICY = {
  name: 'guard',
  id: '00000000-0000-0000-0000-000000000000',
  tenant_id: '00000000-0000-0000-0000-000000000000',
  statements: [
    { sid: '', effect: 'Allow', action: ['vpc:*'], resource: ['*'], condition: null },
    { sid: 'keep', effect: 'Deny', action: ['vpc:delete', 'vpc:update'], resource: ['prod'] },
  ],
}

test('policies allow beyond a role and deny against it, in every dialect, until they are detached', async () => {
  await using it = await testDialect({ others: [native, circloud] })
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'viewer')
  const policy = await ann.data('POST', '/iam/policies', POLICY)
  assert.equal(policy.tenant_id, ann.tenant)
  assert.equal((await ann.call('POST', '/iam/policies', POLICY)).status, 409)
  for (const bad of [
    { name: 'a' },
    { name: 'a', statements: [] },
    { name: 'a', statements: [{ effect: 'allow', action: ['a'], resource: ['*'] }] },
    { name: 'a', statements: [{ effect: 'Allow', action: [], resource: ['*'] }] },
    { name: 'a', statements: [{ effect: 'Allow', action: ['a'] }] },
  ])
    assert.equal((await ann.call('POST', '/iam/policies', bad)).status, 400, JSON.stringify(bad))
  const make = async (name: string) => await other(it, bob.key, 'POST', '/vpc', { name, spec: {} })
  assert.equal((await make('a')).status, 403)
  const attach = `/iam/users/${bob.id}/policies/${policy.id}`
  await ann.data('POST', attach)
  await ann.data('POST', attach)
  assert.equal((await ann.data('GET', `/iam/users/${bob.id}/policies`)).length, 1)
  const made = await make('a')
  assert.equal(made.status, 201)
  const prod = await make('prod')
  assert.equal((await other(it, bob.key, 'DELETE', `/vpc/${made.body.id}`)).status, 202)
  const refused = await other(it, bob.key, 'DELETE', `/vpc/${prod.body.id}`)
  assert.equal(refused.status, 403)
  assert.match(refused.body.error.message as string, /policy guard denies vpc:delete/)
  const byCircloud = await it.ask('DELETE', `/../circloud/vpcs/${prod.body.id}`, {
    headers: { 'x-auth-token': bob.key },
    unchecked: true,
  })
  assert.equal(byCircloud.status, 401, "Circloud's word for it")
  await ann.data('PUT', `/iam/policies/${policy.id}`, {
    name: 'hide',
    statements: [
      ...POLICY.statements.slice(0, 1),
      {
        effect: 'Deny',
        action: ['vpc:get'],
        resource: [`arn:thecloud:vpc:local:${ann.tenant}:vpc/${prod.body.id}`],
      },
    ],
  })
  const list = async (key: string) =>
    ((await other(it, key, 'GET', '/vpc?deleted=false')).body.items as { name: string }[]).map(
      (one) => one.name,
    )
  assert.deepEqual(await list(ann.key), ['prod'])
  assert.deepEqual(await list(bob.key), [])
  const seen: string[] = []
  for (const name of ['c', 'd', 'e']) {
    const one = await other(it, ann.key, 'POST', '/vpc', { name, spec: {} })
    assert.equal(one.status, 201)
    seen.push(one.body.id as string)
  }
  const page = async (key: string, how: string) => (await other(it, key, 'GET', `/vpc?${how}`)).body
  const first = await page(bob.key, 'deleted=false&limit=2')
  assert.deepEqual([first.items.length, first.total], [2, 3], 'what is hidden is counted nowhere')
  const second = await page(bob.key, `deleted=false&limit=2&after=${first.next}`)
  assert.deepEqual([second.items.length, second.total, second.next], [1, 3, undefined])
  assert.deepEqual(
    [...first.items, ...second.items].map((one: { id: string }) => one.id),
    seen,
  )
  assert.equal((await page(ann.key, 'deleted=false&limit=2')).total, 4)
  assert.equal((await other(it, bob.key, 'GET', `/vpc/${prod.body.id}`)).status, 403)
  await ann.data('DELETE', attach)
  assert.equal((await ann.call('DELETE', attach)).status, 404)
  assert.equal((await make('b')).status, 403)
  await ann.data('POST', attach)
  await ann.data('DELETE', `/iam/policies/${policy.id}`)
  assert.equal((await make('b')).status, 403, 'attachments go with a policy')
  assert.equal((await ann.call('GET', `/iam/policies/${policy.id}`)).status, 404)
})

test('a policy of another tenant is not there, and holds for nobody elsewhere', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const bob = await it.person('bob')
  const everything = [{ effect: 'Deny', action: ['*'], resource: ['*'] }]
  const policy = await ann.data('POST', '/iam/policies', { name: 'none', statements: everything })
  assert.equal((await bob.call('GET', `/iam/policies/${policy.id}`)).status, 404)
  assert.equal((await bob.call('POST', `/iam/users/${bob.id}/policies/${policy.id}`)).status, 404)
  assert.equal((await ann.call('POST', `/iam/users/${bob.id}/policies/${policy.id}`)).status, 404)
  await ann.data('POST', `/tenants/${ann.tenant}/members`, { role: 'developer', email: bob.email })
  await ann.data('POST', `/iam/users/${bob.id}/policies/${policy.id}`)
  const make = async (tenant: string) =>
    (await it.ask('POST', '/auth/keys', { key: bob.key, tenant, body: { name: 'k' } })).status
  assert.equal(await make(bob.tenant), 201)
  assert.equal(await make(ann.tenant), 403)
})

test('a list of attachments in the place of another takes what attaching and detaching take', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'owner')
  const policy = await ann.data('POST', '/iam/policies', {
    name: 'rail',
    statements: [{ effect: 'Deny', action: ['iam:attach', 'iam:detach'], resource: ['*'] }],
  })
  const attach = async (key: string, attachedTo: string[]) =>
    (await other(it, key, 'PATCH', `/policy/${policy.id}`, { spec: { attachedTo } })).status
  const stranger = await it.person('stranger')
  assert.equal(await attach(ann.key, [stranger.id]), 400)
  assert.equal(await attach(ann.key, [bob.id]), 200)
  assert.equal(await attach(bob.key, []), 403)
  assert.equal(await attach(bob.key, [bob.id, ann.id]), 403)
  assert.equal(await attach(bob.key, [bob.id]), 200, 'nothing is changed')
  assert.equal(await attach(ann.key, []), 200)
})

test('the simulator says why', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const bob = await member(it, ann, 'bob', 'developer')
  const policy = await ann.data('POST', '/iam/policies', {
    name: 'office',
    statements: [
      {
        sid: 'outside',
        effect: 'Deny',
        action: ['instance:terminate'],
        resource: ['*'],
        condition: { NotIpAddress: { 'aws:SourceIp': ['10.0.0.0/8'] } },
      },
    ],
  })
  await ann.data('POST', `/iam/users/${bob.id}/policies/${policy.id}`)
  const ask = async (key: string, body: object) => await other(it, key, 'POST', '/access', body)
  const action = 'instance:terminate'
  const outside = await ask(ann.key, { principal: bob.id, action, address: '203.0.113.1' })
  assert.deepEqual(
    [outside.body.allowed, outside.body.because, outside.body.policy.name, outside.body.statement.sid],
    [false, 'policy', 'office', 'outside'],
  )
  const inside = await ask(ann.key, { principal: bob.id, action, address: '10.9.9.9' })
  assert.deepEqual([inside.body.allowed, inside.body.because], [true, 'role'])
  const own = await ask(bob.key, { action: 'iam:create' })
  assert.deepEqual([own.body.allowed, own.body.because], [false, 'role'])
  assert.equal((await ask(bob.key, { principal: ann.id, action })).status, 403)
  const stranger = await it.person('stranger')
  assert.equal((await ask(ann.key, { principal: stranger.id, action })).status, 404)
})

test('a service account shows its secret, acts by a token, and is shut out at once', async () => {
  await using it = await testDialect({ others: [native] })
  const ann = await it.person('ann')
  const made = await ann.data('POST', '/iam/service-accounts', {
    name: 'ci',
    role: 'developer',
    description: 'builds',
  })
  assert.match(made.secret as string, /^sa_[0-9a-f]{64}$/)
  const grant = async (secret: string, how: { type?: string; id?: string } = {}) => {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: how.id ?? made.id,
      client_secret: secret,
    })
    return await it.ask('POST', '/oauth2/token', {
      raw: form.toString(),
      headers: { 'content-type': how.type ?? 'application/x-www-form-urlencoded' },
    })
  }
  const granted = await grant(made.secret)
  assert.equal(granted.status, 200, JSON.stringify(granted.body))
  assert.equal(granted.body.access_token, granted.body.data.access_token, 'for OAuth clients, beside data')
  assert.equal(granted.body.data.expires_in, 3600)
  const parts = new FormData()
  parts.set('grant_type', 'client_credentials')
  parts.set('client_id', made.id as string)
  parts.set('client_secret', made.secret as string)
  const multipart = new Request('http://a', { method: 'POST', body: parts })
  const byParts = await it.ask('POST', '/oauth2/token', {
    raw: await multipart.text(),
    headers: { 'content-type': multipart.headers.get('content-type') ?? '' },
  })
  assert.equal(byParts.status, 200)
  assert.equal((await grant('sa_wrong')).status, 401)
  assert.equal((await grant(made.secret, { id: ann.id })).status, 401)
  const bearer = granted.body.data.access_token as string
  const me = async (token = bearer) => await it.ask('GET', '/auth/me', { bearer: token })
  assert.equal((await me()).body.data.name, 'ci')
  assert.equal((await other(it, bearer, 'POST', '/vpc', { name: 'a', spec: {} })).status, 201)
  assert.equal((await it.ask('GET', '/iam/policies', { bearer })).status, 403)
  assert.equal((await me(`${bearer.slice(0, -3)}AAA`)).status, 401, 'a signature that is not ours')
  const [header, payload] = bearer.split('.')
  const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')
  assert.equal((await me(`${none}.${payload}.${header}`)).status, 401)
  const policy = await ann.data('POST', '/iam/policies', {
    name: 'none',
    statements: [{ effect: 'Deny', action: ['vpc:create'], resource: ['*'] }],
  })
  const attach = `/iam/service-accounts/${made.id}/policies/${policy.id}`
  await ann.data('POST', attach)
  assert.equal((await ann.data('GET', `/iam/service-accounts/${made.id}/policies`)).length, 1)
  assert.equal((await other(it, bearer, 'POST', '/vpc', { name: 'b', spec: {} })).status, 403)
  await ann.data('DELETE', attach)
  assert.equal((await other(it, bearer, 'POST', '/vpc', { name: 'b', spec: {} })).status, 201)
  const { secret } = await ann.data('POST', `/iam/service-accounts/${made.id}/rotate-secret`)
  assert.equal((await grant(made.secret)).status, 401)
  assert.equal((await me()).status, 200, 'it still has a secret')
  const [known] = await ann.data('GET', `/iam/service-accounts/${made.id}/secrets`)
  assert.ok(!('hash' in known))
  await ann.data('POST', `/iam/service-accounts/${made.id}/secrets/${known.id}`)
  assert.equal((await me()).status, 401)
  assert.equal((await grant(secret)).status, 401)
  const again = await ann.data('POST', `/iam/service-accounts/${made.id}/rotate-secret`)
  const second = (await grant(again.secret)).body.data.access_token as string
  await it.world.clock.advance(3_599_000)
  assert.equal((await me(second)).status, 200)
  await it.world.clock.advance(2_000)
  assert.equal((await me(second)).status, 401, 'an hour is over')
  const third = (await grant(again.secret)).body.data.access_token as string
  const disabled = await other(it, ann.key, 'PATCH', `/service-account/${made.id}`, {
    spec: { enabled: false },
  })
  assert.equal(disabled.status, 200, JSON.stringify(disabled.body))
  assert.equal((await me(third)).status, 401)
  await ann.data('DELETE', `/iam/service-accounts/${made.id}`)
  assert.equal((await ann.call('GET', `/iam/service-accounts/${made.id}`)).status, 404)
  assert.deepEqual(await ann.data('GET', '/iam/service-accounts'), [])
})
