import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { WebSocket } from 'ws'
import { jsonLog } from '#lib/log.ts'
import {
  ask,
  backend,
  CERTIFIED,
  HOST,
  secure,
  signal,
  type Stage,
  stage,
  tcpBackend,
  textOf,
  until,
} from './front.testing.ts'
import { HALF_CLOSE } from './stream.ts'

const MIB = 1_048_576
/** What fills the kernel's buffers to the brim takes seconds. */
const LONG = process.env['ARCUS_SOAK'] === '1'

/** A client as `cloudflared access` is one: version 13, any path, headers of its own; `protocol` for ours. */
function dial(at: Stage, protocol?: string): WebSocket {
  return new WebSocket(`wss://127.0.0.1:${at.https}/any/path`, protocol === undefined ? [] : [protocol], {
    ...({ servername: HOST } as object),
    ca: CERTIFIED.ca,
    headers: { host: HOST, 'cf-access-client-id': 'x', 'cf-access-client-secret': 'y' },
    perMessageDeflate: false,
  })
}

async function tunnel(onSocket: (socket: Socket) => void, limits: Parameters<typeof stage>[0] = {}) {
  const origin = await tcpBackend(onSocket)
  const at = await stage(limits)
  await at.route({ carry: 'stream', origins: [origin.as('replica-a')] })
  return {
    at,
    origin,
    async [Symbol.asyncDispose]() {
      await at[Symbol.asyncDispose]()
      await origin.kill()
    },
  }
}

/** Sends with an eye on what waits, as a client that behaves. */
async function sendAll(socket: WebSocket, bytes: Buffer): Promise<void> {
  for (let it = 0; it < bytes.length; it += 65_536)
    await new Promise((resolve) => socket.send(bytes.subarray(it, it + 65_536), resolve))
}

test('a stream carries the bytes of one connection both ways, whole and in order', async () => {
  await using it = await tunnel((socket) => void socket.pipe(socket))
  const socket = dial(it.at)
  await once(socket, 'open', { signal: signal() })
  const bytes = randomBytes(8 * MIB)
  const hash = createHash('sha256')
  let received = 0
  socket.on('message', (data: Buffer) => {
    received += data.length
    hash.update(data)
  })
  await sendAll(socket, bytes)
  await until('all came back', () => received === bytes.length)
  assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'))
  assert.deepEqual(await it.at.front.open(signal()), { 'replica-a': 1 })
  socket.close(1000)
  await until('nothing is open', async () => Object.keys(await it.at.front.open(signal())).length === 0)
  const [entry] = (await it.at.front.accesses(undefined, 1, signal())).entries
  assert.deepEqual(
    [entry?.status, entry?.receivedBytes, entry?.sentBytes, entry?.fault],
    [101, bytes.length, bytes.length, undefined],
  )
})

test(
  'a stream goes at the pace of whoever reads slowly, either side',
  { skip: !LONG && 'in the long form' },
  async () => {
    let origin: Socket | undefined
    let written = 0
    // Longer than three pings: what a client answers waits behind what the origin does not take.
    await using it = await tunnel((socket) => (origin = socket.pause()), { limits: { pingMs: 50 } })
    const socket = dial(it.at)
    await once(socket, 'open', { signal: signal() })
    const stands = async (what: string, progress: () => number): Promise<void> => {
      let before = -1
      await until(what, async () => {
        const same = progress() === before
        before = progress()
        await new Promise((resolve) => setTimeout(resolve, 80))
        return same
      })
    }
    // Up: nobody reads at the origin.
    const bytes = randomBytes(24 * MIB)
    const sending = sendAll(socket, bytes)
    sending.catch(() => {})
    await stands('the client cannot send on', () => bytes.length - socket.bufferedAmount)
    const { entries } = await it.at.front.accesses(undefined, 1, signal())
    assert.deepEqual(entries, [], 'it goes on')
    assert.deepEqual(await it.at.front.open(signal()), { 'replica-a': 1 })
    assert.ok((origin?.bytesRead ?? 0) < 8 * MIB)
    let read = 0
    origin?.on('data', (chunk: Buffer) => (read += chunk.length)).resume()
    await sending
    await until('the origin got all', () => read === bytes.length)
    // Down: the client reads nothing.
    socket.pause()
    const more = (): void => {
      while (origin && written < 24 * MIB) {
        written += 65_536
        if (!origin.write(bytes.subarray(0, 65_536))) return void origin.once('drain', more)
      }
    }
    more()
    await stands('the origin cannot write on', () => written)
    assert.ok(written < 20 * MIB, `${written} written`)
    let got = 0
    socket.on('message', (data: Buffer) => (got += data.length))
    socket.resume()
    await until('the client got all', () => got === 24 * MIB)
    socket.terminate()
  },
)

