import type { IncomingMessage, Server } from 'node:http'
import {
  constants,
  createServer as createHttp2,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createHttp1 } from '#lib/http.ts'
import { type Asked, type Exchange, http1Exchange, http2Exchange, isEnded, say } from './exchange.ts'
import { countOf, headerOf, hostnameOf, isToken } from './headers.ts'
import type { FrontLimits } from './limits.ts'
import type { FrontTable, ServedRoute } from './table.ts'

const CHALLENGE_PATH = '/.well-known/acme-challenge/'
const HTTPS_PORT = 443
const REFUSAL_MS_MAX = 1000
const VERSIONS = new Set(['1.0', '1.1'])
const UNREADABLE: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Content Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}
// Visible ASCII and what some clients send unescaped beyond it; no blank, no control character.
const TARGET = /^\/[\x21-\x7e\x80-\xff]*$/
// oxlint-disable-next-line no-control-regex -- what must not be in a header is what this looks for
const BAD_VALUE = /[\0-\x08\x0a-\x1f\x7f]/
const LENGTH = /^\d{1,15}$/
const METHOD = /^[A-Z][A-Z-]{0,31}$/
const DOTS = /(^|\/)(\.|%2e){1,2}(\/|$)/i

/** What to do with a request: answer it at once, or carry it. */
export type Verdict =
  | { readonly do: 'say'; readonly status: number; readonly message: string; readonly headers?: string[] }
  | {
      readonly do: 'carry'
      readonly served: ServedRoute
      readonly hostname: string
      readonly path: string
      readonly target: string
    }

const refuse = (status: number, message: string, headers: string[] = []): Verdict => ({
  do: 'say',
  status,
  message,
  headers,
})

