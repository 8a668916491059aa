import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { FrontLimits } from './limits.ts'

export type Listen = { readonly address: string; readonly port: number }

/** Admits connections up to their limits, counted over all listeners that share it. */
export type Gate = {
  admit(socket: Socket): boolean
  readonly open: ReadonlySet<Socket>
}

/** The client's address; an IPv4 one that came in by IPv6 in its own spelling. */
export function clientOf({ remoteAddress = '' }: Pick<Socket, 'remoteAddress'>): string {
  return remoteAddress.startsWith('::ffff:') ? remoteAddress.replace(/^::ffff:(?=\d+\.)/, '') : remoteAddress
}

export function createGate(limits: FrontLimits): Gate {
  const open = new Set<Socket>()
  const clients = new Map<string, number>()
  return {
    open,
    admit(socket) {
      const client = clientOf(socket)
      const held = clients.get(client) ?? 0
      if (open.size >= limits.connectionsMax || held >= limits.connectionsPerClientMax) return false
      clients.set(client, held + 1)
      open.add(socket)
      socket.once('close', () => {
        open.delete(socket)
        const left = (clients.get(client) ?? 1) - 1
        if (left) clients.set(client, left)
        else clients.delete(client)
      })
      return true
    },
  }
}

export type Listener = {
  /** Where it listens; undefined while it cannot. */
  bound(): Listen | undefined
  /** Why it does not listen. */
  lacks(): string | undefined
  /** Takes no more connections; those that are open are not its own. */
  close(): Promise<void>
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program has that port',
  EACCES: 'ports below 1024 need the capability net_bind_service',
  EADDRNOTAVAIL: 'this host has no such address',
}

export const reasonOf = (error: unknown): string => {
  const { code = '', message } = error as NodeJS.ErrnoException
  return REASONS[code] ?? message
}

/** Keeps `open` running: again after each failure, until it is closed. Each reason is said once. */
export function keepBound<T>(options: {
  readonly what: string
  readonly clock: Clock
  readonly log: Log
  readonly againMs: number
  /** Binds, tells `bound` where, and resolves when it was closed; throws when it cannot, or failed. */
  readonly serve: (bound: (where: T) => void, closing: AbortSignal) => Promise<void>
}): { bound(): T | undefined; lacks(): string | undefined; close(): Promise<void> } {
  const { what, clock, log, serve } = options
  const closing = new AbortController()
  let where: T | undefined
  let lacks: string | undefined
  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await serve((it) => {
          where = it
          lacks = undefined
        }, closing.signal)
      } catch (error) {
        const reason = `the edge cannot listen on ${what}: ${reasonOf(error)}`
        if (reason !== lacks) log.warn('the edge cannot listen, trying again until it can', { what, error })
        lacks = reason
      }
      where = undefined
      await clock.sleep(options.againMs, closing.signal).catch(() => {})
    }
  }
  const running = run()
  return {
    bound: () => where,
    lacks: () => lacks,
    async close() {
      closing.abort()
      await running
    },
  }
}

/** Listens for TCP. Returns at once; while the address is not there or taken it tries again. */
export function listenTcp(options: {
  readonly listen: Listen
  readonly gate: Gate
  readonly limits: FrontLimits
  readonly onConnection: (socket: Socket) => void
  readonly clock: Clock
  readonly log: Log
}): Listener {
  const { listen, gate, limits, onConnection, clock, log } = options
  const serve = async (bound: (where: Listen) => void, closing: AbortSignal): Promise<void> => {
    const server: Server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: limits.probeMs,
    })
    server.on('connection', (socket) => {
      socket.on('error', () => {}) // heard by whoever carries it; until then it must not end the process
      if (gate.admit(socket)) onConnection(socket)
      else socket.destroy()
    })
    const listening = once(server, 'listening')
    server.listen(listen.port, listen.address)
    await listening
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : listen.port
    bound({ address: listen.address, port })
    log.info('the front door listens', { address: listen.address, port })
    const failed = once(server, 'error').then(([error]) => error as Error)
    const aborted = closing.aborted ? Promise.resolve() : once(closing, 'abort')
    const error = await Promise.race([failed, aborted.then(() => undefined)])
    server.close()
    if (error) throw error
  }
  const what = `${listen.address}:${listen.port}`
  return keepBound({ what, clock, log, againMs: limits.bindAgainMs, serve })
}

type Port = { lacks(): string | undefined; close(): Promise<void> }

/** Ports that come and go with a table, each opened and closed by itself. */
export function keepPorts<P extends Port>(open: (port: number) => P) {
  const ports = new Map<number, P>()
  const closing = new Set<Promise<void>>()
  return {
    at: (port: number): P | undefined => ports.get(port),
    /** Those are open from now on and no others. */
    keep(wanted: ReadonlyMap<number, unknown>): void {
      for (const port of wanted.keys()) if (!ports.has(port)) ports.set(port, open(port))
      for (const [port, it] of ports) {
        if (wanted.has(port)) continue
        ports.delete(port)
        const closed = it.close()
        closing.add(closed)
        void closed.then(() => closing.delete(closed))
      }
    },
    /** A sentence for each that cannot be listened on. */
    lacks: (): readonly string[] => [...ports.values()].flatMap((it) => it.lacks() ?? []),
    async close(): Promise<void> {
      await Promise.all([...[...ports.values()].map((it) => it.close()), ...closing])
    },
  }
}
