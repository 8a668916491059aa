import { type Headers, isToken } from './headers.ts'

/** What is heard of one answer; nothing more after `end`. */
export type Hearer = {
  begin(status: number, message: string, headers: Headers): void
  data(chunk: Buffer): void
  end(): void
}

/** What an origin sent is no answer that can be read for certain. */
export class AnswerFault extends Error {
  override readonly name = 'AnswerFault'
}

const CR = 0x0d
const LF = 0x0a
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/
/** Control characters, and halves of a line's end. */
// oxlint-disable-next-line no-control-regex -- what must not be in a head is what this looks for
const BAD_HEAD = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n/
const LENGTH = /^\d{1,15}$/
const CHUNK_SIZE = /^([0-9a-f]{1,12})[\t ]*(?:;|$)/i
const KEPT_FOR = /(?:^|[,\s])timeout=(\d{1,9})/i
/** A chunk's size with what may follow it, or one line of a trailer. */
const LINE_BYTES_MAX = 4096
const TRAILER_LINES_MAX = 100

const isBlank = (code: number): boolean => code === 0x20 || code === 0x09

/** Without blanks around; those of other alphabets are part of it. */
function trimmed(text: string, from: number): string {
  let to = text.length
  while (from < to && isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

type Framing = {
  lengths: number
  length: number
  isChunked: boolean
  /** HTTP/1.0, which knows no encoding and keeps no connection. */
  readonly isOld: boolean
  isClosed: boolean
  keptMs: number | undefined
}

/** Notes what a header says of where the answer ends and of the connection. */
function note(framing: Framing, name: string, value: string): void {
  switch (name.toLowerCase()) {
    case 'content-length':
      if (framing.lengths++ || !LENGTH.test(value))
        throw new AnswerFault('the length of the answer is unclear')
      framing.length = Number(value)
      return
    case 'transfer-encoding':
      if (framing.isChunked || value.toLowerCase() !== 'chunked')
        throw new AnswerFault('the encoding of the answer is not known')
      framing.isChunked = true
      return
    case 'connection':
      if (/(?:^|[,\s])close(?:$|[,\s])/i.test(value)) framing.isClosed = true
      return
    case 'keep-alive': {
      const seconds = KEPT_FOR.exec(value)?.[1]
      if (seconds !== undefined) framing.keptMs = Number(seconds) * 1000
    }
  }
}

/**
 * Reads the answers that come over one connection, one after another (RFC 9112), in pieces as they come. What is not
 * certain throws AnswerFault, after which nothing more may be read: a second length, a length beside an encoding, an
 * encoding but `chunked`, folded headers, control characters, lines that end otherwise, bytes that nobody asked for.
 */
export class AnswerReader {
  readonly #headBytesMax: number
  #state: 'none' | 'head' | 'length' | 'close' | 'size' | 'chunk' | 'after chunk' | 'trailer' = 'none'
  #method = ''
  #hearer: Hearer | undefined
  /** The part of a head or line that came so far. */
  #held: Buffer | undefined
  #left = 0
  #trailerLines = 0
  /** Whether the connection may be used again, once the answer is over. */
  isKept = false
  /** For how long the origin said that it keeps an unused connection; undefined when it did not. */
  keptMs: number | undefined

  constructor(headBytesMax: number) {
    this.#headBytesMax = headBytesMax
  }

  /** No answer is waited for. */
  get isOver(): boolean {
    return this.#state === 'none'
  }

  /** Waits for the answer to a request of this method. */
  expect(method: string, hearer: Hearer): void {
    this.#method = method
    this.#hearer = hearer
    this.#state = 'head'
    this.isKept = false
  }

  read(bytes: Buffer): void {
    for (let rest: Buffer | undefined = bytes; rest?.length;) rest = this.#step(rest)
  }

  /** The origin ended its side: true when that was the end of the answer. */
  close(): boolean {
    if (this.#state !== 'close') return false
    this.#end()
    return true
  }

  /** Reads some and gives what is left. */
  #step(bytes: Buffer): Buffer | undefined {
    switch (this.#state) {
      case 'none':
        throw new AnswerFault('the origin sent what nobody asked for')
      case 'head':
        return this.#head(bytes)
      case 'close':
        this.#hearer?.data(bytes)
        return undefined
      case 'length':
      case 'chunk':
        return this.#body(bytes)
      default:
        return this.#line(bytes)
    }
  }

  #body(bytes: Buffer): Buffer | undefined {
    const taken = Math.min(bytes.length, this.#left)
    this.#left -= taken
    this.#hearer?.data(taken === bytes.length ? bytes : bytes.subarray(0, taken))
    if (this.#left === 0) {
      if (this.#state === 'length') this.#end()
      else this.#state = 'after chunk'
    }
    return bytes.subarray(taken)
  }

  /** Bytes up to an end mark, with those held before; undefined while it has not come. */
  #until(mark: string, bytes: Buffer, max: number): { text: string; rest: Buffer } | undefined {
    const held = this.#held?.length ?? 0
    const all = this.#held ? Buffer.concat([this.#held, bytes]) : bytes
    const end = all.indexOf(mark, Math.max(0, held - mark.length), 'latin1')
    const line = end < 0 ? all.indexOf(LF, held) : -1
    if (line >= 0 && all[line - 1] !== CR) throw new AnswerFault('a line of the answer ends without CR')
    if ((end < 0 ? all.length : end) > max) throw new AnswerFault('the head of the answer is too long')
    this.#held = end < 0 ? Buffer.from(all) : undefined
    return end < 0
      ? undefined
      : { text: all.toString('latin1', 0, end), rest: all.subarray(end + mark.length) }
  }

  #head(bytes: Buffer): Buffer | undefined {
    const found = this.#until('\r\n\r\n', bytes, this.#headBytesMax)
    if (!found) return undefined
    const { text, rest } = found
    if (BAD_HEAD.test(text))
      throw new AnswerFault('the head of the answer holds a character that it must not')
    const [first = '', ...lines] = text.split('\r\n')
    const [, minor, status, message = ''] = STATUS_LINE.exec(first) ?? []
    if (status === undefined) throw new AnswerFault('the answer has no status')
    const code = Number(status)
    const isOld = minor === '0'
    const framing: Framing = {
      lengths: 0,
      length: 0,
      isChunked: false,
      isOld,
      isClosed: isOld,
      keptMs: undefined,
    }
    const headers: string[] = []
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, Math.max(0, colon))
      if (!isToken(name)) throw new AnswerFault('a header of the answer has no name')
      const value = trimmed(line, colon + 1)
      headers.push(name, value)
      note(framing, name, value)
    }
    if (code === 101) throw new AnswerFault('the origin changed the protocol without being asked')
    if (code >= 100 && code < 200) return rest
    this.#begin(code, message, headers, framing)
    return rest
  }

  #begin(code: number, message: string, headers: Headers, framing: Framing): void {
    const { lengths, length, isChunked, isClosed, isOld } = framing
    if (isChunked && (lengths > 0 || isOld)) throw new AnswerFault('it is unclear where the answer ends')
    // A connection after HEAD is not trusted: some send the body all the same.
    this.isKept = !isClosed && this.#method !== 'HEAD'
    this.keptMs = framing.keptMs
    const isEmpty = this.#method === 'HEAD' || code === 204 || code === 304
    this.#hearer?.begin(code, message, headers)
    if (isEmpty || (lengths > 0 && length === 0)) return this.#end()
    if (isChunked) this.#state = 'size'
    else if (lengths > 0) {
      this.#state = 'length'
      this.#left = length
    } else {
      this.#state = 'close'
      this.isKept = false
    }
  }

  /** A chunk's size, what ends a chunk, and trailers, which go no further. */
  #line(bytes: Buffer): Buffer | undefined {
    const found = this.#until('\r\n', bytes, LINE_BYTES_MAX)
    if (!found) return undefined
    const { text, rest } = found
    if (BAD_HEAD.test(text)) throw new AnswerFault('a chunk of the answer is broken')
    if (this.#state === 'size') {
      const size = CHUNK_SIZE.exec(text)?.[1]
      if (size === undefined) throw new AnswerFault('a chunk of the answer has no size')
      this.#left = parseInt(size, 16)
      this.#trailerLines = 0
      this.#state = this.#left > 0 ? 'chunk' : 'trailer'
    } else if (this.#state === 'after chunk') {
      if (text !== '') throw new AnswerFault('a chunk of the answer is longer than it says')
      this.#state = 'size'
    } else if (text === '') this.#end()
    else if (++this.#trailerLines > TRAILER_LINES_MAX)
      throw new AnswerFault('the answer has too long a trailer')
    return rest
  }

  #end(): void {
    const hearer = this.#hearer
    this.#state = 'none'
    this.#hearer = undefined
    hearer?.end()
  }
}
