import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { ComputeDriver, ContainerEvent, ContainerWish } from '#cloud/compute/compute.driver.ts'
import { systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { createIds } from '#lib/ids.ts'
import { type Log, silentLog } from '#lib/log.ts'
import { simulatedCompute } from '#drivers/simulated/compute.ts'
import { simulatedNetwork } from '#drivers/simulated/network.ts'
import { type RemoteDrivers, remoteDrivers } from './client.ts'
import { PROTOCOL } from './protocol.ts'
import { serveDrivers } from './server.ts'

const never = new AbortController().signal
const ids = createIds(systemClock)
const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
const wish = (): ContainerWish => ({
  id: ids.next(),
  tenant: ids.next(),
  workload: ids.next(),
  vpc: ids.next(),
  subnet: ids.next(),
  attempt: 1,
  name: 'web',
  image: 'web:1',
  env: {},
  hostname: 'web-0',
  cpuMillicores: 100,
  memoryMib: 64,
  pidsMax: 100,
  capabilities: [],
  mounts: [],
  healing: true,
  stopGraceSeconds: 0,
  dns: { search: [], ndots: 1 },
})

describe('drivers over a socket', () => {
  let folder: string
  let served: { close(): Promise<void> }
  let compute: ComputeDriver
  const clients: RemoteDrivers[] = []
  const failures: string[] = []
  const log: Log = { ...silentLog, error: (message) => void failures.push(message), with: () => log }
  const serve = () =>
    serveDrivers({
      network: simulatedNetwork(),
      compute,
      socket: join(folder, 'agent.sock'),
      owner,
      epochs: join(folder, 'epoch'),
      log,
    })
  const connect = (epoch: number): RemoteDrivers => {
    const client = remoteDrivers({ socket: join(folder, 'agent.sock'), epoch, log: silentLog })
    clients.push(client)
    return client
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arcus-remote-'))
    compute = simulatedCompute(systemClock)
    served = await serve()
  })
  after(async () => {
    for (const client of clients) await client.close()
    await served.close()
    await rm(folder, { recursive: true })
  })

  test('verbs and their results cross, undefined too', async () => {
    const { compute: remote, network } = connect(1)
    const it = wish()
    await remote.apply(it, never)
    assert.deepEqual(await remote.observe(it.id, never), await compute.observe(it.id, never))
    assert.equal(await remote.observe(ids.next(), never), undefined)
    assert.deepEqual(await remote.list(never), await compute.list(never))
    assert.equal(await network.observe(ids.next(), never), undefined)
    assert.deepEqual(await network.list(never), [])
  })

  test('a refusal crosses with code, words and rule', async () => {
    const { compute: remote } = connect(1)
    const it = { ...wish(), attempt: 2 }
    await remote.apply(it, never)
    const older = remote.apply({ ...it, attempt: 1 }, never)
    await assert.rejects(older, (error) => {
      assert.ok(error instanceof CloudError)
      assert.deepEqual([error.code, error.details], ['conflict', { rule: 'lost_race' }])
      assert.match(error.message, /attempt 1/)
      return true
    })
    await assert.rejects(remote.observe('../x', never), { code: 'invalid' })
  })

  test('what is no refusal stays in the log of the agent', async () => {
    const before = compute
    const secret = 'password=hunter2'
    await served.close()
    compute = { ...before, list: () => Promise.reject(new Error(secret)) }
    served = await serve()
    await assert.rejects(connect(1).compute.list(never), (error: Error) => !error.message.includes(secret))
    assert.deepEqual(failures.splice(0), ['verb failed'])
    await served.close()
    compute = before
    served = await serve()
  })

  test('a cloud that was overtaken changes nothing, also after a restart of the agent', async () => {
    const [old, young] = [connect(7), connect(8)]
    const it = wish()
    await old.compute.apply(it, never)
    await young.compute.list(never)
    await old.compute.apply(it, never)
    await young.compute.apply(it, never)
    await served.close()
    served = await serve()
    const late = old.compute.remove(it.id, never)
    await assert.rejects(late, { code: 'conflict', details: { rule: 'lost_race' } })
    assert.equal((await old.compute.observe(it.id, never))?.wanted, true)
  })

  test('an agent that is away is named, and found again', async () => {
    const { compute: remote } = connect(8)
    await remote.list(never)
    await served.close()
    const message = new RegExp(join(folder, 'agent.sock'))
    await assert.rejects(remote.list(never), { code: 'unavailable', message })
    await assert.rejects(remote.exec(ids.next(), { command: ['x'], tty: false }, never), {
      code: 'unavailable',
      message,
    })
    served = await serve()
    await remote.list(never)
  })

  test('events come as they happen and break off with the agent', async () => {
    const { compute: remote } = connect(8)
    const it = wish()
    const events = remote.events(never)[Symbol.asyncIterator]()
    const first = events.next()
    await remote.list(never)
    await remote.apply(it, never)
    assert.equal(((await first).value as ContainerEvent).id, it.id)
    const broken = assert.rejects(events.next(), { code: 'unavailable' })
    await served.close()
    await broken
    served = await serve()
  })

  test('a stream that its reader leaves ends at the agent too', async () => {
    const before = compute
    const ended = Promise.withResolvers<void>()
    await served.close()
    compute = {
      ...before,
      async *logs(_, __, signal) {
        try {
          for (let n = 0; !signal.aborted; n++) {
            yield { cursor: String(n), at: n, stream: 'stdout', line: 'x'.repeat(1000) }
          }
        } finally {
          ended.resolve()
        }
      },
    }
    served = await serve()
    let lines = 0
    for await (const _ of connect(8).compute.logs(ids.next(), {}, never)) if (++lines === 5000) break
    await ended.promise
    await served.close()
    compute = before
    served = await serve()
  })

  test('a command: its streams, its code, its refusal', async () => {
    const { compute: remote } = connect(8)
    const it = wish()
    const how = { command: ['echo', 'hi'], tty: false }
    await assert.rejects(remote.exec(it.id, how, never), { code: 'conflict' })
    await remote.apply(it, never)
    while (!(await remote.observe(it.id, never))?.ready) await systemClock.sleep(10, never)
    const session = await remote.exec(it.id, how, never)
    let text = ''
    for await (const chunk of session.stream) text += String(chunk)
    assert.equal(text, 'simulated echo hi\n')
    assert.equal(await session.exitCode, 0)
  })

  const raw = (path: string, headers: Record<string, string>, body = '[]', method = 'POST') =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const ask = request({ socketPath: join(folder, 'agent.sock'), method, path, headers }, (it) => {
        let text = ''
        it.on('data', (chunk) => (text += String(chunk)))
        it.on('end', () => resolve({ status: it.statusCode ?? 0, text }))
      })
      ask.on('error', reject)
      ask.end(body)
    })

  test('only known verbs in known versions are served', async () => {
    const ours = { 'arcus-protocol': String(PROTOCOL) }
    assert.match(
      (await raw('/compute/list', { 'arcus-protocol': String(PROTOCOL + 2) })).text,
      /upgrade the older one/,
    )
    assert.match((await raw('/compute/list', {})).text, /unsupported/)
    assert.match((await raw('/compute/list', { 'arcus-protocol': String(PROTOCOL + 1) })).text, /result/)
    for (const path of ['/compute/constructor', '/constructor', '/compute/run', '/../x', '/compute/list/x']) {
      assert.match((await raw(path, ours)).text, /unsupported/, path)
    }
    assert.match((await raw('/compute/list', ours, '[]', 'PUT')).text, /unsupported/)
    assert.match((await raw('/compute/observe', ours, '{"broken')).text, /invalid/)
    assert.match((await raw('/compute/observe', ours, '{}')).text, /invalid/)
    assert.match((await raw('/compute/purge', ours)).text, /epoch/)
    assert.match((await raw('/compute/purge', { ...ours, 'arcus-epoch': '9.5' })).text, /epoch/)
    assert.deepEqual(failures, [])
  })

  test('the socket is for its owner alone', async () => {
    const { mode, uid } = await stat(join(folder, 'agent.sock'))
    assert.equal(mode & 0o777, 0o600)
    assert.equal(uid, owner.uid)
    const file = join(folder, 'no-socket')
    await writeFile(file, '')
    await chmod(file, 0o600)
    const how = { network: simulatedNetwork(), compute, socket: file, owner, epochs: join(folder, 'e2'), log }
    await assert.rejects(serveDrivers(how), { code: 'conflict' })
  })
})
