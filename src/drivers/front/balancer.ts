import type { Socket } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { FrontLimits } from './limits.ts'
import { type Gate, keepPorts, listenTcp } from './listener.ts'
import type { Origins } from './origins.ts'
import { carry } from './splice.ts'
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
  const { address, table } = options
  const onConnection = (port: number, client: Socket): void => {
    const served = table().balancers.get(port)
    // Refused at once, as by a port that nobody listens on.
    if (served)
      carry({ ...options, served, client, hostname: served.route.hostname, none: 'no target is healthy' })
    else client.resetAndDestroy()
  }
  const ports = keepPorts((port) =>
    listenTcp({
      ...options,
      listen: { address, port },
      onConnection: (socket) => onConnection(port, socket),
    }),
  )
  return { ...ports, keep: (current) => ports.keep(current.balancers) }
}