test('each side of a stream can end its half when the client knows halves', async () => {
  const heard: string[] = []
  await using it = await tunnel((socket) => {
    socket.on('data', (chunk: Buffer) => heard.push(chunk.toString()))
    socket.on('end', () => socket.end('after your end'))
  })
  const socket = dial(it.at, HALF_CLOSE)
  await once(socket, 'open', { signal: signal() })
  assert.equal(socket.protocol, HALF_CLOSE)
  const messages: string[] = []
  socket.on('message', (data: Buffer) => messages.push(data.toString()))
  socket.send(Buffer.from('hello'))
  socket.send(Buffer.alloc(0))
  const [code] = (await once(socket, 'close', { signal: signal() })) as [number]
  assert.deepEqual([code, heard.join(''), messages.join('|')], [1000, 'hello', 'after your end|'])
})

test('a client that knows no halves hears the end of the origin as the end', async () => {
  let ended = false
  await using it = await tunnel((socket) => {
    socket.resume().on('end', () => (ended = true))
    socket.end('SSH-2.0-x\r\n')
  })
  const socket = dial(it.at)
  const banner = once(socket, 'message', { signal: signal() })
  const closed = once(socket, 'close', { signal: signal() })
  assert.equal(((await banner) as [Buffer])[0].toString(), 'SSH-2.0-x\r\n')
  assert.equal((await closed)[0], 1000)
  await until('the origin hears the end', () => ended)
})

test('a stream says by its code why it ended', async () => {
  const sockets: Socket[] = []
  await using it = await tunnel((socket) => void sockets.push(socket))
  const ends = async (then: (socket: WebSocket) => void, opens = true): Promise<number> => {
    const socket = dial(it.at)
    if (opens) await once(socket, 'open', { signal: signal() })
    socket.on('error', () => {})
    const closed = once(socket, 'close', { signal: signal() })
    then(socket)
    return (await closed)[0] as number
  }
  assert.equal(await ends((socket) => socket.send('text')), 1003)
  assert.equal(await ends((socket) => socket.send(Buffer.alloc(2 * MIB))), 1009)
  assert.equal(
    await ends(
      () => void until('it is there', () => sockets.length >= 3).then(() => sockets[2]?.resetAndDestroy()),
    ),
    1011,
  )
  assert.equal(await ends(() => void it.at.front.close()), 1001)
})

test('a stream whose client is gone without a word is ended', async () => {
  let closed = false
  await using it = await tunnel(
    (socket) =>
      void socket
        .resume()
        .once('end', () => (closed = true))
        .on('end', () => socket.end()),
    { limits: { pingMs: 40, idleMsMax: 300 } },
  )
  const alive = dial(it.at)
  await once(alive, 'open', { signal: signal() })
  const silent = await secure(it.at)
  silent.write(
    `GET / HTTP/1.1\r\nHost: ${HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  )
  await once(silent.resume(), 'close', { signal: signal() })
  await until('the origin hears of it', () => closed)
  assert.equal(alive.readyState, WebSocket.OPEN)
  alive.terminate()
})

test('a tunnel is no page, and one without an origin says so', async () => {
  await using at = await stage()
  await at.route({ carry: 'stream' })
  const page = await ask(at)
  assert.equal(page.status, 426)
  assert.match(page.text, /arcus tunnel connect app\.example\.com/)
  const [, response] = (await once(dial(at), 'unexpected-response', { signal: signal() })) as [
    unknown,
    import('node:http').IncomingMessage,
  ]
  assert.deepEqual([response.statusCode, response.headers['retry-after']], [503, '2'])
  const bad = await secure(at)
  bad.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`)
  assert.match(await textOf(bad as AsyncIterable<Buffer>), /^HTTP\/1\.1 (400|503)/)
})

