import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { request as askTls } from 'node:https'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, WebSocketServer } from 'ws'
import {
  ask,
  backend,
  CERTIFIED,
  HOST,
  open,
  raw,
  secure,
  signal,
  type Stage,
  stage,
  tcpBackend,
  textOf,
  until,
} from './front.testing.ts'

const MIB = 1_048_576
/** What fills the kernel's buffers to the brim takes seconds. */
const LONG = process.env['ARCUS_SOAK'] === '1'
/** Longer than it takes to try each origin twice. */
const STARTS_AFTER_MS = 600
const named = async (name: string) =>
  await backend((request, response) => {
    request.resume()
    response.end(name)
  })

async function http2(at: Stage): Promise<ClientHttp2Session> {
  const socket = await secure(at, HOST, 'h2')
  return connectHttp2(`https://${HOST}`, { createConnection: () => socket })
}

async function askHttp2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): Promise<{ status: number; headers: Record<string, unknown>; text: string }> {
  const stream = session.request({ ':path': '/', ...headers })
  stream.end(body)
  const [received] = (await once(stream, 'response', { signal: signal() })) as [Record<string, unknown>]
  return { status: Number(received[':status']), headers: received, text: await textOf(stream) }
}

test(
  'a large body goes up and down whole, at the pace of the slower side',
  { skip: !LONG && 'in the long form' },
  async () => {
    // More than the kernel's buffers on both ways take, which grow.
    const bytes = randomBytes(32 * MIB)
    let received = 0
    let letGo: () => void = () => {}
    await using origin = await backend((request, response) => {
      const hash = createHash('sha256')
      request.on('data', (chunk: Buffer) => {
        received += chunk.length
        hash.update(chunk)
      })
      request.pause()
      letGo = () => request.resume()
      request.on('end', () => {
        response.setHeader('x-hash', hash.digest('hex'))
        response.end(bytes)
      })
    })
    await using at = await stage()
    await at.route({ origins: [origin.as('a')] })
    const sent = askTls({
      host: '127.0.0.1',
      port: at.https,
      servername: HOST,
      ca: CERTIFIED.ca,
      method: 'POST',
      headers: { host: HOST },
      agent: false,
    })
    let written = 0
    const all = (async () => {
      for (let it = 0; it < bytes.length; it += 65_536) {
        if (!sent.write(bytes.subarray(it, it + 65_536))) await once(sent, 'drain')
        written = it + 65_536
      }
      sent.end()
    })()
    // The origin reads nothing: what is written stands in the kernel's buffers, and the edge does not collect the rest.
    let before = -1
    await until('the client cannot write on', async () => {
      const stands = written === before
      before = written
      await new Promise((resolve) => setTimeout(resolve, 100))
      return stands && written > 0
    })
    assert.ok(written < bytes.length * 0.75 && received < MIB, `${written} written, ${received} received`)
    const answered = once(sent, 'response', { signal: signal() })
    letGo()
    await all
    const [response] = (await answered) as [import('node:http').IncomingMessage]
    const expected = createHash('sha256').update(bytes).digest('hex')
    assert.equal(response.headers['x-hash'], expected)
    const [counted] = await at.front.traffic(signal())
    assert.equal(counted?.requests, 0)
    const hash = createHash('sha256')
    for await (const chunk of response as AsyncIterable<Buffer>) hash.update(chunk)
    assert.equal(hash.digest('hex'), expected)
  },
)

