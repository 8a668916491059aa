import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { INSIDE_LIMITS, type InsideLimits, openInside, replicaOf } from './inside.ts'
import { HTTP_LIMITS } from './listener.ts'

type Asked = { request: IncomingMessage; response: ServerResponse; replica: string | undefined }

/** A server with the sockets of two replicas, `a` and `b`; requests are answered when the test says so. */
async function world(t: TestContext, limits: Partial<InsideLimits> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-inside-'))
  const asked: Asked[] = []
  const inside = openInside({
    onRequest: (request, response) =>
      void asked.push({ request, response, replica: replicaOf(request.socket) }),
    onUpgrade: (_, socket) => void socket.destroy(),
    broken: (detail) => ({ error: detail }),
    limits: { ...HTTP_LIMITS, ...INSIDE_LIMITS, ...limits },
    clock: systemClock,
  })
  for (const replica of ['a', 'b']) {
    const server = createServer({ allowHalfOpen: true }, (socket) => inside.accept(socket, replica))
    server.listen(join(folder, replica))
    await once(server, 'listening')
    t.after(() => server.close())
  }
  t.after(async () => {
    for (const { response } of asked) response.end()
    await inside.close()
    await rm(folder, { recursive: true })
  })
  const open = async (replica: string): Promise<Socket> => {
    const socket = connect(join(folder, replica))
    await once(socket, 'connect')
    socket.on('error', () => {})
    t.after(() => socket.destroy())
    return socket
  }
  /** Until so many requests are being answered. */
  const until = async (count: number): Promise<void> => {
    for (let turn = 0; asked.length < count; turn++) {
      assert.ok(turn < 1000, `${asked.length} requests came, not ${count}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  return { asked, inside, open, until }
}

const GET = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'

test('a request is known by the socket that it came by', async (t) => {
  const { asked, open, until } = await world(t)
  for (const replica of ['a', 'b']) (await open(replica)).write(GET)
  await until(2)
  assert.deepEqual(asked.map((it) => String(it.replica)).toSorted(), ['a', 'b'])
})

test('a flood on one socket waits for itself and not the other', async (t) => {
  const { asked, open, until } = await world(t, { answeringMax: 2, waitingMax: 50 })
  const sockets = [await open('a'), await open('a')]
  for (const it of sockets) it.write(GET.repeat(10))
  await until(2)
  const other = await open('b')
  other.write(GET)
  await until(3)
  assert.deepEqual(asked.map((it) => String(it.replica)).toSorted(), ['a', 'a', 'b'])
  // Each that ends lets one of its own begin.
  for (let at = 0; at < 21; at++) {
    await until(Math.min(21, at + 1))
    asked[at]?.response.end('x')
    assert.ok(asked.filter((it) => it.replica === 'a' && !it.response.writableEnded).length <= 2)
  }
})

test('a connection with more requests than may wait is closed', async (t) => {
  const { asked, open, until } = await world(t, { answeringMax: 1, waitingMax: 5 })
  const socket = await open('a')
  socket.resume()
  socket.write(GET.repeat(20))
  await once(socket, 'close')
  assert.ok(asked.length <= 1)
  const next = await open('a')
  next.write(GET)
  await until(asked.length + 1)
})

test('what never became a request is answered in words of the API', async (t) => {
  const { asked, open } = await world(t)
  const socket = await open('a')
  socket.write('nonsense\r\n\r\n')
  const [data] = (await once(socket, 'data')) as [Buffer]
  assert.match(data.toString(), /^HTTP\/1.1 400 [^]*\{"error":"The request is not valid HTTP"\}$/)
  assert.equal(asked.length, 0)
})

test('closing lets a request end and takes no further connection', async (t) => {
  const { asked, inside, open, until } = await world(t)
  const socket = await open('a')
  socket.write(GET)
  await until(1)
  const idle = await open('a')
  const closed = inside.close()
  asked[0]?.response.end('last')
  const [data] = (await once(socket, 'data')) as [Buffer]
  assert.match(data.toString(), /last/)
  await closed
  idle.resume()
  const late = await open('b')
  late.resume()
  await once(late, 'close')
})
