import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { simulatedClock, systemClock } from '#lib/clock.ts'
import { isCloudError } from '#lib/errors.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { createKeyring } from '#engine/secrets.ts'
import { cloudflareApi } from './api.ts'
import { ACCOUNT, cloudflare, TOKEN } from './cloudflare.testing.ts'
import { openConnector } from './connector.ts'
import { cloudflareRecords } from './records.ts'
import { cloudflareTunnels } from './tunnels.ts'

const access = { accountId: ACCOUNT, token: TOKEN }
const signal = new AbortController().signal
const nowhere = async (): Promise<readonly string[]> => await Promise.reject(new Error('no such server'))

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
  const records = cloudflareRecords(cloudflareApi(it.base), systemClock, nowhere)
  const name = '_acme-challenge.app.cloud.example'
  for (const value of ['one', 'two', 'one']) await records.put({ token: TOKEN }, name, value, signal)
  assert.equal(it.records.length, 2)
  for (let times = 0; times < 2; times++) await records.remove({ token: TOKEN }, name, 'one', signal)
  assert.deepEqual(
    it.records.map((one) => one['content']),
    ['"two"'],
  )
})

test('a record that was put is waited for at the name servers of its zone that answer, and not for ever', async () => {
  await using it = await cloudflare()
  it.nameServers.push('quick.example', 'slow.example', 'mute.example')
  const clock = simulatedClock()
  const asked = new Map<string, number>()
  let slowUntil = 3
  const records = cloudflareRecords(cloudflareApi(it.base), clock, async (server, record) => {
    const times = (asked.get(server) ?? 0) + 1
    asked.set(server, times)
    if (server === 'mute.example') return await nowhere()
    return server === 'quick.example' || times > slowUntil ? it.texts(record) : []
  })
  const put = async (value: string): Promise<number> => {
    const [since, done] = [clock.now(), records.put({ token: TOKEN }, 'app.cloud.example', value, signal)]
    const over = new AbortController()
    void done.finally(() => over.abort())
    while (!over.signal.aborted) {
      await sleep(1)
      if (clock.nextMs() !== undefined) await clock.advance(1000)
    }
    await done
    return clock.now() - since
  }
  assert.equal(await put('one'), 3000)
  assert.deepEqual(Object.fromEntries(asked), {
    'quick.example': 1,
    'slow.example': 4,
    'mute.example': 1,
  })
  slowUntil = Infinity
  assert.equal(await put('two'), 30_000)
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

test('asked for by several at once the connector runs once, and ends when it is to', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-connector-'))
  const it = await openConnector({
    program: await program(folder, `echo $$ >> ${folder}/begun; exec sleep 20`),
    path: '/usr/bin:/bin',
    file: join(folder, 'connector'),
    seal: createKeyring(Buffer.alloc(32, 7)),
    clock: systemClock,
    log: silentLog,
  })
  const begun = async (): Promise<number[]> => {
    const text = await readFile(join(folder, 'begun'), 'utf8').catch(() => '')
    return text.split('\n').filter(Boolean).map(Number)
  }
  try {
    const asked = [1, 2, 3].map(async () => await it.apply({ token: 't' }, signal))
    assert.deepEqual(
      (await Promise.allSettled(asked)).map((one) => one.status),
      ['fulfilled', 'fulfilled', 'fulfilled'],
    )
    await until('it began', async () => (await begun()).length > 0)
    await it.apply(undefined, signal)
    const [pid = 0, ...others] = await begun()
    assert.deepEqual(others, [])
    assert.throws(() => process.kill(pid, 0))
  } finally {
    await it.close()
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
