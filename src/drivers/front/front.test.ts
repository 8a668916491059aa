import assert from 'node:assert/strict'
import { readdir, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { jsonLog } from '#lib/log.ts'
import { exampleCertificate, exampleFront, exampleRoute, testFront } from '#cloud/edge/front.conformance.ts'
import type { RouteTraffic } from '#cloud/edge/front.driver.ts'
import { ask, backend, CERTIFIED, HOST, open, secure, signal, stage, textOf, until } from './front.testing.ts'

const echo = async () =>
  await backend((request, response) => {
    void textOf(request).then((body) => {
      const { method, url, headers } = request
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ method, url, headers, body }))
    })
  })
const named = async (name: string) => await backend((_, response) => void response.end(name))
type Seen = {
  readonly method: string
  readonly url: string
  readonly body: string
  readonly headers: Record<string, string>
}

testFront('local', async () => {
  const at = await stage()
  await at.front.removeCertificate('certificate-a', signal())
  return { ...at.front, close: async () => await at[Symbol.asyncDispose]() }
})

test('a request goes to the origin and back, with what the edge alone can say', async () => {
  await using origin = await echo()
  await using at = await stage()
  await at.route({ origins: [origin.as('replica-a')] })
  const got = await ask(at, {
    path: '/a?b=c',
    method: 'POST',
    body: 'hello',
    headers: {
      'x-own': '1',
      'x-forwarded-for': '203.0.113.9',
      forwarded: 'for=203.0.113.9',
      connection: 'close, x-hop',
      'x-hop': 'dropped',
      te: 'trailers',
    },
  })
  assert.equal(got.status, 200)
  assert.equal(got.headers['content-type'], 'application/json')
  const seen = JSON.parse(got.text) as Seen
  assert.deepEqual([seen.method, seen.url, seen.body], ['POST', '/a?b=c', 'hello'])
  const { host, connection, 'content-length': length, ...headers } = seen.headers
  assert.deepEqual([host, length], [HOST, '5'])
  assert.ok(connection)
  assert.deepEqual(headers, {
    'x-own': '1',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': HOST,
  })
})

test('the longest path that fits wins, and its prefix is taken off when asked', async () => {
  await using root = await echo()
  await using api = await echo()
  await using at = await stage()
  await at.route(
    { id: 'root', origins: [root.as('root')] },
    { id: 'api', pathPrefix: '/api', stripPrefix: true, origins: [api.as('api')] },
    { id: 'deep', pathPrefix: '/api/v2', origins: [api.as('api')] },
  )
  const urlOf = async (path: string): Promise<string> => {
    const { text } = await ask(at, { path })
    const { url, headers } = JSON.parse(text) as Seen
    return `${url} ${headers['x-forwarded-prefix'] ?? '-'}`
  }
  assert.equal(await urlOf('/api'), '/ /api')
  assert.equal(await urlOf('/api?x=1'), '/?x=1 /api')
  assert.equal(await urlOf('/api/users'), '/users /api')
  assert.equal(await urlOf('/api/v2/users'), '/api/v2/users -')
  assert.equal(await urlOf('/apis'), '/apis -')
  // What the origin would resolve after the edge chose by it.
  for (const path of ['/api/../admin', '/api/%2e%2E/admin', '/x/./y'])
    assert.equal((await ask(at, { path })).status, 400, path)
  const traffic = await at.front.traffic(signal())
  const requests = (id: string): number | undefined => traffic.find((it) => it.route === id)?.requests
  assert.deepEqual([requests('root'), requests('api'), requests('deep')], [1, 3, 1])
})

test('a route without ready origins answers 503, and a name that nobody serves is refused', async () => {
  await using at = await stage()
  await at.route({})
  const none = await ask(at)
  assert.deepEqual([none.status, none.headers['retry-after']], [503, '2'])
  const unknown = await ask(at, { plain: true, hostname: 'nobody.example.com' })
  assert.equal(unknown.status, 404)
  assert.match(unknown.text, /nobody\.example\.com/)
})

test('plain requests are sent on to HTTPS unless the route serves them', async () => {
  await using origin = await echo()
  await using at = await stage()
  await at.route(
    { id: 'secure', origins: [origin.as('a')] },
    { id: 'plain', hostname: 'other.example.com', plain: true, origins: [origin.as('a')] },
  )
  const moved = await ask(at, { plain: true, path: '/a?b', method: 'POST', body: 'x' })
  assert.deepEqual([moved.status, moved.headers.location], [308, `https://${HOST}:${at.https}/a?b`])
  const served = await ask(at, { plain: true, hostname: 'other.example.com' })
  assert.equal((JSON.parse(served.text) as Seen).headers['x-forwarded-proto'], 'http')
})

