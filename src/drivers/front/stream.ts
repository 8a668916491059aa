import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Clock } from '#lib/clock.ts'
import type { FrontLimits } from './limits.ts'
import type { Origins } from './origins.ts'
import type { ServedRoute } from './table.ts'
import type { Visit } from './traffic.ts'
import { sayOnSocket } from './upgrade.ts'

/**
 * A client that offers this sub-protocol ends its half, and hears that the other ended, by an empty message. Others
 * (`cloudflared access`) know no half: the end of either is the end of both.
 */
export const HALF_CLOSE = 'arcus-half-close'

const CLOSE = { normal: 1000, away: 1001, unsupported: 1003, failed: 1011 } as const
/** After its close was sent, a peer has so long to send its own. */
const CLOSING_MS_MAX = 5000

export type Streams = {
  /** Makes the WebSocket and carries its messages as the bytes of one connection to an origin of the route. */
  carry(options: {
    readonly served: ServedRoute
    readonly visit: Visit
    readonly request: IncomingMessage
    readonly client: Duplex
    readonly head: Buffer
  }): Promise<void>
  /** Tells every client that the edge goes away. */
  close(): void
}

/** Bytes of the origin to the client, at the client's pace. */
function send(socket: WebSocket, origin: Socket, visit: Visit, limits: FrontLimits): void {
  origin.on('data', (chunk: Buffer) => {
    visit.sentBytes += chunk.length
    if (socket.readyState !== socket.OPEN) return
    socket.send(chunk, { binary: true }, () => {
      if (origin.isPaused() && socket.bufferedAmount < limits.waitingBytesMax / 2) origin.resume()
    })
    if (socket.bufferedAmount >= limits.waitingBytesMax) origin.pause()
  })
}

/**
 * Keeps what is between awake, and ends a client of which nothing was heard for long. Not after a few pings: one whose
 * program reads nothing for a while does not see them either.
 */
function keepAlive(socket: WebSocket, clock: Clock, limits: FrontLimits): () => void {
  let heardAt = clock.now()
  const heard = (): void => void (heardAt = clock.now())
  socket.on('pong', heard).on('message', heard)
  const timer = setInterval(() => {
    // What it would answer waits behind bytes that the origin does not take yet; a client ends itself over many such.
    if (socket.isPaused) return heard()
    if (clock.now() - heardAt > limits.idleMsMax) socket.terminate()
    else socket.ping()
  }, limits.pingMs)
  return () => clearInterval(timer)
}

type Context = { readonly origins: Origins; readonly clock: Clock; readonly limits: FrontLimits }

function join(socket: WebSocket, origin: Socket, visit: Visit, { clock, limits }: Context): void {
  const knowsHalves = socket.protocol === HALF_CLOSE
  const stopPings = keepAlive(socket, clock, limits)
  let clientEnded = false
  let originEnded = false
  let fault: string | undefined
  const endIfBoth = (): void => {
    if (clientEnded && originEnded) socket.close(CLOSE.normal)
  }
  socket.on('message', (data: Buffer, isBinary) => {
    if (!isBinary) {
      fault = 'the client sent text'
      return socket.close(CLOSE.unsupported, 'only binary messages are carried')
    }
    if (!data.length) {
      if (!knowsHalves || clientEnded) return
      clientEnded = true
      origin.end()
      return endIfBoth()
    }
    visit.receivedBytes += data.length
    if (clientEnded || origin.writableEnded || origin.write(data)) return
    socket.pause()
    origin.once('drain', () => socket.resume())
  })
  send(socket, origin, visit, limits)
  const onOriginEnd = (): void => {
    originEnded = true
    if (!knowsHalves) return socket.close(CLOSE.normal)
    if (socket.readyState === socket.OPEN) socket.send(Buffer.alloc(0))
    endIfBoth()
  }
  // One that sent nothing may have ended before anybody listened.
  if (origin.readableEnded) onOriginEnd()
  else origin.once('end', onOriginEnd)
  origin.on('error', (error) => (fault ??= `the origin's connection broke: ${error.message}`))
  origin.on('close', () => {
    // A paused client would not hear of it.
    socket.resume()
    if (socket.readyState !== socket.OPEN) return
    if (originEnded) socket.close(CLOSE.normal)
    else socket.close(CLOSE.failed, 'the connection to the origin broke')
  })
  socket.on('error', (error) => (fault ??= error.message))
  socket.on('close', (code) => {
    stopPings()
    if (code === CLOSE.normal) origin.end()
    else origin.destroy()
    setTimeout(() => origin.destroy(), CLOSING_MS_MAX).unref()
    visit.end({ status: 101, fault: fault ?? (code === 1006 ? 'the client left' : undefined) })
  })
}

export function createStreams(context: Context): Streams {
  const { origins, limits } = context
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    clientTracking: true,
    maxPayload: limits.messageBytesMax,
    handleProtocols: (offered) => (offered.has(HALF_CLOSE) ? HALF_CLOSE : false),
  })
  server.on('wsClientError', (_, socket) => {
    sayOnSocket(socket, '400 Bad Request', 'This is no WebSocket of version 13.')
  })
  return {
    async carry({ served, visit, request, client, head }) {
      const reached = await origins.reach(served.route.id, visit)
      if (!reached || client.destroyed) {
        visit.end({ status: 503, fault: reached ? 'the client left' : 'no origin is ready' })
        reached?.socket.destroy()
        const retry = ['retry-after', String(limits.retryAfterSeconds)]
        return sayOnSocket(
          client,
          '503 Service Unavailable',
          'Nothing behind this name is ready to answer.',
          retry,
        )
      }
      const { socket: origin } = reached
      origin.pause()
      let isMade = false
      client.once('close', () => {
        if (isMade) return
        origin.destroy()
        visit.end({ status: 400, fault: 'no WebSocket' })
      })
      server.handleUpgrade(request, client, head, (socket) => {
        isMade = true
        join(socket, origin, visit, context)
        origin.resume()
      })
    },
    close() {
      for (const it of server.clients) it.close(CLOSE.away, 'the edge stops')
    },
  }
}
