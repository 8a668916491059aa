import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  clientFaults,
  drain,
  endWith,
  handedServer,
  type HttpLimits,
  type ListenerOptions,
} from './listener.ts'

/** What one replica may take of the server, beside the limits of every connection. */
export const INSIDE_LIMITS = {
  /** Requests that are being answered at once; the others wait for one of these to end. */
  answeringMax: 16,
  /** Requests that wait; a connection that brings one more is closed. */
  waitingMax: 256,
  /** A connection on which nothing came or went for so long is closed. */
  idleMs: 600_000,
}
export type InsideLimits = typeof INSIDE_LIMITS

export type InsideOptions = Pick<ListenerOptions, 'onRequest' | 'onUpgrade' | 'clock'> & {
  readonly limits: HttpLimits & InsideLimits
  /** The body, in JSON, of the answer to what never became a request: broken, too large or too slow. */
  readonly broken: (detail: string) => unknown
}

/** One HTTP server for the connections of all replicas' own sockets. */
export type Inside = {
  /** Takes a connection that came by this replica's socket. */
  accept(socket: Socket, replica: string): void
  /** Takes no more requests, lets those being answered end, then closes every connection. */
  close(): Promise<void>
}

const replicas = new WeakMap<Duplex, string>()

/** The replica whose own socket a connection came by; undefined for one that came by a network. */
export const replicaOf = (socket: Duplex): string | undefined => replicas.get(socket)

/** What one replica has asked. */
type Lane = { answering: number; readonly waiting: (() => void)[] }

/**
 * Each replica has so many requests answered at once, and the next begin one by one between those of the others: a flood
 * on one socket waits for itself.
 */
export function openInside(options: InsideOptions): Inside {
  const { limits } = options
  const lanes = new Map<string, Lane>()
  const sockets = new Set<Socket>()
  let closing = false

  const next = (replica: string, lane: Lane): void => {
    lane.answering--
    const waiting = lane.waiting.shift()
    if (waiting) waiting()
    else if (lane.answering === 0) lanes.delete(replica)
  }
  const onRequest = (request: IncomingMessage, response: ServerResponse<IncomingMessage>): void => {
    const replica = replicaOf(request.socket)
    // Of a connection that has ended since.
    if (replica === undefined || request.socket.destroyed) return
    const lane = lanes.get(replica) ?? { answering: 0, waiting: [] }
    lanes.set(replica, lane)
    const begin = (): void => {
      lane.answering++
      // After what others asked meanwhile.
      const ended = (): void => void setImmediate(next, replica, lane)
      if (response.destroyed || request.socket.destroyed) return ended()
      response.once('close', ended)
      options.onRequest(request, response as ServerResponse<IncomingMessage> & { req: IncomingMessage })
    }
    if (lane.answering < limits.answeringMax) begin()
    else if (lane.waiting.length < limits.waitingMax) lane.waiting.push(begin)
    else request.socket.destroy()
  }

  const server = handedServer({ ...options, onRequest }, () => closing)
  server.on(
    'clientError',
    clientFaults((socket, _status, detail) =>
      endWith(socket, '400 Bad Request', 'application/json', JSON.stringify(options.broken(detail))),
    ),
  )
  server.timeout = limits.idleMs
  return {
    accept(socket, replica) {
      if (closing) return void socket.destroy()
      replicas.set(socket, replica)
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      server.emit('connection', socket)
    },
    async close() {
      closing = true
      server.close(() => {})
      const ended = Promise.all(
        [...sockets].map(async (it) => await new Promise((resolve) => it.once('close', resolve))),
      )
      await drain([server], ended, options)
      for (const socket of sockets) socket.destroy()
      await ended
    },
  }
}
