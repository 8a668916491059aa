import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { createServer as createSecureServer, type Server as SecureServer } from 'node:https'
import { BlockList, createServer as createFront, isIP, isIPv6, type AddressInfo, type Socket } from 'node:net'
import type { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { createServer } from '#lib/http.ts'
import type { Log } from '#lib/log.ts'

/** What one client may take of the server; each is a named maximum, times in milliseconds. */
export const HTTP_LIMITS = {
  bodyBytesMax: 1_048_576,
  headerBytesMax: 16_384,
  headersMax: 100,
  /** Open connections per listening address; more are closed at once. */
  connectionsMax: 4096,
  /** From connecting to the first byte. */
  firstByteMs: 10_000,
  /** From the first byte to the end of the headers. */
  headersMs: 15_000,
  /** From the end of the headers to the end of the body, but for what takes its time (`takesItsTime`). */
  requestMs: 60_000,
  keepAliveMs: 65_000,
  /** How often the limit of the headers is looked at. */
  checkMs: 5_000,
  /** What remembered answers take together; then all are forgotten. */
  rememberedBytesMax: 16_777_216,
  /** Larger answers are not remembered. */
  rememberedAnswerBytesMax: 65_536,
  /** How long requests that are being answered may go on when the server closes. */
  drainMs: 10_000,
}
export type HttpLimits = typeof HTTP_LIMITS

/** The first byte of a TLS handshake record. */
const TLS_HANDSHAKE = 0x16
const CERTIFICATE_CHECK_MS = 86_400_000
/** How often a server that closes looks for connections whose last request was answered. */
const IDLE_SWEEP_MS = 20

export type Address = { readonly host: string; readonly port: number }

export type ListenerOptions = Address & {
  readonly onRequest: RequestListener
  /** A request to change the protocol (WebSocket). */
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** Key and certificate in PEM, asked again once a day; absent: plain HTTP only. */
  readonly certificate?: () => Promise<{ readonly key: string; readonly cert: string }>
  /** True for peers that may speak plain HTTP from elsewhere: a proxy that ends TLS. */
  readonly plainFrom: (address: string) => boolean
  readonly limits: HttpLimits
  readonly clock: Clock
  readonly log: Log
}

export type Listener = Address & {
  readonly url: string
  /** Stops accepting, lets requests that are being answered end within `drainMs`, then closes what is left. */
  close(): Promise<void>
}

/** The address without the IPv6 form of an IPv4 one. */
export const plainAddress = (address: string | undefined): string =>
  (address ?? '').replace(/^::ffff:(?=\d+\.)/i, '')

export const isLoopback = (address: string | undefined): boolean => {
  const plain = plainAddress(address)
  return plain.startsWith('127.') || plain === '::1'
}

/** A test for addresses in a list of addresses and CIDRs; `invalid` names an entry that is neither. */
export function addressSet(entries: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', prefix] = entry.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    const bits = prefix === undefined ? (family === 'ipv6' ? 128 : 32) : Number(prefix)
    try {
      list.addSubnet(address, bits, family)
    } catch (error) {
      throw new CloudError('invalid', `${entry} is no IP address or CIDR`, {}, error)
    }
  }
  return (address) => {
    const plain = plainAddress(address)
    return isIP(plain) !== 0 && list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4')
  }
}

const CLIENT_FAULTS: Readonly<Record<string, readonly [status: string, detail: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'The request headers are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request took too long to arrive'],
}

/** Answers, as `refuse` does, a request that never became one (broken HTTP, too large, too slow) and closes the connection. */
export const clientFaults =
  (refuse: (socket: Duplex, status: string, detail: string) => void) =>
  (error: NodeJS.ErrnoException, socket: Duplex): void => {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const [status, detail] = CLIENT_FAULTS[error.code ?? ''] ?? [
      '400 Bad Request',
      'The request is not valid HTTP',
    ]
    refuse(socket, status, detail)
  }

function refusePlainly(socket: Duplex, status: string, detail: string): void {
  const body = { title: status.slice(4), status: Number(status.slice(0, 3)), detail }
  endWith(socket, status, 'application/problem+json', JSON.stringify(body))
}

