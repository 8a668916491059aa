import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { Duplex, PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { testOrigin } from '#cloud/cloud.testing.ts'
import { credential } from '#cloud/identity/credential.kind.ts'
import { membership } from '#cloud/identity/membership.kind.ts'
import { servedCloud, type ServedCloud } from './native.testing.ts'
import { withBeats } from '#apis/streams.ts'
import { PING_SECONDS } from '#apis/terminal.ts'

const LIMIT_MS = 20_000

type Event = { event: string; id?: string; data: any }

/** The events of a watch, one after the other; `ended` when the server ends it. */
async function watch(served: ServedCloud, token: string, path: string, headers: Record<string, string> = {}) {
  const controller = new AbortController()
  const signal = AbortSignal.any([controller.signal, AbortSignal.timeout(LIMIT_MS)])
  const response = await fetch(`${served.url}/native${path}`, {
    headers: { authorization: `Bearer ${token}`, ...headers },
    signal,
  })
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  const chunks = (response.body as ReadableStream<Uint8Array>)[Symbol.asyncIterator]()
  let text = ''
  const next = async (): Promise<Event | 'ended'> => {
    for (;;) {
      const end = text.indexOf('\n\n')
      if (end >= 0) {
        const block = text.slice(0, end)
        text = text.slice(end + 2)
        const fields = Object.fromEntries(
          block
            .split('\n')
            .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
        )
        if (fields['data'] === undefined) continue
        return {
          event: fields['event'] ?? '',
          ...(fields['id'] ? { id: fields['id'] } : {}),
          data: JSON.parse(fields['data']),
        }
      }
      const { done, value } = await chunks.next()
      if (done) return 'ended'
      text += Buffer.from(value).toString()
    }
  }
  /** The next event of this name that `wanted` accepts. */
  const until = async (name: string, wanted: (data: any) => boolean = () => true): Promise<Event> => {
    for (;;) {
      const it = await next()
      if (it === 'ended') throw new Error(`the watch ended before ${name}`)
      if (it.event === name && wanted(it.data)) return it
    }
  }
  return { next, until, stop: () => controller.abort() }
}

test('a watch tells every change once, with the resource, and resumes where it broke off', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  const first = await watch(served, token, '/watch?kind=vpc')
  await first.until('ready')
  const { body: made } = await served.call('POST', '/vpc', { token, body: { name: 'production' } })
  const created = await first.until('change')
  assert.deepEqual(
    [created.data.what, created.data.id, created.data.resource.name],
    ['created', made.id, 'production'],
  )
  first.stop()
  await served.call('PATCH', '/vpc/production', { token, body: { labels: { a: 'b' } } })
  const second = await watch(served, token, '/watch?kind=vpc', { 'last-event-id': created.id ?? '' })
  const changed = await second.until('change')
  assert.deepEqual([changed.data.what, changed.data.resource.labels], ['changed', { a: 'b' }])
  await served.call('DELETE', '/vpc/production', { token })
  const deleted = await second.until('change', (it) => it.what === 'deleted')
  assert.ok(deleted.data.resource.deletedAt)
  served.keepSettling()
  const removed = await second.until('change', (it) => it.what === 'removed')
  assert.equal(removed.data.resource, undefined)
  second.stop()
})

test('a watch of a kind begins with what is there', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  for (const name of ['a', 'b']) await served.call('POST', '/vpc', { token, body: { name } })
  const it = await watch(served, token, '/vpc?watch')
  const there = [await it.until('resource'), await it.until('resource')]
  assert.deepEqual(
    there.map(({ data }) => data.resource.name),
    ['a', 'b'],
  )
  await it.until('ready')
  await served.call('POST', '/vpc', { token, body: { name: 'c' } })
  assert.equal((await it.until('change')).data.resource.name, 'c')
  it.stop()
})

test('a watch shows a tenant nothing of another', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  const { token: stranger } = await served.it.tenant('stranger')
  const it = await watch(served, stranger, '/watch')
  await it.until('ready')
  await served.call('POST', '/vpc', { token, body: { name: 'secret' } })
  await served.call('POST', '/vpc', { token: stranger, body: { name: 'own' } })
  assert.equal((await it.until('change')).data.resource.name, 'own')
  it.stop()
})

