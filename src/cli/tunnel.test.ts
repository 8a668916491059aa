import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  backend,
  type Backend,
  CERTIFIED,
  HOST,
  signal,
  type Stage,
  stage,
  tcpBackend,
  textOf,
  until,
} from '#drivers/front/front.testing.ts'
import { type Ran, shell, type Shell } from './cli.testing.ts'

/** A front door with a tunnel to `onSocket`, and a shell that trusts its certificate. */
async function tunnelled(onSocket: (socket: Socket) => void): Promise<
  AsyncDisposable & {
    readonly at: Stage
    readonly origin: Backend
    readonly user: Shell
    readonly ca: string
    readonly options: readonly string[]
  }
> {
  const origin = await tcpBackend(onSocket)
  const at = await stage()
  await at.route({ carry: 'stream', origins: [origin.as('a')] })
  const user = await shell()
  const ca = join(user.home, 'ca.pem')
  await writeFile(ca, CERTIFIED.ca)
  return {
    at,
    origin,
    user,
    ca,
    options: ['--edge', `127.0.0.1:${at.https}`, '--ca', ca],
    async [Symbol.asyncDispose]() {
      await user[Symbol.asyncDispose]()
      await at[Symbol.asyncDispose]()
      await origin.kill()
    },
  }
}

/** Runs `tunnel connect --listen` while `use` works with its port. */
async function listening(
  it: Awaited<ReturnType<typeof tunnelled>>,
  use: (port: number) => Promise<void>,
): Promise<Ran> {
  const stop = new AbortController()
  const command = ['tunnel', 'connect', HOST, '--listen', '0', ...it.options]
  let port = 0
  const ran = it.user.run(command, {
    signal: stop.signal,
    onErr: (text) => (port ||= Number(/127\.0\.0\.1:(\d+) leads to/.exec(text)?.[1] ?? 0)),
  })
  try {
    await until('it listens', () => port)
    await use(port)
  } finally {
    stop.abort()
  }
  return await ran
}

test('each connection to the local port goes through the tunnel, whole, with both halves', async () => {
  const sizes: number[] = []
  await using it = await tunnelled((socket) => {
    let received = 0
    socket.on('data', (chunk: Buffer) => (received += chunk.length))
    socket.on('end', () => {
      sizes.push(received)
      socket.end(`got ${received}`)
    })
  })
  const ran = await listening(it, async (port) => {
    const answers = await Promise.all(
      [0, 7, 3_000_000].map(async (size) => {
        const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
        if (size) socket.write(randomBytes(size))
        socket.end()
        return await textOf(socket as AsyncIterable<Buffer>)
      }),
    )
    assert.deepEqual(answers, ['got 0', 'got 7', 'got 3000000'])
  })
  assert.equal(ran.code, 0, ran.err)
  assert.deepEqual(
    sizes.toSorted((a, b) => a - b),
    [0, 7, 3_000_000],
  )
})

test('a connection that finds nothing behind the tunnel is closed and said, and the next one works', async () => {
  await using it = await tunnelled((socket) => void socket.end('hello'))
  const ran = await listening(it, async (port) => {
    await it.at.route({ carry: 'stream' })
    const first = connect(port, '127.0.0.1')
    assert.equal(await textOf(first as AsyncIterable<Buffer>).catch(() => ''), '')
    await it.at.route({ carry: 'stream', origins: [it.origin.as('a')] })
    const second = connect(port, '127.0.0.1')
    assert.equal(await textOf(second as AsyncIterable<Buffer>), 'hello')
    second.destroy()
  })
  assert.match(ran.err, /app\.example\.com has a tunnel, but nothing behind it is ready/)
})

test('standard input and output are one connection, as ssh wants it', async () => {
  await using it = await tunnelled((socket) => {
    socket.write('SSH-2.0-banner\r\n')
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.on('end', () => socket.end(`you said ${text}`))
  })
  const command = ['tunnel', 'connect', HOST, '--stdio', ...it.options]
  const ran = await it.user.spawn(command, { input: 'SSH-2.0-client\r\n' })
  assert.deepEqual([ran.code, ran.out, ran.err], [0, 'SSH-2.0-banner\r\nyou said SSH-2.0-client\r\n', ''])
})

test('what is wrong is said with what to do', async () => {
  await using it = await tunnelled((socket) => void socket.end())
  await using page = await backend((_, response) => void response.end('page'))
  await it.at.route(
    { carry: 'stream', origins: [it.origin.as('a')] },
    { id: 'page', hostname: 'other.example.com', origins: [page.as('p')] },
  )
  const edge = ['--edge', `127.0.0.1:${it.at.https}`]
  const trusted = ['--ca', it.ca]
  for (const [args, code, said] of [
    [
      [HOST, '--stdio', ...edge],
      3,
      /cannot trust the certificate of app\.example\.com .*\n.*\/ca\.crt.*--ca FILE/,
    ],
    [['nobody.example.com', '--stdio', ...edge, ...trusted], 1, /serves no nobody\.example\.com/],
    [
      ['other.example.com', '--stdio', ...edge, ...trusted],
      1,
      /other\.example\.com is no tunnel for connections \(it answered 200\)/,
    ],
    [
      [HOST, '--stdio', '--edge', '127.0.0.1:1', ...trusted],
      3,
      /cannot reach the edge at 127\.0\.0\.1:1 \(ECONNREFUSED\)/,
    ],
    [[HOST, ...edge], 2, /either --listen PORT or --stdio/],
    [[HOST, '--listen', '1', '--stdio', ...edge], 2, /either --listen PORT or --stdio/],
    [[HOST, '--listen', '70000', ...edge, ...trusted], 2, /--listen takes/],
    [[HOST, '--listen', String(it.origin.port), ...edge, ...trusted], 1, /cannot listen on 127\.0\.0\.1/],
    [['127.0.0.1', '--stdio', ...edge], 2, /no hostname of a tunnel/],
    [[HOST, '--stdio', '--edge', 'here', ...trusted], 2, /--edge takes ADDRESS:PORT/],
    [[HOST, '--stdio', ...edge, '--ca', join(it.user.home, 'none')], 2, /cannot read .*none/],
  ] as const) {
    const ran = await it.user.run(['tunnel', 'connect', ...args], { signal: signal() })
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`)
    assert.match(ran.err, said)
  }
})

test('a tunnel that breaks ends the local connection', async () => {
  const sockets: Socket[] = []
  await using it = await tunnelled((socket) => void sockets.push(socket))
  const ran = await listening(it, async (port) => {
    const local = connect(port, '127.0.0.1')
    local.on('error', () => {})
    await until('the origin has it', () => sockets[0])
    sockets[0]?.resetAndDestroy()
    await once(local.resume(), 'close', { signal: signal() })
  })
  assert.match(
    ran.err,
    /the connection through app\.example\.com broke \(the connection to the origin broke\)/,
  )
})