/** The last words on a connection that no request can be answered on. */
export function endWith(socket: Duplex, status: string, type: string, body: string): void {
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}

const deadlines = new WeakMap<IncomingMessage, { start(): void; stop(): void }>()

const OF_BODIES: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding'])

/** Whether a request says that it has a body; from its head as it was sent, since to make an object of it costs more. */
function announcesBody({ rawHeaders: raw }: IncomingMessage): boolean {
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? ''
    if ((name.length === 14 || name.length === 17) && OF_BODIES.has(name.toLowerCase())) return true
  }
  return false
}

/** Gives up a request whose body does not arrive in time. */
function watchBody(server: EventEmitter, request: IncomingMessage, requestMs: number): void {
  if (!announcesBody(request)) return
  let late: NodeJS.Timeout | undefined
  const stop = (): void => clearTimeout(late)
  const start = (): void => {
    stop()
    late = setTimeout(() => {
      const error = Object.assign(new Error('too late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
      if (!request.complete) server.emit('clientError', error, request.socket)
    }, requestMs)
  }
  start()
  deadlines.set(request, { start, stop })
  request.once('end', stop).once('close', stop)
}

/**
 * Lets the body of a request take longer than HTTP_LIMITS.requestMs; whoever reads it has to limit it. The call of what is
 * returned gives the rest of the body that time from then on.
 */
export function takesItsTime(request: IncomingMessage): () => void {
  const deadline = deadlines.get(request)
  deadline?.stop()
  return () => {
    if (!request.complete && !request.destroyed) deadline?.start()
  }
}

type Handlers = Pick<ListenerOptions, 'onRequest' | 'onUpgrade' | 'limits'>

/** A server that is handed its connections instead of accepting them itself. */
function prepare<S extends Server | SecureServer>(server: S, options: Handlers, closing: () => boolean): S {
  server.maxHeadersCount = options.limits.headersMax
  server.on('upgrade', options.onUpgrade)
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (closing()) response.setHeader('connection', 'close')
    watchBody(server, request, options.limits.requestMs)
    options.onRequest(request, response as ServerResponse<IncomingMessage> & { req: IncomingMessage })
  })
  // Node starts to watch header and request time-outs when a server says that it listens; this one never does.
  server.emit('listening')
  return server
}

/** Waits, `drainMs` at most, until the connections of servers that were closed have ended. */
export async function drain(
  servers: readonly Server[],
  ended: Promise<unknown>,
  { limits, clock }: Pick<ListenerOptions, 'limits' | 'clock'>,
): Promise<void> {
  const done = new AbortController()
  // A connection that stays open for a next request, after the one that was being answered, would keep it waiting.
  const sweep = setInterval(() => {
    for (const server of servers) server.closeIdleConnections()
  }, IDLE_SWEEP_MS)
  const limit = clock.sleep(limits.drainMs, done.signal).catch(() => undefined)
  await Promise.race([ended, limit])
  done.abort()
  clearInterval(sweep)
}

const timesOf = (limits: HttpLimits) => ({
  maxHeaderSize: limits.headerBytesMax,
  headersTimeout: limits.headersMs,
  // Node knows no request that may take longer than others.
  requestTimeout: 0,
  keepAliveTimeout: limits.keepAliveMs,
  connectionsCheckingInterval: limits.checkMs,
})

/** A plain HTTP server with the limits of all of ours, which listens nowhere and is handed connections by its event. */
export const handedServer = (options: Handlers, closing: () => boolean): Server =>
  prepare(createServer(timesOf(options.limits)), options, closing)