test('a watch goes on past what a policy hides by its name', async () => {
  await using served = await servedCloud()
  const { token, caller } = await served.it.tenant('acme')
  const { cloud } = served.it
  const secret = await cloud.act(caller, 'test', async (verbs) => {
    const { account, secret } = await verbs.iam.createServiceAccount({ name: 'reader', role: 'developer' })
    const statements = [{ effect: 'Deny' as const, action: ['vpc:read'], resource: ['secret'] }]
    const policy = await verbs.iam.createPolicy({ name: 'hidden', statements })
    await verbs.iam.attachPolicy(policy.id, { kind: 'service-account', id: account.id })
    return { id: account.id, secret }
  })
  const granted = await cloud.grant(secret.id, secret.secret, testOrigin)
  const it = await watch(served, granted.token, '/watch')
  await it.until('ready')
  await served.call('POST', '/vpc', { token, body: { name: 'secret' } })
  await served.call('POST', '/vpc', { token, body: { name: 'own' } })
  const seen = await it.until('change', (data) => data.kind === 'vpc')
  assert.equal(seen.data.resource.name, 'own')
  it.stop()
})

test('a watch ends when its credential is revoked, and when the server stops', async () => {
  await using served = await servedCloud()
  const { token, caller } = await served.it.tenant('acme')
  const revoked = await watch(served, token, '/watch')
  const stopped = await watch(served, served.it.credentials.token, '/watch')
  await Promise.all([revoked.until('ready'), stopped.until('ready')])
  await served.it.cloud.act(
    served.it.admin,
    'credential.revoke',
    async (verbs) => await verbs.remove(credential, caller.credential),
  )
  const outcome = async (it: typeof revoked): Promise<Event | 'ended'> => {
    for (;;) {
      const event = await it.next()
      if (event === 'ended' || event.event === 'error') return event
    }
  }
  assert.equal(await outcome(revoked), 'ended')
  await Promise.all([served.http.close(), outcome(stopped).then((it) => assert.equal(it, 'ended'))])
})

test('a cursor from nowhere is answered with an error event', async () => {
  await using served = await servedCloud()
  const it = await watch(served, served.it.credentials.token, '/watch?after=nonsense')
  const { data } = await it.until('error')
  assert.ok(['gone', 'invalid'].includes(data.error.code), JSON.stringify(data))
})

test('beats come while a source is quiet, and it is closed when the reader leaves', async () => {
  let closed = false
  async function* source(): AsyncGenerator<number> {
    try {
      yield 1
      await pause(50)
      yield 2
    } finally {
      closed = true
    }
  }
  const seen: (number | undefined)[] = []
  for await (const it of withBeats(source(), 5)) seen.push(it)
  assert.deepEqual(
    seen.filter((it) => it !== undefined),
    [1, 2],
  )
  assert.ok(seen.includes(undefined))
  closed = false
  for await (const it of withBeats(source(), 5)) if (it === 2) break
  await pause(0)
  assert.ok(closed)
})

/** A tenant with one workload that runs. */
async function withWorkload(served: ServedCloud) {
  const acme = await served.it.tenant('acme')
  const { token } = acme
  const resources = [
    { kind: 'vpc', name: 'production' },
    { kind: 'subnet', name: 'front', spec: { vpc: 'production', cidr: '10.0.1.0/24' } },
    { kind: 'workload', name: 'web', spec: { vpc: 'production', subnet: 'front', image: 'nginx:latest' } },
  ]
  const { status, body } = await served.call('POST', '/topology', { token, body: { resources } })
  assert.equal(status, 200, JSON.stringify(body))
  await served.it.settle()
  const replica: string = (await served.call('GET', '/replica', { token })).body.items[0].id
  return { ...acme, replica }
}

test('logs are text or JSON lines; stats are the last sample', async () => {
  await using served = await servedCloud()
  const { token, replica } = await withWorkload(served)
  const read = async (query: string): Promise<string> =>
    await (
      await fetch(`${served.url}/native/replica/${replica}/logs${query}`, {
        headers: { authorization: `Bearer ${token}` },
      })
    ).text()
  assert.equal(await read(''), 'simulated nginx:latest\n')
  const entry = JSON.parse(await read('?format=ndjson&tail=1'))
  assert.deepEqual([entry.stream, entry.line], ['stdout', 'simulated nginx:latest'])
  await served.it.settle()
  const { body } = await served.call('GET', '/replica/web-0/stats', { token })
  assert.deepEqual([body.id, body.sample.memoryBytes], [replica, 8 << 20])
  const { token: stranger } = await served.it.tenant('stranger')
  for (const what of ['logs', 'stats'])
    assert.equal((await served.call('GET', `/replica/${replica}/${what}`, { token: stranger })).status, 404)
})

