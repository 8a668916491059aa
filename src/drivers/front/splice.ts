import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FrontLimits } from './limits.ts'
import { clientOf } from './listener.ts'
import type { Origins } from './origins.ts'
import type { ServedRoute } from './table.ts'
import type { Traffic, Visit } from './traffic.ts'

/**
 * Joins two connections: what one sends the other gets, at the pace of the slower, and each side may end its own half.
 * Ends the visit when both are over. Silence of both for `idleMsMax` ends them.
 */
export function splice(options: {
  readonly client: Duplex
  readonly origin: Socket
  readonly visit: Visit
  readonly idleMsMax: number
  /** Status for the log, when it began as a request. */
  readonly status?: number
}): void {
  const { client, origin, visit, idleMsMax, status } = options
  const socket = client as Socket
  let fault: string | undefined
  const over = (why?: string): void => {
    fault ??= why
    client.destroy()
    origin.destroy()
    visit.end({ ...(status === undefined ? {} : { status }), fault })
  }
  const idle = (): void => {
    if (socket.timeout && origin.timeout) over('nothing was sent for too long')
  }
  client.on('data', (chunk: Buffer) => void (visit.receivedBytes += chunk.length))
  origin.on('data', (chunk: Buffer) => void (visit.sentBytes += chunk.length))
  client.on('error', () => over('the connection to the client broke'))
  origin.on('error', () => over('the connection to the origin broke'))
  // A half that was ended leaves the other open; one that was closed takes both with it.
  client.on('close', () => over(client.readableEnded ? undefined : 'the client left'))
  origin.on('close', () => {
    if (client.writableFinished || client.destroyed) over()
    else client.end(() => over())
  })
  socket.setTimeout(idleMsMax, idle)
  origin.setTimeout(idleMsMax, idle)
  client.pipe(origin)
  origin.pipe(client)
}

/** Carries a connection to an origin of a route; one for which there is none is reset, and `none` says why in the log. */
export function carry(options: {
  readonly served: ServedRoute
  readonly client: Socket
  readonly hostname: string
  readonly none: string
  readonly origins: Pick<Origins, 'reach'>
  readonly traffic: Pick<Traffic, 'begin'>
  readonly limits: Pick<FrontLimits, 'idleMsMax'>
}): void {
  const { served, client, hostname, none, origins, traffic, limits } = options
  const visit = traffic.begin(served, { client: clientOf(client), hostname })
  void origins.reach(served.route.id, visit).then((reached) => {
    if (reached && !client.destroyed)
      return splice({ client, origin: reached.socket, visit, idleMsMax: limits.idleMsMax })
    visit.end({ fault: reached ? 'the client left' : none })
    reached?.socket.destroy()
    client.resetAndDestroy()
  })
}