test('an authority reads its proof before every route', async () => {
  await using origin = await echo()
  await using at = await stage()
  await at.route({ plain: true, pathPrefix: '/', origins: [origin.as('a')] })
  const path = '/.well-known/acme-challenge/token-1'
  assert.notEqual((await ask(at, { plain: true, path })).text, 'token-1.thumbprint\n')
  await at.front.applyCertificate(exampleCertificate(), signal())
  const proof = await ask(at, { plain: true, path })
  assert.deepEqual([proof.status, proof.text.trim()], [200, 'token-1.thumbprint'])
  const elsewhere = await ask(at, { plain: true, path, hostname: 'other.example.com' })
  assert.equal(elsewhere.status, 404)
})

test('a name without its own certificate is refused, and never answered with another', async () => {
  await using at = await stage()
  await at.route(
    {},
    { id: 'bare', hostname: 'bare.example.com', certificate: 'certificate-none' },
    { id: 'wrong', hostname: 'wrong.example.com', certificate: 'certificate-a' },
    { id: 'below', hostname: '*.example.org' },
  )
  for (const name of [HOST, 'one.example.org']) (await secure(at, name)).destroy()
  for (const name of [
    'unknown.example.net',
    'bare.example.com',
    'wrong.example.com',
    'two.labels.example.org',
  ])
    await assert.rejects(secure(at, name), /unrecognized name/, name)
})

test('a request for another name than the handshake was for is refused', async () => {
  await using origin = await echo()
  await using at = await stage()
  await at.route(
    { origins: [origin.as('a')] },
    { id: 'other', hostname: 'other.example.com', origins: [origin.as('a')] },
  )
  const got = await ask(at, { headers: { host: 'other.example.com' } })
  assert.equal(got.status, 421)
  assert.equal((await ask(at, { headers: { host: `${HOST.toUpperCase()}.:443` } })).status, 200)
})

test('shares of requests follow the weights, and nothing goes to a weight of 0', async () => {
  await using a = await named('a')
  await using b = await named('b')
  await using at = await stage()
  await at.route({ origins: [a.as('a', 3), b.as('b', 1), { ...b.as('c', 0), port: 1 }] })
  const counts: Record<string, number> = {}
  for (let it = 0; it < 16; it++) {
    const { text } = await ask(at)
    counts[text] = (counts[text] ?? 0) + 1
  }
  assert.deepEqual(counts, { a: 12, b: 4 })
})

test('the table and its keys are served again after a restart, the keys sealed on disk', async () => {
  await using origin = await named('a')
  await using at = await stage()
  await at.route({ origins: [origin.as('a')] })
  await at.front.close()
  {
    await using again = await stage({ directory: at.directory })
    assert.equal((await ask(again)).text, 'a')
    assert.equal((await again.front.list(signal())).certificates.length, 1)
  }
  const { key = '' } = CERTIFIED.certificate.issued ?? {}
  const secret = key.split('\n')[1] ?? 'none'
  for (const folder of ['fronts', 'certificates']) {
    for (const file of await readdir(join(at.directory, folder))) {
      const path = join(at.directory, folder, file)
      assert.equal((await stat(path)).mode & 0o777, 0o600)
      assert.ok(!(await readFile(path, 'utf8')).includes(secret))
    }
  }
})

test('what the disk refuses is served all the same, and told until it is kept', async () => {
  await using one = await named('one')
  await using other = await named('other')
  await using at = await stage()
  await at.route({ origins: [one.as('one')] })
  const folder = join(at.directory, 'fronts')
  await rename(folder, `${folder}.away`)
  await assert.rejects(at.route({ origins: [other.as('other')] }), /cannot keep its table/)
  assert.equal((await ask(at)).text, 'other')
  await rename(`${folder}.away`, folder)
  await at.route({ origins: [one.as('one')] })
  await at.front.close()
  await using again = await stage({ directory: at.directory })
  assert.equal((await ask(again)).text, 'one')
})

