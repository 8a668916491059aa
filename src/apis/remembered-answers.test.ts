import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { until } from '#engine/store.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { credential } from '#cloud/identity/credential.kind.ts'
import { tenant as tenantKind } from '#cloud/identity/tenant.kind.ts'
import { answerErrors } from './errors.ts'
import type { Dialect } from './http.ts'
import { openOwnSockets } from './own-sockets.testing.ts'
import { passesAgain } from './remembered-answers.ts'
import { type Heard, served, type Served } from './served.testing.ts'

/** Asked so often, a request was answered from memory at last. */
const UNTIL_KNOWN = 3
const DAY_MS = 86_400_000

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** A tenant with a VPC, and what asks for it. */
async function withVpc(it: Served, name = 'acme') {
  const { id: tenantId, token, caller } = await it.world.tenant(name)
  const made = await it.world.cloud.act(
    caller,
    'test',
    async (verbs) => await verbs.createVpc({ name: 'only', internet: false }),
  )
  const path = `/native/vpc/${made.id}`
  return {
    tenantId,
    token,
    caller,
    id: made.id,
    path,
    get: async (headers: Record<string, string> = {}) =>
      await it.ask(path, { headers: { ...bearer(token), ...headers } }),
  }
}

/** Asks until the answer comes from memory, and gives that. */
async function known(it: Served, ask: () => Promise<Heard>): Promise<Heard> {
  for (let count = 1; ; count++) {
    const before = await it.hits()
    const heard = await ask()
    assert.equal(heard.status, 200, heard.text)
    if ((await it.hits()) > before) return heard
    assert.ok(count < UNTIL_KNOWN, 'it is not remembered')
  }
}

/** A person of thecloud with a key, and a VPC that their policies speak of. */
async function person(it: Served, name: string) {
  const login = { email: `${name}@example.com`, password: 'correct horse' }
  const data = async (method: string, path: string, body?: unknown, headers = {}) => {
    const heard = await it.ask(`/thecloud${path}`, { method, body, headers })
    assert.ok(heard.status < 300, heard.text)
    return heard.body.data
  }
  const { id } = await data('POST', '/auth/register', { ...login, name })
  const { api_key: key } = await data('POST', '/auth/login', login)
  const headers = { 'x-api-key': key as string }
  const call = async (method: string, path: string, body?: unknown) => await data(method, path, body, headers)
  const { id: made } = await call('POST', '/vpcs', { name: 'only' })
  const path = `/thecloud/vpcs/${made}`
  return {
    headers,
    call,
    path,
    get: async (more: Record<string, string> = {}) =>
      await it.ask(path, { headers: { ...headers, ...more } }),
    async allow(statement: object) {
      const statements = [{ effect: 'Allow', action: ['vpc:*'], resource: ['*'] }, statement]
      const policy = await call('POST', '/iam/policies', { name: 'test', statements })
      await call('POST', `/iam/users/${id}/policies/${policy.id}`)
    },
  }
}

test('an equal request gets the same answer from memory, with an id, a date and a time of its own', async () => {
  await using it = await served()
  const { get } = await withVpc(it)
  const [first, again] = [await get(), await known(it, get)]
  assert.deepEqual(again.body, first.body)
  const own = ({ 'x-request-id': _id, date: _date, ...rest }: Heard['headers']) => rest
  assert.deepEqual(own(again.headers), own(first.headers))
  assert.notEqual(again.headers['x-request-id'], first.headers['x-request-id'])
  const named = await known(it, async () => await get({ 'x-request-id': 'mine' }))
  assert.equal(named.headers['x-request-id'], 'mine')
  const before = await it.hits()
  assert.equal((await get({ 'x-request-id': 'mine-too' })).headers['x-request-id'], 'mine-too')
  assert.equal(await it.hits(), before + 1, 'the id alone makes no other request')
  assert.match(String((await get({ 'x-request-id': 'not sane' })).headers['x-request-id']), /^[0-9a-f-]{36}$/)

  const ann = await person(it, 'ann')
  await ann.call('PATCH', `/vpcs/${ann.path.slice(-36)}`, { name: 'naïve-名' })
  const early = await known(it, ann.get)
  await it.world.clock.advance(61_000)
  const late = await known(
    it,
    async () => await ann.get({ 'x-request-id': 'a-longer-id-than-any-that-is-made-here-0000000000' }),
  )
  assert.equal(late.body.data.name, 'naïve-名')
  assert.equal(late.body.meta.request_id, late.headers['x-request-id'])
  assert.equal(early.body.meta.request_id, early.headers['x-request-id'])
  assert.equal(Date.parse(late.body.meta.timestamp) - Date.parse(early.body.meta.timestamp), 61_000)
})

