import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#lib/clock.ts'
import { isCloudError } from '#lib/errors.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { createKeyring } from '#engine/secrets.ts'
import { cloudflareApi } from './api.ts'
import { openConnector } from './connector.ts'
import { cloudflareRecords } from './records.ts'
import { cloudflareTunnels } from './tunnels.ts'

const TOKEN = 'cf-secret-token'
const ACCOUNT = 'acc-1'
const access = { accountId: ACCOUNT, token: TOKEN }
const signal = new AbortController().signal

type Row = Record<string, unknown> & { id: string }
type Cloudflare = AsyncDisposable & {
  readonly base: string
  readonly tunnels: Row[]
  readonly records: Row[]
  readonly configs: Map<string, unknown>
  /** The next answers in place of the right ones. */
  readonly faults: { status: number; headers?: Record<string, string>; body?: unknown }[]
}

/** A server that speaks the part of Cloudflare's documented API that is used. */
async function cloudflare(): Promise<Cloudflare> {
  const [tunnels, records]: [Row[], Row[]] = [[], []]
  const configs = new Map<string, unknown>()
  const faults: Cloudflare['faults'] = []
  let count = 0
  const answer = (method: string, url: URL, body: Record<string, unknown>): [number, unknown] => {
    const { pathname: path, searchParams: query } = url
    const cfd = `/accounts/${ACCOUNT}/cfd_tunnel`
    if (path === '/zones')
      return [200, query.get('name') === 'cloud.example' ? [{ id: 'zone-1', name: 'cloud.example' }] : []]
    if (path === cfd && method === 'GET')
      return [200, tunnels.filter((it) => String(it['name']).startsWith(query.get('name') ?? ''))]
    if (path === cfd && method === 'POST') {
      const made = { ...body, id: `tunnel-${++count}` }
      tunnels.push(made)
      return [200, made]
    }
    const [, id = '', what = ''] = /^\/accounts\/acc-1\/cfd_tunnel\/([^/]+)\/(\w+)$/.exec(path) ?? []
    if (what === 'token') return [200, `token-of-${id}`]
    if (what === 'configurations' && method === 'PUT') {
      configs.set(id, body['config'])
      return [200, {}]
    }
    if (path === '/zones/zone-1/dns_records' && method === 'GET') {
      const type = query.get('type')
      return [200, records.filter((it) => it['name'] === query.get('name') && (!type || it['type'] === type))]
    }
    if (path === '/zones/zone-1/dns_records' && method === 'POST') {
      const made = { ...body, id: `record-${++count}` }
      records.push(made)
      return [200, made]
    }
    const at = records.findIndex((it) => path === `/zones/zone-1/dns_records/${it.id}`)
    if (at >= 0 && method === 'DELETE') return [200, records.splice(at, 1)[0]]
    return [404, undefined]
  }
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
      const text = Buffer.concat(chunks).toString()
      const send = (status: number, body: unknown, headers: Record<string, string> = {}): void =>
        void response
          .writeHead(status, { 'content-type': 'application/json', ...headers })
          .end(JSON.stringify(body))
      const fault = faults.shift()
      if (fault)
        return send(
          fault.status,
          fault.body ?? { success: false, errors: [{ code: 10_000, message: 'on purpose' }] },
          fault.headers,
        )
      if (request.headers.authorization !== `Bearer ${TOKEN}`)
        return send(403, { success: false, errors: [{ code: 9109, message: 'Invalid access token' }] })
      const url = new URL(request.url ?? '/', 'http://cloudflare')
      const [status, result] = answer(request.method ?? '', url, text ? JSON.parse(text) : {})
      send(status, { success: status === 200, errors: [], result })
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tunnels,
    records,
    configs,
    faults,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

test('one tunnel of an installation is made once and found again', async () => {
  await using it = await cloudflare()
  const driver = cloudflareTunnels(cloudflareApi(it.base))
  it.tunnels.push({ id: 'other', name: 'arcus-1-of-others' })
  const made = await driver.tunnel(access, 'arcus-1', signal)
  assert.deepEqual(made, { id: 'tunnel-1', connectorToken: 'token-of-tunnel-1' })
  assert.deepEqual(await driver.tunnel(access, 'arcus-1', signal), made)
  assert.equal(it.tunnels.length, 2)
})

test('the ingress is replaced whole and ends with a refusal', async () => {
  await using it = await cloudflare()
  const driver = cloudflareTunnels(cloudflareApi(it.base))
  await driver.configure(
    access,
    'tunnel-1',
    [
      { hostname: 'a.cloud.example', service: 'https://127.0.0.1:443', serverName: 'a.cloud.example' },
      { hostname: 'b.cloud.example', service: 'tcp://100.113.0.9:5432' },
    ],
    signal,
  )
  assert.deepEqual(it.configs.get('tunnel-1'), {
    ingress: [
      {
        hostname: 'a.cloud.example',
        service: 'https://127.0.0.1:443',
        originRequest: {
          noTLSVerify: true,
          originServerName: 'a.cloud.example',
          httpHostHeader: 'a.cloud.example',
        },
      },
      { hostname: 'b.cloud.example', service: 'tcp://100.113.0.9:5432', originRequest: {} },
      { service: 'http_status:404' },
    ],
  })
})

test('a hostname is pointed at the tunnel, and only our own record is taken away', async () => {
  await using it = await cloudflare()
  const driver = cloudflareTunnels(cloudflareApi(it.base))
  for (let times = 0; times < 2; times++) await driver.point(access, 't', 'app.cloud.example', signal)
  assert.deepEqual(
    it.records.map((one) => [one['type'], one['content'], one['proxied']]),
    [['CNAME', 't.cfargotunnel.com', true]],
  )
  it.records.push({ id: 'theirs', type: 'A', name: 'www.cloud.example', content: '192.0.2.1' })
  await assert.rejects(driver.point(access, 't', 'www.cloud.example', signal), (error: unknown) =>
    isCloudError(error, 'already_exists'),
  )
  await driver.unpoint(access, 't', 'www.cloud.example', signal)
  for (let times = 0; times < 2; times++) await driver.unpoint(access, 't', 'app.cloud.example', signal)
  assert.deepEqual(
    it.records.map((one) => one.id),
    ['theirs'],
  )
  await assert.rejects(driver.point(access, 't', 'app.elsewhere.example', signal), (error: unknown) =>
    isCloudError(error, 'not_found'),
  )
})

test('TXT records are put and removed by value', async () => {
  await using it = await cloudflare()
  const records = cloudflareRecords(cloudflareApi(it.base))
  const name = '_acme-challenge.app.cloud.example'
  for (const value of ['one', 'two', 'one']) await records.put({ token: TOKEN }, name, value, signal)
  assert.equal(it.records.length, 2)
  for (let times = 0; times < 2; times++) await records.remove({ token: TOKEN }, name, 'one', signal)
  assert.deepEqual(
    it.records.map((one) => one['content']),
    ['"two"'],
  )
})

test("refusals carry Cloudflare's words and never the token", async () => {
  await using it = await cloudflare()
  const api = cloudflareApi(it.base)
  const ask = async (token = TOKEN): Promise<unknown> => await api.call(token, 'GET', '/zones', signal)
  for (const [fault, code, words] of [
    [{ status: 429, headers: { 'retry-after': '7' } }, 'rate_limited', /on purpose \(10000\)/],
    [{ status: 500 }, 'unavailable', /on purpose/],
    [{ status: 400 }, 'invalid', /on purpose/],
    [{ status: 502, body: 'no envelope' }, 'unavailable', /status 502/],
  ] as const) {
    it.faults.push(fault)
    await assert.rejects(
      ask(),
      (error: unknown) =>
        isCloudError(error, code) &&
        words.test(error.message) &&
        (code !== 'rate_limited' || error.details.retryAfterSeconds === 7),
    )
  }
  await assert.rejects(
    ask('wrong-secret'),
    (error: unknown) =>
      isCloudError(error, 'forbidden') &&
      /Invalid access token/.test(error.message) &&
      !JSON.stringify(error).includes('wrong-secret'),
  )
  await assert.rejects(
    cloudflareApi('http://127.0.0.1:1').call(TOKEN, 'GET', '/zones', signal),
    (error: unknown) => isCloudError(error, 'unavailable'),
  )
})

/** A program that behaves like the connector as far as it is looked at. */
async function program(folder: string, script: string): Promise<string> {
  const file = join(folder, 'cloudflared')
  await writeFile(file, `#!/bin/sh\n${script}\n`)
  await chmod(file, 0o755)
  return file
}

const until = async (what: string, is: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 200; tries++) {
    if (await is()) return
    await sleep(25)
  }
  assert.fail(`never: ${what}`)
}

