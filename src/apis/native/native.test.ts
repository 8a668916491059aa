import assert from 'node:assert/strict'
import { test } from 'node:test'
import { credential } from '#cloud/identity/credential.kind.ts'
import { servedCloud, type ServedCloud } from './native.testing.ts'

type Body = any

/** A tenant with a VPC `production` that holds a subnet `front`. */
async function withSubnet(served: ServedCloud): Promise<{ token: string; id: string }> {
  const { token, id } = await served.it.tenant('acme')
  const vpc = await served.call('POST', '/vpc', { token, body: { name: 'production' } })
  assert.equal(vpc.status, 201, JSON.stringify(vpc.body))
  const spec = { vpc: vpc.body.id, cidr: '10.0.1.0/24' }
  const subnet = await served.call('POST', '/subnet', { token, body: { name: 'front', spec } })
  assert.equal(subnet.status, 201, JSON.stringify(subnet.body))
  return { token, id }
}

test('a resource is created, found by id and names, changed and deleted', async () => {
  await using served = await servedCloud()
  const { token, id: tenant } = await served.it.tenant('acme')
  const made = await served.call('POST', '/vpc', {
    token,
    body: { name: 'production', labels: { env: 'prod' }, spec: { internet: true } },
  })
  assert.equal(made.status, 201)
  assert.equal(made.headers.get('etag'), '"1"')
  assert.deepEqual(
    [made.body.kind, made.body.tenant, made.body.name, made.body.labels, made.body.settled],
    ['vpc', tenant, 'production', { env: 'prod' }, false],
  )
  assert.match(made.body.createdAt, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  await served.it.settle()

  for (const reference of [made.body.id, 'production', made.body.id.toUpperCase()]) {
    const { body } = await served.call('GET', `/vpc/${reference}`, { token })
    assert.deepEqual([body.id, body.settled, body.status.state], [made.body.id, true, 'active'])
  }

  const changed = await served.call('PATCH', '/vpc/production', {
    token,
    headers: { 'if-match': '"1"' },
    body: { labels: { env: null, team: 'web' }, spec: { internet: false } },
  })
  assert.equal(changed.status, 200)
  assert.deepEqual(
    [changed.body.generation, changed.body.labels, changed.body.spec.internet],
    [2, { team: 'web' }, false],
  )
  const late = await served.call('PATCH', '/vpc/production', {
    token,
    headers: { 'if-match': '"1"' },
    body: { spec: { internet: true } },
  })
  assert.deepEqual([late.status, late.body.error.code], [409, 'conflict'])

  const deleted = await served.call('DELETE', '/vpc/production', { token })
  assert.equal(deleted.status, 202)
  assert.match(deleted.body.deletedAt, /Z$/)
  assert.equal(deleted.body.settled, false)
  await served.it.settle()
  assert.equal((await served.call('GET', `/vpc/${made.body.id}`, { token })).status, 404)
})

test('a name in two VPCs needs the VPC before it', async () => {
  await using served = await servedCloud()
  const { token } = await withSubnet(served)
  const { body: staging } = await served.call('POST', '/vpc', { token, body: { name: 'staging' } })
  const spec = { vpc: staging.id, cidr: '10.0.1.0/24' }
  const { body: other } = await served.call('POST', '/subnet', { token, body: { name: 'front', spec } })
  const ambiguous = await served.call('GET', '/subnet/front', { token })
  assert.deepEqual([ambiguous.status, ambiguous.body.error.blockers.length], [409, 2])
  const found = await served.call('GET', '/subnet/staging%2Ffront', { token })
  assert.equal(found.body.id, other.id)
})

test('a dry run checks everything and writes nothing', async () => {
  await using served = await servedCloud()
  const { token } = await withSubnet(served)
  const before = (await served.call('GET', '/vpc', { token })).body
  const created = await served.call('POST', '/vpc?dryRun=true', { token, body: { name: 'other' } })
  assert.deepEqual([created.status, created.headers.get('arcus-dry-run')], [200, 'true'])
  const patched = await served.call('PATCH', '/vpc/production?dryRun', {
    token,
    body: { labels: { a: 'b' } },
  })
  assert.deepEqual(patched.body.labels, { a: 'b' })
  const deleted = await served.call('DELETE', '/vpc/production?dryRun=true', { token })
  assert.equal(deleted.status, 200)
  const clash = await served.call('POST', '/vpc?dryRun=true', { token, body: { name: 'production' } })
  assert.deepEqual([clash.status, clash.body.error.code], [409, 'already_exists'])
  assert.deepEqual((await served.call('GET', '/vpc', { token })).body.items, before.items)
})

test('lists are filtered, paged and counted', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  for (const name of ['a', 'b', 'c', 'd', 'e'])
    await served.call('POST', '/vpc', {
      token,
      body: { name, labels: { half: name < 'c' ? 'first' : 'second' } },
    })
  const names: string[] = []
  let after = ''
  for (let pages = 0; pages < 3; pages++) {
    const { body } = await served.call('GET', `/vpc?limit=2${after && `&after=${after}`}`, { token })
    assert.equal(body.total, 5)
    names.push(...body.items.map((it: Body) => it.name))
    after = body.next ?? ''
  }
  assert.equal(after, '')
  assert.deepEqual(names, ['a', 'b', 'c', 'd', 'e'])
  const query = async (text: string): Promise<string[]> =>
    (await served.call('GET', `/vpc?${text}`, { token })).body.items.map((it: Body) => it.name)
  assert.deepEqual(await query('label=half=first'), ['a', 'b'])
  assert.deepEqual(await query('label=half=second&name=d'), ['d'])
  assert.deepEqual(await query('term=name:e'), ['e'])
  assert.deepEqual(await query('newestFirst=true&limit=1'), ['e'])
  for (const wrong of ['limit=0', 'limit=1001', 'limit=x', 'label=plain', 'unknown=1', 'watch=true&name=a'])
    assert.equal((await served.call('GET', `/vpc?${wrong}`, { token })).status, 400, wrong)
})

