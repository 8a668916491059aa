import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Clock } from '#lib/clock.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { createHealth, type Health, leastBusy, placeOf } from './balance.ts'
import type { Checks } from './checks.ts'
import { lateError } from './connection.ts'
import type { FrontLimits } from './limits.ts'
import { createPool, type Pool } from './pool.ts'
import type { FrontTable, ServedRoute } from './table.ts'
import type { Traffic, Visit } from './traffic.ts'

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
  close(): void
}
export type Reached = { readonly socket: Socket; readonly origin: Origin }

/** The name in an origin's TLS handshake: the route's, since its certificate is not checked anyway. */
const serverNameOf = ({ route }: ServedRoute): string => route.hostname.replace(/^\*\./, '')

const keyOf = (served: ServedRoute, origin: Origin): string =>
  `${origin.id} ${placeOf(origin)}${served.route.carry === 'https' ? ` ${serverNameOf(served)}` : ''}`

export function createOrigins(options: {
  readonly table: () => FrontTable
  readonly checks: Pick<Checks, 'isDown'>
  /** Address of this machine that load balancers connect from; the system's choice when absent. */
  readonly inside?: string | undefined
  readonly traffic: Pick<Traffic, 'held'>
  readonly clock: Clock
  readonly limits: FrontLimits
}): Origins {
  const { table, checks, traffic, clock, limits, inside } = options
  const health = createHealth(clock, limits)
  const pools = new Map<string, Pool>()
  // Asked for each request: by the object in the table rather than by a string made anew.
  let ready = new WeakMap<Origin, Pool>()
  /** Pools of origins that left, until what they carry is over. */
  const leaving = new Set<Pool>()
  const stop = new AbortController()

  /** A new connection to an origin, with TLS when the route says so; `session` shortens its handshake. */
  const dial = async (
    served: ServedRoute,
    { address, port }: Origin,
    how: { allowHalfOpen?: boolean; session?: Buffer | undefined } = {},
  ): Promise<Socket> => {
    const place = placeOf({ address, port })
    const { allowHalfOpen = false, session } = how
    const tcp = connectTcp({
      host: address,
      port,
      ...(inside !== undefined && served.route.carry === 'tcp' ? { localAddress: inside } : {}),
      allowHalfOpen,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: limits.probeMs,
    })
    const isTls = served.route.carry === 'https'
    const socket = isTls
      ? connectTls({
          socket: tcp,
          servername: serverNameOf(served),
          rejectUnauthorized: false,
          ...(session ? { session } : {}),
        })
      : tcp
    const suspect = setTimeout(() => health.slow(place), limits.originSuspectMs)
    const tooLate = setTimeout(
      () => socket.destroy(lateError('no connection in time')),
      limits.originConnectMsMax,
    )
    let why: Error | undefined
    if (isTls) tcp.on('error', (error) => (why = error))
    socket.on('error', (error) => (why ??= error))
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once(isTls ? 'secureConnect' : 'connect', () => resolve())
        socket.once('close', () => reject(why ?? new Error('the origin closed the connection')))
      })
      return socket
    } finally {
      clearTimeout(suspect)
      clearTimeout(tooLate)
    }
  }
  const open = (served: ServedRoute, origin: Origin): Pool => {
    let session: Buffer | undefined
    return createPool({
      connectionsMax: limits.originConnectionsMax,
      limits,
      now: () => clock.now(),
      async dial() {
        const socket = await dial(served, origin, { session })
        socket.on('session', (it: Buffer) => (session = it))
        return socket
      },
    })
  }
  const sweep = setInterval(() => {
    for (const it of pools.values()) it.look()
    for (const it of leaving) {
      it.look()
      if (it.isGone()) leaving.delete(it)
    }
  }, limits.sweepMs).unref()

  /** Those that a new connection may go to. */
  const usable = ({ route }: ServedRoute, tried: ReadonlySet<string>): readonly Origin[] => {
    if (route.carry !== 'tcp') return route.origins
    const up = route.origins.filter((it) => !checks.isDown(it))
    if (!route.least) return up
    const isOut = (it: Origin): boolean => tried.has(it.id) || health.pausedUntil(placeOf(it)) > 0
    return leastBusy(up, (origin) => traffic.held(route.id, origin), isOut)
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
        const origins = served ? usable(served, tried) : []
        const origin = served?.turns.next(origins, health, tried)
        if (!served || !origins.length) return undefined
        if (!origin) {
          tried.clear()
          await clock.sleep(limits.tryAgainMs, stop.signal).catch(() => {})
          continue
        }
        tried.add(origin.id)
        visit.goTo(origin)
        const socket = await dial(served, origin, { allowHalfOpen: true }).catch(() => undefined)
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
        pool.leave()
        leaving.add(pool)
      }
    },
    close() {
      stop.abort()
      clearInterval(sweep)
      for (const it of [...pools.values(), ...leaving]) it.destroy()
    },
  }
}