/** The target in origin form; undefined for what is none, or is about another host than `Host`. */
function originForm({ target, host, method }: Asked): string | undefined {
  if (TARGET.test(target)) return target
  if (target === '*' && method === 'OPTIONS') return '/'
  const [, authority, rest = ''] = /^https?:\/\/([^/?#]*)(.*)$/i.exec(target) ?? []
  if (authority === undefined || authority.toLowerCase() !== host?.toLowerCase()) return undefined
  const path = rest.startsWith('/') ? rest : `/${rest}`
  return TARGET.test(path) ? path : undefined
}

function checkHeaders({ headers }: Asked, limits: FrontLimits): Verdict | undefined {
  if (headers.length / 2 > limits.headersMax) return refuse(431, 'The request has too many headers.')
  let bytes = 0
  for (let it = 0; it < headers.length; it += 2) {
    const [name = '', value = ''] = [headers[it], headers[it + 1]]
    bytes += name.length + value.length
    if (!isToken(name) || BAD_VALUE.test(value))
      return refuse(400, 'A header holds a character that it must not.')
  }
  return bytes > limits.headerBytesMax ? refuse(431, 'The headers of the request are too long.') : undefined
}

/** Decides about a request by the table alone. `httpsPort` is where plain requests are sent on to. */
export function judge(exchange: Asked, table: FrontTable, limits: FrontLimits, httpsPort: number): Verdict {
  const { host, encrypted, headers, method } = exchange
  const bad = checkHeaders(exchange, limits)
  if (bad) return bad
  const hostname = host === undefined ? undefined : hostnameOf(host)
  const target = originForm(exchange)
  if (hostname === undefined) return refuse(400, 'The request must name one host.')
  if (target === undefined || !METHOD.test(method))
    return refuse(400, 'The request is not one that can be served.')
  const query = target.indexOf('?')
  const path = query < 0 ? target : target.slice(0, query)
  if (!encrypted && path.startsWith(CHALLENGE_PATH)) {
    const answer = table.challenge(hostname, path.slice(CHALLENGE_PATH.length))
    if (answer !== undefined) return refuse(200, answer)
  }
  if (encrypted && exchange.serverName !== hostname)
    return refuse(421, `This connection is for ${exchange.serverName}, not for ${hostname}.`)
  const served = table.find(hostname, path)
  if (!served)
    return refuse(
      404,
      table.has(hostname) ? `${hostname} has nothing at this path.` : `Nothing is served at ${hostname}.`,
    )
  const { carry, plain } = served.route
  if (carry === 'passthrough') return refuse(421, `${hostname} is served over TLS alone.`)
  if (!encrypted && !(plain && carry !== 'stream')) {
    const port = httpsPort === HTTPS_PORT ? '' : `:${httpsPort}`
    return refuse(308, `${hostname} is served over HTTPS.`, [
      'location',
      `https://${hostname}${port}${target}`,
    ])
  }
  if (DOTS.test(path) && table.isDivided(hostname))
    return refuse(400, 'The path must not hold dots for steps up.')
  const length = headerOf(headers, 'content-length')
  if (length !== undefined) {
    if (Number(length) > limits.bodyBytesMax)
      return refuse(413, `A body of more than ${limits.bodyBytesMax} bytes is not served.`)
    if (!LENGTH.test(length) || countOf(headers, 'content-length') > 1)
      return refuse(400, 'The request must say its length once.')
  }
  return { do: 'carry', served, hostname, path, target }
}

/** What broke is seen by whoever carries it; heard by nobody it would end the process. */
const ignored = (): void => {}

export type OnExchange = (exchange: Exchange) => void
export type OnUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

/** The two servers behind the listeners: they get connections, not ports. */
export type HttpServers = {
  http1(socket: Socket): void
  http2(socket: Socket): void
  /** Ends what is idle; what is under way may end. */
  drain(): void
  close(): void
}

const isWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'

/** What was no request, or did not come in time. */
function refuseUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  const status = UNREADABLE[error.code ?? ''] ?? '400 Bad Request'
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  // At once would take the answer away from a client that still sends.
  setTimeout(() => socket.destroy(), REFUSAL_MS_MAX).unref()
}

function createVersion1(limits: FrontLimits, onExchange: OnExchange, onUpgrade: OnUpgrade): Server {
  const server = createHttp1({
    maxHeaderSize: limits.headerBytesMax,
    headersTimeout: limits.headersMsMax,
    // Bodies are watched by their pace: a large one takes its time.
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMsMax,
    connectionsCheckingInterval: limits.sweepMs,
    insecureHTTPParser: false,
    requireHostHeader: false,
    shouldUpgradeCallback: isWebSocket,
    optimizeEmptyRequests: true,
  })
  // Node leaves out headers beyond its number in silence; the number of ours is looked at by ourselves.
  server.maxHeadersCount = 0
  server.timeout = limits.idleMsMax + limits.sweepMs
  server.on('request', (request, response) => {
    request.on('error', ignored)
    response.on('error', ignored)
    if (isEnded(request)) return
    const exchange = http1Exchange(request, response)
    if (VERSIONS.has(request.httpVersion)) onExchange(exchange)
    else say(exchange, 505, 'Only versions 1.0, 1.1 and 2 of HTTP are served.')
  })
  server.on('clientError', refuseUnreadable)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => {})
    onUpgrade(request, socket, head)
  })
  server.on('connect', (_, socket: Duplex) => {
    socket.on('error', () => {})
    socket.end('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  })
  // It gets its connections from our listeners; without having listened itself it would not look after their time.
  server.emit('listening')
  return server
}

/** Ends a session that has had no request for so long, whatever else it sends: pings, headers that never end. */
function endWhenUnused(session: ServerHttp2Session, unusedMsMax: number): void {
  let streams = 0
  const wait = () => setTimeout(() => session.destroy(), unusedMsMax).unref()
  let unused = wait()
  session.on('stream', (stream) => {
    clearTimeout(unused)
    streams++
    stream.once('close', () => {
      if (--streams === 0 && !session.destroyed) unused = wait()
    })
  })
  session.once('close', () => clearTimeout(unused))
}

function createVersion2(
  limits: FrontLimits,
  sessions: Set<ServerHttp2Session>,
  onExchange: OnExchange,
): Http2Server {
  const server = createHttp2({
    maxHeaderListPairs: limits.headersMax + 8,
    settings: { maxConcurrentStreams: limits.streamsMax, maxHeaderListSize: limits.headerBytesMax },
    peerMaxConcurrentStreams: limits.streamsMax,
  })
  server.on('session', (session) => {
    session.on('error', () => {})
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    session.setTimeout(limits.idleMsMax, () => session.destroy())
    endWhenUnused(session, limits.keepAliveMsMax)
  })
  server.on('sessionError', () => {})
  server.on('stream', (it, headers, flags, rawHeaders) => {
    const stream = it as ServerHttp2Stream
    stream.on('error', () => {})
    if (headers[':method'] === 'CONNECT') return stream.close(constants.NGHTTP2_REFUSED_STREAM)
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
    onExchange(http2Exchange(stream, headers, rawHeaders as unknown as string[], ended))
  })
  return server
}

export function createHttpServers(options: {
  readonly limits: FrontLimits
  readonly onExchange: OnExchange
  readonly onUpgrade: OnUpgrade
}): HttpServers {
  const { limits, onExchange, onUpgrade } = options
  const sessions = new Set<ServerHttp2Session>()
  const version1 = createVersion1(limits, onExchange, onUpgrade)
  const version2 = createVersion2(limits, sessions, onExchange)
  return {
    http1: (socket) => void version1.emit('connection', socket),
    http2: (socket) => void version2.emit('connection', socket),
    drain() {
      version1.closeIdleConnections()
      for (const it of sessions) it.close()
    },
    close() {
      version1.close()
      version1.closeAllConnections()
      for (const it of sessions) it.destroy()
      version2.close()
    },
  }
}