test('without a credential, or with another tenant’s, nothing is shown and nothing done', async () => {
  await using served = await servedCloud()
  const { token } = await withSubnet(served)
  const { token: stranger } = await served.it.tenant('stranger')
  const { items } = (await served.call('GET', '/vpc', { token })).body
  const { id } = items[0]
  const paths: [string, string, Body?][] = [
    ['GET', `/vpc/${id}`],
    ['GET', '/vpc/production'],
    ['GET', `/vpc/${id}/explain`],
    ['PATCH', `/vpc/${id}`, { labels: { a: 'b' } }],
    ['DELETE', `/vpc/${id}`],
  ]
  for (const [method, path, body] of paths) {
    const foreign = await served.call(method, path, { token: stranger, body })
    assert.deepEqual([foreign.status, foreign.body.error.code], [404, 'not_found'], `${method} ${path}`)
    for (const none of ['', 'nonsense']) {
      const refused = await served.call(method, path, { token: none, body })
      assert.equal(refused.status, 401)
      assert.match(refused.headers.get('www-authenticate') ?? '', /^Bearer/)
    }
  }
  assert.deepEqual((await served.call('GET', '/vpc', { token: stranger })).body.items, [])
  assert.deepEqual((await served.call('GET', '/tenant', { token: stranger })).body.items, [])
  assert.equal((await served.call('GET', '/leaks', { token: stranger })).status, 403)
  assert.equal(
    (await served.call('POST', '/tenant', { token: stranger, body: { name: 'mine' } })).status,
    403,
  )
  const cuckoo = { name: 'cuckoo', spec: { vpc: id, cidr: '10.0.9.0/24' } }
  assert.equal((await served.call('POST', '/subnet', { token: stranger, body: cuckoo })).status, 404)
  assert.deepEqual((await served.call('GET', '/vpc', { token })).body.items, items)
})

