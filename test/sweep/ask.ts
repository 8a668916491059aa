import http from 'node:http'
import type { Socket } from 'node:net'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

export type Question = {
  /** Through this unix socket instead of the address. */
  readonly socketPath?: string
  readonly method: string
  /** With the dialect's prefix, and a query. */
  readonly path: string
  /** In this order; a name may come more than once. */
  readonly headers?: readonly (readonly [name: string, value: string])[]
  readonly body?: string | Buffer
  /** Ask for a WebSocket; its first text frame counts as the answer's body. */
  readonly upgrade?: boolean
}

export type Answer = {
  readonly status: number
  readonly type: string
  readonly headers: http.IncomingHttpHeaders
  readonly text: string
  /** Undefined for an empty answer and for one that is no JSON. */
  readonly body: unknown
}

const ASK_MS_MAX = 15_000
/** A stream that said nothing for this long has said all there is for now. */
const QUIET_MS = 60
const STREAMED_BYTES_MAX = 1_048_576
const STREAMS = /event-stream|text\/plain|ndjson/

const parsed = (text: string): unknown => {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The text of the first text frame; output of a command comes in binary ones. Frames of a server are not masked. */
function firstText(bytes: Buffer): string | undefined {
  for (let at = 0; at + 2 <= bytes.length;) {
    const opcode = (bytes[at] ?? 0) & 0x0f
    let length = (bytes[at + 1] ?? 0) & 0x7f
    let from = at + 2
    if (length === 126) {
      length = bytes.readUInt16BE(from)
      from += 2
    }
    if (from + length > bytes.length) return undefined
    if (opcode === 1) return bytes.toString('utf8', from, from + length)
    at = from + length
  }
  return undefined
}

async function upgraded(response: http.IncomingMessage, socket: Socket, head: Buffer): Promise<Answer> {
  let bytes = head
  socket.on('error', () => {})
  const text = await new Promise<string>((resolve) => {
    const late = setTimeout(() => resolve(''), QUIET_MS * 10)
    const end = (it: string): void => {
      clearTimeout(late)
      resolve(it)
    }
    const look = (): void => {
      const found = firstText(bytes)
      if (found !== undefined) end(found)
    }
    socket.on('data', (more: Buffer) => {
      bytes = Buffer.concat([bytes, more])
      look()
    })
    socket.once('close', () => end(firstText(bytes) ?? ''))
    look()
  })
  socket.destroy()
  return { status: response.statusCode ?? 0, type: '', headers: response.headers, text, body: parsed(text) }
}

/** Reads an answer whole; of a stream, what it says until it falls quiet. */
async function read(response: http.IncomingMessage): Promise<Answer> {
  const { statusCode: status = 0, headers } = response
  const type = headers['content-type'] ?? ''
  const streams = STREAMS.test(type)
  const chunks: Buffer[] = []
  let size = 0
  const text = await new Promise<string>((resolve, reject) => {
    const done = (): void => {
      clearTimeout(quiet)
      resolve(Buffer.concat(chunks).toString('utf8'))
    }
    const quiet = setTimeout(
      () => {
        done()
        response.destroy()
      },
      streams ? QUIET_MS : ASK_MS_MAX,
    )
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (streams) quiet.refresh()
      if (size > STREAMED_BYTES_MAX && streams) response.destroy()
    })
    response.once('end', done)
    response.once('close', done)
    response.once('error', reject)
  })
  return { status, type, headers, text, body: streams ? undefined : parsed(text) }
}

export type Asker = Disposable & { ask(question: Question): Promise<Answer> }

/** A client that sends what it is told, also what no honest client would send. */
export function openAsker(url: string): Asker {
  const { hostname, port } = new URL(url)
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
  return {
    ask: async ({ socketPath, method, path, headers = [], body, upgrade = false }) =>
      await new Promise<Answer>((resolve, reject) => {
        const all: string[] = ['host', `${hostname}:${port}`, ...headers.flat()]
        if (body !== undefined && !headers.some(([name]) => name.toLowerCase() === 'content-length'))
          all.push('content-length', String(Buffer.byteLength(body)))
        if (upgrade) all.push('connection', 'Upgrade', 'upgrade', 'websocket', 'sec-websocket-version', '13')
        if (upgrade) all.push('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ==')
        const request = http.request({
          ...(socketPath === undefined ? { hostname, port } : { socketPath }),
          method,
          path,
          headers: all,
          timeout: ASK_MS_MAX,
          ...(upgrade ? {} : { agent }),
        })
        request.once('response', (response) => read(response).then(resolve, reject))
        request.once('upgrade', (response, socket, head) =>
          upgraded(response, socket as Socket, head).then(resolve, reject),
        )
        request.once('timeout', () => request.destroy(new Error(`${method} ${path} got no answer`)))
        request.once('error', reject)
        request.end(body)
      }),
    [Symbol.dispose]: () => agent.destroy(),
  }
}