test('what anybody changes in any dialect is there with the next request', async () => {
  await using it = await served()
  const { get, id, token, caller, tenantId } = await withVpc(it)
  const list = async () => await it.ask('/circloud/vpcs', { headers: { 'x-auth-token': token } })
  const seen = async () =>
    await it.ask(`/circloud/tenants/${tenantId}`, {
      headers: { 'x-admin-token': it.world.credentials.token },
    })
  for (let count = 0; count < 8; count++) {
    for (const ask of [get, list, seen]) await known(it, ask)
    const name = `name-${count}`
    if (count % 2 === 0)
      await it.world.cloud.act(caller, 'test', async (verbs) => await verbs.renameVpc(id, name))
    else {
      const how = { method: 'PATCH', headers: bearer(token), body: { name } }
      assert.equal((await it.ask(`/thecloud/vpcs/${id}`, how)).status, 200)
    }
    assert.equal((await get()).body.name, name)
    assert.equal((await list()).body[0].name, name)
    assert.equal((await seen()).body.vpcs[0].name, name)
  }
  await known(it, list)
  assert.equal(
    (await it.ask(`/circloud/vpcs/${id}`, { method: 'DELETE', headers: { 'x-auth-token': token } })).status,
    204,
  )
  await it.world.settle()
  assert.deepEqual((await list()).body, [])
  assert.equal((await get()).status, 404)
})

test('what replicas use is told as of the last look', async () => {
  await using it = await served()
  const { caller, id, tenantId } = await withVpc(it)
  const { cloud, compute } = it.world
  await cloud.act(caller, 'test', async (verbs) => {
    const { id: subnet } = await verbs.createSubnet({ vpc: id, name: 'net', cidr: '10.9.0.0/24' })
    await verbs.create(workload as never, { name: 'web', spec: { vpc: id, subnet, image: 'nginx' } })
  })
  await it.world.settle()
  const [slot] = await cloud.all(caller, replica)
  assert.ok(slot)
  const cpu = async () => {
    const { body } = await it.ask(`/circloud/tenants/${tenantId}`, {
      headers: { 'x-admin-token': it.world.credentials.token },
    })
    return (Object.values(body.pod_status)[0] as { replicas: { cpu_millicores: number }[] }).replicas[0]
      ?.cpu_millicores
  }
  const ask = async () =>
    await it.ask(`/circloud/tenants/${tenantId}`, {
      headers: { 'x-admin-token': it.world.credentials.token },
    })
  for (const millicores of [100, 200, 300]) {
    compute.load(slot.id, millicores)
    // Nothing is to be done: no record changes by it.
    await it.world.settle(0)
    assert.equal(await cpu(), millicores)
    await known(it, ask)
  }
})

test('a credential that is revoked, has expired or whose tenant goes opens nothing from then on', async () => {
  await using it = await served()
  const { caller, path, tenantId } = await withVpc(it)
  const { cloud, clock, admin } = it.world
  const issue = async (more: object = {}) =>
    await cloud.act(
      caller,
      'test',
      async (verbs) =>
        await verbs.issueCredential({ name: `key ${JSON.stringify(more)}`, role: 'viewer', ...more }),
    )
  const get = (token: string) => async () => await it.ask(path, { headers: bearer(token) })

  const revoked = await issue()
  await known(it, get(revoked.token))
  await cloud.act(caller, 'test', async (verbs) => await verbs.remove(credential, revoked.credential.id))
  assert.equal((await get(revoked.token)()).status, 401)

  const brief = await issue({ expiresAt: clock.now() + 10_000 })
  await known(it, get(brief.token))
  await clock.advance(9_999)
  const before = await it.hits()
  assert.equal((await get(brief.token)()).status, 200)
  assert.equal(await it.hits(), before + 1)
  await clock.advance(1)
  assert.equal((await get(brief.token)()).status, 401)

  const other = await issue()
  await known(it, get(other.token))
  await cloud.act(
    admin,
    'test',
    async (verbs) => await verbs.patch(tenantKind, tenantId, { spec: { suspended: true } }),
  )
  assert.equal((await known(it, get(other.token))).status, 200, 'it may look')
  await cloud.act(admin, 'test', async (verbs) => await verbs.deleteTenant(tenantId))
  assert.equal((await get(other.token)()).status, 401)
})