test('an administrator acts in a tenant by its name or id', async () => {
  await using served = await servedCloud()
  const { token, id } = await withSubnet(served)
  const body = { name: 'staging' }
  const nowhere = await served.call('POST', '/vpc', { body })
  assert.deepEqual([nowhere.status, nowhere.body.error.code], [400, 'invalid'])
  for (const [tenant, name] of [
    ['acme', 'one'],
    [id, 'two'],
  ]) {
    const made = await served.call('POST', '/vpc', {
      body: { name },
      headers: { 'arcus-tenant': tenant ?? '' },
    })
    assert.deepEqual([made.status, made.body.tenant], [201, id])
  }
  assert.equal((await served.call('GET', '/vpc', { headers: { 'arcus-tenant': 'nobody' } })).status, 404)
  await served.it.tenant('stranger')
  assert.equal(
    (await served.call('GET', '/vpc', { token, headers: { 'arcus-tenant': 'stranger' } })).status,
    404,
  )
  assert.equal((await served.call('GET', '/vpc', { token, headers: { 'arcus-tenant': 'acme' } })).status, 200)
  const who = (await served.call('GET', '/whoami', { headers: { 'arcus-tenant': 'acme' } })).body
  assert.deepEqual([who.scope, who.name, who.tenant], ['admin', 'admin', { id, name: 'acme' }])
})

test('a login gives a token; a wrong password does not', async () => {
  await using served = await servedCloud()
  const { username, password } = served.it.credentials
  const good = await served.call('POST', '/login', { token: '', body: { username, password } })
  assert.equal(good.status, 200)
  assert.equal(good.body.user.spec.passwordHash, undefined)
  assert.equal((await served.call('GET', '/whoami', { token: good.body.token })).body.name, 'admin')
  const bad = await served.call('POST', '/login', { token: '', body: { username, password: 'wrong' } })
  assert.deepEqual([bad.status, bad.body.error.code], [401, 'unauthenticated'])
})

test('a part of a workload that is of another type is refused, and nothing is made', async () => {
  await using served = await servedCloud()
  const { token } = await withSubnet(served)
  const { items } = (await served.call('GET', '/subnet', { token })).body
  const [{ id: subnet, spec: of }] = items
  const parts = {
    persistence: [{ enabled: true, path: -1 }, { path: null }, 'x'],
    autoscaling: [{ enabled: true, min: 'a' }, { enabled: true, max: null }, []],
    replicas: ['two', -1],
    capabilities: [1, 'NET_RAW'],
    securityGroups: [{}, 7],
  }
  for (const [field, values] of Object.entries(parts))
    for (const value of values) {
      const spec = { vpc: of.vpc, subnet, image: 'nginx', [field]: value }
      const { status, body } = await served.call('POST', '/workload', { token, body: { name: 'web', spec } })
      assert.deepEqual([status, body.error?.code], [400, 'invalid'], JSON.stringify({ [field]: value }))
    }
  assert.deepEqual((await served.call('GET', '/workload', { token })).body.items, [])
})

test('a quota is a number that can be counted', async () => {
  await using served = await servedCloud()
  for (const vpcs of [1e117, 2 ** 53, -1, 1.5]) {
    const body = { name: 'vast', spec: { quotas: { vpcs }, password: 'long enough' } }
    const { status, body: refused } = await served.call('POST', '/tenant', { body })
    assert.deepEqual([status, refused.error.field], [400, 'spec.quotas.vpcs'])
  }
})

