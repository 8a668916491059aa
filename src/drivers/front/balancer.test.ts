import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { test } from 'node:test'
import { exampleRoute } from '#cloud/edge/front.conformance.ts'
import type { FrontRoute } from '#cloud/edge/front.driver.ts'
import { signal, stage, tcpBackend, textOf, until } from './front.testing.ts'

const CHECK_MS = 20
/** Whom no origin can be had for waits for longer than a test does, unless it is known that there is none. */
const LIMITS = { checkEveryMs: CHECK_MS, bindAgainMs: 20, tryAgainMs: 10, originWaitMsMax: 60_000 }

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const named = async (name: string) =>
  await tcpBackend((socket) => {
    socket.write(name)
    socket.on('end', () => socket.end())
    socket.resume()
  })

/** A balancer with these differences on a free port, and what connects to it. */
async function balanced() {
  const at = await stage({ limits: LIMITS })
  const port = await freePort()
  const route = (more: Partial<FrontRoute>): FrontRoute =>
    exampleRoute({ id: 'lb', hostname: 'balancer', carry: 'tcp', port, ...more })
  const dial = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.on('error', () => {})
    return socket
  }
  /** Who answered; `nobody` when the connection was refused or cut, `waits` when nothing came of it. */
  const who = async (): Promise<string> => {
    try {
      const socket = await dial()
      const [data] = (await once(socket, 'data', { signal: signal() })) as [Buffer]
      socket.destroy()
      return data.toString()
    } catch (error) {
      return (error as Error).name === 'AbortError' ? 'waits' : 'nobody'
    }
  }
  const shares = async (times: number): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {}
    for (let it = 0; it < times; it++) {
      const name = await who()
      counts[name] = (counts[name] ?? 0) + 1
    }
    return counts
  }
  return {
    ...at,
    dial,
    who,
    shares,
    async serve(more: Partial<FrontRoute>) {
      await at.apply({ routes: [route(more)] })
      await until('the port', async () => await connects(port))
    },
    health: async () => (await at.front.health(signal()))['lb'],
    [Symbol.asyncDispose]: at[Symbol.asyncDispose],
  }
}

const connects = async (port: number): Promise<boolean> => {
  const socket = connect(port, '127.0.0.1')
  const up = await once(socket, 'connect').then(
    () => true,
    () => false,
  )
  socket.on('error', () => {}).destroy()
  return up
}

test('connections are shared by weight, and each side may end its half', async () => {
  await using a = await named('a')
  await using b = await named('b')
  await using at = await balanced()
  await at.serve({ origins: [a.as('a', 3), b.as('b', 1)] })
  await at.who()
  assert.deepEqual(await at.shares(16), { a: 12, b: 4 })
  const socket = await at.dial()
  socket.end()
  assert.match(await textOf(socket as AsyncIterable<Buffer>), /^[ab]$/)
  await until('nothing is open', async () => !Object.keys(await at.front.open(signal())).length)
})

test('the least busy gets the next one', async () => {
  await using a = await named('a')
  await using b = await named('b')
  await using at = await balanced()
  await at.serve({ least: true, origins: [a.as('a', 1), b.as('b', 1)] })
  await until('nothing is open', async () => !Object.keys(await at.front.open(signal())).length)
  const held = await at.dial()
  const [first] = (await once(held, 'data')) as [Buffer]
  const other = first.toString() === 'a' ? 'b' : 'a'
  for (let it = 0; it < 4; it++) {
    assert.equal(await at.who(), other)
    await until('it has ended', async () => Object.keys(await at.front.open(signal())).length === 1)
  }
  held.destroy()
})

test('one that cannot be connected to gets none until it can, and none is refused at once', async () => {
  await using a = await named('a')
  await using at = await balanced()
  const port = await freePort()
  const late = { id: 'late', address: '127.0.0.1', port, weight: 1 }
  await at.serve({ origins: [a.as('a'), late] })
  await until('both were looked at', async () => Object.keys((await at.health()) ?? {}).length === 2)
  assert.deepEqual(await at.health(), { a: true, late: false })
  assert.deepEqual(await at.shares(6), { a: 6 })
  const server = createServer((socket) => void socket.on('error', () => {}).end('late')).listen(
    port,
    '127.0.0.1',
  )
  try {
    await until('it is seen', async () => (await at.health())?.['late'])
    await until('it gets its share', async () => (await at.who()) === 'late')
  } finally {
    server.close()
  }
  await a.kill()
  await until('both are down', async () => Object.values((await at.health()) ?? {}).every((it) => !it))
  assert.equal(await at.who(), 'nobody')
})

test('one that is taken away gets no more, and the port ends with its route', async () => {
  await using a = await named('a')
  await using b = await named('b')
  await using at = await balanced()
  await at.serve({ origins: [a.as('a'), b.as('b')] })
  const held = await at.dial()
  const [first] = (await once(held, 'data')) as [Buffer]
  await at.serve({ origins: first.toString() === 'a' ? [b.as('b')] : [a.as('a')] })
  assert.deepEqual(await at.shares(4), { [first.toString() === 'a' ? 'b' : 'a']: 4 })
  held.end()
  await once(held, 'end')
  await at.apply({ routes: [] })
  await until('it is closed', async () => (await at.who()) === 'nobody')
  assert.deepEqual(await at.front.health(signal()), {})
})
