import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as askPlain, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { ask, backend, HOST, open, stage, tcpBackend, textOf, until } from './front.testing.ts'

const PLAIN = { plain: true } as const
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** Calls `onRequest` with each connection whenever a whole head came over it. */
const onHeads = (onRequest: (socket: Socket, head: string) => void) => (socket: Socket) => {
  let text = ''
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1')
    for (let end; (end = text.indexOf('\r\n\r\n')) >= 0; text = text.slice(end + 4))
      onRequest(socket, text.slice(0, end))
  })
}

test('an origin whose answer is not certain is answered for with 502, and its connection is not used again', async () => {
  let connections = 0
  let answer = ''
  await using origin = await tcpBackend((socket) => {
    connections++
    onHeads(() => void socket.write(answer))(socket)
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
  assert.equal((await ask(at, { ...PLAIN, method: 'PATCH' })).status, 502)
  answer = OK
  assert.equal((await ask(at, PLAIN)).text, 'ok')
  assert.equal(connections, 2)
})

test('what an origin says without being asked is nobody’s answer', async () => {
  let connections = 0
  await using origin = await tcpBackend((socket) => {
    const own = ++connections
    let asked = 0
    onHeads(() => {
      // The first answer has another behind it, at once and a moment later.
      socket.write(own === 1 && ++asked === 1 ? OK + OK.replace('ok', 'no') : OK)
      if (own === 2 && ++asked === 1) setTimeout(() => socket.write(OK.replace('ok', 'no')), 10)
    })(socket)
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  // The client of that connection may have had its answer, or sees it break off; nobody gets another's.
  await ask(at, PLAIN).catch(() => {})
  for (let it = 0; it < 3; it++) {
    assert.equal((await ask(at, PLAIN)).text, 'ok')
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
  assert.equal(connections, 3)
})

test('an unused connection is let go before its origin lets go of it', async () => {
  let [connections, ended] = [0, 0]
  await using origin = await tcpBackend((socket) => {
    connections++
    socket.on('end', () => {
      ended++
      socket.end()
    })
    onHeads(() => void socket.write(OK.replace('\r\n\r\n', '\r\nKeep-Alive: timeout=1\r\n\r\n')))(socket)
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  for (let it = 0; it < 2; it++) assert.equal((await ask(at, PLAIN)).text, 'ok')
  assert.equal(connections, 2, 'one that is kept for less than our margin is not kept')
  await until('both were ended', () => ended === 2)
})

test('connections to one origin have a limit, and requests beyond wait for their turn', async () => {
  let [open, most] = [0, 0]
  await using origin = await backend((_, response) => {
    most = Math.max(most, ++open)
    setTimeout(() => {
      open--
      response.end('x')
    }, 5)
  })
  await using at = await stage({ limits: { originConnectionsMax: 2 } })
  await at.route({ plain: true, origins: [origin.as('a')] })
  const all = await Promise.all(Array.from({ length: 12 }, async () => await ask(at, PLAIN)))
  assert.deepEqual(new Set(all.map((it) => it.status)), new Set([200]))
  assert.equal(most, 2)
})

test('a request for which no connection gets free in the time for an answer ends, and those after it go on', async () => {
  let connections = 0
  await using origin = await tcpBackend((socket) => {
    connections++
    onHeads((_, head) => {
      // One answer never ends.
      if (head.startsWith('GET /events')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nevent')
      else socket.write(OK)
    })(socket)
  })
  await using at = await stage({ limits: { originConnectionsMax: 1, originWaitMsMax: 50, answerMsMax: 100 } })
  await at.route({ plain: true, origins: [origin.as('a')] })
  const events = await open(at, { ...PLAIN, path: '/events' })
  events.on('error', () => {})
  assert.equal((await ask(at, PLAIN)).status, 504)
  assert.equal(connections, 1)
  events.destroy()
  assert.equal((await ask(at, PLAIN)).text, 'ok')
})

test('an origin that answers before it has the whole request is heard, and its connection ends', async () => {
  let connections = 0
  await using origin = await tcpBackend((socket) => {
    connections++
    onHeads(() => void socket.write(OK.replace('200 OK', '403 Forbidden')))(socket)
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  for (let it = 1; it <= 2; it++) {
    const sent = askPlain({ port: at.http, method: 'POST', headers: { host: HOST }, agent: false })
    sent.on('error', () => {})
    sent.write('some')
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    assert.equal(response.statusCode, 403)
    assert.equal(await textOf(response), 'ok')
    sent.destroy()
    assert.equal(connections, it)
  }
})

test('a client whose request was answered before its end is answered the next one too', async () => {
  await using origin = await tcpBackend((socket) => {
    onHeads(() => void socket.write(OK.replace('200 OK', '403 Forbidden')))(socket)
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  const client = connect(at.http, '127.0.0.1')
  const heads: string[] = []
  onHeads((_, head) => heads.push(head))(client)
  client.on('error', () => {})
  // More than the buffers on the way take.
  const body = Buffer.alloc(16 * 1_048_576)
  client.write(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${body.length}\r\n\r\n`)
  await until('the first is answered', () => heads.length === 1)
  client.write(body)
  client.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  await until('the second is answered', () => heads.length === 2)
  client.destroy()
})

test('a body has its length, or its chunks, and a method that may have one says that it has none', async () => {
  const heads: string[] = []
  await using origin = await backend((request, response) => {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers
    void textOf(request).then((text) => {
      heads.push(`${request.method} ${length} ${encoding} ${text}`)
      response.end()
    })
  })
  await using at = await stage()
  await at.route({ plain: true, origins: [origin.as('a')] })
  await ask(at, { ...PLAIN, method: 'POST', headers: { 'content-length': '4' }, body: 'body' })
  await ask(at, { ...PLAIN, method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body: 'body' })
  await ask(at, { ...PLAIN, method: 'POST', headers: { 'content-length': '0' } })
  await ask(at, PLAIN)
  assert.deepEqual(heads, [
    'POST 4 undefined body',
    'POST undefined chunked body',
    'POST 0 undefined ',
    'GET undefined undefined ',
  ])
})
