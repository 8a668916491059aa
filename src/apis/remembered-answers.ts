import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, onSendHookHandler } from 'fastify'
import type { Cloud } from '#cloud/cloud.ts'
import type { Ids } from '#lib/ids.ts'
import type { HttpLimits } from './listener.ts'
import { openRequestHeads, REQUEST_ID_HEADER, requestIdOf } from './request-heads.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Its answer is made of the caller, the request and what `Cloud.moment` speaks of, and of nothing else. */
    remembered?: boolean
  }
}

const OK = 200
/** Requests of which it is known that they came before, at most; then that is forgotten. */
const SEEN_MAX = 4096
const URL_LENGTH_MAX = 1024
/** What an answer takes beside its text. */
const ENTRY_BYTES = 1024
/** With one of these a request is more than its head, or not of HTTP alone. */
const BEYOND_HEAD = ['content-length', 'transfer-encoding', 'upgrade', 'expect']

/** Notes a request that was answered: its id, and the milliseconds from it to the end of its answer. */
export type Note = (requestId: string, ms: number) => void

/** A request on its way to an answer that may be remembered. */
type Asked = {
  readonly key: string
  readonly moment: number
  again?: () => boolean
  parts?: Parts
}
/** JSON text that is the same for equal requests, and what follows it for each. */
type Parts = { readonly start: string; readonly end: (requestId: string) => string }
const asked = new WeakMap<IncomingMessage, Asked>()

/**
 * For who lets a request pass: its answer may be remembered. `again` is asked whenever an equal request comes, does what
 * must be done for each (it is counted), and says whether that one would pass as the same caller; with false it is answered
 * anew.
 */
export function passesAgain({ raw }: FastifyRequest, again: () => boolean): void {
  const it = asked.get(raw)
  if (!it) return
  const before = it.again
  it.again = before ? () => before() && again() : again
}

/** Sends JSON text whose end belongs to this request: it is made anew for each that gets the remembered start. */
export function sendInParts(
  reply: FastifyReply,
  start: string,
  end: (requestId: string) => string,
): FastifyReply {
  const { raw, id } = reply.request
  const it = asked.get(raw)
  if (it) it.parts = { start, end }
  return reply.type('application/json; charset=utf-8').send(start + end(id))
}

type Entry = {
  readonly again: () => boolean
  readonly start: string
  readonly startBytes: number
  readonly end: Parts['end'] | undefined
  /** Names and values in turn, without those that belong to one request. */
  readonly head: readonly string[]
  readonly note: Note
}

type Options = {
  readonly moment: Cloud['moment']
  readonly ids: Ids
  readonly limits: Pick<HttpLimits, 'rememberedBytesMax' | 'rememberedAnswerBytesMax'>
  /** How requests equal to one that is answered with this status are noted. */
  readonly notingOf: (request: FastifyRequest, status: number) => Note
  /** Called for each that is answered from memory. */
  readonly hit: () => void
}

export type RememberedAnswers = {
  /** Lets the routes of an app that say so be remembered; to be called before there are any. */
  serve(app: FastifyInstance): void
  /** Answers a request that equals an earlier one since which nothing moved; false: it is to be answered anew. */
  answer(request: IncomingMessage, response: ServerResponse, dialect: string | undefined): boolean
  /** Remembers nothing from now on. */
  close(): void
}

/**
 * Answers to GET requests, by the whole head of the request as it was sent, but for the request's id, and where it came
 * from. An answer holds for as long as the cloud's `moment` is what it was from the beginning of the request to the end of
 * its answer, so a hit is what answering anew would give. What is asked only once is not remembered: that costs more than
 * it could spare. Docs: decisions/0090-remembered-answers.md.
 */
export function rememberAnswers(options: Options): RememberedAnswers {
  const { moment, ids, limits } = options
  const heads = openRequestHeads()
  const entries = new Map<string, Entry>()
  const seen = new Set<string>()
  let bytes = 0
  let of: number | undefined
  let closed = false
  const forget = (): void => {
    entries.clear()
    bytes = 0
  }

  const send = (it: Entry, given: string | undefined, response: ServerResponse): void => {
    const since = performance.now()
    const id = requestIdOf(given, ids)
    const text = it.end ? it.start + it.end(id) : it.start
    const length = it.end ? Buffer.byteLength(text) : it.startBytes
    response.on('finish', () => it.note(id, performance.now() - since))
    response.writeHead(OK, [REQUEST_ID_HEADER, id, 'content-length', String(length), ...it.head])
    // Where each letter is a byte that need not be found out once more.
    response.end(text, length === text.length ? 'latin1' : 'utf8')
  }

  const keep: onSendHookHandler<unknown> = (request, reply, payload, done) => {
    const it = asked.get(request.raw)
    if (it && typeof payload === 'string' && reply.statusCode === OK) remember(it, request, reply, payload)
    done()
  }
  const remember = (it: Asked, request: FastifyRequest, reply: FastifyReply, payload: string): void => {
    const { key, again, moment: begun, parts: { start, end } = { start: payload, end: undefined } } = it
    if (!again || closed || of !== begun || moment() !== begun || entries.has(key)) return
    const size = ENTRY_BYTES + 2 * (key.length + payload.length)
    if (size > Math.min(limits.rememberedAnswerBytesMax, limits.rememberedBytesMax)) return
    if (BEYOND_HEAD.some((name) => request.headers[name] !== undefined)) return
    // What is said of the connection is of this one.
    if (reply.raw.getHeaderNames().length > 0) return
    const head: string[] = []
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (name === REQUEST_ID_HEADER || name === 'content-length') continue
      if (Array.isArray(value)) return
      head.push(name, String(value))
    }
    if (bytes + size > limits.rememberedBytesMax) forget()
    bytes += size
    const note = options.notingOf(request, OK)
    entries.set(key, { again, start, startBytes: Buffer.byteLength(start), end, head, note })
  }

  return {
    serve: (app) =>
      void app.addHook('onRoute', (route) => {
        if (route.config?.remembered) route.onSend = [route.onSend ?? [], keep].flat()
      }),
    answer(request, response, dialect) {
      const { method, url = '' } = request
      if (method !== 'GET' || closed || url.length > URL_LENGTH_MAX) return false
      const now = moment()
      if (now === undefined) return false
      if (now !== of) forget()
      of = now
      const head = heads.of(request, dialect)
      if (!head) return false
      const key = `${head.number} ${url}`
      const it = entries.get(key)
      if (it?.again()) {
        options.hit()
        send(it, head.requestId, response)
        return true
      }
      if (seen.has(key)) asked.set(request, { key, moment: now })
      else {
        if (seen.size >= SEEN_MAX) seen.clear()
        seen.add(key)
      }
      return false
    },
    close() {
      closed = true
      forget()
    },
  }
}
