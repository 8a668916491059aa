import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { closedTo, guardedClient, guardedOpener, guardedUrl } from './guarded.ts'

async function served(listener: RequestListener): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

const LIMITS = { timeoutMs: 2000, bytesMax: 1000 }

test('the addresses of machines on the internet are open, those of this machine and its networks are not', () => {
  const isClosed = closedTo([])
  for (const it of ['1.1.1.1', '8.8.8.8', '2606:4700::1111']) assert.equal(isClosed(it), false, it)
  const closed = [
    '127.0.0.1',
    '0.0.0.0',
    '10.1.2.3',
    '172.31.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.112.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::1',
    '::',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:169.254.169.254',
    '64:ff9b::a00:1',
    '2002:7f00:1::',
    'fe80::1',
    'fd00::1',
    'ff02::1',
    'not an address',
  ]
  for (const it of closed) assert.equal(isClosed(it), true, it)
})

test('an IPv4 address within an IPv6 one is as closed as by itself', () => {
  const isClosed = closedTo([])
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      assert.equal(isClosed(`::ffff:${address}`), isClosed(address))
    }),
  )
})

test('what the operator opens is asked, with headers and body', async () => {
  await using it = await served((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => response.end(`${request.method} ${request.headers['x-key'] as string} ${body}`))
  })
  const ask = guardedClient(['127.0.0.0/8'])
  const how = { ...LIMITS, method: 'POST' as const, headers: { 'x-key': 'one' }, body: 'two' }
  assert.deepEqual(await ask({ ...how, url: `http://127.0.0.1:${it.port}/` }), {
    status: 200,
    body: 'POST one two',
  })
})

test('this machine is not asked, by number, by name or by redirect', async () => {
  let asked = 0
  await using it = await served((_, response) => {
    asked++
    response.end()
  })
  const named = (_host: string, _options: object, callback: (...args: unknown[]) => void): void =>
    callback(null, [{ address: '127.0.0.1', family: 4 }])
  const ask = guardedClient([], named as never)
  const urls = [
    `127.0.0.1:${it.port}`,
    `[::ffff:127.0.0.1]:${it.port}`,
    `0x7f000001:${it.port}`,
    `a.test:${it.port}`,
  ]
  for (const url of urls)
    await assert.rejects(ask({ ...LIMITS, url: `http://${url}/` }), { code: 'invalid' }, url)
  assert.equal(asked, 0)

  await using hop = await served((_, response) => {
    response.writeHead(302, { location: `http://10.0.0.1:${it.port}/` }).end()
  })
  const open = guardedClient(['127.0.0.0/8'])
  await assert.rejects(open({ ...LIMITS, url: `http://127.0.0.1:${hop.port}/` }), { code: 'invalid' })
  assert.equal(asked, 0)
})

test('another host that it is redirected to gets no headers', async () => {
  const seen: (string | undefined)[] = []
  await using other = await served((request, response) => {
    seen.push(request.headers.authorization)
    response.end('there')
  })
  await using it = await served((request, response) => {
    seen.push(request.headers.authorization)
    const to = request.url === '/' ? '/again' : `http://127.0.0.1:${other.port}/`
    response.writeHead(307, { location: to }).end()
  })
  const ask = guardedClient(['127.0.0.0/8'])
  const url = `http://127.0.0.1:${it.port}/`
  const answer = await ask({ ...LIMITS, url, headers: { authorization: 'secret' } })
  assert.equal(answer.body, 'there')
  assert.deepEqual(seen, ['secret', 'secret', undefined])
})

test('an answer that is too long, too late, a circle or none is told as such', async () => {
  await using it = await served((request, response) => {
    if (request.url === '/long') response.end('x'.repeat(2000))
    else if (request.url === '/circle') response.writeHead(302, { location: '/circle' }).end()
  })
  const ask = guardedClient(['127.0.0.0/8'])
  const at = async (path: string, port = it.port) =>
    await ask({ timeoutMs: 300, bytesMax: 1000, url: `http://127.0.0.1:${port}${path}` })
  await assert.rejects(at('/long'), { code: 'unavailable', message: /more than 1000 bytes/ })
  await assert.rejects(at('/circle'), { code: 'unavailable', message: /redirects more than 5/ })
  await assert.rejects(at('/silent'), { code: 'unavailable', message: /within 300 ms/ })
  await assert.rejects(at('/', 1), { code: 'unavailable', message: /cannot be reached/ })
  await assert.rejects(ask({ ...LIMITS, url: 'file:///etc/passwd' }), { code: 'invalid' })
  await assert.rejects(ask({ ...LIMITS, url: 'http://name:password@example.org/' }), { code: 'invalid' })
})

test('what names this machine by a name of its own is as closed as its address', () => {
  for (const host of ['localhost', 'a.localhost', 'LOCALHOST.', '127.1', '[::1]'])
    assert.throws(() => guardedUrl(`http://${host}:1/`, closedTo([])), { code: 'invalid' }, host)
  assert.equal(guardedUrl('http://localhost:1/a', closedTo(['127.0.0.0/8'])).port, '1')
  assert.equal(guardedUrl('/b', closedTo([]), new URL('https://a.test/a')).href, 'https://a.test/b')
})

test('an answer is handed over with its head, and read as it comes', async () => {
  await using it = await served((_, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream' })
    response.write('first')
  })
  const stop = new AbortController()
  const answer = await guardedOpener(['127.0.0.0/8'])({ url: `http://127.0.0.1:${it.port}/` }, stop.signal)
  assert.equal(answer.headers['content-type'], 'application/octet-stream')
  const chunks = answer[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  assert.equal(String((await chunks.next()).value), 'first')
  stop.abort()
  await assert.rejects(chunks.next())
})
