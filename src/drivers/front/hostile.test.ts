import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { after, beforeEach, test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import {
  ask,
  type Backend,
  backend,
  HOST,
  raw,
  secure,
  signal,
  type Stage,
  stage,
  textOf,
  until,
} from './front.testing.ts'

type Asked = { readonly url: string; readonly body: string; readonly headers: readonly string[] }

/** A front door whose origin keeps what it was asked. */
async function witnessed(
  limits: Parameters<typeof stage>[0] = {},
): Promise<AsyncDisposable & { readonly at: Stage; readonly asked: Asked[]; readonly origin: Backend }> {
  const asked: Asked[] = []
  const origin = await backend((request, response) => {
    void textOf(request).then(
      (body) => {
        asked.push({ url: request.url ?? '', body, headers: request.rawHeaders })
        response.end('served')
      },
      () => {},
    )
  })
  const at = await stage(limits)
  await at.route(
    { plain: true, origins: [origin.as('a')] },
    { id: 'other', hostname: 'other.example.com', plain: true, origins: [origin.as('a')] },
  )
  return {
    at,
    asked,
    origin,
    async [Symbol.asyncDispose]() {
      await at[Symbol.asyncDispose]()
      await origin.kill()
    },
  }
}

const shared = await witnessed()
after(async () => await shared[Symbol.asyncDispose]())
beforeEach(() => void shared.asked.splice(0))

const statusesOf = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((it) => Number(it[1]))

const SMUGGLED = `GET /smuggled HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`
for (const [what, head, body = SMUGGLED] of [
  ['both lengths', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${SMUGGLED}`],
  ['two lengths that differ', 'Content-Length: 4\r\nContent-Length: 9\r\n', `abcd${SMUGGLED}`],
  ['a length that is no number', 'Content-Length: 4x\r\n'],
  ['a length with a sign', 'Content-Length: +4\r\n'],
  ['an encoding that is not chunked', 'Transfer-Encoding: xchunked\r\n'],
  ['an encoding after chunked', 'Transfer-Encoding: chunked, identity\r\n', `0\r\n\r\n${SMUGGLED}`],
  ['an encoding behind a blank', 'Transfer-Encoding : chunked\r\n', `0\r\n\r\n${SMUGGLED}`],
  ['a chunk size that is none', 'Transfer-Encoding: chunked\r\n', `zz\r\nabc\r\n0\r\n\r\n${SMUGGLED}`],
  ['a chunk longer than said', 'Transfer-Encoding: chunked\r\n', `3\r\nabcdef\r\n0\r\n\r\n${SMUGGLED}`],
  ['a chunk size that overflows', 'Transfer-Encoding: chunked\r\n', `${'f'.repeat(17)}\r\nabc\r\n0\r\n\r\n`],
  ['a folded header', 'X-Folded: a\r\n b\r\n'],
  ['a bare line feed', 'X-Bare: a\nX-Next: b\r\n'],
  ['a header without a name', ': empty\r\n'],
  ['a header with a zero byte', 'X-Zero: a\0b\r\n'],
  ['a second host', 'Host: other.example.com\r\n'],
  ['the same host twice', `Host: ${HOST}\r\n`],
] as const) {
  for (const method of ['POST', 'GET']) {
    test(`${method} with ${what} is refused, and nothing hides behind it`, async () => {
      const it = shared
      const text = await raw(it.at, `${method} /first HTTP/1.1\r\nHost: ${HOST}\r\n${head}\r\n${body}`)
      const [first] = statusesOf(text)
      assert.ok(first === undefined || first === 400, text)
      assert.ok(statusesOf(text).length <= 1, text)
      assert.ok(!it.asked.some((one) => one.url === '/smuggled'), JSON.stringify(it.asked))
    })
  }
}

for (const [what, line, host, expected] of [
  ['an absolute target on another host', 'GET http://other.example.com/ HTTP/1.1', HOST, 400],
  ['an absolute target on this host', `GET http://${HOST}/abs?x HTTP/1.1`, HOST, 200],
  ['a target without a slash', 'GET index.html HTTP/1.1', HOST, 400],
  ['a target with a control character', 'GET /a\x01b HTTP/1.1', HOST, 400],
  ['no host', 'GET / HTTP/1.1', undefined, 400],
  ['an empty host', 'GET / HTTP/1.1', '', 400],
  ['a host that is none', 'GET / HTTP/1.1', 'a/b', 400],
  ['a host with a user', 'GET / HTTP/1.1', `me@${HOST}`, 400],
  ['CONNECT', `CONNECT ${HOST}:443 HTTP/1.1`, HOST, 405],
  ['version 0.9', 'GET /', HOST, 505],
  ['version 2.0 by word', 'GET / HTTP/2.0', HOST, 505],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0', HOST, 400],
] as const) {
  test(`${what} is answered ${expected}`, async () => {
    const it = shared
    const named = host === undefined ? '' : `Host: ${host}\r\n`
    const text = await raw(it.at, `${line}\r\n${named}Connection: close\r\n\r\n`, what !== 'CONNECT')
    assert.deepEqual(statusesOf(text), [expected], text)
    if (expected === 200) assert.deepEqual(it.asked[0]?.url, '/abs?x')
    else assert.deepEqual(it.asked, [])
  })
}

test('a request behind another on one connection is judged by itself', async () => {
  const it = shared
  const second = 'GET /2 HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n'
  const text = await raw(it.at, `GET /1 HTTP/1.1\r\nHost: ${HOST}\r\n\r\n${second}`)
  assert.deepEqual(statusesOf(text), [200, 421])
  assert.deepEqual(
    it.asked.map((one) => one.url),
    ['/1'],
  )
})

test('headers that are too long or too many are answered 431', async () => {
  const it = shared
  const long = await raw(it.at, `GET / HTTP/1.1\r\nHost: ${HOST}\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`)
  assert.deepEqual(statusesOf(long), [431])
  const many = Array.from({ length: 120 }, (_, at) => `x-${at}: 1\r\n`).join('')
  const text = await raw(it.at, `GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n${many}\r\n`)
  assert.deepEqual(statusesOf(text), [431])
  assert.deepEqual(it.asked, [])
})

test('a body that is too long is answered 413, said beforehand or not', async () => {
  await using it = await witnessed({ limits: { bodyBytesMax: 1000 } })
  const said = await ask(it.at, { method: 'POST', body: 'x'.repeat(1001) })
  assert.equal(said.status, 413)
  const headers = { 'transfer-encoding': 'chunked' }
  const unsaid = await ask(it.at, { method: 'POST', body: 'x'.repeat(5000), headers })
  assert.equal(unsaid.status, 413)
  assert.equal((await ask(it.at, { method: 'POST', body: 'x'.repeat(1000) })).status, 200)
  assert.equal(it.asked.length, 1)
})

test('slow headers, slow handshakes and slow bodies are ended', async () => {
  const limits = { headersMsMax: 300, handshakeMsMax: 300, trickleMsMax: 300 }
  await using it = await witnessed({ limits })
  const trickle = async (head: string, rest: string): Promise<string> => {
    const socket = connectTcp(it.at.http, '127.0.0.1')
    socket.write(head)
    const timer = setInterval(() => socket.write(rest), 40)
    try {
      return await textOf(socket).catch(() => '')
    } finally {
      clearInterval(timer)
    }
  }
  assert.deepEqual(statusesOf(await trickle('GET / HTTP/1.1\r\nHost: a\r\n', 'x: y\r\n')), [408])
  const head = `POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 100000\r\n\r\n`
  assert.deepEqual(statusesOf(await trickle(head, 'x')), [408])
  const silent = connectTcp(it.at.https, '127.0.0.1')
  silent.write(Buffer.from([22, 3, 1, 2, 0]))
  await once(silent.resume(), 'close', { signal: signal() })
})

test('a client that reads nothing of its answer is left, and the origin with it', async () => {
  let left = false
  await using origin = await backend((_, response) => {
    response.once('close', () => (left = true))
    const chunk = Buffer.alloc(65_536)
    const more = (): void => {
      while (!left) if (!response.write(chunk)) return void response.once('drain', more)
    }
    more()
  })
  await using at = await stage({ limits: { stalledMsMax: 300 } })
  await at.route({ plain: true, origins: [origin.as('a')] })
  const socket = connectTcp(at.http, '127.0.0.1')
  socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  await until('the origin is let go', () => left)
  const [entry] = (await at.front.accesses(undefined, 1, signal())).entries
  assert.equal(entry?.fault, 'the client left')
  socket.destroy()
})

test('one client has so many connections and no more, and the others go on', async () => {
  await using it = await witnessed({ limits: { connectionsPerClientMax: 3 } })
  const held = [await secure(it.at), await secure(it.at), await secure(it.at)]
  await assert.rejects(ask(it.at))
  const other = connectTcp({ port: it.at.http, host: '127.0.0.1', localAddress: '127.0.0.9' })
  other.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`)
  assert.deepEqual(statusesOf(await textOf(other)), [200])
  for (const socket of held) socket.destroy()
  await until('room is made', async () => (await ask(it.at).catch(() => undefined))?.status === 200)
})

test('what is no TLS is not answered on the TLS port', async () => {
  const it = shared
  for (const bytes of [
    'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
    '\x16\x03\x01\x00\x00',
    '\x16\x03\x01\xff\xff',
    '\x80',
  ]) {
    const socket = connectTcp(it.at.https, '127.0.0.1')
    socket.end(Buffer.from(bytes, 'latin1'))
    assert.equal(await textOf(socket).catch(() => ''), '')
  }
})

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}
/** Headers spelled out, without any of the compression. */
const literal = (headers: readonly (readonly [string, string])[]): Buffer => {
  const string = (text: string): Buffer =>
    Buffer.concat([Buffer.from([text.length]), Buffer.from(text, 'latin1')])
  return Buffer.concat(
    headers.map(([name, value]) => Buffer.concat([Buffer.from([0]), string(name), string(value)])),
  )
}
const usual = (more: readonly (readonly [string, string])[] = []): (readonly [string, string])[] => [
  [':method', 'POST'],
  [':scheme', 'https'],
  [':authority', HOST],
  [':path', '/first'],
  ...more,
]
const END_HEADERS = 4
const END_STREAM = 1

for (const [what, headers, body = ''] of [
  ['an encoding', usual([['transfer-encoding', 'chunked']]), `0\r\n\r\n${SMUGGLED}`],
  ['a length that is not its body', usual([['content-length', '3']]), `abc${SMUGGLED}`],
  [
    'two lengths',
    usual([
      ['content-length', '3'],
      ['content-length', '5'],
    ]),
    'abc',
  ],
  ['a header of the connection', usual([['connection', 'close']])],
  ['an upgrade', usual([['upgrade', 'websocket']])],
  ['a line break in a header', usual([['x-a', 'b\r\nx-injected: 1']])],
  ['a line break in a name', usual([['x-a\r\nx-injected', '1']])],
  ['a name in upper case', usual([['X-Upper', '1']])],
  ['another host', usual([['host', 'other.example.com']])],
  [
    'the host of another connection',
    usual().map(([name, value]) => [name, name === ':authority' ? 'other.example.com' : value] as const),
  ],
  [
    'a line break in the path',
    usual().map(
      ([name, value]) => [name, name === ':path' ? `/a HTTP/1.1\r\nHost: x\r\n\r\n` : value] as const,
    ),
  ],
  ['a blank in the path', usual().map(([name, value]) => [name, name === ':path' ? '/a b' : value] as const)],
  [
    'a path that is none',
    usual().map(([name, value]) => [name, name === ':path' ? 'http://other.example.com/' : value] as const),
  ],
  [
    'a line break in the host',
    usual().map(
      ([name, value]) => [name, name === ':authority' ? `${HOST}\r\nx-injected: 1` : value] as const,
    ),
  ],
  [
    'a line break in the method',
    usual().map(([name, value]) => [name, name === ':method' ? 'GET / HTTP/1.1\r\nx: 1' : value] as const),
  ],
  ['a second path', usual([[':path', '/second']])],
] as const) {
  test(`HTTP/2 with ${what} never comes to the origin`, async () => {
    const it = shared
    const socket = await secure(it.at, HOST, 'h2')
    const block = literal(headers)
    socket.write(PREFACE)
    socket.write(frame(4, 0, 0, Buffer.alloc(0)))
    socket.write(frame(1, END_HEADERS | (body ? 0 : END_STREAM), 1, block))
    if (body) socket.write(frame(0, END_STREAM, 1, Buffer.from(body)))
    // A ping behind it comes back when the rest was dealt with, unless the connection was given up.
    socket.write(frame(6, 0, 0, Buffer.alloc(8, 7)))
    socket.on('error', () => {})
    const pong = frame(6, 1, 0, Buffer.alloc(8, 7))
    let got = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => (got = Buffer.concat([got, chunk])))
    await until('an answer to the ping, or the end', () => got.includes(pong) || socket.closed)
    await ask(it.at, { path: '/after' })
    // A header that is none may be left out; what follows it must not become one.
    const came = it.asked.filter((one) => one.url !== '/after')
    if (/in a (header|name)$/.test(what)) {
      assert.ok(came.every((one) => one.url === '/first' && !one.headers.includes('x-injected')))
    } else assert.deepEqual(came, [])
    assert.equal(it.asked.length, came.length + 1)
    socket.destroy()
  })
}

test('a connection of HTTP/2 that asks for nothing is ended, however it keeps itself busy', async () => {
  await using it = await witnessed({ limits: { keepAliveMsMax: 300 } })
  const headers = literal(usual([['x-long', 'x'.repeat(100)]]))
  for (const trickle of [
    // Headers that never end, and pings.
    (at: number) => (at ? headers.subarray(at, at + 1) : frame(1, END_HEADERS, 1, headers).subarray(0, 10)),
    () => frame(6, 0, 0, Buffer.alloc(8)),
  ]) {
    const socket = await secure(it.at, HOST, 'h2')
    socket.on('error', () => {})
    socket.write(Buffer.concat([Buffer.from(PREFACE), frame(4, 0, 0, Buffer.alloc(0))]))
    let at = 0
    const timer = setInterval(() => socket.write(trickle(at++)), 40)
    try {
      await once(socket.resume(), 'close', { signal: signal() })
    } finally {
      clearInterval(timer)
      socket.destroy()
    }
  }
  const busy = await secure(it.at, HOST, 'h2')
  busy.write(Buffer.concat([Buffer.from(PREFACE), frame(4, 0, 0, Buffer.alloc(0))]))
  busy.write(frame(1, END_HEADERS, 1, literal(usual())))
  const timer = setInterval(() => busy.write(frame(0, 0, 1, Buffer.from('abcd'))), 40)
  await new Promise((resolve) => setTimeout(resolve, 700))
  clearInterval(timer)
  busy.write(frame(0, END_STREAM, 1, Buffer.from('end')))
  await until('a slow request was served', () => it.asked[0]?.body.endsWith('end'))
  busy.destroy()
})

test('frames made by hand are served when nothing is wrong with them', async () => {
  const it = shared
  const socket = await secure(it.at, HOST, 'h2')
  socket.write(PREFACE)
  socket.write(frame(4, 0, 0, Buffer.alloc(0)))
  socket.write(frame(1, END_HEADERS, 1, literal(usual([['content-length', '3']]))))
  socket.write(frame(0, END_STREAM, 1, Buffer.from('abc')))
  await until('the origin was asked', () => it.asked[0])
  assert.deepEqual([it.asked[0]?.url, it.asked[0]?.body], ['/first', 'abc'])
  socket.destroy()
})

test('a hostname of another tenant is not served by a front that names it too', async () => {
  await using it = await witnessed()
  await using theirs = await backend((_, response) => void response.end('theirs'))
  await it.at.apply({
    vpc: 'vpc-b',
    tenant: 'tenant-b',
    routes: [
      {
        id: 'stolen',
        hostname: HOST,
        pathPrefix: '/login',
        stripPrefix: false,
        carry: 'http',
        plain: true,
        certificate: 'certificate-a',
        origins: [theirs.as('b')],
      },
    ],
  })
  assert.equal((await ask(it.at, { path: '/login' })).text, 'served')
  assert.equal((await ask(it.at, { path: '/login', plain: true })).text, 'served')
  await assert.rejects(
    it.at.front.apply({ vpc: '../x', tenant: '', generation: 1, routes: [] }, signal()),
    (error) => isCloudError(error, 'invalid'),
  )
})