test('a new tenant’s token is shown once, and its quotas count', async () => {
  await using served = await servedCloud()
  const spec = { description: 'small', quotas: { vpcs: 1 }, password: 'long enough' }
  const dry = await served.call('POST', '/tenant?dryRun=true', { body: { name: 'small', spec } })
  assert.deepEqual([dry.status, dry.body.token], [200, undefined])
  const { status, body } = await served.call('POST', '/tenant', { body: { name: 'small', spec } })
  assert.equal(status, 201)
  assert.equal(body.spec.quotas.vpcs, 1)
  assert.doesNotMatch(JSON.stringify(body.spec), /long enough/)
  const { token } = body
  assert.equal((await served.call('GET', `/tenant/${body.id}`)).body.token, undefined)
  assert.equal((await served.call('POST', '/vpc', { token, body: { name: 'one' } })).status, 201)
  const second = await served.call('POST', '/vpc', { token, body: { name: 'two' } })
  assert.deepEqual([second.status, second.body.error.rule], [409, 'quota'])
  const told = await served.call('PATCH', '/tenant/small', { body: { spec: { description: null } } })
  assert.deepEqual([told.status, told.body.spec.description], [200, null])
  const login = { username: 'small', password: 'long enough' }
  assert.equal((await served.call('POST', '/login', { token: '', body: login })).status, 200)
})

test('what is wrong with a request is said in one shape, and nothing changes', async () => {
  await using served = await servedCloud()
  const { token } = await withSubnet(served)
  const before = (await served.call('GET', '/vpc', { token })).body.cursor
  const cases: [string, string, Body, number, string, string?][] = [
    ['GET', '/nowhere', undefined, 404, 'no_route'],
    ['GET', '/vpc/a/b/c', undefined, 404, 'no_route'],
    ['PUT', '/vpc', { name: 'x' }, 405, 'wrong_method'],
    ['POST', '/vpc', '{"name"', 400, 'invalid'],
    ['POST', '/vpc', [], 400, 'invalid'],
    ['POST', '/vpc', {}, 400, 'invalid', 'name'],
    ['POST', '/vpc', { name: 7 }, 400, 'invalid', 'name'],
    ['POST', '/vpc', { name: '' }, 400, 'invalid', 'name'],
    ['POST', '/vpc', { name: 'x', color: 'red' }, 400, 'invalid', 'color'],
    ['POST', '/vpc', { name: 'x', labels: { a: 1 } }, 400, 'invalid', 'labels.a'],
    ['POST', '/vpc', { name: 'x', spec: { internet: 'yes' } }, 400, 'invalid', 'spec.internet'],
    ['POST', '/subnet', { name: 'x', spec: { vpc: 'nope', cidr: '10.0.2.0/24' } }, 404, 'not_found'],
    ['POST', '/replica', { name: 'x' }, 400, 'unsupported'],
    ['PATCH', '/vpc/production', { spec: { index: 77 } }, 400, 'invalid'],
    ['PATCH', '/vpc/production', { name: 'renamed' }, 400, 'invalid', 'name'],
    ['PATCH', '/vpc/none', { labels: {} }, 404, 'not_found'],
    ['DELETE', '/subnet/none', undefined, 404, 'not_found'],
    ['GET', '/records/gossip', undefined, 400, 'invalid', 'stream'],
    ['GET', '/watch?kind=unicorn', undefined, 400, 'invalid', 'kind'],
    ['GET', '/replica/none/exec?command=ls', undefined, 400, 'invalid'],
    ['POST', '/topology', { resources: [] }, 400, 'invalid', 'resources'],
    ['POST', '/topology', { resources: [{ kind: 'unicorn', name: 'x' }] }, 400, 'invalid'],
  ]
  for (const [method, path, body, status, code, field] of cases) {
    const got = await served.call(method, path, { token, body })
    const { error } = got.body
    assert.deepEqual(
      [got.status, error.code],
      [status, code],
      `${method} ${path}: ${JSON.stringify(got.body)}`,
    )
    if (field !== undefined) assert.equal(error.field, field)
    assert.ok(error.message && error.requestId)
    assert.doesNotMatch(error.message, /schema|undefined/)
    assert.equal(error.requestId, got.headers.get('x-request-id') ?? error.requestId)
  }
  assert.equal((await served.call('GET', '/vpc', { token })).body.cursor, before)
})