/** What a client says first to the front door for HOST. */
async function firstBytes(): Promise<Buffer> {
  let hello: Buffer | undefined
  await using fake = await tcpBackend((socket) => {
    socket.once('data', (chunk: Buffer) => (hello = chunk))
  })
  const client = connectTls({ port: fake.port, host: '127.0.0.1', servername: HOST })
  client.on('error', () => {})
  return await until('a hello', () => hello)
}

test('TLS passes through to the origin of its name, whose certificate the client sees', async () => {
  await using inside = await backend((_, response) => void response.end('inside'))
  await using inner = await stage()
  await inner.route({ origins: [inside.as('a')] })
  await using at = await stage()
  const origin = { id: 'inner', address: '127.0.0.1', port: inner.https, weight: 1 }
  const front = { carry: 'passthrough', pathPrefix: '/', origins: [origin] } as const
  await at.apply({
    routes: [{ ...front, id: 'route-a', hostname: HOST, stripPrefix: false, plain: false }],
  })
  // No certificate stands in the outer one's route: what is trusted here is the inner one's.
  await at.front.removeCertificate('certificate-a', signal())
  assert.equal((await ask(at)).text, 'inside')
  const plain = await ask(at, { plain: true })
  assert.equal(plain.status, 421)
  // A hello in many pieces, and in many records.
  const real = await firstBytes()
  const body = real.subarray(5)
  const records = Array.from({ length: Math.ceil(body.length / 40) }, (_, it) => {
    const part = body.subarray(it * 40, it * 40 + 40)
    return Buffer.concat([real.subarray(0, 3), Buffer.from([part.length >> 8, part.length & 255]), part])
  })
  const socket = connectTcp({ port: at.https, host: '127.0.0.1', noDelay: true })
  for (const byte of Buffer.concat(records).subarray(0, 30)) {
    socket.write(Buffer.from([byte]))
    await new Promise((resolve) => setImmediate(resolve))
  }
  socket.write(Buffer.concat(records).subarray(30))
  const [answer] = (await once(socket, 'data', { signal: signal() })) as [Buffer]
  assert.deepEqual([answer[0], answer[5]], [22, 2], 'a ServerHello comes back')
  assert.equal((await at.front.open(signal()))['inner'], 1)
  socket.destroy()
  await until('nothing is open', async () => Object.keys(await at.front.open(signal())).length === 0)
})

test('a connection that passes through can end its half and still be answered', async () => {
  await using origin = await tcpBackend((socket) => {
    socket.resume().on('end', () => socket.end('after your end'))
  })
  await using at = await stage()
  await at.route({ carry: 'passthrough', origins: [origin.as('a')] })
  const socket = connectTcp({ port: at.https, host: '127.0.0.1', allowHalfOpen: true })
  socket.end(await firstBytes())
  assert.equal(await textOf(socket as AsyncIterable<Buffer>), 'after your end')
})

async function udpBackend(answer: (message: Buffer) => string) {
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => socket.send(answer(message), from.port, from.address))
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  return {
    as: (id: string) => ({ id, address: '127.0.0.1', port, weight: 1 }),
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => socket.close(resolve))
    },
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(resolve))
  return port
}

function udpClient(port: number) {
  const socket = createSocket('udp4')
  return {
    /** Sends until an answer comes: datagrams may be lost. */
    ask: async (text: string): Promise<string> => {
      const answer = once(socket, 'message', { signal: signal() })
      const timer = setInterval(() => socket.send(text, port, '127.0.0.1'), 200)
      socket.send(text, port, '127.0.0.1')
      try {
        return String(((await answer) as [Buffer])[0])
      } finally {
        clearInterval(timer)
      }
    },
    send: (text: string) => socket.send(text, port, '127.0.0.1'),
    socket,
    [Symbol.dispose]: () => void socket.close(),
  }
}

