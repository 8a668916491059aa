import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import { serveEdge } from '#drivers/edge/server.ts'
import { serveDrivers } from '#drivers/remote/server.ts'
import { simulatedConnector } from '#drivers/simulated/authority.ts'
import { type SimulatedCompute, simulatedCompute } from '#drivers/simulated/compute.ts'
import { simulatedEdge } from '#drivers/simulated/edge.ts'
import { simulatedFront } from '#drivers/simulated/front.ts'
import { type Fault, simulatedNetwork } from '#drivers/simulated/network.ts'

export type Part = 'agent' | 'edge'

/** A simulated machine that outlives every cloud process: a cloud reaches it by the sockets of its host agent and its edge. */
export type SimulatedWorld = AsyncDisposable & {
  readonly agentSocket: string
  readonly edgeSocket: string
  readonly compute: SimulatedCompute
  readonly network: ReturnType<typeof simulatedNetwork>
  readonly edge: EdgeDriver & ReturnType<typeof simulatedEdge>
  /** Breaks every connection of one part and takes its socket away, as its end would; what is in the world stays. */
  cut(part: Part): Promise<void>
  /** Serves a part again that was cut. */
  serve(part: Part): Promise<void>
}

/** `fault` is called before each verb of a driver: a delay there is one in which a process can die. */
export async function simulatedWorld(folder: string, fault: Fault = () => {}): Promise<SimulatedWorld> {
  await mkdir(folder, { recursive: true })
  const simulated = simulatedCompute(systemClock, fault)
  // The cloud listens in folders that are there, whatever is simulated.
  const compute: SimulatedCompute = {
    ...simulated,
    async prepare(id, signal) {
      await simulated.prepare(id, signal)
      await mkdir(join(folder, 'instances', id), { recursive: true })
    },
  }
  const network = simulatedNetwork(fault)
  const edge = simulatedEdge(fault)
  const front = simulatedFront(fault)
  const agentSocket = join(folder, 'agent.sock')
  const edgeSocket = join(folder, 'edge.sock')
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  const start = {
    agent: () =>
      serveDrivers({
        network,
        compute,
        socket: agentSocket,
        owner,
        epochs: join(folder, 'epoch'),
        log: silentLog,
      }),
    edge: () =>
      serveEdge({ connector: simulatedConnector(), edge, front, socket: edgeSocket, owner, log: silentLog }),
  }
  const served: Partial<Record<Part, { close(): Promise<void> }>> = {}
  const cut = async (part: Part): Promise<void> => {
    const it = served[part]
    delete served[part]
    await it?.close()
  }
  const serve = async (part: Part): Promise<void> => void (served[part] ??= await start[part]())
  await Promise.all([serve('agent'), serve('edge')])
  return {
    agentSocket,
    edgeSocket,
    compute,
    network,
    edge,
    cut,
    serve,
    async [Symbol.asyncDispose]() {
      await Promise.all([cut('agent'), cut('edge')])
    },
  }
}