test('the same path shows each caller their own, by every way in', async () => {
  await using it = await served()
  const [one, two] = [await withVpc(it, 'one'), await withVpc(it, 'two')]
  await known(it, one.get)
  assert.equal((await it.ask(one.path, { headers: bearer(two.token) })).status, 404)
  assert.equal((await it.ask(one.path)).status, 401)
  const list = async (token: string) => await it.ask('/circloud/vpcs', { headers: { 'x-auth-token': token } })
  for (let count = 0; count < UNTIL_KNOWN; count++)
    for (const own of [one, two]) assert.equal((await list(own.token)).body[0].id, own.id)
  const named = async (tenant: string) =>
    await it.ask('/native/vpc', {
      headers: { ...bearer(it.world.credentials.token), 'arcus-tenant': tenant },
    })
  for (let count = 0; count < UNTIL_KNOWN; count++)
    for (const own of [one, two]) assert.equal((await named(own.tenantId)).body.items[0].id, own.id)
  // An address for one dialect alone: the same path and headers mean another's.
  const ann = await person(it, 'ann')
  const both = { ...ann.headers, 'x-auth-token': one.token, host: 'same.test' }
  const alone = await Promise.all(
    ['circloud', 'thecloud'].map(
      async (dialect) => await it.http.listen({ host: '127.0.0.1', port: 0, dialect }),
    ),
  )
  for (let count = 0; count < UNTIL_KNOWN; count++) {
    const [circloud, thecloud] = await Promise.all(
      alone.map(async ({ url }) => await it.ask('/vpcs', { url, headers: both })),
    )
    assert.equal(circloud?.body[0].id, one.id)
    assert.equal(thecloud?.body.data[0].id, ann.path.slice(-36))
  }
  assert.ok((await it.hits()) > 6)
})

test('a replica gets its own answers by its own socket alone, until its container is another', async () => {
  await using it = await served()
  const { caller, id } = await withVpc(it)
  const { cloud } = it.world
  const made = await cloud.act(caller, 'test', async (verbs) => {
    const { id: subnet } = await verbs.createSubnet({ vpc: id, name: 'net', cidr: '10.9.0.0/24' })
    return await verbs.create(workload as never, {
      name: 'web',
      spec: { vpc: id, subnet, image: 'nginx', replicas: 2 },
    })
  })
  await it.world.settle()
  await using sockets = await openOwnSockets(it.http)
  const [one, two] = await cloud.all(caller, replica)
  assert.ok(one && two)
  const token = cloud.inside.token(one)
  const get = async (of: string) =>
    await it.ask('/v1/container', { socketPath: await sockets.of(of), headers: { 'x-cycle-token': token } })
  const first = await get(one.id)
  assert.deepEqual((await known(it, async () => await get(one.id))).body, first.body)
  assert.equal((await get(two.id)).status, 401)
  assert.equal((await it.ask('/cycle/v1/container', { headers: { 'x-cycle-token': token } })).status, 404)
  await cloud.act(caller, 'test', async (verbs) => await verbs.restartWorkload(made.id))
  await it.world.settle()
  assert.equal((await get(one.id)).status, 401)
})

test('every request is counted against the rate of its key, and refused above it', async () => {
  const rates = { perSecond: 10, burst: 40, loginsPerMinute: 0 }
  await using it = await served({ cloud: { settings: { rates } } })
  const ann = await person(it, 'ann')
  await known(it, ann.get)
  await it.world.clock.advance(60_000)
  const before = await it.hits()
  const statuses: number[] = []
  for (let count = 0; count < 42; count++) statuses.push((await ann.get()).status)
  assert.deepEqual(statuses, [...Array.from({ length: 40 }, () => 200), 429, 429])
  assert.equal(await it.hits(), before + 40)
  assert.equal((await ann.get()).headers['retry-after'], '1')
  await it.world.clock.advance(100)
  assert.equal((await ann.get()).status, 200)
  assert.equal((await ann.get()).status, 429)
})

