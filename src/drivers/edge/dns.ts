import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIPv6, type Server, type Socket } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { createResolver, type Resolver, type ResolverLimits } from './resolver.ts'
import type { Table } from './table.ts'

const BIND_AGAIN_MS_MIN = 100
const BIND_AGAIN_MS_MAX = 1000
const CONNECTIONS_MAX = 512
const CONNECTIONS_PER_CALLER_MAX = 8
const CONNECTION_IDLE_MS_MAX = 10_000
const CONNECTION_BUFFER_BYTES_MAX = 65_537
const FREE_PORT_TRIES_MAX = 20

export type Listen = { readonly address: string; readonly port: number }

export type Dns = {
  /** Where it listens; undefined while the address does not exist on this host or cannot be had. */
  bound(): Listen | undefined
  close(): Promise<void>
}

type Sockets = {
  readonly udp: UdpSocket
  readonly tcp: Server
  readonly connections: Set<Socket>
  readonly port: number
}

function serveUdp(socket: UdpSocket, resolver: Resolver, log: Log): void {
  socket.on('message', (message, from) => {
    resolver
      .answer(message, from.address, 'udp')
      // The asker may be gone, or its address: nobody waits for this answer then.
      .then((answer) => answer && socket.send(answer, from.port, from.address, () => {}))
      .catch((error: unknown) => log.error('answering a query failed', { caller: from.address, error }))
  })
}

/** One question after the other: whoever reads its answers slowly is asked no more questions. */
async function serveConnection(socket: Socket, caller: string, resolver: Resolver): Promise<void> {
  let buffer = Buffer.alloc(0)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    buffer = Buffer.concat([buffer, chunk])
    while (buffer.length >= 2 && buffer.length >= buffer.readUInt16BE(0) + 2) {
      const end = buffer.readUInt16BE(0) + 2
      const answer = await resolver.answer(buffer.subarray(2, end), caller, 'tcp')
      if (!answer || socket.destroyed) return void socket.destroy()
      const length = Buffer.alloc(2)
      length.writeUInt16BE(answer.length)
      if (!socket.write(Buffer.concat([length, answer]))) await once(socket, 'drain')
      buffer = buffer.subarray(end)
    }
    if (buffer.length > CONNECTION_BUFFER_BYTES_MAX) return void socket.destroy()
  }
  socket.end()
}

function serveTcp(server: Server, connections: Set<Socket>, resolver: Resolver): void {
  const callers = new Map<string, number>()
  server.on('connection', (socket) => {
    const caller = socket.remoteAddress ?? ''
    const open = callers.get(caller) ?? 0
    socket.on('error', () => {})
    if (open >= CONNECTIONS_PER_CALLER_MAX) return void socket.destroy()
    callers.set(caller, open + 1)
    connections.add(socket)
    socket.once('close', () => {
      connections.delete(socket)
      const left = (callers.get(caller) ?? 1) - 1
      if (left) callers.set(caller, left)
      else callers.delete(caller)
    })
    socket.setTimeout(CONNECTION_IDLE_MS_MAX, () => socket.destroy())
    serveConnection(socket, caller, resolver).catch(() => socket.destroy()) // the connection broke
  })
}

async function bindUdp(listen: Listen): Promise<UdpSocket> {
  const socket = createSocket(isIPv6(listen.address) ? 'udp6' : 'udp4')
  try {
    const listening = once(socket, 'listening')
    socket.bind(listen.port, listen.address)
    await listening
    socket.on('error', () => {}) // heard by whoever serves it; until then it must not end the process
    return socket
  } catch (error) {
    socket.close()
    throw error
  }
}

async function bindTcp(address: string, port: number): Promise<Server> {
  const server = createServer()
  server.maxConnections = CONNECTIONS_MAX
  const listening = once(server, 'listening')
  server.listen(port, address)
  await listening
  return server
}

/** Both sockets on one port; port 0 takes one that is free for both. */
async function bindBoth(listen: Listen): Promise<Omit<Sockets, 'connections'>> {
  for (let attempt = 1; ; attempt++) {
    const udp = await bindUdp(listen)
    const { port } = udp.address()
    try {
      return { udp, tcp: await bindTcp(listen.address, port), port }
    } catch (error) {
      udp.close()
      if (listen.port !== 0 || attempt >= FREE_PORT_TRIES_MAX) throw error
    }
  }
}

const closeAll = async ({ udp, tcp, connections }: Sockets): Promise<void> => {
  udp.close()
  const closed = once(tcp, 'close')
  tcp.close()
  for (const socket of connections) socket.destroy()
  await closed
}

/**
 * Answers DNS for all VPCs, by UDP and TCP. Returns at once: while the address cannot be bound (the host agent brings it)
 * it tries again, and so after a socket failed. Each reason is said once.
 */
export function createDns(options: {
  readonly listen: Listen
  readonly table: Pick<Table, 'zoneOf'>
  readonly hostNameservers: () => readonly string[]
  readonly clock: Clock
  readonly log: Log
  readonly limits?: ResolverLimits
  readonly nameserverPort?: number
}): Dns {
  const { listen, clock, log } = options
  const resolver = createResolver({ ...options, self: listen.address })
  const closing = new AbortController()
  let bound: Listen | undefined

  const serve = async (): Promise<void> => {
    const sockets: Sockets = { ...(await bindBoth(listen)), connections: new Set() }
    const failed = new Promise<Error | undefined>((resolve) => {
      sockets.udp.on('error', resolve)
      sockets.tcp.on('error', resolve)
      closing.signal.addEventListener('abort', () => resolve(undefined), { once: true })
      if (closing.signal.aborted) resolve(undefined)
    })
    serveUdp(sockets.udp, resolver, log)
    serveTcp(sockets.tcp, sockets.connections, resolver)
    bound = { address: listen.address, port: sockets.port }
    log.info('resolver listens', bound)
    const error = await failed
    bound = undefined
    await closeAll(sockets)
    if (error) throw error
  }

  const run = async (): Promise<void> => {
    let said = ''
    for (
      let waitMs = BIND_AGAIN_MS_MIN;
      !closing.signal.aborted;
      waitMs = Math.min(waitMs * 2, BIND_AGAIN_MS_MAX)
    ) {
      try {
        await serve()
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException
        if (code !== said) log.warn('resolver cannot listen, trying again until it can', { ...listen, error })
        said = code
        await clock.sleep(waitMs, closing.signal).catch(() => {})
      }
    }
  }
  const running = run()

  return {
    bound: () => bound,
    async close() {
      closing.abort()
      resolver.close()
      await running
    },
  }
}
