import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { adopt, FLAG, type Query, RCODE, readMessage, sameQuestion, writeForward } from './wire.ts'
import type { Cache } from './cache.ts'

const ATTEMPTS_MAX = 3
/** Packets to a query's port that are not its answer: more than a mistake explains, so the attempt is given up. */
const STRAY_PACKETS_MAX = 32
const ID_LIMIT = 0x1_0000

export type Forwarder = {
  /** The answer of the first of these resolvers that has one; undefined when none has, or too much is under way. */
  ask(caller: string, query: Query, nameservers: readonly string[]): Promise<Buffer | undefined>
  /** Gives up what is under way. */
  close(): void
}

type Attempt = {
  readonly server: string
  readonly port: number
  readonly message: Buffer
  readonly accepts: (answer: Buffer) => boolean
  readonly signal: AbortSignal
}

/** One packet there and its answer back, from a port the kernel picks at random; only this server's packets reach it. */
function askUdp({ server, port, message, accepts, signal }: Attempt): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4')
    let strays = 0
    const end = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.removeAllListeners()
      socket.on('error', () => {})
      socket.close()
      settle()
    }
    const fail = (error: Error): void => end(() => reject(error))
    const onAbort = (): void => fail(signal.reason as Error)
    signal.addEventListener('abort', onAbort)
    socket.once('error', fail)
    socket.on('message', (answer) => {
      if (accepts(answer)) end(() => resolve(answer))
      else if (++strays >= STRAY_PACKETS_MAX) fail(new Error('too many packets that are no answer'))
    })
    // Node calls back with the error, too, of which its types know nothing: no route, for one.
    const connected = (error?: Error): void => (error ? fail(error) : socket.send(message))
    socket.connect(port, server, connected)
  })
}

/** The same by TCP, for an answer that did not fit into a packet. */
function askTcp({ server, port, message, accepts, signal }: Attempt): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server, port })
    let received: Buffer = Buffer.alloc(0)
    const end = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      settle()
    }
    const fail = (error: Error): void => end(() => reject(error))
    const onAbort = (): void => fail(signal.reason as Error)
    signal.addEventListener('abort', onAbort)
    socket.on('error', fail)
    socket.once('end', () => fail(new Error('connection ended before the answer')))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]) // ends at 64 KiB: the length has two bytes
      const length = received.length < 2 ? Infinity : received.readUInt16BE(0) + 2
      if (received.length < length) return
      const answer = received.subarray(2, length)
      if (accepts(answer)) end(() => resolve(answer))
      else fail(new Error('an answer to something else'))
    })
    const prefix = Buffer.alloc(2)
    prefix.writeUInt16BE(message.length)
    socket.write(Buffer.concat([prefix, message]))
  })
}

/** Codes that say more about the server than about the name: the next one is asked. */
const isNoAnswer = (rcode: number): boolean =>
  rcode === RCODE.SERVFAIL || rcode === RCODE.REFUSED || rcode === RCODE.NOTIMP || rcode === RCODE.FORMERR

const isTruncated = (answer: Buffer): boolean => (answer.readUInt16BE(2) & FLAG.TC) !== 0

/** Whether bytes are a response to this query, sent under this id. */
function isAnswerTo(query: Query, id: number, answer: Buffer): boolean {
  const message = readMessage(answer)
  if (!message?.isResponse || message.id !== id || message.opcode !== 0) return false
  const [question, ...more] = message.questions
  return question !== undefined && !more.length && sameQuestion(question, query.question)
}

type How = {
  readonly port: number
  readonly attemptMsMax: number
  /** Aborts when the forwarder closes. */
  readonly closed: AbortSignal
}

async function askOnce(query: Query, server: string, how: How): Promise<Buffer> {
  const id = randomInt(ID_LIMIT)
  const signal = AbortSignal.any([how.closed, AbortSignal.timeout(how.attemptMsMax)])
  const accepts = (answer: Buffer): boolean => isAnswerTo(query, id, answer)
  const attempt = { server, port: how.port, message: writeForward(query, id), accepts, signal }
  const answer = await askUdp(attempt)
  return isTruncated(answer) ? await askTcp(attempt) : answer
}

/** The first answer worth giving; undefined when every attempt ended without one. */
async function askAll(query: Query, servers: readonly string[], how: How): Promise<Buffer | undefined> {
  let last: Buffer | undefined
  for (let attempt = 0; attempt < ATTEMPTS_MAX && servers.length && !how.closed.aborted; attempt++) {
    const server = servers[attempt % servers.length] ?? ''
    try {
      const answer = await askOnce(query, server, how)
      if (!isNoAnswer(answer.readUInt16BE(2) & 0xf)) return answer
      last = answer
      if (attempt + 1 >= servers.length) break // the same one would say the same again
    } catch {
      // No answer in time, or nobody there: the next one may know.
    }
  }
  return last
}

const keyOf = (query: Query, nameservers: readonly string[]): string =>
  [
    nameservers.join(),
    query.question.bytes.toString('latin1').toLowerCase(),
    query.flags & (FLAG.AD | FLAG.CD),
    query.edns ? Number(query.edns.dnssec) : '',
  ].join('|')

/**
 * Asks other resolvers. The same question is under way once, whoever asks; at most `inFlightMax` questions of all callers
 * and `perCallerMax` of one wait at a time.
 */
export function createForwarder(options: {
  readonly cache: Cache
  readonly port: number
  readonly inFlightMax: number
  readonly perCallerMax: number
  readonly attemptMsMax: number
}): Forwarder {
  const { cache, inFlightMax, perCallerMax } = options
  const closing = new AbortController()
  const how: How = { ...options, closed: closing.signal }
  const underWay = new Map<string, Promise<Buffer | undefined>>()
  const waiting = new Map<string, number>()
  let total = 0

  const shared = (key: string, query: Query, nameservers: readonly string[]): Promise<Buffer | undefined> => {
    const running = underWay.get(key)
    if (running) return running
    const asked = askAll(query, nameservers, how)
      .then((answer) => {
        if (answer) cache.put(key, answer)
        return answer
      })
      .finally(() => underWay.delete(key))
    underWay.set(key, asked)
    return asked
  }

  return {
    async ask(caller, query, nameservers) {
      const key = keyOf(query, nameservers)
      const kept = cache.get(key)
      if (kept) return adopt(query, kept)
      const mine = waiting.get(caller) ?? 0
      if (total >= inFlightMax || mine >= perCallerMax) return undefined
      total++
      waiting.set(caller, mine + 1)
      try {
        const answer = await shared(key, query, nameservers)
        return answer && adopt(query, answer)
      } finally {
        total--
        const left = (waiting.get(caller) ?? 1) - 1
        if (left) waiting.set(caller, left)
        else waiting.delete(caller)
      }
    },
    close: () => closing.abort(new Error('the resolver is closing')),
  }
}