test('the connector runs with its token in the environment alone, again after a restart, until it is ended', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-connector-'))
  const lines: string[] = []
  const seal = createKeyring(Buffer.alloc(32, 7))
  const at = {
    program: await program(
      folder,
      `echo "$@ $TUNNEL_TOKEN" > ${folder}/said; echo 'INF Registered tunnel connection connIndex=0' >&2; exec sleep 60`,
    ),
    path: '/usr/bin:/bin',
    file: join(folder, 'connector'),
    seal,
    clock: systemClock,
    log: jsonLog('debug', (line) => lines.push(line)),
  }
  try {
    let it = await openConnector(at)
    assert.deepEqual(await it.observe(signal), { state: 'absent' })
    await it.apply({ token: 'a-token' }, signal)
    await until('running', async () => (await it.observe(signal)).state === 'running')
    assert.equal((await readFile(join(folder, 'said'), 'utf8')).trim(), 'tunnel --no-autoupdate run a-token')
    assert.equal((await stat(at.file)).mode & 0o777, 0o600)
    assert.ok(!(await readFile(at.file, 'utf8')).includes('a-token'))
    await it.close()
    it = await openConnector(at)
    await until('running again', async () => (await it.observe(signal)).state === 'running')
    await it.apply(undefined, signal)
    assert.deepEqual(await it.observe(signal), { state: 'absent' })
    await it.close()
    it = await openConnector(at)
    assert.deepEqual(await it.observe(signal), { state: 'absent' })
    await it.close()
    assert.ok(!lines.join('').includes('a-token'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

test('what keeps the connector from running is told, without the token', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-connector-'))
  const shared = {
    path: '/usr/bin:/bin',
    file: join(folder, 'connector'),
    seal: createKeyring(Buffer.alloc(32, 7)),
    clock: systemClock,
    log: silentLog,
  }
  try {
    const missing = await openConnector({ ...shared, program: 'no-such-connector' })
    await missing.apply({ token: 't' }, signal)
    await until('told that it is missing', async () =>
      /is not on this machine/.test((await missing.observe(signal)).message ?? ''),
    )
    await missing.apply(undefined, signal)
    await missing.close()
    const script = 'echo "bad token $TUNNEL_TOKEN" >&2; exit 3'
    const broken = await openConnector({ ...shared, program: await program(folder, script) })
    await broken.apply({ token: 'secret-t' }, signal)
    await until(
      'told why it ended',
      async () => (await broken.observe(signal)).message?.endsWith('ended with 3: bad token …') ?? false,
    )
    await broken.close()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
