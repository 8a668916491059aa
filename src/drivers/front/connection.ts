import type { Socket } from 'node:net'
import { AnswerReader, type Hearer } from './answers.ts'
import type { Headers } from './headers.ts'
import type { FrontLimits } from './limits.ts'

/** A request as it goes to an origin, over HTTP/1.1. Path and headers hold nothing that ends a line. */
export type Request = {
  readonly method: string
  readonly path: string
  /** Without those of the connection and of the body's framing. */
  readonly headers: Headers
  readonly body: AsyncIterable<Buffer> | undefined
  /** Bytes of the body; undefined: it ends where it ends. */
  readonly length: number | undefined
}

/** Who asks, and hears of the answer. After `end`, `fail` or an `abort` of its own it hears nothing more. */
export type Asker = Hearer & {
  /** It goes out now, over this connection. */
  sent(over: Talk): void
  /** There is no whole answer. `ETIMEDOUT` is the code of what came too late. */
  fail(error: Error): void
}

/** One answer as it comes. */
export type Talk = {
  pause(): void
  resume(): void
  /** Nobody wants it any more: ends the connection. */
  abort(): void
}

export type ConnectionOptions = {
  readonly now: () => number
  readonly limits: Pick<FrontLimits, 'originKeepAliveMsMax' | 'answerMsMax' | 'idleMsMax' | 'headerBytesMax'>
}

/** The origin may count from earlier than we do. */
const KEPT_MARGIN_MS = 1000
/** Answers have longer heads than requests: policies, cookies. */
const HEADS = 4
/** They say how long their body is, also when there is none. */
const WITH_BODY = new Set(['POST', 'PUT', 'PATCH'])

export const lateError = (message: string): Error => Object.assign(new Error(message), { code: 'ETIMEDOUT' })

function headOf({ method, path, headers, body, length }: Request): string {
  let text = `${method} ${path} HTTP/1.1\r\n`
  for (let it = 0; it < headers.length; it += 2) text += `${headers[it]}: ${headers[it + 1]}\r\n`
  if (body) text += length === undefined ? 'transfer-encoding: chunked\r\n' : `content-length: ${length}\r\n`
  else if (WITH_BODY.has(method)) text += 'content-length: 0\r\n'
  return `${text}connection: keep-alive\r\n\r\n`
}

/** A connection to an origin: one request at a time, each with its answer. */
export class Connection implements Talk, Hearer {
  readonly #socket: Socket
  readonly #reader: AnswerReader
  readonly #options: ConnectionOptions
  readonly #onRest: (it: Connection) => void
  #asker: Asker | undefined
  #isSending = false
  #hasBegun = false
  /** When what is waited for is late; of one that rests, when it has rested for too long. */
  #until = Infinity
  #restsSince = 0
  /** When what is being read came. */
  #readAt = 0

  /** `onRest` when it can be asked again, `onClose` when it never can. */
  constructor(
    socket: Socket,
    options: ConnectionOptions,
    on: { readonly rest: (it: Connection) => void; readonly close: (it: Connection) => void },
  ) {
    this.#socket = socket
    this.#options = options
    this.#onRest = on.rest
    this.#reader = new AnswerReader(options.limits.headerBytesMax * HEADS)
    let why: Error | undefined
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    socket.on('error', (error) => (why = error))
    socket.on('end', () => {
      this.#reader.close()
      socket.destroy()
    })
    socket.on('close', () => {
      on.close(this)
      this.#fail(why ?? new Error('the origin closed the connection'))
    })
  }

