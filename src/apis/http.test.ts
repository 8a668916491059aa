import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import Type from 'typebox'
import { testCloud } from '#cloud/cloud.testing.ts'
import { systemClock } from '#lib/clock.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog, type LogFields, silentLog } from '#lib/log.ts'
import { answerErrors } from './errors.ts'
import { clientAddress, createHttp, type Dialect, type HttpOptions } from './http.ts'
import { addressSet, HTTP_LIMITS, type HttpLimits, openListener, takesItsTime } from './listener.ts'
import { ensureCertificate } from './tls.ts'

/** A dialect with one of everything that the server treats specially. */
const toy = (slow: () => Promise<unknown> = async () => {}): Dialect => ({
  name: 'toy',
  title: 'Toys <for tests>',
  reference: {
    description: 'A `toy`.',
    tags: [{ name: 'things' }],
    securitySchemes: { Key: { type: 'apiKey', in: 'header', name: 'X-Key' } },
    security: ['Key'],
  },
  async register(app, _cloud, mount) {
    answerErrors(app, mount, (fault) => ({
      status:
        { no_route: 404, wrong_method: 405, internal: 500, rate_limited: 429 }[fault.code as 'internal'] ??
        400,
      body: { toy: fault.message },
    }))
    const body = Type.Object(
      {
        count: Type.Integer({ minimum: 1, maximum: 10, default: 3, description: 'How many.' }),
        token: Type.Optional(Type.String({ 'x-server-tolerates-absence': true })),
      },
      { examples: [{ count: 2 }] },
    )
    const querystring = Type.Object({
      limit: Type.Optional(Type.Integer()),
      text: Type.Optional(Type.String()),
    })
    app.post(
      '/things/:id',
      { schema: { operationId: 'makeThing', tags: ['things'], summary: 'Make', body, querystring } },
      async (request) => ({
        body: request.body,
        query: request.query,
        address: clientAddress(request),
        id: request.id,
      }),
    )
    app.get('/bug', async () => {
      throw new Error('secret reason')
    })
    app.get('/busy', async () => {
      throw new CloudError('rate_limited', 'Later', { retryAfterSeconds: 1.2 })
    })
    app.get('/echo', { websocket: true }, (socket) => {
      socket.on('message', (data: Buffer) => socket.send(`heard ${data.toString()}`))
    })
    app.get('/slow', async () => {
      await slow()
      return { done: true }
    })
  },
})

type Server = Awaited<ReturnType<typeof serve>>
async function serve(
  how: Partial<HttpOptions> & { slow?: () => Promise<unknown>; limits?: Partial<HttpLimits> } = {},
) {
  const world = await testCloud()
  const lines: ({ level: string; message: string } & LogFields)[] = []
  const { slow, ...options } = how
  const http = await createHttp({
    cloud: world.cloud,
    dialects: [toy(slow)],
    log: jsonLog('debug', (line) => lines.push(JSON.parse(line) as (typeof lines)[number])),
    clock: systemClock,
    ids: createIds(systemClock),
    ...options,
  })
  return {
    world,
    http,
    lines,
    async [Symbol.asyncDispose]() {
      await http.close()
      await world[Symbol.asyncDispose]()
    },
  }
}

const read = async (from: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of from.setEncoding('utf8')) text += chunk as string
  return text
}

/** One request over a socket. */
async function fetchFrom(
  url: string,
  { headers = {}, ca, agent }: { headers?: Record<string, string>; ca?: string; agent?: false } = {},
): Promise<{ status: number; text: string; headers: IncomingMessage['headers'] }> {
  const make = url.startsWith('https:') ? httpsRequest : httpRequest
  const asked = make(url, {
    headers,
    agent: agent ?? false,
    ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
  })
  asked.end()
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  return { status: answer.statusCode ?? 0, text: await read(answer), headers: answer.headers }
}

/** What a connection answers to bytes, until it is closed. */
async function say(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let heard = ''
  socket.setEncoding('utf8').on('data', (chunk) => (heard += String(chunk)))
  socket.on('error', () => {})
  if (text) socket.write(text)
  await once(socket, 'close')
  return heard
}

const post = async (
  { http }: Server,
  url: string,
  payload: string | undefined,
  headers: Record<string, string> = {},
) => {
  const type: Record<string, string> = payload === undefined ? {} : { 'content-type': 'application/json' }
  const answer = await http.app.inject({
    method: 'POST',
    url,
    headers: { ...type, ...headers },
    ...(payload === undefined ? {} : { payload }),
  })
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() }
}

