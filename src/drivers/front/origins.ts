import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { buildConnector, Pool } from 'undici'
import type { Clock } from '#lib/clock.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { createHealth, type Health, placeOf } from './balance.ts'
import type { FrontLimits } from './limits.ts'
import type { FrontTable, ServedRoute } from './table.ts'
import type { Visit } from './traffic.ts'

/** Connections to origins: kept ones for requests, one of its own for everything else. */
export type Origins = {
  readonly health: Health
  /** Kept connections to an origin of a route. */
  pool(served: ServedRoute, origin: Origin): Pool
  /**
   * A connection of its own to the first origin of a route that can be had, where the visit then is; TLS when the route
   * says so. Undefined when none can be had.
   */
  reach(routeId: string, visit: Visit): Promise<Reached | undefined>
  /** Lets go of the origins that are not in the table; what is under way ends by itself. */
  keep(table: FrontTable): void
  close(): Promise<void>
}
export type Reached = { readonly socket: Socket; readonly origin: Origin }

/** The name in an origin's TLS handshake: the route's, since its certificate is not checked anyway. */
const serverNameOf = ({ route }: ServedRoute): string => route.hostname.replace(/^\*\./, '')

const keyOf = (served: ServedRoute, origin: Origin): string =>
  `${origin.id} ${placeOf(origin)}${served.route.carry === 'https' ? ` ${serverNameOf(served)}` : ''}`

export function createOrigins(options: {
  readonly table: () => FrontTable
  readonly clock: Clock
  readonly limits: FrontLimits
}): Origins {
  const { table, clock, limits } = options
  const health = createHealth(clock, limits)
  const pools = new Map<string, Pool>()
  // Asked for each request: by the object in the table rather than by a string made anew.
  let ready = new WeakMap<Origin, Pool>()
  const closing = new Set<Promise<void>>()
  const stop = new AbortController()

  const connector = (served: ServedRoute, place: string): buildConnector.connector => {
    const connect = buildConnector({
      timeout: limits.originConnectMsMax,
      allowH2: false,
      rejectUnauthorized: false,
      servername: serverNameOf(served),
      keepAlive: true,
      keepAliveInitialDelay: limits.probeMs,
    })
    return (to, callback) => {
      const late = setTimeout(() => health.slow(place), limits.originSuspectMs)
      connect({ ...to, servername: serverNameOf(served) }, (...result) => {
        clearTimeout(late)
        callback(...result)
      })
    }
  }
  const open = (served: ServedRoute, origin: Origin): Pool => {
    const place = placeOf(origin)
    return new Pool(`${served.route.carry === 'https' ? 'https' : 'http'}://${place}`, {
      connections: limits.originConnectionsMax,
      pipelining: 1,
      connect: connector(served, place),
      headersTimeout: limits.answerMsMax,
      bodyTimeout: limits.idleMsMax,
      keepAliveTimeout: limits.originKeepAliveMsMax,
      keepAliveMaxTimeout: limits.originKeepAliveMsMax,
      maxHeaderSize: limits.headerBytesMax * 4,
    })
  }

  const connectOnce = async (served: ServedRoute, origin: Origin): Promise<Socket | undefined> => {
    const place = placeOf(origin)
    const tcp = connectTcp({
      host: origin.address,
      port: origin.port,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: limits.probeMs,
    })
    const isTls = served.route.carry === 'https'
    const socket = isTls
      ? connectTls({ socket: tcp, servername: serverNameOf(served), rejectUnauthorized: false })
      : tcp
    const late = setTimeout(() => health.slow(place), limits.originSuspectMs)
    const tooLate = setTimeout(
      () => tcp.destroy(new Error('no connection in time')),
      limits.originConnectMsMax,
    )
    tcp.on('error', () => {})
    try {
      return await new Promise<Socket | undefined>((resolve) => {
        socket.once(isTls ? 'secureConnect' : 'connect', () => resolve(socket))
        socket.once('error', () => resolve(undefined))
        socket.once('close', () => resolve(undefined))
      })
    } finally {
      clearTimeout(late)
      clearTimeout(tooLate)
    }
  }

  return {
    health,
    pool(served, origin) {
      const found = ready.get(origin)
      if (found) return found
      const key = keyOf(served, origin)
      const pool = pools.get(key) ?? open(served, origin)
      pools.set(key, pool)
      ready.set(origin, pool)
      return pool
    },
    async reach(routeId, visit) {
      const tried = new Set<string>()
      const until = clock.now() + limits.originWaitMsMax
      do {
        const served = table().routes.get(routeId)
        const origin = served?.turns.next(served.route.origins, health, tried)
        if (!served?.route.origins.length) return undefined
        if (!origin) {
          tried.clear()
          await clock.sleep(limits.tryAgainMs, stop.signal).catch(() => {})
          continue
        }
        tried.add(origin.id)
        visit.goTo(origin)
        const socket = await connectOnce(served, origin)
        if (socket) {
          health.fine(placeOf(origin))
          return { socket, origin }
        }
        health.failed(placeOf(origin))
        visit.goTo(undefined)
      } while (clock.now() < until && !stop.signal.aborted)
      return undefined
    },
    keep(current) {
      ready = new WeakMap()
      const keys = new Set<string>()
      const places = new Set<string>()
      for (const served of current.routes.values()) {
        for (const origin of served.route.origins) {
          keys.add(keyOf(served, origin))
          places.add(placeOf(origin))
        }
      }
      health.keep(places)
      for (const [key, pool] of pools) {
        if (keys.has(key)) continue
        pools.delete(key)
        const closed = pool.close().catch(() => {})
        closing.add(closed)
        void closed.then(() => closing.delete(closed))
      }
    },
    async close() {
      stop.abort()
      await Promise.all([...pools.values()].map((it) => it.destroy().catch(() => {})))
    },
  }
}