test('a condition on the time or the address of a policy is asked each time', async () => {
  await using it = await served({ trustedProxies: ['127.0.0.1'] })
  const ann = await person(it, 'ann')
  const until = it.world.clock.now() + DAY_MS
  const late = { DateGreaterThan: { 'aws:CurrentTime': new Date(until).toISOString() } }
  await ann.allow({ effect: 'Deny', action: ['vpc:read'], resource: ['*'], condition: late })
  for (let count = 0; count < UNTIL_KNOWN; count++) assert.equal((await ann.get()).status, 200)
  await it.world.clock.advance(DAY_MS + 1)
  assert.equal((await ann.get()).status, 403)

  const bob = await person(it, 'bob')
  const away = { NotIpAddress: { 'aws:SourceIp': ['10.1.0.0/16', '127.0.0.1/32'] } }
  await bob.allow({ effect: 'Deny', action: ['vpc:read'], resource: ['*'], condition: away })
  const from = async (address: string) => await bob.get({ 'x-forwarded-for': address })
  await known(it, async () => await from('10.1.0.1'))
  await known(it, bob.get)
  const elsewhere = async () => await it.ask(bob.path, { headers: bob.headers, localAddress: '127.0.0.2' })
  for (let count = 0; count < UNTIL_KNOWN; count++) {
    assert.equal((await from('10.2.0.1')).status, 403)
    assert.equal((await from('10.1.0.1')).status, 200)
    assert.equal((await elsewhere()).status, 403)
    assert.equal((await bob.get()).status, 200)
  }
})

test('each request is counted, logged and a use of its key', async () => {
  await using it = await served()
  const ann = await person(it, 'ann')
  await known(it, ann.get)
  const metric =
    /^arcus_http_requests_total\{dialect="thecloud",method="GET",route="\/thecloud\/vpcs\/:id",status="200"\} (\d+)$/m
  const counted = async () => Number(metric.exec((await it.ask('/metrics')).text)?.[1])
  const lines = () =>
    it.lines.filter(
      (one) => one.message === 'request' && one['route'] === '/thecloud/vpcs/:id' && one['method'] === 'GET',
    )
  const [before, logged] = [await counted(), lines().length]
  const [key] = await ann.call('GET', '/auth/keys')
  await it.world.clock.advance(DAY_MS)
  const hits = await it.hits()
  const heard = []
  for (let count = 0; count < 5; count++) heard.push(await ann.get())
  assert.equal(await it.hits(), hits + 5)
  assert.equal(await counted(), before + 5)
  const ids = heard.map((one) => one.headers['x-request-id'])
  assert.deepEqual(
    lines()
      .slice(logged)
      .map(({ requestId, status, address }) => ({ requestId, status, address })),
    ids.map((requestId) => ({ requestId, status: 200, address: '127.0.0.1' })),
  )
  assert.equal(await it.world.cloud.lastUsed(key.id), it.world.clock.now())
})

/** What a connection answers to bytes, once it has said this so often. */
async function say(port: number, bytes: string, until: RegExp): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let heard = ''
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.setEncoding('utf8').on('data', (chunk) => {
    heard += String(chunk)
    if (until.test(heard)) resolve()
  })
  socket.once('close', () => resolve())
  socket.write(bytes)
  await promise

  socket.destroy()
  return heard
}

test('requests that come at once are answered in their order, and only what is a GET without a body from memory', async () => {
  await using it = await served()
  const { get, path, token } = await withVpc(it)
  const port = Number(new URL(it.url).port)
  const head = (method: string, at: string, more = '') =>
    `${method} ${at} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n${more}\r\n`
  const mixed = [
    head('GET', path),
    head('GET', '/native/whoami'),
    head('GET', path),
    head('GET', `${path}/none`),
    head('GET', path),
  ]
  for (let count = 0; count < UNTIL_KNOWN; count++) {
    const heard = await say(port, mixed.join(''), /(HTTP\/1\.1 (200|404)[^]*){5}\}$/)
    assert.deepEqual(
      [...heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
      ['200', '200', '200', '404', '200'],
    )
    assert.deepEqual(
      [...heard.matchAll(/"kind":"vpc"|"subject"|"no_route"/g)].map(([text]) => text.slice(1, 5)),
      ['kind', 'subj', 'kind', 'no_r', 'kind'],
    )
  }
  assert.ok((await it.hits()) > 2)
  const bare = await say(port, head('HEAD', path, 'connection: close\r\n'), /never/)
  assert.match(bare, /^HTTP\/1.1 200[^]*\r\n\r\n$/)
  for (const more of ['connection: close\r\n', 'connection: close\r\ncontent-length: 2\r\n']) {
    for (let count = 0; count < UNTIL_KNOWN; count++) {
      const before = await it.hits()
      const heard = await say(
        port,
        `${head('GET', path, more)}${more.includes('length') ? '{}' : ''}`,
        /never/,
      )
      assert.match(heard, /^HTTP\/1.1 200[^]*"kind":"vpc"/)
      assert.match(heard, /^connection: close\r$/im)
      if (more.includes('length')) assert.equal(await it.hits(), before)
    }
  }
  const old = await say(port, head('GET', path).replace('HTTP/1.1', 'HTTP/1.0'), /never/)
  assert.match(old, /"kind":"vpc"/)
  await known(it, get)
})

