import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Ids } from '#lib/ids.ts'
import { replicaOf } from './inside.ts'

export const REQUEST_ID_HEADER = 'x-request-id'
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,64}$/
/** Heads that have a number at most; then others get new ones. */
const HEADS_MAX = 4096
const HEAD_LENGTH_MAX = 2048

/** The id that a client gave its request, where that is of the right form; else a new one. */
export const requestIdOf = (given: unknown, ids: Ids): string =>
  typeof given === 'string' && REQUEST_ID.test(given) ? given : ids.next()

/** The headers of a request as they were sent, but for its id, with where it came from. */
export type RequestHead = {
  /** The same for equal ones, and never for others. */
  readonly number: number
  /** As it was given. */
  readonly requestId: string | undefined
}

type Sent = Pick<IncomingMessage, 'socket' | 'rawHeaders'>
type Last = { readonly number: number; readonly raw: readonly string[]; readonly idAt: number }
/** What all requests of a connection have in common, and the last of them. */
type Connection = { readonly place: string; last?: Last }

/** Where a connection comes from, as far as an answer may depend on it. */
const placeOf = (socket: Socket & { encrypted?: boolean }, dialect = ''): string =>
  [dialect, replicaOf(socket) ?? '', socket.remoteAddress ?? '', socket.encrypted ? 'tls' : ''].join(' ')

/** Where names and values are the same, but for the value at `but`. */
function isSame(one: readonly string[], other: readonly string[], but: number): boolean {
  if (one.length !== other.length) return false
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at] && at !== but) return false
  return true
}

/** Where the value of a request's id is: -1 where there is none, undefined for several. */
function idAtOf(raw: readonly string[]): number | undefined {
  let found = -1
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? ''
    if (name.length !== REQUEST_ID_HEADER.length || name.toLowerCase() !== REQUEST_ID_HEADER) continue
    if (found >= 0) return undefined
    found = at + 1
  }
  return found
}

/** Gives equal heads a number. A connection's next request has mostly the head of its last, which is seen at once. */
export function openRequestHeads() {
  const connections = new WeakMap<Socket, Connection>()
  const numbers = new Map<string, number>()
  let made = 0
  const numberOf = (place: string, raw: readonly string[], idAt: number): number | undefined => {
    let text = place
    // No name or value has a line break in it.
    for (let at = 0; at < raw.length; at++) if (at !== idAt) text += `\n${raw[at]}`
    if (text.length > HEAD_LENGTH_MAX) return undefined
    // A token in it is not kept for longer than its connection.
    const digest = hash('sha256', text, 'base64')
    const known = numbers.get(digest)
    if (known !== undefined) return known
    if (numbers.size >= HEADS_MAX) numbers.clear()
    numbers.set(digest, ++made)
    return made
  }
  return {
    /** Undefined for one that is too long, or has several ids. `dialect`: the one that its listener serves alone. */
    of({ socket, rawHeaders: raw }: Sent, dialect: string | undefined): RequestHead | undefined {
      let it = connections.get(socket)
      if (!it) connections.set(socket, (it = { place: placeOf(socket, dialect) }))
      const { last } = it
      if (last && isSame(raw, last.raw, last.idAt))
        return { number: last.number, requestId: last.idAt < 0 ? undefined : raw[last.idAt] }
      const idAt = idAtOf(raw)
      const number = idAt === undefined ? undefined : numberOf(it.place, raw, idAt)
      if (idAt === undefined || number === undefined) return undefined
      it.last = { number, raw, idAt }
      return { number, requestId: idAt < 0 ? undefined : raw[idAt] }
    },
  }
}
