import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Readable } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Headers } from './headers.ts'
import { clientOf } from './listener.ts'

/** One request, over either version of HTTP. */
export type Asked = {
  readonly method: string
  /** As it came: path and query, or the absolute form. */
  readonly target: string
  /** What the client calls the host. Undefined: it said nothing, or contradicts itself. */
  readonly host: string | undefined
  readonly headers: Headers
  readonly client: string
  readonly encrypted: boolean
  /** The name in the TLS handshake. */
  readonly serverName: string | undefined
  readonly hasBody: boolean
}

/** A request and the way to answer it. */
export type Exchange = Asked & { readonly body: Readable; readonly answer: Answer }

export type Answer = {
  /** Whether its head went out. */
  hasBegun(): boolean
  /** Nothing more is served on this connection, whatever was read with it. */
  last(): void
  /** It need not go out before more is known: `flush` sends it. */
  begin(status: number, message: string, headers: Headers): void
  flush(): void
  /** False: wait for `onDrain` before more. */
  write(chunk: Buffer | string): boolean
  end(chunk?: Buffer | string): void
  onDrain(then: () => void): void
  /** Once, when it is over; `whole` when all of it went out. */
  onClose(then: (whole: boolean) => void): void
  /** Breaks it off, so that the client sees that it is not whole. */
  abort(): void
}

/** Headers that HTTP/2 does not know. */
const OF_CONNECTIONS = new Set(['connection', 'upgrade', 'keep-alive'])

const isEncrypted = (socket: object): boolean => (socket as Partial<TLSSocket>).encrypted === true
const serverNameOf = (socket: object): string | undefined => {
  const { servername } = socket as { servername?: string | false | null }
  return servername ? servername.toLowerCase() : undefined
}

const ended = new WeakSet<object>()
/** Whether the connection of a request was ended by the answer to one before it. */
export const isEnded = (request: IncomingMessage): boolean => ended.has(request.socket)

class Http1Answer implements Answer {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request
    this.#response = response
  }
  hasBegun(): boolean {
    return this.#response.headersSent
  }
  last(): void {
    ended.add(this.#request.socket)
  }
  begin(status: number, message: string, headers: Headers): void {
    if (ended.has(this.#request.socket)) this.#response.shouldKeepAlive = false
    this.#response.writeHead(status, message, headers as string[])
  }
  flush(): void {
    this.#response.flushHeaders()
  }
  write(chunk: Buffer | string): boolean {
    return this.#response.write(chunk)
  }
  end(chunk?: Buffer | string): void {
    // A string goes out in one piece with the head.
    if (typeof chunk === 'object') this.#response.end(chunk.toString('latin1'), 'latin1')
    else this.#response.end(chunk)
  }
  onDrain(then: () => void): void {
    this.#response.once('drain', then)
  }
  onClose(then: (whole: boolean) => void): void {
    this.#response.once('close', () => then(this.#response.writableFinished))
  }
  abort(): void {
    this.#request.socket.destroy()
  }
}

/** The `Host` of an HTTP/1 request, of which there must be exactly one. */
function hostOf(rawHeaders: Headers): string | undefined {
  let host: string | undefined
  for (let it = 0; it < rawHeaders.length; it += 2) {
    if (rawHeaders[it]?.length !== 4 || rawHeaders[it]?.toLowerCase() !== 'host') continue
    if (host !== undefined) return undefined
    host = rawHeaders[it + 1]
  }
  return host
}

/** A request of HTTP/1. */
export function http1Asked(request: IncomingMessage): Asked {
  const { headers, rawHeaders, socket } = request
  const length = headers['content-length']
  return {
    method: request.method ?? 'GET',
    target: request.url ?? '/',
    host: hostOf(rawHeaders),
    headers: rawHeaders,
    client: clientOf(socket),
    encrypted: isEncrypted(socket),
    serverName: serverNameOf(socket),
    hasBody: headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0'),
  }
}

export const http1Exchange = (request: IncomingMessage, response: ServerResponse): Exchange => ({
  ...http1Asked(request),
  body: request,
  answer: new Http1Answer(request, response),
})

/** Names in turn with values, as one object whose repeated names have lists. */
function grouped(headers: Headers): Record<string, string | string[]> {
  const object: Record<string, string | string[]> = {}
  for (let it = 0; it < headers.length; it += 2) {
    const name = (headers[it] ?? '').toLowerCase()
    if (OF_CONNECTIONS.has(name)) continue
    const value = headers[it + 1] ?? ''
    const held = object[name]
    if (held === undefined) object[name] = value
    else if (Array.isArray(held)) held.push(value)
    else object[name] = [held, value]
  }
  return object
}

function http2Answer(stream: ServerHttp2Stream, isHead: boolean): Answer {
  let isWhole = false
  return {
    hasBegun: () => stream.headersSent,
    last() {}, // streams do not hide behind each other
    begin(status, _, headers) {
      if (stream.destroyed || stream.closed) return
      stream.respond({ ':status': status, ...grouped(headers) }, { endStream: isHead })
    },
    flush() {}, // it went out
    write: (chunk) => stream.destroyed || stream.write(chunk),
    end(chunk) {
      isWhole = true
      if (!stream.destroyed && !stream.writableEnded) stream.end(chunk)
      // A body that nobody reads any more must not keep the stream open.
      if (!stream.readableEnded) stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
    },
    onDrain: (then) => void stream.once('drain', then),
    onClose(then) {
      stream.once('close', () => then(isWhole && stream.writableFinished))
    },
    // Closing it would end it first, which looks like a whole answer.
    abort: () => void stream.destroy(new Error('the answer broke off')),
  }
}

export function http2Exchange(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: Headers,
  endStream: boolean,
): Exchange {
  const socket = stream.session?.socket ?? {}
  const method = String(headers[':method'])
  const plain: string[] = []
  for (let it = 0; it < rawHeaders.length; it += 2)
    if (!rawHeaders[it]?.startsWith(':')) plain.push(rawHeaders[it] ?? '', rawHeaders[it + 1] ?? '')
  const authority = headers[':authority']
  const named = hostOf(plain)
  const isTwofold = named !== undefined && authority !== undefined && named !== authority
  return {
    method,
    target: headers[':path'] ?? '',
    host: isTwofold ? undefined : (authority ?? named),
    headers: plain,
    client: clientOf(socket as { remoteAddress: string | undefined }),
    encrypted: isEncrypted(socket),
    serverName: serverNameOf(socket),
    hasBody: !endStream,
    body: stream,
    answer: http2Answer(stream, method === 'HEAD'),
  }
}

/** After these it is not certain where the request ended. */
const LAST = new Set([400, 408, 413, 431, 505])

/** Answers in a sentence of our own. */
export function say(exchange: Exchange, status: number, message: string, headers: Headers = []): void {
  const { answer, method } = exchange
  if (answer.hasBegun()) return answer.abort()
  if (LAST.has(status)) answer.last()
  const text = `${message}\n`
  answer.begin(status, '', [
    'content-type',
    'text/plain; charset=utf-8',
    'content-length',
    String(Buffer.byteLength(text)),
    'x-content-type-options',
    'nosniff',
    ...headers,
  ])
  answer.end(method === 'HEAD' ? undefined : text)
}