test('bodies are taken as they are, queries by their type', async () => {
  await using it = await serve()
  const good = await post(it, '/toy/things/1?limit=5&text=7', '{"count":2,"more":"x"}')
  assert.deepEqual(good.body['body'], { count: 2, more: 'x' })
  assert.deepEqual(good.body['query'], { limit: 5, text: '7' })
  for (const [url, payload, message] of [
    ['/toy/things/1', '{"count":"2"}', 'must be an integer'],
    ['/toy/things/1', '{}', 'is required'],
    ['/toy/things/1', '{"count":11}', 'must be between 1 and 10'],
    ['/toy/things/1', '[1]', 'Body must be an object'],
    ['/toy/things/1', '', 'Body must be an object'],
    ['/toy/things/1', undefined, 'Body must be an object'],
    ['/toy/things/1', '{"count":', 'Body is not valid JSON'],
    ['/toy/things/1?limit=x', '{"count":2}', 'must be an integer'],
  ] as const) {
    const { status, body } = await post(it, url, payload)
    assert.deepEqual([status, body], [400, { toy: message }], `${url} ${payload}`)
  }
})

test('a content type of no body says nothing, however it is written', async () => {
  await using it = await serve()
  const plain = await post(it, '/toy/things/1', undefined)
  for (const type of ['/', 'application/', 'x'.repeat(300), 'application/xml']) {
    assert.deepEqual(await post(it, '/toy/things/1', undefined, { 'content-type': type }), plain)
    const { status, body } = await post(it, '/toy/things/1', '{"count":1}', { 'content-type': type })
    assert.deepEqual([status, body['toy']], [400, 'Body must be JSON with Content-Type: application/json'])
  }
  const { port } = await it.http.listen({ host: '127.0.0.1', port: 0 }).then(({ url }) => new URL(url))
  const head = 'POST /toy/things/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: /\r\n'
  const chunked = await say(Number(port), `${head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`)
  assert.ok(chunked.endsWith(JSON.stringify(plain.body)), chunked)
})

test('a bug is logged whole and shown only by its request', async () => {
  await using it = await serve()
  const answer = await it.http.app.inject({ url: '/toy/bug', headers: { 'x-request-id': 'mine-1' } })
  assert.equal(answer.statusCode, 500)
  assert.deepEqual(answer.json(), { toy: 'Internal error, request mine-1' })
  assert.equal(answer.headers['x-request-id'], 'mine-1')
  const line = it.lines.find((one) => one.level === 'error')
  assert.equal(line?.['requestId'], 'mine-1')
  assert.match(JSON.stringify(line), /secret reason/)
  const busy = await it.http.app.inject('/toy/busy')
  assert.deepEqual([busy.statusCode, busy.headers['retry-after']], [429, '2'])
})

test('a request’s id is the client’s when it is sane', async () => {
  await using it = await serve()
  for (const id of ['', 'x'.repeat(65), 'a b', 'ä', '{}']) {
    const { headers } = await it.http.app.inject({ url: '/healthz', headers: { 'x-request-id': id } })
    assert.match(String(headers['x-request-id']), /^[0-9a-f-]{36}$/, id)
  }
})

test('paths and methods that nobody has get the shape of whom they were meant for', async () => {
  await using it = await serve()
  const ask = async (method: 'GET' | 'PUT' | 'TRACE', url: string, headers: Record<string, string> = {}) => {
    const answer = await it.http.app.inject({ method, url, headers })
    return {
      status: answer.statusCode,
      body: answer.json<Record<string, unknown>>(),
      allow: answer.headers['allow'],
    }
  }
  for (const url of ['/toy', '/toy/', '/toy/x', '/toy/things', '/toy/things/1/2', '/toy/%ff', '/toy/bug/'])
    assert.deepEqual(
      await ask('GET', url),
      { status: 404, body: { toy: 'Not found' }, allow: undefined },
      url,
    )
  assert.deepEqual(await ask('PUT', '/toy/things/1?a=b'), {
    status: 405,
    body: { toy: 'Method not allowed' },
    allow: 'POST',
  })
  assert.equal((await ask('TRACE', '/toy/bug')).allow, 'GET, HEAD')
  assert.deepEqual((await ask('GET', '/x', { host: 'toy.localhost:1234' })).body, { toy: 'Not found' })
  assert.equal((await ask('GET', '/toyx')).body['detail'], 'Not found')
  assert.equal((await ask('GET', '/bug', { host: 'TOY.localhost' })).status, 500)
  assert.equal((await ask('GET', '/bug', { host: 'other.localhost' })).status, 404)
  assert.equal((await ask('PUT', '/healthz')).status, 405)
})