test('a secret is never shown, in no answer', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  const spec = { server: 'registry.test', username: 'robot', password: 'hunter2-hunter2' }
  const body = { name: 'private', spec }
  const resources = [{ kind: 'registry-credential', ...body }]
  const answers = [
    await served.call('POST', '/registry-credential?dryRun=true', { token, body }),
    await served.call('POST', '/registry-credential', { token, body }),
    await served.call('GET', '/registry-credential', { token }),
    await served.call('GET', '/registry-credential/private', { token }),
    await served.call('PATCH', '/registry-credential/private', {
      token,
      body: { spec: { username: 'other' } },
    }),
    await served.call('POST', '/topology', { token, body: { resources } }),
    await served.call('GET', '/records/audit', { token }),
    await served.call('DELETE', '/registry-credential/private', { token }),
  ]
  for (const { status, body: shown } of answers) {
    assert.ok(status < 300, JSON.stringify(shown))
    assert.doesNotMatch(JSON.stringify(shown), /hunter2|"password"/)
  }
})

test('a login goes to another registry only with a password given for it', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  const spec = { server: 'registry.test', username: 'robot', password: 'hunter2-hunter2' }
  await served.call('POST', '/registry-credential', { token, body: { name: 'private', spec } })
  const change = async (changed: object) =>
    await served.call('PATCH', '/registry-credential/private', { token, body: { spec: changed } })
  const refused = await change({ server: 'elsewhere.test' })
  assert.deepEqual([refused.status, refused.body.error.field], [400, 'spec.password'])
  assert.equal((await change({ server: 'elsewhere.test', password: 'another' })).status, 200)
  const { body } = await served.call('GET', '/registry-credential/private', { token })
  assert.equal(body.spec.server, 'elsewhere.test')
})

test('what happened is recorded under the caller who did it', async () => {
  await using served = await servedCloud()
  const { token, id } = await withSubnet(served)
  const { items } = (await served.call('GET', '/records/audit?newestFirst=true&limit=2', { token })).body
  assert.deepEqual(
    items.map((it: Body) => [it.what, it.tenant, it.body.dialect]),
    [
      ['subnet.create', id, 'native'],
      ['vpc.create', id, 'native'],
    ],
  )
  assert.equal((await served.call('GET', '/leaks')).status, 200)
  assert.deepEqual((await served.call('GET', '/missing')).body, { items: [] })
})

test('every kind is in the reference with its own schema', async () => {
  await using served = await servedCloud()
  const document = (await (await fetch(`${served.url}/openapi/native.json`)).json()) as Body
  const { body } = await served.call('GET', '/kinds')
  assert.deepEqual(
    body.items.map((it: Body) => it.name).toSorted(),
    [...served.it.cloud.kinds.keys()].toSorted(),
  )
  for (const { name, spec } of body.items) {
    const path = document.paths[`/${name}`]
    const shown = path.get.responses['200'].content['application/json'].schema.properties.items.items
    assert.deepEqual(Object.keys(shown.properties.spec.properties), Object.keys(spec.properties), name)
    const given = path.post.requestBody.content['application/json'].schema.properties.spec.properties
    assert.ok(Object.keys(given).length <= Object.keys(spec.properties).length, name)
    for (const method of ['get', 'patch', 'delete']) assert.ok(document.paths[`/${name}/{id}`][method], name)
    assert.ok(document.paths[`/${name}/{id}/explain`].get, name)
  }
})

test('a credential that was revoked opens nothing', async () => {
  await using served = await servedCloud()
  const { token, caller } = await served.it.tenant('acme')
  await served.it.cloud.act(
    served.it.admin,
    'credential.revoke',
    async (verbs) => await verbs.remove(credential, caller.credential),
  )
  assert.equal((await served.call('GET', '/vpc', { token })).status, 401)
})

