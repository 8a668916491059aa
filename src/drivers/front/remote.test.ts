import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { exampleFront, exampleRoute, testFront } from '#cloud/edge/front.conformance.ts'
import type { FrontDriver } from '#cloud/edge/front.driver.ts'
import { remoteEdge } from '#drivers/edge/client.ts'
import { serveEdge } from '#drivers/edge/server.ts'
import { simulatedConnector } from '#drivers/simulated/authority.ts'
import { simulatedEdge } from '#drivers/simulated/edge.ts'
import { CERTIFIED, signal, stage } from './front.testing.ts'

async function openRemote(): Promise<FrontDriver & { close(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-front-socket-'))
  const socket = join(directory, 'edge.sock')
  const at = await stage()
  await at.front.removeCertificate('certificate-a', signal())
  const server = await serveEdge({
    connector: simulatedConnector(),
    edge: simulatedEdge(),
    front: at.front,
    socket,
    log: silentLog,
  })
  const remote = remoteEdge({ socket, log: silentLog })
  return {
    ...remote.front,
    async close() {
      await remote.close()
      await server.close()
      await at[Symbol.asyncDispose]()
      await rm(directory, { recursive: true })
    },
  }
}

testFront('remote', openRemote)

test('what cannot be served is refused with the field that is wrong', async () => {
  const front = await openRemote()
  const { issued } = CERTIFIED.certificate
  try {
    for (const [field, route] of [
      ['routes.0.hostname', { hostname: 'UPPER.example.com' }],
      ['routes.0.pathPrefix', { pathPrefix: '/a/' }],
      ['port', { port: 53 }],
      ['port', { carry: 'datagram' }],
      ['pathPrefix', { carry: 'stream', pathPrefix: '/a' }],
      ['origins', { origins: [{ id: 'a', address: 'localhost', port: 1, weight: 1 }] }],
    ] as const) {
      const routes = [exampleRoute(route)]
      await assert.rejects(
        front.apply(exampleFront({ routes }), signal()),
        (error: unknown) => isCloudError(error, 'invalid') && error.details.field === field,
        field,
      )
    }
    const broken = {
      ...CERTIFIED.certificate,
      issued: { names: [], chain: issued?.chain ?? '', key: 'none' },
    }
    await assert.rejects(front.applyCertificate(broken, signal()), { code: 'invalid' })
    assert.deepEqual(await front.list(signal()), { fronts: [], certificates: [] })
  } finally {
    await front.close()
  }
})
