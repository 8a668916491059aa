import type { Socket } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { FrontLimits } from './limits.ts'
import { clientOf, type Gate, type Listener, listenTcp } from './listener.ts'
import type { Origins } from './origins.ts'
import { splice } from './splice.ts'
import type { FrontTable } from './table.ts'
import type { Traffic } from './traffic.ts'

export type Balancers = {
  /** Listens on the ports of this table and no others; what is under way goes on. */
  keep(table: FrontTable): void
  /** A sentence for each port that cannot be listened on. */
  lacks(): readonly string[]
  close(): Promise<void>
}

/** Listens for the TCP connections of load balancers, at the one address by which VPCs reach the edge. */
export function createBalancers(options: {
  readonly address: string
  readonly table: () => FrontTable
  readonly traffic: Traffic
  readonly origins: Origins
  readonly gate: Gate
  readonly limits: FrontLimits
  readonly clock: Clock
  readonly log: Log
}): Balancers {
  const { address, table, traffic, origins, limits } = options
  const ports = new Map<number, Listener>()
  const closing = new Set<Promise<void>>()

  const onConnection = (port: number, client: Socket): void => {
    const served = table().balancers.get(port)
    // Refused at once, as by a port that nobody listens on.
    if (!served) return void client.resetAndDestroy()
    const visit = traffic.begin(served, { client: clientOf(client), hostname: served.route.hostname })
    void origins.reach(served.route.id, visit).then((reached) => {
      if (reached && !client.destroyed)
        return splice({ client, origin: reached.socket, visit, idleMsMax: limits.idleMsMax })
      visit.end({ fault: reached ? 'the client left' : 'no target is healthy' })
      reached?.socket.destroy()
      client.resetAndDestroy()
    })
  }

  return {
    keep(current) {
      for (const port of current.balancers.keys())
        if (!ports.has(port))
          ports.set(
            port,
            listenTcp({
              ...options,
              listen: { address, port },
              onConnection: (socket) => onConnection(port, socket),
            }),
          )
      for (const [port, listener] of ports) {
        if (current.balancers.has(port)) continue
        ports.delete(port)
        const closed = listener.close()
        closing.add(closed)
        void closed.then(() => closing.delete(closed))
      }
    },
    lacks: () => [...ports.values()].flatMap((it) => it.lacks() ?? []),
    async close() {
      await Promise.all([...[...ports.values()].map((it) => it.close()), ...closing])
    },
  }
}