test('an answer that is read slowly does not pile up', async () => {
  let written = 0
  await using origin = await backend((_, response) => {
    const chunk = Buffer.alloc(65_536)
    const more = (): void => {
      while (written < 32 * MIB) {
        written += chunk.length
        if (!response.write(chunk)) return void response.once('drain', more)
      }
      response.end()
    }
    more()
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  const response = await open(at)
  let before = -1
  await until('the origin cannot write on', async () => {
    const stands = written === before
    before = written
    await new Promise((resolve) => setTimeout(resolve, 100))
    return stands
  })
  assert.ok(written < 24 * MIB, `${written} written`)
  let read = 0
  for await (const chunk of response as AsyncIterable<Buffer>) read += chunk.length
  assert.equal(read, 32 * MIB)
})

test('events are passed on one by one', async () => {
  let send: (text: string) => void = () => {}
  await using origin = await backend((_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    send = (text) => void (text ? response.write(text) : response.end())
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  const response = await open(at)
  assert.equal(response.headers['content-type'], 'text/event-stream')
  for (const text of ['data: 1\n\n', 'data: 2\n\n']) {
    send(text)
    const [chunk] = (await once(response, 'data', { signal: signal() })) as [Buffer]
    assert.equal(chunk.toString(), text)
  }
  send('')
  await once(response, 'end')
})

test('HTTP/2 carries many requests at once, with bodies, cookies and repeated headers', async () => {
  await using origin = await backend((request, response) => {
    void textOf(request).then((body) => {
      response.setHeader('set-cookie', ['a=1', 'b=2'])
      response.setHeader('connection', 'x-hop')
      response.setHeader('x-hop', '1')
      response.end(
        `${request.method} ${request.url} ${request.headers.host} ${request.headers.cookie} ${body}`,
      )
    })
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  const session = await http2(at)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, it) =>
      askHttp2(
        session,
        { ':method': 'POST', ':authority': HOST, ':path': `/${it}`, cookie: 'c=3' },
        `body ${it}`,
      ),
    ),
  )
  answers.forEach(({ status, text, headers }, it) => {
    assert.equal(status, 200)
    assert.equal(text, `POST /${it} ${HOST} c=3 body ${it}`)
    assert.deepEqual(headers['set-cookie'], ['a=1', 'b=2'])
    assert.equal(headers['x-hop'], undefined)
  })
  assert.equal((await askHttp2(session, { ':method': 'HEAD' })).text, '')
  assert.equal((await askHttp2(session, { ':authority': 'other.example.com' })).status, 421)
  session.close()
})

test('a WebSocket passes through, and so does the refusal of one', async () => {
  const sockets = new WebSocketServer({ noServer: true })
  await using refusing = await backend((_, response) => {
    response.statusCode = 403
    response.end('not you')
  })
  await using at = await stage()
  const gone = await named('gone')
  await gone.kill()
  await using ws = await named('page')
  ws.onUpgrade((request, socket, head) =>
    sockets.handleUpgrade(request, socket, head, (it) => {
      it.send(`${request.url} ${request.headers['x-forwarded-for']} ${request.headers.host}`)
      it.on('message', (data: Buffer, isBinary) => it.send(data, { binary: isBinary }))
    }),
  )
  await at.route(
    // The first origin is gone: the next one is tried.
    { origins: [gone.as('gone'), ws.as('a')] },
    { id: 'refusing', pathPrefix: '/no', origins: [refusing.as('b')] },
  )
  const connect = (path: string): WebSocket =>
    new WebSocket(`wss://127.0.0.1:${at.https}${path}`, {
      ...({ servername: HOST } as object),
      ca: CERTIFIED.ca,
      headers: { host: HOST },
      perMessageDeflate: false,
    })
  const socket = connect('/chat?room=1')
  const [hello] = (await once(socket, 'message', { signal: signal() })) as [Buffer]
  assert.equal(hello.toString(), `/chat?room=1 127.0.0.1 ${HOST}`)
  for (const size of [5, 70_000, 2 * MIB]) {
    const message = randomBytes(size)
    socket.send(message)
    const [back] = (await once(socket, 'message', { signal: signal() })) as [Buffer]
    assert.ok(back.equals(message))
  }
  assert.deepEqual(await at.front.open(signal()), { a: 1 })
  socket.close()
  await until('the connection is over', async () => Object.keys(await at.front.open(signal())).length === 0)
  const refused = connect('/no')
  const [, response] = (await once(refused, 'unexpected-response', { signal: signal() })) as [
    unknown,
    import('node:http').IncomingMessage,
  ]
  assert.equal(response.statusCode, 403)
  assert.equal(await textOf(response), 'not you')
  const entries = await until('both are logged', async () => {
    const { entries: logged } = await at.front.accesses(undefined, 10, signal())
    return logged.length === 2 && logged
  })
  assert.deepEqual(entries.map((it) => `${it.path} ${it.status}`).toSorted(), ['/chat 101', '/no 403'])
})

test('a refusal of a WebSocket that breaks off, or ends amid a chunk, is broken off for the client too', async () => {
  let rest = ''
  await using origin = await tcpBackend((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n')
      setTimeout(() => socket.end(rest), 20)
    })
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket'
  for (rest of ['', 'no size\r\n']) {
    const all = await raw(at, `GET / HTTP/1.1\r\nHost: ${HOST}\r\n${upgrade}\r\n\r\n`, true)
    assert.match(all, /^HTTP\/1.1 403 Forbidden\r\n[^]*\r\n\r\nhalf$/)
    assert.deepEqual(await at.front.open(signal()), {})
  }
  const { entries } = await at.front.accesses(undefined, 10, signal())
  assert.deepEqual(
    entries.map((it) => [it.status, it.sentBytes, it.fault !== undefined]),
    [1, 2].map(() => [403, 4, true]),
  )
})

test('an origin that refuses is left out, and nothing is asked twice that must not be', async () => {
  let posts = 0
  await using good = await named('good')
  await using breaking = await backend((request) => {
    posts++
    request.socket.destroy()
  })
  await using at = await stage()
  await using gone = await named('gone')
  await gone.kill()
  await at.route({ origins: [gone.as('gone'), good.as('good')] })
  for (let it = 0; it < 6; it++)
    assert.equal(
      (await ask(at, { method: 'POST', body: 'x' })).text,
      'good',
      'nothing was sent to the one gone',
    )
  await at.route({ origins: [breaking.as('breaking')] })
  assert.equal((await ask(at, { method: 'POST', body: 'x' })).status, 502)
  assert.equal(posts, 1)
  assert.equal((await ask(at, { method: 'PATCH' })).status, 502)
  assert.equal(posts, 2)
  // What may be done twice is tried at the next one.
  await at.route({ origins: [breaking.as('breaking'), good.as('good')] })
  for (let it = 0; it < 6; it++) assert.equal((await ask(at)).text, 'good')
})

test('origins are exchanged under load, one by one and by force, without losing what may be asked twice', async () => {
  await using at = await stage()
  const first = await named('1')
  await at.route({ origins: [first.as('1')] })
  let asked = 0
  let running = true
  const failures: string[] = []
  const load = Array.from({ length: 4 }, async () => {
    while (running) {
      const { status, text } = await ask(at)
      if (status !== 200) failures.push(`${status} ${text}`)
      asked++
    }
  })
  let held = first
  for (let it = 2; it <= 6; it++) {
    const next = await named(String(it))
    const before = asked
    await at.route({ origins: [held.as(String(it - 1)), next.as(String(it))] })
    await until('some were asked', () => asked > before + 10)
    if (it % 2) await at.route({ origins: [next.as(String(it))] })
    await held.kill()
    await until('more were asked', () => asked > before + 20)
    await at.route({ origins: [next.as(String(it))] })
    held = next
  }
  running = false
  await Promise.all(load)
  assert.deepEqual(failures, [])
  await held.kill()
})

test('a change of the table drops nothing that is under way, whatever was asked', async () => {
  const slow = async (text: string) =>
    await backend((request, response) => {
      request.resume().on('end', () => {
        response.write(text)
        setTimeout(() => response.end('.'), 20)
      })
    })
  await using one = await slow('one')
  await using other = await slow('other')
  await using at = await stage()
  await at.route({ origins: [one.as('one')] })
  let [asked, running] = [0, true]
  const seen = new Set<string>()
  const load = Array.from({ length: 8 }, async () => {
    while (running) {
      const { status, text } = await ask(at, { method: 'POST', body: 'x' })
      seen.add(`${status} ${text}`)
      asked++
    }
  })
  for (let it = 0; it < 10; it++) {
    const before = asked
    await until('some were asked', () => asked > before + 5)
    // Another replica, another route in its stead, both at once.
    await at.route({ id: `route-${it % 3}`, origins: it % 2 ? [one.as('one')] : [other.as('other')] })
  }
  running = false
  await Promise.all(load)
  assert.deepEqual(seen, new Set(['200 one.', '200 other.']))
})

test('origins that do not listen yet are waited for, whatever is asked', async () => {
  const before = await named('before')
  await before.kill()
  await using at = await stage()
  await at.route({ origins: [before.as('a'), { ...before.as('b'), address: '127.0.0.2' }] })
  const asked = Promise.all([ask(at), ask(at, { method: 'POST' })])
  await sleep(STARTS_AFTER_MS)
  const late = createServer((_, response) => void response.end('late')).listen(before.port, '127.0.0.1')
  try {
    assert.deepEqual(
      (await asked).map((it) => [it.status, it.text]),
      [
        [200, 'late'],
        [200, 'late'],
      ],
    )
  } finally {
    late.closeAllConnections()
    late.close()
  }
})

test('a connection to an origin that left is not used again', async () => {
  let connections = 0
  await using origin = await backend((_, response) => void response.end('x'))
  origin.onConnection(() => connections++)
  await using at = await stage()
  await at.route({ origins: [origin.as('first')] })
  await ask(at)
  await ask(at)
  assert.equal(connections, 1)
  // Another replica has the address now.
  await at.route({ origins: [origin.as('second')] })
  await ask(at)
  assert.equal(connections, 2)
})

test('an answer that breaks off is broken off for the client too', async () => {
  await using origin = await backend((request, response) => {
    response.writeHead(200, request.url === '/long' ? { 'content-length': '100' } : {})
    response.write('half')
    setTimeout(() => response.destroy(), 20)
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  const session = await http2(at)
  for (const path of ['/long', '/chunked']) {
    await assert.rejects(ask(at, { path }), /aborted|ECONNRESET/)
    await assert.rejects(askHttp2(session, { ':path': path }), /NGHTTP2_INTERNAL_ERROR/)
  }
  session.destroy()
  const [entry] = (await at.front.accesses(undefined, 1, signal())).entries
  assert.equal(entry?.status, 200)
  assert.ok(entry.fault)
})

test('a client that leaves takes its request with it', async () => {
  let left = false
  await using origin = await backend((request, response) => {
    response.write('x')
    request.socket.once('close', () => (left = true))
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  const response = await open(at)
  response.destroy()
  await until('the origin hears of it', () => left)
  await until('nothing is open', async () => Object.keys(await at.front.open(signal())).length === 0)
})

test('an origin that does not answer in time is 504', async () => {
  await using origin = await backend(() => {})
  await using at = await stage({ limits: { answerMsMax: 300 } })
  await at.route({ origins: [origin.as('a')] })
  assert.equal((await ask(at)).status, 504)
})