test('every operation but the login asks for a credential', async () => {
  await using served = await servedCloud()
  const document = (await (await fetch(`${served.url}/openapi/native.json`)).json()) as Body
  let asked = 0
  for (const [path, operations] of Object.entries<Body>(document.paths))
    for (const method of Object.keys(operations)) {
      if (path === '/login') continue
      const { status, body } = await served.call(method.toUpperCase(), path.replace(/\{\w+\}/g, 'x'), {
        token: '',
      })
      assert.deepEqual([status, body.error.code], [401, 'unauthenticated'], `${method} ${path}`)
      asked++
    }
  assert.ok(asked > served.it.cloud.kinds.size * 5)
})

test('a viewer sees everything of the tenant and changes nothing', async () => {
  await using served = await servedCloud()
  const { token: owner } = await withSubnet(served)
  const body = { name: 'viewer', spec: { role: 'viewer' } }
  const given = await served.call('POST', '/credential', { token: owner, body })
  assert.equal(given.status, 201)
  const { token, id: credential } = given.body
  const before = (await served.call('GET', '/vpc', { token: owner })).body
  assert.deepEqual((await served.call('GET', '/vpc', { token })).body.items, before.items)
  const writes: [string, string, Body?][] = [
    ['POST', '/vpc', { name: 'mine' }],
    ['POST', '/subnet', { name: 'mine', spec: { vpc: before.items[0].id, cidr: '10.0.5.0/24' } }],
    ['POST', '/topology', { resources: [{ kind: 'vpc', name: 'mine' }] }],
    ['PATCH', '/vpc/production', { labels: { a: 'b' } }],
    ['PATCH', '/subnet/front', { labels: { a: 'b' } }],
    ['DELETE', '/vpc/production'],
    ['DELETE', '/subnet/front'],
    ['POST', '/registry-credential', { name: 'mine', spec: { server: 's', username: 'u', password: 'p' } }],
    ['POST', '/domain', { name: 'mine.example' }],
    ['POST', '/credential', { name: 'mine', spec: { role: 'owner' } }],
    ['DELETE', `/credential/${credential}`],
  ]
  for (const [method, path, body] of writes) {
    const refused = await served.call(method, path, { token, body })
    assert.deepEqual([refused.status, refused.body.error.code], [403, 'forbidden'], `${method} ${path}`)
  }
  const after = (await served.call('GET', '/vpc', { token: owner })).body
  assert.deepEqual(
    [after.items, after.cursor],
    [before.items, (await served.call('GET', '/subnet', { token: owner })).body.cursor],
  )
  assert.equal((await served.call('DELETE', `/credential/${credential}`, { token: owner })).status, 202)
  assert.equal((await served.call('GET', '/vpc', { token })).status, 401)
})

test('a user logs in with the role of the membership, and only administrators make users', async () => {
  await using served = await servedCloud()
  const { token: owner, id: tenant } = await withSubnet(served)
  const spec = { password: 'long-enough', memberships: [{ tenant, role: 'editor' }] }
  const refused = await served.call('POST', '/user', { token: owner, body: { name: 'ann', spec } })
  assert.equal(refused.status, 403)
  const made = await served.call('POST', '/user', { body: { name: 'ann', spec } })
  assert.equal(made.status, 201)
  assert.doesNotMatch(JSON.stringify(made.body), /argon2|long-enough/)
  const short = await served.call('POST', '/user', {
    body: { name: 'bob', spec: { password: 'x' } },
  })
  assert.deepEqual([short.status, short.body.error.field], [400, 'spec.password'])
  const login = await served.call('POST', '/login', {
    token: '',
    body: { username: 'ann', password: 'long-enough' },
  })
  const { token } = login.body
  assert.equal((await served.call('POST', '/vpc', { token, body: { name: 'hers' } })).status, 201)
  assert.equal(
    (await served.call('POST', '/credential', { token, body: { name: 'x', spec: { role: 'owner' } } }))
      .status,
    403,
  )
})