/** A dialect whose answers say how often one was made; `of` is its handler's. */
const counting = (answer: (path: string) => Promise<unknown>): Dialect => ({
  name: 'toy',
  title: 'Toys',
  async register(app, _cloud, mount) {
    answerErrors(app, mount, () => ({ status: 400, body: {} }))
    app.addHook('onRequest', async (request) => {
      if (request.headers['x-key'] !== 'none') passesAgain(request, () => true)
      await Promise.resolve()
    })
    app.get('/told/*', { config: { remembered: true } }, async (request) => await answer(request.url))
    app.get('/live/*', async (request) => await answer(request.url))
  },
})

test('an answer in whose making a transaction became visible is not remembered', async () => {
  let name = 'before'
  let gate: Promise<unknown> = Promise.resolve()
  let enter = (): void => {}
  await using it = await served({
    dialects: [
      counting(async (url) => {
        const read = name
        if (url !== '/toy/told/a') return {}
        enter()
        await gate
        return { read }
      }),
    ],
  })
  const get = async () => await it.ask('/toy/told/a')
  await known(it, get)
  const change = async (to: string) => {
    await it.world.tenant(to)
    name = to
  }
  await change('second')
  const [entered, opened] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  enter = entered.resolve
  gate = opened.promise
  const slow = get()
  await entered.promise
  await change('third')
  // Another request, from which on the moment of the change is the one that counts.
  await it.ask('/toy/live/b')
  opened.resolve()
  await slow
  assert.equal((await get()).body.read, 'third')
})

test('only routes that say so, for who passes again, are remembered, and nothing over the bounds', async () => {
  let made = 0
  await using it = await served({
    dialects: [
      counting(
        async (url) =>
          await Promise.resolve({ made: ++made, text: url.includes('large') ? 'x'.repeat(70_000) : '' }),
      ),
    ],
    limits: { rememberedBytesMax: 20_000 },
  })
  const often = async (path: string, headers: Record<string, string> = {}) => {
    for (let count = 0; count < UNTIL_KNOWN; count++)
      assert.equal((await it.ask(path, { headers })).status, 200)
    return await it.hits()
  }
  assert.equal(await often('/toy/live/a'), 0)
  assert.equal(await often('/toy/told/a', { 'x-key': 'none' }), 0)
  assert.equal(await often('/toy/told/large'), 0)
  assert.equal(await often(`/toy/told/${'a'.repeat(2000)}`), 0)
  assert.equal(await often('/toy/told/a', { 'x-long': 'a'.repeat(4000) }), 0)
  assert.equal(await often('/toy/told/a'), 1)
  // As many others as there is room for: the first is forgotten.
  for (let count = 0; count < 30; count++) await often(`/toy/told/${count}`)
  assert.equal(await it.hits(), 31)
  await often('/toy/told/a')
  assert.equal(await it.hits(), 33, 'it was made anew once')
})

test('a server that closes answers nothing from memory', async () => {
  await using it = await served()
  const { get, path, token } = await withVpc(it)
  const socket = connect(Number(new URL(it.url).port), '127.0.0.1')
  let heard = ''
  socket.setEncoding('utf8').on('data', (chunk) => (heard += String(chunk)))
  const [first, rest] = [`GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n`, '\r\n']
  for (let count = 1; count <= UNTIL_KNOWN; count++) {
    socket.write(first + rest)
    await until(async () => await Promise.resolve(heard.split('"kind":"vpc"').length > count), 'an answer')
  }
  assert.equal(await it.hits(), 1)
  socket.write(first)
  // By its answer the server has the beginning of the other request too.
  await get()
  const [closed, closing] = [once(socket, 'close'), it.http.close()]
  socket.write(rest)
  await closed
  await closing
  const statuses = [...heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)
  assert.deepEqual(statuses, [...Array.from({ length: UNTIL_KNOWN }, () => '200'), '503'])
})
