import type { Clock } from '#lib/clock.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { placeOf } from './balance.ts'
import { BodyFault, type Watch } from './body.ts'
import type { Asker, Talk } from './connection.ts'
import { type Exchange, say } from './exchange.ts'
import { headerOf, requestHeaders, responseHeaders } from './headers.ts'
import type { FrontLimits } from './limits.ts'
import type { Origins } from './origins.ts'
import type { FrontTable, ServedRoute } from './table.ts'
import type { Visit } from './traffic.ts'

export type Forwarding = {
  readonly table: () => FrontTable
  readonly origins: Origins
  readonly watch: Watch
  readonly clock: Clock
  readonly limits: FrontLimits
}

/** Methods that may be done twice (RFC 9110, 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE'])
const FIRST_PIECE_BYTES_MAX = 16_384
const TOO_LATE = 'ETIMEDOUT'

/** The path as it goes on: without the prefix, when the route takes it off. */
export function pathFor({ route }: ServedRoute, target: string): string {
  if (!route.stripPrefix || route.pathPrefix === '/') return target
  const rest = target.slice(route.pathPrefix.length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

type Ending = { readonly status: number; readonly message: string }

function endingOf(error: unknown, exchange: Exchange): Ending | undefined {
  if (error instanceof BodyFault) {
    if (error.kind === 'gone') return undefined
    return error.kind === 'long'
      ? { status: 413, message: 'The body of the request is too long.' }
      : { status: 408, message: 'The body of the request came too slowly.' }
  }
  const { code = '' } = error as NodeJS.ErrnoException
  return code === TOO_LATE
    ? { status: 504, message: `What is behind ${exchange.host} did not answer in time.` }
    : { status: 502, message: `What is behind ${exchange.host} did not answer.` }
}

/**
 * Carries a request to an origin of its route and the answer back, in pieces, at the pace of the slower side. While
 * nothing of it was sent, origins are tried one after the other and again, for `originWaitMsMax`; what may be done twice
 * and has no body is sent again until an answer begins.
 */
export function forward(exchange: Exchange, first: ServedRoute, visit: Visit, by: Forwarding): void {
  const { answer, method, hasBody } = exchange
  const { origins, watch, limits } = by
  const tried = new Set<string>()
  const since = by.clock.now()
  const isLate = (): boolean => by.clock.now() - since >= limits.originWaitMsMax
  let hasTried = false
  let sent = 0
  let bodyBegan = false
  let isOver = false
  /** The first piece waits for a moment: most answers have no other. */
  let firstPiece: Buffer | undefined
  let hasFlushed = false
  let talk: Talk | undefined
  let status: number | undefined
  let fault: string | undefined
  /** While what was written waits for the client: ends the wait. */
  let goesOn: (() => void) | undefined

  answer.onClose((whole) => {
    isOver = true
    goesOn?.()
    visit.end({ status, fault: whole ? fault : (fault ?? 'the client left') })
    if (!whole) talk?.abort()
  })

  const flush = (): void => {
    if (hasFlushed || isOver) return
    hasFlushed = true
    if (firstPiece) answer.write(firstPiece)
    else answer.flush()
  }
  const finish = (ending: Ending, why: string): void => {
    status = ending.status
    fault = why
    const headers = ending.status === 503 ? ['retry-after', String(limits.retryAfterSeconds)] : []
    say(exchange, ending.status, ending.message, headers)
  }
  const body = async function* (): AsyncGenerator<Buffer, void, undefined> {
    bodyBegan = true
    try {
      yield* watch.body(exchange.body, (bytes) => (visit.receivedBytes += bytes))
    } finally {
      // What the origin did not want to hear of is in the way of the next request.
      watch.discard(exchange.body, () => answer.abort())
    }
  }

  const attempt = (served: ServedRoute | undefined): void => {
    if (isOver) return
    const { route } = served ?? first
    if (!served?.route.origins.length) {
      const message = `Nothing behind ${exchange.host} is ready to answer. Try again in a moment.`
      return finish({ status: 503, message }, 'no origin is ready')
    }
    const origin = served.turns.next(route.origins, origins.health, tried)
    if (!origin) {
      tried.clear()
      if (!hasTried || isLate())
        return finish(
          { status: 503, message: `Nothing behind ${exchange.host} answers.` },
          'no origin answers',
        )
      void by.clock
        .sleep(limits.tryAgainMs, AbortSignal.timeout(limits.tryAgainMs * 10))
        .then(() => attempt(by.table().routes.get(route.id)))
      return
    }
    hasTried = true
    tried.add(origin.id)
    visit.goTo(origin)
    send(served, origin)
  }

  const again = (served: ServedRoute, origin: Origin, error: unknown, wasSent: boolean): boolean => {
    const { code = '' } = error as NodeJS.ErrnoException
    if (error instanceof BodyFault || isOver || answer.hasBegun()) return false
    const place = placeOf(origin)
    if (!wasSent) origins.health.failed(place)
    else if (code === TOO_LATE) origins.health.slow(place)
    else origins.health.broke(place)
    if (bodyBegan) return false
    if (!wasSent && isLate()) return false
    if (wasSent && (sent >= limits.triesMax || hasBody || !IDEMPOTENT.has(method) || code === TOO_LATE))
      return false
    attempt(by.table().routes.get(served.route.id))
    return true
  }

  const send = (served: ServedRoute, origin: Origin): void => {
    let wasSent = false
    const { route } = served
    const strips = route.stripPrefix && route.pathPrefix !== '/'
    const asker: Asker = {
      sent(over) {
        wasSent = true
        sent++
        talk = over
        if (isOver) over.abort()
      },
      begin(code, message, headers) {
        status = code
        origins.health.fine(placeOf(origin))
        answer.begin(code, message, responseHeaders(headers))
        process.nextTick(flush)
      },
      data(chunk) {
        visit.sentBytes += chunk.length
        if (!hasFlushed && !firstPiece && chunk.length <= FIRST_PIECE_BYTES_MAX) {
          firstPiece = chunk
          return
        }
        flush()
        if (answer.write(chunk) || goesOn) return
        talk?.pause()
        const stop = watch.stalled(() => answer.abort())
        goesOn = () => {
          goesOn = undefined
          stop()
          talk?.resume()
        }
        answer.onDrain(() => goesOn?.())
      },
      end() {
        talk = undefined
        if (hasFlushed) return answer.end()
        hasFlushed = true
        answer.end(firstPiece)
      },
      fail(error) {
        talk = undefined
        if (again(served, origin, error, wasSent)) return
        const ending = endingOf(error, exchange)
        if (!ending || isOver || answer.hasBegun()) {
          fault ??= error.message
          return answer.abort()
        }
        finish(ending, error.message)
      },
    }
    const length = headerOf(exchange.headers, 'content-length')
    const request = {
      method,
      path: pathFor(served, exchange.target),
      headers: requestHeaders(exchange.headers, {
        client: exchange.client,
        host: exchange.host ?? '',
        encrypted: exchange.encrypted,
        prefix: strips ? route.pathPrefix : undefined,
      }),
      body: hasBody ? body() : undefined,
      length: length === undefined ? undefined : Number(length),
    }
    origins.pool(served, origin).ask(request, asker)
  }

  attempt(first)
}