test('a hostname stays with the tenant that had it first, over restarts, until it lets go', async () => {
  await using mine = await named('mine')
  await using theirs = await named('theirs')
  const lines: string[] = []
  await using at = await stage({ log: jsonLog('warn', (line) => lines.push(line)) })
  const route = exampleRoute({ certificate: 'certificate-a' })
  const first = exampleFront({ vpc: 'vpc-z', routes: [{ ...route, origins: [mine.as('a')] }] })
  const second = exampleFront({
    vpc: 'vpc-a',
    tenant: 'tenant-b',
    routes: [
      { ...route, id: 'route-b', pathPrefix: '/b', origins: [theirs.as('b')] },
      { ...route, id: 'route-c', hostname: 'other.example.com', origins: [theirs.as('b')] },
    ],
  })
  await at.front.apply(first, signal())
  await at.front.apply(second, signal())
  await at.front.apply({ ...first, generation: 9 }, signal())
  assert.equal((await ask(at, { path: '/b' })).text, 'mine')
  assert.equal((await ask(at, { path: '/b', hostname: 'other.example.com' })).text, 'theirs')
  assert.equal(lines.filter((it) => it.includes('route-b') && it.includes('another tenant')).length, 1)
  await at.front.close()
  await using again = await stage({ directory: at.directory })
  assert.equal((await ask(again, { path: '/b' })).text, 'mine')
  await again.front.remove('vpc-z', signal())
  assert.equal((await ask(again, { path: '/b' })).text, 'theirs')
})

test('an origin is asked by TLS when the route says so', async () => {
  await using plain = await named('inside')
  await using inner = await stage()
  await inner.route({ hostname: 'other.example.com', origins: [plain.as('a')] })
  await using at = await stage()
  const origin = { id: 'edge', address: '127.0.0.1', port: inner.https, weight: 1 }
  // The inner one tells by SNI and Host, which are both the client's.
  await at.route({ hostname: 'other.example.com', carry: 'https', origins: [origin] })
  const got = await ask(at, { hostname: 'other.example.com' })
  assert.deepEqual([got.status, got.text], [200, 'inside'])
})

test('counts and logs what was asked, without queries', async () => {
  await using origin = await backend((request, response) => {
    request.resume()
    response.statusCode = request.url === '/bad' ? 500 : 200
    response.end('12345')
  })
  await using at = await stage()
  await at.route({ origins: [origin.as('replica-a')] })
  await ask(at, {
    path: '/good?token=secret',
    method: 'POST',
    body: 'abc',
    headers: { 'user-agent': 'tester' },
  })
  await ask(at, { path: '/bad' })
  const counted: RouteTraffic = await until('both are counted', async () => {
    const [it] = await at.front.traffic(signal())
    return it?.requests === 2 && it
  })
  const { statuses, receivedBytes, sentBytes, latency, active } = counted
  assert.deepEqual(statuses, { '1': 0, '2': 1, '3': 0, '4': 0, '5': 1 })
  assert.deepEqual([receivedBytes, sentBytes, active], [3, 10, 0])
  assert.equal(
    latency.reduce((sum, it) => sum + it, 0),
    2,
  )
  const { entries, cursor } = await at.front.accesses(undefined, 1, signal())
  assert.equal(entries.length, 1)
  const { at: time, durationMs, cursor: own, ...entry } = entries[0] ?? ({} as never)
  assert.ok(time > 0 && durationMs >= 0 && own === cursor)
  assert.deepEqual(entry, {
    route: 'route-a',
    tenant: 'tenant-a',
    client: '127.0.0.1',
    hostname: HOST,
    method: 'POST',
    path: '/good',
    status: 200,
    receivedBytes: 3,
    sentBytes: 5,
    origin: 'replica-a',
    userAgent: 'tester',
  })
  const rest = await at.front.accesses(cursor, 10, signal())
  assert.deepEqual(
    rest.entries.map((it) => [it.path, it.status]),
    [['/bad', 500]],
  )
  // A reader that lost its cursor gets what it had not asked beyond; that of another run gets all.
  const anew = await at.front.accesses(undefined, 10, signal())
  assert.deepEqual(anew, rest)
  assert.deepEqual((await at.front.accesses('another.7', 10, signal())).entries.length, 2)
})

test('an open request counts for its origin, also after that left the table', async () => {
  let finish: () => void = () => {}
  await using origin = await backend((_, response) => {
    response.write('begin')
    finish = () => void response.end('end')
  })
  await using next = await named('next')
  await using at = await stage()
  await at.route({ origins: [origin.as('old')] })
  const response = await open(at)
  const text = textOf(response)
  await at.route({ origins: [next.as('new')] })
  assert.equal((await ask(at)).text, 'next')
  assert.deepEqual(await at.front.open(signal()), { old: 1 })
  finish()
  assert.equal(await text, 'beginend')
  await until('nothing is open', async () => Object.keys(await at.front.open(signal())).length === 0)
})