test('a stream whose reader left before it began ends at once', async () => {
  await using served = await servedCloud()
  const { cloud, compute } = served.it
  const { token, replica } = await withWorkload(served)
  const { hostname, port } = new URL(served.url)
  const client = connectTcp(Number(port), hostname)
  const get = cloud.get.bind(cloud)
  Object.assign(cloud, {
    async get(...args: Parameters<typeof get>) {
      Object.assign(cloud, { get })
      client.resetAndDestroy()
      // The server has seen the end of one connection when it answers on another.
      await served.call('GET', '/whoami')
      return await get(...args)
    },
  })
  const { promise: asked, resolve } = Promise.withResolvers<AbortSignal>()
  const logs = compute.logs.bind(compute)
  compute.logs = (id, how, signal) => {
    resolve(signal)
    return logs(id, how, signal)
  }
  client.write(
    `GET /native/replica/${replica}/logs?follow=true HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  )
  assert.ok((await asked).aborted)
})

test('a command runs over a WebSocket and its exit code comes last', async () => {
  await using served = await servedCloud()
  const { token, replica } = await withWorkload(served)
  const run = async (path: string, as: string): Promise<{ output: string; frames: any[]; code: number }> =>
    await new Promise((resolve) => {
      const socket = new WebSocket(`${served.url.replace('http', 'ws')}/native${path}`, {
        headers: { authorization: `Bearer ${as}` },
      })
      socket.binaryType = 'arraybuffer'
      let output = ''
      const frames: any[] = []
      socket.addEventListener('message', ({ data }) => {
        if (typeof data === 'string') frames.push(JSON.parse(data))
        else output += Buffer.from(data as ArrayBuffer).toString()
      })
      socket.addEventListener('close', ({ code }) => resolve({ output, frames, code }))
    })
  const done = await run(`/replica/${replica}/exec?command=echo&command=hello%20there`, token)
  assert.deepEqual(done, { output: 'simulated echo hello there\n', frames: [{ exitCode: 0 }], code: 1000 })
  const { token: stranger } = await served.it.tenant('stranger')
  const foreign = await run(`/replica/${replica}/exec?command=id`, stranger)
  assert.deepEqual([foreign.frames[0].error.code, foreign.output], ['not_found', ''])
  const nobody = await run(`/replica/${replica}/exec?command=id`, 'nonsense')
  assert.deepEqual([nobody.frames, nobody.output], [[], ''])
})

type Session = Awaited<ReturnType<ServedCloud['it']['compute']['exec']>>

/** A command that gives back what it reads, and ends with 7 when its input does. */
function echoing(): Session & { sizes: [number, number][]; stream: PassThrough } {
  const stream = new PassThrough()
  const sizes: [number, number][] = []
  return {
    stream,
    sizes,
    exitCode: new Promise((resolve) => stream.once('close', () => resolve(7))),
    resize: async (width, height) => await Promise.resolve(void sizes.push([width, height])),
  }
}

async function connect(
  served: ServedCloud,
  token: string,
  replica: string,
  headers: Record<string, string> = {},
): Promise<WebSocket> {
  const url = `${served.url.replace('http', 'ws')}/native/replica/${replica}/exec?command=cat&tty=true&width=80&height=24`
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}`, ...headers } })
  socket.binaryType = 'arraybuffer'
  await once(socket, 'open', { signal: AbortSignal.timeout(LIMIT_MS) })
  return socket
}

test('input, output and sizes of a terminal pass whole and in order', async () => {
  await using served = await servedCloud()
  const { token, replica } = await withWorkload(served)
  const session = echoing()
  served.it.compute.exec = async () => await Promise.resolve(session)
  const socket = await connect(served, token, replica)
  const input = randomBytes(8 << 20)
  const chunks: Buffer[] = []
  const frames: string[] = []
  socket.addEventListener('message', ({ data }) => {
    if (typeof data === 'string') frames.push(data)
    else chunks.push(Buffer.from(data as ArrayBuffer))
  })
  for (const nonsense of ['', '{', '[]', 'null', '{"resize":{"width":-1,"height":1}}', '{"resize":7}'])
    socket.send(nonsense)
  socket.send('{"resize":{"width":100,"height":30}}')
  for (let at = 0; at < input.length; at += 65_536)
    socket.send(new Uint8Array(input.subarray(at, at + 65_536)))
  socket.send('{"eof":true}')
  await once(socket, 'close', { signal: AbortSignal.timeout(LIMIT_MS) })
  assert.ok(Buffer.concat(chunks).equals(input))
  assert.deepEqual(frames, ['{"exitCode":7}'])
  assert.deepEqual(session.sizes, [[100, 30]])
})

