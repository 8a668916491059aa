import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { type Duplex, pipeline } from 'node:stream'
import { request as ask } from '#lib/http.ts'
import type { Asked } from './exchange.ts'
import { pathFor } from './forward.ts'
import { requestHeaders, responseHeaders } from './headers.ts'
import type { FrontLimits } from './limits.ts'
import type { Origins } from './origins.ts'
import { splice } from './splice.ts'
import type { ServedRoute } from './table.ts'
import type { Visit } from './traffic.ts'

/** A head and a short text on a connection that has no response object any more. */
export function sayOnSocket(
  socket: Duplex,
  status: string,
  message: string,
  headers: readonly string[] = [],
): void {
  const lines = headers.flatMap((it, at) => (at % 2 ? [] : [`${it}: ${headers[at + 1] ?? ''}\r\n`])).join('')
  const text = `${message}\n`
  const length = Buffer.byteLength(text)
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${length}\r\n${lines}Connection: close\r\n\r\n${text}`,
  )
  // Whoever does not read it is not waited for.
  socket.once('finish', () => socket.destroy())
}

const headOf = (response: IncomingMessage, headers: readonly string[]): string => {
  const lines = headers.flatMap((it, at) => (at % 2 ? [] : [`${it}: ${headers[at + 1] ?? ''}\r\n`])).join('')
  return `HTTP/1.1 ${response.statusCode} ${response.statusMessage}\r\n${lines}`
}

/** Passes a WebSocket through to an origin of the route, and the origin's refusal if it does not want it. */
export async function passWebSocket(options: {
  readonly exchange: Asked
  readonly served: ServedRoute
  readonly visit: Visit
  readonly client: Duplex
  readonly head: Buffer
  readonly origins: Origins
  readonly limits: FrontLimits
}): Promise<void> {
  const { exchange, served, visit, client, head, origins, limits } = options
  const { route } = served
  const reached = await origins.reach(route.id, visit)
  if (!reached || client.destroyed) {
    visit.end({ status: 503, fault: reached ? 'the client left' : 'no origin is ready' })
    reached?.socket.destroy()
    const retry = ['retry-after', String(limits.retryAfterSeconds)]
    return sayOnSocket(
      client,
      '503 Service Unavailable',
      `Nothing behind ${exchange.host} is ready to answer.`,
      retry,
    )
  }
  const { socket } = reached
  const strips = route.stripPrefix && route.pathPrefix !== '/'
  const headers = requestHeaders(exchange.headers, {
    client: exchange.client,
    host: exchange.host ?? '',
    encrypted: exchange.encrypted,
    prefix: strips ? route.pathPrefix : undefined,
  })
  const asked = ask({
    createConnection: () => socket,
    method: 'GET',
    path: pathFor(served, exchange.target),
    headers: [...headers, 'connection', 'Upgrade', 'upgrade', 'websocket'],
    timeout: limits.answerMsMax,
    maxHeaderSize: limits.headerBytesMax * 4,
  })
  let isAnswered = false
  const failed = (why: string): void => {
    asked.destroy()
    socket.destroy()
    // What were said amid an answer would be taken for a part of it; that it breaks off is seen where it is carried.
    if (isAnswered) return
    visit.end({ status: 502, fault: why })
    sayOnSocket(client, '502 Bad Gateway', `What is behind ${exchange.host} did not answer.`)
  }
  const left = (): void => {
    asked.destroy()
    visit.end({ status: 502, fault: 'the client left' })
  }
  client.once('close', left)
  asked.once('timeout', () => failed('no answer in time'))
  asked.once('error', (error) => failed(error.message))
  asked.once('upgrade', (response: IncomingMessage, upgraded: Socket, first: Buffer) => {
    client.off('close', left)
    client.write(
      `${headOf(response, responseHeaders(response.rawHeaders))}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    )
    if (first.length) upgraded.unshift(first)
    if (head.length) client.unshift(head)
    splice({ client, origin: upgraded, visit, idleMsMax: limits.idleMsMax, status: 101 })
  })
  asked.once('response', (response) => {
    isAnswered = true
    const returned = responseHeaders(response.rawHeaders)
    client.write(`${headOf(response, returned)}Connection: close\r\n\r\n`)
    response.on('data', (chunk: Buffer) => void (visit.sentBytes += chunk.length))
    client.off('close', left)
    pipeline(response, client, (error) => {
      socket.destroy()
      client.destroy()
      visit.end({ status: response.statusCode ?? 502, fault: error?.message })
    })
  })
  asked.end()
}