test('datagrams find their origin and the answers their client', async () => {
  await using a = await udpBackend((it) => `a ${it}`)
  await using b = await udpBackend((it) => `b ${it}`)
  const port = await freePort()
  await using at = await stage({ limits: { sessionIdleMsMax: 400, sessionLingerMsMax: 100 } })
  const route = (...origins: ReturnType<typeof a.as>[]) => ({ carry: 'datagram', port, origins }) as const
  const serve = async (...origins: ReturnType<typeof a.as>[]): Promise<void> =>
    await at.apply({
      routes: [
        {
          ...route(...origins),
          id: 'udp',
          hostname: 'udp.example.com',
          pathPrefix: '/',
          stripPrefix: false,
          plain: false,
        },
      ],
    })
  await serve(a.as('a'))
  using one = udpClient(port)
  using two = udpClient(port)
  const answers = await Promise.all([one.ask('1'), two.ask('2')])
  assert.deepEqual(answers, ['a 1', 'a 2'])
  assert.deepEqual(await at.front.open(signal()), { a: 2 })
  // The origin leaves: the next datagram goes to the other one.
  await serve(b.as('b'))
  assert.equal(await one.ask('3'), 'b 3')
  await until('idle sessions end', async () => Object.keys(await at.front.open(signal())).length === 0)
  const [counted] = await at.front.traffic(signal())
  assert.equal(counted?.requests, 3)
  assert.ok((counted?.receivedBytes ?? 0) >= 3 && (counted?.sentBytes ?? 0) >= 9)
})

test('an origin that no way leads to is left out, and the next one is asked', async () => {
  await using b = await udpBackend((it) => `b ${it}`)
  const port = await freePort()
  await using at = await stage()
  // To connect there is refused without a packet: nobody may broadcast who did not ask for it.
  const nowhere = { id: 'a', address: '255.255.255.255', port: 9, weight: 1 }
  await at.apply({
    routes: [
      {
        carry: 'datagram',
        port,
        origins: [nowhere, b.as('b')],
        id: 'udp',
        hostname: 'udp.example.com',
        pathPrefix: '/',
        stripPrefix: false,
        plain: false,
      },
    ],
  })
  using client = udpClient(port)
  assert.equal(await client.ask('1'), 'b 1')
  assert.deepEqual(await at.front.open(signal()), { b: 1 })
})

test('a client has so many sessions and no more', async () => {
  await using origin = await udpBackend((it) => `x ${it}`)
  const port = await freePort()
  await using at = await stage({ limits: { sessionsPerClientMax: 2 } })
  await at.apply({
    routes: [
      {
        carry: 'datagram',
        port,
        origins: [origin.as('a')],
        id: 'udp',
        hostname: 'u.example.com',
        pathPrefix: '/',
        stripPrefix: false,
        plain: false,
      },
    ],
  })
  using one = udpClient(port)
  using two = udpClient(port)
  using three = udpClient(port)
  await one.ask('1')
  await two.ask('2')
  let answered = false
  three.socket.on('message', () => (answered = true))
  three.send('3')
  await one.ask('again')
  assert.equal(answered, false)
  assert.deepEqual(await at.front.open(signal()), { a: 2 })
})

test('a port that is taken is said, and served when it is free', async () => {
  await using origin = await udpBackend((it) => `x ${it}`)
  const taken = createSocket('udp4').bind(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address()
  const lines: string[] = []
  await using at = await stage({
    limits: { bindAgainMs: 50 },
    log: jsonLog('warn', (line) => lines.push(line)),
  })
  assert.deepEqual(await at.front.missing(signal()), [])
  await at.apply({
    routes: [
      {
        carry: 'datagram',
        port,
        origins: [origin.as('a')],
        id: 'udp',
        hostname: 'u.example.com',
        pathPrefix: '/',
        stripPrefix: false,
        plain: false,
      },
    ],
  })
  const [sentence] = await until('it is said', async () => {
    const missing = await at.front.missing(signal())
    return missing.length > 0 && missing
  })
  assert.equal(sentence, `the edge cannot listen on UDP 127.0.0.1:${port}: another program has that port`)
  await new Promise<void>((resolve) => taken.close(resolve))
  using client = udpClient(port)
  assert.equal(await client.ask('1'), 'x 1')
  assert.deepEqual(await at.front.missing(signal()), [])
  assert.equal(lines.filter((it) => it.includes('cannot listen')).length, 1)
})
