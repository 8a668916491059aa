import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import { type ComputeBench, computeConformance } from '#cloud/compute/compute.conformance.ts'
import type { ComputeDriver } from '#cloud/compute/compute.driver.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { remoteDrivers } from '#drivers/remote/client.ts'
import { serveDrivers } from '#drivers/remote/server.ts'
import { type LocalHost, localHost } from '../../src/local-host.ts'
import { endBy, furnish, makeRoom, never, scratch } from './bench.ts'
import { type Daemon, openDaemon, until } from './daemon.ts'

/** The conformance suite on Docker, directly and through the socket of the host agent. */
export function conformance(): void {
  describe('one suite on both ends of the socket', { concurrency: 1 }, () => {
    const stack = new AsyncDisposableStack()
    let daemon: Daemon
    let host: LocalHost
    let remote: ReturnType<typeof remoteDrivers>

    before(async () => {
      daemon = stack.use(await openDaemon('atc', 96))
      missingImage = `127.0.0.1:${await emptyRegistry()}/nobody/has-this:1`
      const { path } = stack.use(await scratch())
      host = await localHost({
        directory: path,
        prefix: 'atc',
        docker: daemon.socket,
        clock: systemClock,
        log: silentLog,
      })
      await furnish(host.network, [room])
      stack.defer(async () => {
        await host.compute.purge(never)
        await host.network.purge(never)
        await host.close()
      })
      const socket = join(path, 'agent.sock')
      const served = await serveDrivers({
        ...host,
        socket,
        owner: { uid: 0, gid: 0 },
        epochs: join(path, 'epoch'),
        log: silentLog,
      })
      stack.defer(() => served.close())
      remote = remoteDrivers({ socket, epoch: 1, log: silentLog })
      stack.defer(() => remote.close())
    })
    after(() => stack.disposeAsync())

    /** A registry that has nothing; gives its port. */
    async function emptyRegistry(): Promise<number> {
      const server = createServer((request, response) => {
        const known = request.url === '/v2/'
        response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' })
        response.end(known ? '{}' : '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      stack.defer(() => void server.close())
      return (server.address() as AddressInfo).port
    }

    const room = makeRoom(96, 1)
    let missingImage = ''
    const bench = (driver: ComputeDriver): ComputeBench => ({
      driver,
      wish: room.wish,
      missingImage,
      exit: (id, code) => endBy(driver, id, code),
      until,
      [Symbol.asyncDispose]: () => driver.purge(never),
    })

    computeConformance('docker', () => Promise.resolve(bench(host.compute)))
    computeConformance("docker through the host agent's socket", () => Promise.resolve(bench(remote.compute)))
  })
}
