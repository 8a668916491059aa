import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { steadyClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { serveEdge } from '#drivers/edge/server.ts'
import { localEdge } from '../src/local-edge.ts'

// The edge as a process of its own behind its socket, and two servers behind it that answer their name: they listen on
// every address of loopback, among which a cloud takes those of simulated replicas.

const [, , directory = '', socket = ''] = process.argv
const listen = { address: '127.0.0.1', port: 0 }
await mkdir(directory, { recursive: true })
const { close, ...served } = await localEdge({
  directory,
  http: listen,
  https: listen,
  clock: steadyClock,
  log: silentLog,
})
await serveEdge({ ...served, socket, log: silentLog })

const startOrigin = async (name: string): Promise<number> => {
  const server = createServer((_, response) => void response.end(name)).listen(0)
  await new Promise((resolve) => server.once('listening', resolve))
  return (server.address() as AddressInfo).port
}
const ports = [await startOrigin('one'), await startOrigin('two')]
while (!served.front.bound().https) await new Promise((resolve) => setTimeout(resolve, 5))
console.log(JSON.stringify({ https: served.front.bound().https?.port, ports }))
process.on('SIGTERM', () => void close().finally(() => process.exit(0)))