  isUsable(now: number): boolean {
    return !this.#socket.destroyed && now < this.#until
  }
  restedMs(now: number): number {
    return now - this.#restsSince
  }
  destroy(): void {
    this.#socket.destroy()
  }
  /** Ends it when it is late. */
  look(): void {
    if (this.#options.now() < this.#until) return
    this.#fail(lateError(this.#hasBegun ? 'the answer did not go on in time' : 'no answer in time'))
    this.#socket.destroy()
  }

  ask(request: Request, asker: Asker): void {
    this.#asker = asker
    this.#hasBegun = false
    this.#reader.expect(request.method, this)
    asker.sent(this)
    if (this.#asker !== asker) return
    this.#socket.write(headOf(request), 'latin1')
    if (request.body) void this.#send(request.body, request.length)
    else this.#await(this.#options.limits.answerMsMax)
  }

  begin(status: number, message: string, headers: Headers): void {
    this.#hasBegun = true
    this.#until = this.#readAt + this.#options.limits.idleMsMax
    this.#asker?.begin(status, message, headers)
  }
  data(chunk: Buffer): void {
    this.#until = this.#readAt + this.#options.limits.idleMsMax
    this.#asker?.data(chunk)
  }
  end(): void {
    const asker = this.#asker
    this.#asker = undefined
    asker?.end()
  }

  pause(): void {
    this.#socket.pause()
    this.#until = Infinity
  }
  resume(): void {
    this.#await(this.#options.limits.idleMsMax)
    this.#socket.resume()
  }
  abort(): void {
    this.#asker = undefined
    this.#socket.destroy()
  }

  #await(ms: number): void {
    this.#until = this.#options.now() + ms
  }

  #fail(error: Error): void {
    const asker = this.#asker
    this.#asker = undefined
    asker?.fail(error)
  }

  #read(bytes: Buffer): void {
    this.#readAt = this.#options.now()
    try {
      this.#reader.read(bytes)
    } catch (error) {
      this.#fail(error as Error)
      this.#socket.destroy()
    }
    if (this.#reader.isOver && !this.#socket.destroyed) this.#rest()
  }

  #rest(): void {
    const { isKept, keptMs = Infinity } = this.#reader
    const { limits } = this.#options
    const restsMs = Math.min(limits.originKeepAliveMsMax, keptMs - KEPT_MARGIN_MS)
    // An answer that came before the whole request leaves a connection on which the next would begin amid this one.
    if (!isKept || this.#isSending || restsMs <= 0) return void this.#socket.destroy()
    // Whoever paused the answer at its end waits for nothing more of it.
    this.#socket.resume()
    this.#restsSince = this.#readAt
    this.#until = this.#restsSince + restsMs
    this.#onRest(this)
  }

  /** The body, at the pace of the origin. */
  async #send(body: AsyncIterable<Buffer>, length: number | undefined): Promise<void> {
    const [socket, asker] = [this.#socket, this.#asker]
    let left = length ?? Infinity
    this.#isSending = true
    // Whoever gives the body sees to its pace.
    this.#until = Infinity
    try {
      for await (const chunk of body) {
        if (this.#asker !== asker || socket.destroyed) return
        if (chunk.length === 0) continue
        left -= chunk.length
        if (left < 0) throw new Error('the body is longer than was said')
        if (length === undefined) {
          socket.cork()
          socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1')
          socket.write(chunk)
          socket.write('\r\n', 'latin1')
          socket.uncork()
        } else socket.write(chunk)
        if (!socket.writableNeedDrain) continue
        this.#await(this.#options.limits.idleMsMax)
        await this.#drained()
        this.#until = Infinity
      }
      if (this.#asker !== asker) return
      if (length === undefined) socket.write('0\r\n\r\n', 'latin1')
      else if (left > 0) throw new Error('the body is shorter than was said')
      this.#isSending = false
      this.#await(this.#hasBegun ? this.#options.limits.idleMsMax : this.#options.limits.answerMsMax)
    } catch (error) {
      if (this.#asker === asker) this.#fail(error as Error)
      socket.destroy()
    }
  }

  async #drained(): Promise<void> {
    const socket = this.#socket
    await new Promise<void>((resolve) => {
      const go = (): void => {
        socket.off('drain', go).off('close', go)
        resolve()
      }
      socket.on('drain', go).on('close', go)
    })
  }
}
