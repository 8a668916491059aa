import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { duplexPair, Readable } from 'node:stream'
import { test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import { exampleRoute } from '#cloud/edge/front.conformance.ts'
import { createHealth, createTurns } from './balance.ts'
import { createWatch } from './body.ts'
import type { Exchange } from './exchange.ts'
import { forward, type Forwarding } from './forward.ts'
import { HOST, until } from './front.testing.ts'
import { FRONT_LIMITS as LIMITS } from './limits.ts'
import { createPool } from './pool.ts'
import { createTraffic } from './traffic.ts'

/** A client that takes no more of an answer until it takes all of it. */
function slowClient() {
  const seen = { text: '', isEnded: false, isAborted: false }
  let close: (whole: boolean) => void = () => {}
  const exchange: Exchange = {
    method: 'GET',
    target: '/',
    host: HOST,
    headers: [],
    client: '127.0.0.1',
    encrypted: true,
    serverName: HOST,
    hasBody: false,
    body: Readable.from([]),
    answer: {
      hasBegun: () => seen.text !== '',
      last() {},
      begin() {},
      flush() {},
      write(chunk) {
        seen.text += chunk.toString()
        return false
      },
      end(chunk = '') {
        seen.text += chunk.toString()
        seen.isEnded = true
      },
      // An answer that was ended is not told of any more.
      onDrain() {},
      onClose: (then) => (close = then),
      abort: () => (seen.isAborted = true),
    },
  }
  return { exchange, seen, takeAll: () => close(true) }
}

/** A route to one origin over one kept connection, of which the test has the other end. */
function oneOrigin() {
  const clock = simulatedClock()
  const [socket, origin] = duplexPair()
  const pool = createPool({
    connectionsMax: 1,
    limits: LIMITS,
    now: () => clock.now(),
    dial: async () => await Promise.resolve(socket as Socket),
  })
  const watch = createWatch(clock, LIMITS)
  const traffic = createTraffic(clock, LIMITS)
  const route = exampleRoute({ origins: [{ id: 'a', address: '127.0.0.1', port: 80, weight: 1 }] })
  const served = { route, tenant: 'tenant-a', turns: createTurns() }
  const by = {
    table: () => ({ routes: new Map([[route.id, served]]) }),
    origins: { health: createHealth(clock, LIMITS), pool: () => pool },
    watch,
    clock,
    limits: LIMITS,
  } as unknown as Forwarding
  return {
    clock,
    origin,
    carry: (it: Exchange) =>
      forward(it, served, traffic.begin(served, { client: it.client, hostname: HOST }), by),
    async [Symbol.asyncDispose]() {
      pool.destroy()
      await watch.close()
    },
  }
}

test('an answer whose end is read slowly holds up neither its client nor the next request', async () => {
  await using at = oneOrigin()
  const body = 'x'.repeat(20_000)
  at.origin.on('data', () =>
    at.origin.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
  )
  const clients = [slowClient(), slowClient()]
  for (const { exchange, seen, takeAll } of clients) {
    at.carry(exchange)
    await until('the answer is over', () => seen.isEnded)
    assert.equal(seen.text, body)
    takeAll()
  }
  await at.clock.advance(LIMITS.stalledMsMax * 2)
  for (const { seen } of clients) assert.equal(seen.isAborted, false)
})

test('a client that does not take the end of its answer is left', async () => {
  await using at = oneOrigin()
  at.origin.on('data', () =>
    at.origin.write('HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n'.padEnd(20_042, 'x')),
  )
  const { exchange, seen } = slowClient()
  at.carry(exchange)
  await until('the answer is over', () => seen.isEnded)
  await at.clock.advance(LIMITS.stalledMsMax * 2)
  assert.equal(seen.isAborted, true)
})