test('the document says what the routes say, the page shows it', async () => {
  await using it = await serve()
  const document = (await it.http.app.inject('/openapi/toy.json')).json<{
    paths: Record<
      string,
      Record<string, { requestBody: { content: Record<string, { schema: { required: string[] } }> } }>
    >
    servers: { url: string }[]
  }>()
  assert.deepEqual(Object.keys(document.paths), ['/things/{id}', '/bug', '/busy', '/slow'])
  assert.deepEqual(document.servers, [{ url: '/toy' }])
  const body = document.paths['/things/{id}']?.['post']?.requestBody.content['application/json']?.schema
  assert.deepEqual(body?.required, ['count', 'token'])
  const page = await it.http.app.inject('/docs/toy')
  assert.match(page.payload, /Toys &#60;for tests&#62;/)
  assert.match(page.payload, /POST \/things\/\{id\}/)
  assert.match(page.payload, /1 to 10; default 3/)
  assert.match(page.payload, /-H &#34;X-Key: \$TOKEN&#34;/)
  assert.doesNotMatch(page.payload, /(src|href)="(https?:)?\/\/|<script/)
  assert.match(String(page.headers['content-security-policy']), /default-src 'none'/)
  assert.equal((await it.http.app.inject('/openapi/none.json')).statusCode, 404)
  assert.equal((await it.http.app.inject('/docs/none')).statusCode, 404)
})

test('metrics count by route, never by what was typed, and are not for everybody', async () => {
  await using it = await serve({ trustedProxies: ['127.0.0.0/8'] })
  await it.http.app.inject('/toy/busy')
  await it.http.app.inject('/toy/typed-by-a-person')
  const text = (await it.http.app.inject('/metrics')).payload
  assert.match(
    text,
    /arcus_http_requests_total\{dialect="toy",method="GET",route="\/toy\/busy",status="429"\} 1/,
  )
  assert.match(text, /dialect="toy",method="GET",route="unmatched",status="404"/)
  assert.doesNotMatch(text, /typed-by-a-person/)
  assert.match(text, /^# HELP /m)
  const from = { 'x-forwarded-for': '198.51.100.7' }
  assert.equal((await it.http.app.inject({ url: '/metrics', headers: from })).statusCode, 401)
  const { token } = it.world.credentials
  const allowed = { ...from, authorization: `Bearer ${token}` }
  assert.equal((await it.http.app.inject({ url: '/metrics', headers: allowed })).statusCode, 200)
  const tenant = await it.world.tenant('acme')
  const other = { ...from, authorization: `Bearer ${tenant.token}` }
  assert.equal((await it.http.app.inject({ url: '/metrics', headers: other })).statusCode, 401)
})

test('a forwarded address is believed from trusted proxies only, and only if it is one', async () => {
  const addressSeen = async (trustedProxies: string[], forwarded: string): Promise<unknown> => {
    await using it = await serve({ trustedProxies })
    const { body } = await post(it, '/toy/things/1', '{"count":1}', { 'x-forwarded-for': forwarded })
    return body['address']
  }
  assert.equal(await addressSeen([], '198.51.100.7'), '127.0.0.1')
  assert.equal(await addressSeen(['10.0.0.0/8'], '198.51.100.7'), '127.0.0.1')
  assert.equal(await addressSeen(['127.0.0.1'], '198.51.100.7'), '198.51.100.7')
  assert.equal(
    await addressSeen(['127.0.0.1', '10.0.0.0/8'], '192.0.2.1, 198.51.100.7, 10.1.2.3'),
    '198.51.100.7',
  )
  assert.equal(await addressSeen(['127.0.0.1'], 'not an address'), '127.0.0.1')
  for (const wrong of ['10.0.0.0/40', 'proxy', '', '10.0.0.0/x'])
    assert.throws(
      () => addressSet([wrong]),
      (error) => isCloudError(error, 'invalid'),
      wrong,
    )
})

test('TLS and plain HTTP share a port, one dialect can have one alone, a taken port is told', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-tls-'))
  try {
    const certificate = async () =>
      await ensureCertificate({ folder, names: ['toy.localhost'], clock: systemClock })
    await using it = await serve({ certificate })
    const { port, url } = await it.http.listen({ host: '127.0.0.1', port: 0 })
    assert.equal(url, `https://127.0.0.1:${port}`)
    const ca = await readFile((await certificate()).authorityFile, 'utf8')
    assert.equal((await fetchFrom(`https://127.0.0.1:${port}/healthz`, { ca })).text, '{"status":"ok"}')
    assert.equal((await fetchFrom(`https://localhost:${port}/healthz`, { ca })).status, 200)
    assert.equal((await fetchFrom(`http://127.0.0.1:${port}/healthz`)).status, 200)
    const alone = await it.http.listen({ host: '127.0.0.1', port: 0, dialect: 'toy' })
    assert.equal((await fetchFrom(`${alone.url}/busy`, { ca })).status, 429)
    assert.deepEqual(JSON.parse((await fetchFrom(`${alone.url}/healthz`, { ca })).text), { toy: 'Not found' })
    await assert.rejects(it.http.listen({ host: '127.0.0.1', port }), {
      code: 'unavailable',
      message: `127.0.0.1:${port} is taken by another program: stop it, or choose another address with --listen`,
    })
    await assert.rejects(
      it.http.listen({ host: '192.0.2.200', port: 0 }),
      /192\.0\.2\.200 is no address of this machine/,
    )
    await assert.rejects(
      it.http.listen({ host: '127.0.0.1', port: 0, dialect: 'x' }),
      /There is no dialect x/,
    )
    // A connection that says nothing, and one that is no TLS after all, trouble nobody.
    const broken = await say(port, '\x16nonsense')
    assert.doesNotMatch(broken, /HTTP/)
    assert.equal((await fetchFrom(`http://127.0.0.1:${port}/healthz`)).status, 200)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

test('a connection becomes a WebSocket, under the prefix and alone', async () => {
  await using it = await serve()
  const { port } = await it.http.listen({ host: '127.0.0.1', port: 0 })
  const alone = await it.http.listen({ host: '127.0.0.1', port: 0, dialect: 'toy' })
  for (const url of [`ws://127.0.0.1:${port}/toy/echo`, `ws://127.0.0.1:${alone.port}/echo`]) {
    const socket = new WebSocket(url)
    await once(socket, 'open')
    socket.send('hello')
    const [event] = (await once(socket, 'message')) as [MessageEvent]
    assert.equal(event.data, 'heard hello')
  }
  const refused = new WebSocket(`ws://127.0.0.1:${port}/toy/none`)
  await once(refused, 'error')
})

test('what is too slow, too large or no HTTP is cut off', async () => {
  await using it = await serve({ limits: { firstByteMs: 50, headersMs: 100, requestMs: 200, checkMs: 20 } })
  const { port } = await it.http.listen({ host: '127.0.0.1', port: 0 })
  assert.equal(await say(port, ''), '')
  assert.match(await say(port, 'GET /healthz HTTP/1.1\r\nhost: x\r\n'), /^HTTP\/1\.1 408 /)
  assert.match(
    await say(port, 'POST /toy/things/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n'),
    /^HTTP\/1\.1 408 |^$/,
  )
  assert.match(
    await say(port, `GET /healthz HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 [^]*too large/,
  )
  assert.match(await say(port, 'hello\r\n\r\n'), /^HTTP\/1\.1 400 [^]*not valid HTTP/)
  assert.match(
    await say(port, 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
    /^HTTP\/1\.1 200 [^]*"status":"ok"/,
  )
})

test('what takes its time may, until it gives that back', async () => {
  const limits = { ...HTTP_LIMITS, requestMs: 100 }
  const listener = await openListener({
    host: '127.0.0.1',
    port: 0,
    limits,
    clock: systemClock,
    log: silentLog,
    plainFrom: () => true,
    onUpgrade: (_, socket) => socket.destroy(),
    onRequest(request, response) {
      const giveBack = takesItsTime(request)
      setTimeout(() => {
        if (request.url === '/back') giveBack()
        else void request.resume().once('end', () => response.end('all of it'))
      }, 2 * limits.requestMs)
    },
  })
  const { port } = listener
  const slow = async (path: string): Promise<string> => {
    const socket = connect(port, '127.0.0.1')
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\na`)
    setTimeout(() => path === '/' && socket.write('b'), 3 * limits.requestMs)
    return await text(socket)
  }
  assert.match(await slow('/'), /200 OK[^]*all of it/)
  assert.match(await slow('/back'), /^HTTP\/1\.1 408 /)
  await listener.close()
})

test('closing lets requests end, and takes no longer', async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>()
  await using it = await serve({
    async slow() {
      enter()
      await gate
    },
  })
  const { port } = await it.http.listen({ host: '127.0.0.1', port: 0 })
  const silent = connect(port, '127.0.0.1').on('error', () => {})
  const keep = { headers: { connection: 'keep-alive' } }
  await fetchFrom(`http://127.0.0.1:${port}/healthz`, keep)
  const slow = fetchFrom(`http://127.0.0.1:${port}/toy/slow`, keep)
  await entered
  const closing = it.http.close()
  await assert.rejects(fetchFrom(`http://127.0.0.1:${port}/healthz`), { code: 'ECONNREFUSED' })
  open()
  assert.equal((await slow).text, '{"done":true}')
  const startedAt = performance.now()
  await closing
  assert.ok(performance.now() - startedAt < 5000)
  silent.destroy()
})

test('a request that does not end is cut when the time to drain is over', async () => {
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>()
  await using it = await serve({
    slow: async () => await new Promise(() => enter()),
    limits: { drainMs: 50 },
  })
  const { port } = await it.http.listen({ host: '127.0.0.1', port: 0 })
  const asked = fetchFrom(`http://127.0.0.1:${port}/toy/slow`)
  asked.catch(() => {})
  await entered
  await it.http.close()
  await assert.rejects(asked, { code: 'ECONNRESET' })
})
