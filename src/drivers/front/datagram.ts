import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv6 } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { placeOf } from './balance.ts'
import type { FrontLimits } from './limits.ts'
import { keepBound, keepPorts } from './listener.ts'
import type { Origins } from './origins.ts'
import type { FrontTable, ServedRoute } from './table.ts'
import type { Traffic, Visit } from './traffic.ts'

/** Datagrams between one client and one origin. */
type Session = {
  readonly origin: Origin
  /** Its own socket, so that answers find their client; the kernel lets in nobody but the origin. */
  readonly socket: Socket
  readonly visit: Visit
  lastAt: number
}

export type Datagrams = {
  /** Listens on the ports of this table and no others; sessions whose origin left go to another with the next datagram. */
  keep(table: FrontTable): void
  bound(port: number): boolean
  /** A sentence for each port that cannot be listened on. */
  lacks(): readonly string[]
  close(): Promise<void>
}

type Context = {
  readonly table: () => FrontTable
  readonly traffic: Traffic
  readonly origins: Origins
  readonly limits: FrontLimits
  readonly clock: Clock
}

const familyOf = (address: string): 'udp4' | 'udp6' => (isIPv6(address) ? 'udp6' : 'udp4')
const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '')

/** The sessions of one port. */
function createSessions(port: number, server: Socket, context: Context) {
  const { table, traffic, origins, limits, clock } = context
  const sessions = new Map<string, Session>()
  const lingering = new Set<Session>()
  const clients = new Map<string, number>()

  const end = (session: Session, fault?: string): void => {
    session.visit.end({ fault })
    session.socket.close()
  }
  const drop = (key: string, client: string, session: Session): void => {
    if (sessions.get(key) !== session) return
    sessions.delete(key)
    const left = (clients.get(client) ?? 1) - 1
    if (left) clients.set(client, left)
    else clients.delete(client)
  }
  const begin = (served: ServedRoute, from: RemoteInfo, key: string): Session | undefined => {
    const client = plainAddress(from.address)
    const held = clients.get(client) ?? 0
    if (sessions.size >= limits.sessionsPerRouteMax || held >= limits.sessionsPerClientMax) return undefined
    const origin = served.turns.next(served.route.origins, origins.health)
    if (!origin) return undefined
    const visit = traffic.begin(served, { client, hostname: served.route.hostname })
    visit.goTo(origin)
    const socket = createSocket(familyOf(origin.address))
    const session: Session = { origin, socket, visit, lastAt: clock.now() }
    socket.on('message', (message) => {
      session.lastAt = clock.now()
      visit.sentBytes += message.length
      server.send(message, from.port, from.address, () => {})
    })
    // Refused: nothing listens there, or no way leads there.
    socket.on('error', () => {
      if (!lingering.delete(session) && sessions.get(key) !== session) return
      origins.health.failed(placeOf(origin))
      drop(key, client, session)
      end(session, 'the origin refused')
    })
    sessions.set(key, session)
    clients.set(client, held + 1)
    return session
  }
  const deliver = (session: Session, message: Buffer): void => {
    session.lastAt = clock.now()
    session.visit.receivedBytes += message.length
    session.socket.send(message, () => {})
  }

  return {
    message(message: Buffer, from: RemoteInfo): void {
      const served = table().datagrams.get(port)
      if (!served) return
      const key = `${from.address} ${from.port}`
      const before = sessions.get(key)
      const stays = before && served.route.origins.some((it) => it.id === before.origin.id)
      if (before && stays) return deliver(before, message)
      if (before) {
        drop(key, plainAddress(from.address), before)
        lingering.add(before)
      }
      const session = begin(served, from, key)
      if (!session) return
      // Not given to `connect`, which would call it with its error too, instead of telling that.
      session.socket.once('connect', () => deliver(session, message))
      session.socket.connect(session.origin.port, session.origin.address)
    },
    sweep(): void {
      const now = clock.now()
      for (const [key, it] of sessions) {
        if (now - it.lastAt < limits.sessionIdleMsMax) continue
        drop(key, key.slice(0, key.indexOf(' ')).replace(/^::ffff:(?=\d+\.)/, ''), it)
        end(it)
      }
      for (const it of lingering) {
        if (now - it.lastAt < limits.sessionLingerMsMax) continue
        lingering.delete(it)
        end(it)
      }
    },
    close(): void {
      for (const it of [...sessions.values(), ...lingering]) end(it)
      sessions.clear()
      lingering.clear()
    },
  }
}

type Port = { bound(): number | undefined; lacks(): string | undefined; close(): Promise<void> }

function openPort(port: number, address: string, context: Context & { readonly log: Log }): Port {
  const { limits, clock, log } = context
  const serve = async (bound: (port: number) => void, closing: AbortSignal): Promise<void> => {
    const server = createSocket(familyOf(address))
    const listening = once(server, 'listening')
    try {
      server.bind(port, address)
      await listening
    } catch (error) {
      server.close()
      throw error
    }
    const sessions = createSessions(port, server, context)
    server.on('message', (message, from) => sessions.message(message, from))
    const failed = once(server, 'error').then(([error]) => error as Error)
    bound(port)
    let error: Error | undefined
    while (!closing.aborted && !error) {
      const wait = clock.sleep(limits.sweepMs, closing).catch(() => {})
      error = await Promise.race([failed, wait.then(() => undefined)])
      sessions.sweep()
    }
    sessions.close()
    server.close()
    if (error) throw error
  }
  return keepBound({ what: `UDP ${address}:${port}`, clock, log, againMs: limits.bindAgainMs, serve })
}

/** Listens for datagrams on the ports of the table's routes, at one address. */
export function createDatagrams(
  options: Context & { readonly address: string; readonly log: Log },
): Datagrams {
  const ports = keepPorts((port) => openPort(port, options.address, options))
  return {
    keep: (table) => ports.keep(table.datagrams),
    bound: (port) => ports.at(port)?.bound() !== undefined,
    lacks: ports.lacks,
    close: ports.close,
  }
}
