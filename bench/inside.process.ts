import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { cycle } from '#apis/cycle/server.ts'
import { createHttp } from '#apis/http.ts'
import { testCloud } from '#cloud/cloud.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { openSockets } from '#drivers/inside/sockets.ts'
import type { AnyKind } from '#engine/resource.ts'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'

// The workloads' own API over simulated machines: two replicas with a token and a socket each, and more sockets on demand.

const [, , scratch = ''] = process.argv
const it = await testCloud()
const { caller } = await it.tenant('bench')
const make = async (kind: string, spec: object) =>
  await it.cloud.act(
    caller,
    'bench',
    async (verbs) => await verbs.create(it.cloud.kinds.get(kind) as AnyKind, { name: 'only', spec }),
  )
const vpc = await make('vpc', {})
const subnet = await make('subnet', { vpc: vpc.id, cidr: '10.9.0.0/24' })
await make('workload', { vpc: vpc.id, subnet: subnet.id, image: 'nginx', replicas: 2 })
await it.settle()

const ids = createIds(systemClock)
const http = await createHttp({ cloud: it.cloud, dialects: [cycle], log: silentLog, clock: systemClock, ids })
const folder = join(scratch, 'sockets')
await mkdir(folder)
const sockets = openSockets({
  folder,
  make: async (id) => void (await mkdir(join(folder, id), { recursive: true })),
  clock: systemClock,
  log: silentLog,
})
await sockets.serve(http.accept)
const { signal } = new AbortController()
const members = []
for (const one of await it.cloud.all(caller, replica)) {
  await sockets.ensure(one.id, signal)
  members.push({ socketPath: join(folder, one.id, 'api.sock'), token: it.cloud.inside.token(one) })
}

const memoryBytes = (): number => {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** So many sockets more that nobody connects to; gives what this process grew by. */
async function listen({ count, isBare }: { count: number; isBare: boolean }): Promise<number> {
  const before = memoryBytes()
  for (let at = 0; at < count; at++) {
    const id = ids.next()
    if (!isBare) {
      await sockets.ensure(id, signal)
      continue
    }
    const server = createServer(() => {})
    server.listen(join(scratch, id.slice(-12)))
    await once(server, 'listening')
  }
  return memoryBytes() - before
}

process.on('message', (message: { count: number; isBare: boolean }) => {
  void listen(message).then((bytes) => process.send?.({ bytes }))
})
process.on('SIGTERM', () => {
  void Promise.resolve(it[Symbol.asyncDispose]()).finally(() => process.exit(0))
})
console.log(JSON.stringify({ ready: true, members }))