test('a command that takes no input for long keeps its client', async (t) => {
  await using served = await servedCloud()
  const { token, replica } = await withWorkload(served)
  const taken = Promise.withResolvers<void>()
  const given = Promise.withResolvers<void>()
  const stream = new Duplex({
    writableHighWaterMark: 1,
    read() {},
    write(_chunk, _encoding, done) {
      given.resolve()
      void taken.promise.then(() => done())
    },
    final(done) {
      this.push(null)
      done()
    },
  })
  served.it.compute.exec = async () =>
    await Promise.resolve({
      stream,
      exitCode: Promise.resolve(7),
      resize: async () => await Promise.resolve(),
    })
  t.mock.timers.enable({ apis: ['setInterval'] })
  const socket = await connect(served, token, replica)
  const frames: unknown[] = []
  socket.addEventListener('message', ({ data }) => frames.push(data))
  const closed = once(socket, 'close', { signal: AbortSignal.timeout(LIMIT_MS) })
  for (const input of ['one', 'two']) socket.send(Buffer.from(input))
  socket.send('{"eof":true}')
  await given.promise
  for (let pings = 0; pings < 3; pings++) t.mock.timers.tick(PING_SECONDS * 1000)
  taken.resolve()
  await closed
  assert.deepEqual(frames, ['{"exitCode":7}'])
})

test('a command ends with its client, and with its credential', async () => {
  await using served = await servedCloud()
  const { token, replica } = await withWorkload(served)
  const sessions = [echoing(), echoing()]
  let asked = 0
  served.it.compute.exec = async () => await Promise.resolve(sessions[asked++] as Session)
  const left = await connect(served, token, replica)
  left.send('x')
  left.close()
  const [first, second] = sessions
  if (!first?.stream.destroyed)
    await once(first?.stream as PassThrough, 'close', { signal: AbortSignal.timeout(LIMIT_MS) })
  const revoked = await connect(served, token, replica)
  const messages: unknown[] = []
  revoked.addEventListener('message', ({ data }) => messages.push(JSON.parse(data as string)))
  const { credential: id } = (await served.call('GET', '/whoami', { token })).body
  await served.it.cloud.act(
    served.it.admin,
    'credential.revoke',
    async (verbs) => await verbs.remove(credential, id),
  )
  await once(revoked, 'close', { signal: AbortSignal.timeout(LIMIT_MS) })
  assert.ok(second?.stream.destroyed)
  assert.equal((messages[0] as { error: { code: string } }).error.code, 'unauthenticated')
})

test('what is open ends when its caller leaves the tenant, or may anything else there', async () => {
  await using served = await servedCloud()
  const { it } = served
  const { id: tenant, caller, replica } = await withWorkload(served)
  const home = await it.tenant('home')
  const session = echoing()
  it.compute.exec = async () => await Promise.resolve(session)
  const join = async (name: string) => {
    const password = 'long enough'
    const memberships = [{ tenant: home.id, role: 'owner' as const }]
    await it.cloud.act(
      it.admin,
      'test',
      async (verbs) => await verbs.createUser({ name, password, admin: false, memberships }),
    )
    const member = await it.cloud.act(
      caller,
      'test',
      async (verbs) => await verbs.addMember({ user: { name }, role: 'developer' }),
    )
    const { token } = await it.cloud.login({ username: name, password }, caller.origin)
    return { member, token }
  }
  const [leaves, falls] = [await join('leaves'), await join('falls')]
  const inTenant = { 'arcus-tenant': tenant }
  const watches = [
    await watch(served, leaves.token, '/watch', inTenant),
    await watch(served, falls.token, '/watch', inTenant),
    await watch(served, falls.token, '/watch', { 'arcus-tenant': home.id }),
  ]
  const command = await connect(served, leaves.token, replica, inTenant)
  const closed = once(command, 'close', { signal: AbortSignal.timeout(LIMIT_MS) })
  for (const one of watches) await one.until('ready')
  const patched = async (member: { id: string }) =>
    await it.cloud.act(
      caller,
      'test',
      async (verbs) => await verbs.patch(membership, member.id, { spec: { role: 'viewer' } }),
    )
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.remove(membership, leaves.member.id))
  await patched(falls.member)
  const [left, fallen, stays] = watches
  for (const one of [left, fallen]) while ((await one?.next()) !== 'ended');
  await closed
  assert.ok(session.stream.destroyed)
  await it.cloud.act(
    home.caller,
    'test',
    async (verbs) => await verbs.createVpc({ name: 'v', internet: true }),
  )
  assert.equal((await stays?.until('change'))?.data.kind, 'vpc')
  stays?.stop()
})
