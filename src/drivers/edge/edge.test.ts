import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { isCloudError } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { exampleZone, testEdge } from '#cloud/edge/edge.conformance.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import { simulatedConnector } from '#drivers/simulated/authority.ts'
import { simulatedEdge } from '#drivers/simulated/edge.ts'
import { simulatedFront } from '#drivers/simulated/front.ts'
import { remoteEdge } from './client.ts'
import { localEdge } from './local.ts'
import { PROTOCOL, PROTOCOL_HEADER } from './protocol.ts'
import { serveEdge } from './server.ts'
import { openTable } from './table.ts'

const log = silentLog
const front = simulatedFront()
const root = await mkdtemp(join(tmpdir(), 'arcus-edge-'))
after(async () => await rm(root, { recursive: true, force: true }))

let folders = 0
const folder = async (): Promise<string> => {
  const path = join(root, String(folders++))
  await mkdir(path)
  return path
}
const signal = (): AbortSignal => AbortSignal.timeout(10_000)

const openLocal = async (directory: string): Promise<EdgeDriver & { close(): Promise<void> }> =>
  await localEdge({ directory, listen: { address: '127.0.0.1', port: 0 }, clock: systemClock, log })

async function openRemote(): Promise<EdgeDriver & { close(): Promise<void>; socket: string }> {
  const directory = await folder()
  const socket = join(directory, 'edge.sock')
  const edge = await openLocal(join(directory, 'zones'))
  const server = await serveEdge({ connector: simulatedConnector(), edge, front, socket, log })
  const remote = remoteEdge({ socket, log })
  const close = async (): Promise<void> => {
    await remote.close()
    await server.close()
    await edge.close()
  }
  return { ...remote, socket, close }
}

// oxlint-disable-next-line typescript/require-await -- the suite opens edges that take time, too
testEdge('simulated', async () => simulatedEdge())
testEdge('local', async () => await openLocal(await folder()))
testEdge('remote', openRemote)

test('a table is served again after a restart, with callers at the zone that came last', async () => {
  const directory = await folder()
  const table = await openTable({ directory, log })
  await table.apply(exampleZone({ vpc: 'vpc-b', callers: ['127.0.1.1', '127.0.1.2'] }))
  await table.apply(exampleZone({ vpc: 'vpc-a', callers: ['127.0.1.1'] }))
  await table.apply(exampleZone({ vpc: 'vpc-c' }))
  await table.remove('vpc-c')
  const again = await openTable({ directory, log })
  for (const it of [table, again]) {
    // Where it came last, of those that name it still.
    assert.equal(it.zoneOf('127.0.1.1')?.zone.vpc, 'vpc-a')
    assert.equal(it.zoneOf('127.0.1.2')?.zone.vpc, 'vpc-b')
    assert.equal(it.zoneOf('127.0.1.3'), undefined)
    assert.equal(it.list().length, 2)
  }
  assert.equal((await stat(join(directory, 'vpc-a.json'))).mode & 0o777, 0o600)
  // The zone an address left may lose it only for itself.
  await again.apply(exampleZone({ vpc: 'vpc-b', generation: 2, callers: ['127.0.1.2'] }))
  assert.equal(again.zoneOf('127.0.1.1')?.zone.vpc, 'vpc-a')
})

test('a file that cannot be read is left out, and the others are served', async () => {
  const directory = await folder()
  const table = await openTable({ directory, log })
  await table.apply(exampleZone())
  await writeFile(join(directory, 'vpc-x.json'), '{"version":1,"order":1,"zo')
  await writeFile(join(directory, 'vpc-y.json'), '{"version":99,"order":1,"zone":{}}')
  assert.deepEqual((await openTable({ directory, log })).list(), [{ vpc: 'vpc-a', generation: 1 }])
})

test('what cannot be kept on disk is not served either', async () => {
  const directory = await folder()
  const table = await openTable({ directory, log })
  await mkdir(join(directory, 'vpc-a.json')) // nothing can be renamed over a folder
  await assert.rejects(table.apply(exampleZone()), { code: 'unavailable' })
  assert.deepEqual(table.list(), [])
})

test('refusals cross the socket whole', async () => {
  const edge = await openRemote()
  try {
    await assert.rejects(edge.apply(exampleZone({ callers: ['nobody'] }), signal()), (error: unknown) => {
      return isCloudError(error, 'invalid') && error.details.field === 'callers'
    })
    assert.equal((await stat(edge.socket)).mode & 0o777, 0o600)
  } finally {
    await edge.close()
  }
  await assert.rejects(edge.list(signal()), (error: unknown) => {
    return isCloudError(error, 'unavailable') && error.message.includes(edge.socket)
  })
})

test('the client finds an edge that was restarted', async () => {
  const directory = await folder()
  const socket = join(directory, 'edge.sock')
  const edge = await openLocal(join(directory, 'zones'))
  const remote = remoteEdge({ socket, log })
  const first = await serveEdge({ connector: simulatedConnector(), edge, front, socket, log })
  await remote.apply(exampleZone(), signal())
  await assert.rejects(serveEdge({ connector: simulatedConnector(), edge, front, socket, log }), {
    code: 'conflict',
  })
  await first.close()
  await assert.rejects(remote.list(signal()), { code: 'unavailable' })
  const second = await serveEdge({ connector: simulatedConnector(), edge, front, socket, log })
  assert.equal((await remote.list(signal())).length, 1)
  await remote.close()
  await second.close()
  await edge.close()
})

test('a cloud too far apart is refused, one version apart is served', async () => {
  const edge = await openRemote()
  const ask = (version: string, path = '/zones'): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const headers = { [PROTOCOL_HEADER]: version }
      const sent = request({ socketPath: edge.socket, path, headers, agent: false }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
      sent.once('error', reject)
      sent.end()
    })
  try {
    assert.equal(await ask(String(PROTOCOL + 1)), 200)
    assert.equal(await ask(String(PROTOCOL + 2)), 409)
    assert.equal(await ask('soon'), 409)
    assert.equal(await ask('', '/'), 200)
    assert.equal(await ask(String(PROTOCOL), '/zones/a/b'), 409)
    assert.equal(await ask(String(PROTOCOL), '/constructor'), 409)
    assert.equal(await ask(String(PROTOCOL), '/front/accesses?limit=0'), 409)
  } finally {
    await edge.close()
  }
})

test(
  'a socket that cannot be given to its owner is refused',
  { skip: process.getuid?.() === 0 && 'as root it can' },
  async () => {
    const directory = await folder()
    await chmod(directory, 0o700)
    const edge = await openLocal(join(directory, 'zones'))
    const owner = { uid: 1, gid: 1 }
    await assert.rejects(
      serveEdge({ connector: simulatedConnector(), edge, front, socket: join(directory, 's'), owner, log }),
      {
        code: 'forbidden',
      },
    )
    await edge.close()
  },
)