const sentence = (error: NodeJS.ErrnoException, { host, port }: Address): string => {
  switch (error.code) {
    case 'EADDRINUSE':
      return `${host}:${port} is taken by another program: stop it, or choose another address with --listen`
    case 'EACCES':
      return `${host}:${port} needs a right this user lacks: choose a port above 1023 with --listen`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${host} is no address of this machine: choose another with --listen`
    default:
      return `Cannot listen on ${host}:${port}: ${messageOf(error)}`
  }
}

/** The two servers behind a listener; `secure` only with a certificate, which is looked at again once a day. */
async function openServers(options: ListenerOptions, closing: () => boolean) {
  const { limits, certificate, log } = options
  const plain = handedServer(options, closing).on('clientError', clientFaults(refusePlainly))
  if (!certificate) return { plain, secure: undefined, stop: () => plain.close(() => {}) }
  const tls = { minVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] } as const
  const secure = prepare(
    createSecureServer({ ...timesOf(limits), ...tls, ...(await certificate()) }),
    options,
    closing,
  )
  secure.on('clientError', clientFaults(refusePlainly))
  secure.on('tlsClientError', (_error, socket) => socket.destroy())
  const renewal = setInterval(() => {
    certificate().then(
      (pem) => secure.setSecureContext({ ...tls, ...pem }),
      (error: unknown) => log.error('certificate not renewed', { error }),
    )
  }, CERTIFICATE_CHECK_MS).unref()
  const stop = (): void => {
    clearInterval(renewal)
    // Idle connections are closed by it.
    for (const server of [plain, secure]) server.close(() => {})
  }
  return { plain, secure, stop }
}

/** Waits for a connection's first byte and hands it, unread, to `hand`; a silent one is dropped. */
function awaitFirstByte(
  socket: Socket,
  firstByteMs: number,
  hand: (first: number | undefined) => void,
): void {
  const drop = (): void => {
    socket.destroy()
  }
  // The servers listen for errors of their own; one that nobody listens for would end the process.
  socket.on('error', drop)
  socket.once('end', drop)
  socket.setTimeout(firstByteMs, drop)
  socket.once('data', (data: Buffer) => {
    socket.pause()
    socket.setTimeout(0)
    socket.off('timeout', drop).off('end', drop)
    socket.unshift(data)
    hand(data[0])
  })
}

/**
 * Listens on one address. TLS and plain HTTP share the port, the first byte decides; plain HTTP is for loopback (and
 * proxies that are trusted) while there is a certificate. A taken port is refused `unavailable` with what to do.
 */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { limits, log } = options
  let closing = false
  const { plain, secure, stop } = await openServers(options, () => closing)
  const sockets = new Set<Socket>()
  /** Those that have not said a word yet: nothing to wait for when closing. */
  const silent = new Set<Socket>()
  const hand = (socket: Socket, first: number | undefined): void => {
    const peer = plainAddress(socket.remoteAddress)
    silent.delete(socket)
    if (secure && first === TLS_HANDSHAKE) {
      // A client that leaves during the handshake is gone: half a connection is of no use to TLS.
      socket.allowHalfOpen = false
      // TLS takes what was read from the socket itself.
      secure.emit('connection', socket)
    } else if (!secure || isLoopback(peer) || options.plainFrom(peer)) {
      plain.emit('connection', socket)
      socket.resume()
    } else refusePlainly(socket, '400 Bad Request', 'This address speaks TLS to other machines: use https')
  }
  const front = createFront({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket)
    silent.add(socket)
    socket.once('close', () => {
      sockets.delete(socket)
      silent.delete(socket)
    })
    awaitFirstByte(socket, limits.firstByteMs, (first) => hand(socket, first))
  })
  front.maxConnections = limits.connectionsMax
  await new Promise<void>((resolve, reject) => {
    front.once('error', (error: NodeJS.ErrnoException) => {
      stop()
      reject(new CloudError('unavailable', sentence(error, options), {}, error))
    })
    front.listen({ host: options.host, port: options.port }, resolve)
  })
  front.on('error', (error) => log.error('listener failed', { error }))
  const { port } = front.address() as AddressInfo
  return {
    host: options.host,
    port,
    url: `${secure ? 'https' : 'http'}://${isIPv6(options.host) ? `[${options.host}]` : options.host}:${port}`,
    async close() {
      closing = true
      const closed = new Promise<void>((resolve) => front.close(() => resolve()))
      stop()
      for (const socket of silent) socket.destroy()
      await drain(secure ? [plain, secure] : [plain], closed, options)
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
