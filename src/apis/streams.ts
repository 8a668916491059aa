import type { EventEmitter } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { authorise, type Caller, type Right } from '#cloud/access.ts'

/** Watches, logs and exec sessions open at once; one more is refused. */
const STREAMS_MAX = 1000
/** A reader that takes nothing for this long is cut off; it resumes with the last cursor it saw. */
const STALL_SECONDS = 60
/** How often an open stream's credential is looked at again. */
const REVOKED_CHECK_SECONDS = 2
/** Between two signs of life on a quiet stream. */
export const BEAT_SECONDS = 15

type Needs = { readonly right: Right; readonly action: string }

/** Whose stream it is. */
export type Whose = {
  /** As the stream was opened: what it shows is what this one may see. */
  readonly caller: Caller
  /** Looks at the credential once more, in the same tenant; undefined when it opens nothing any more. */
  readonly again: () => Promise<Caller | undefined>
}

/** The open streams of one scope: counted, ended with their connection, their credential or the server. */
export type Streams = {
  readonly log: Log
  /**
   * `connection` is what emits `close` when the client is gone: the response, or the WebSocket. It also ends when the
   * caller is known no longer, has lost the right it needs, or may anything else than when it was opened.
   */
  open(request: FastifyRequest, connection: EventEmitter, whose: Whose, needs?: Needs): AbortSignal
}

/** What a caller may, but for a suspension, which takes nothing from sight. */
const mayOf = ({ scope, subject, tenant, role, access }: Caller) => ({
  scope,
  subject,
  tenant,
  role,
  permissions: access?.permissions,
  statements: access?.statements,
})

export function streamsOf(app: FastifyInstance, log: Log): Streams {
  const ending = new AbortController()
  let open = 0
  app.addHook('preClose', async () => ending.abort(new Error('the server is going down')))
  return {
    log,
    open(request, connection, { caller, again }, needs = { right: 'self', action: 'stream:read' }) {
      if (open >= STREAMS_MAX)
        throw new CloudError('rate_limited', `${STREAMS_MAX} streams are open here; close some`, {
          retryAfterSeconds: 10,
        })
      open++
      const controller = new AbortController()
      const lookAgain = async (): Promise<void> => {
        try {
          const now = await again()
          if (!now) throw new CloudError('unauthenticated', 'The credential was revoked')
          authorise(now, needs.right, needs.action)
          if (!isDeepStrictEqual(mayOf(now), mayOf(caller)))
            throw new CloudError('forbidden', 'What you may do was changed meanwhile; connect again')
        } catch (error) {
          if (isCloudError(error) && error.code !== 'unavailable') controller.abort(error)
          else log.warn('credential of a stream not checked', { requestId: request.id, error })
        }
      }
      const look = setInterval(() => void lookAgain(), REVOKED_CHECK_SECONDS * 1000)
      const gone = (): void => {
        open--
        clearInterval(look)
        controller.abort(new Error('the client went away'))
      }
      // One that went away while the request was looked at says so no more.
      if (request.raw.socket.destroyed) gone()
      else connection.once('close', gone)
      return AbortSignal.any([controller.signal, ending.signal])
    },
  }
}

/** Cuts a connection on which nothing moves, in a stream that gives a sign of life every BEAT_SECONDS. */
export function cutWhenStalled(request: FastifyRequest, reply: FastifyReply): void {
  const { socket } = request.raw
  const cut = (): void => void socket.destroy()
  socket.setTimeout(STALL_SECONDS * 1000, cut)
  // The connection may serve another request, which may be quiet for longer.
  reply.raw.once('close', () => socket.setTimeout(0).off('timeout', cut))
}

/** The items of a source, with undefined for each time BEAT_SECONDS passed without one. */
export async function* withBeats<T>(
  source: AsyncIterable<T>,
  beatMs = BEAT_SECONDS * 1000,
): AsyncGenerator<T | undefined> {
  const iterator = source[Symbol.asyncIterator]()
  let next = iterator.next()
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined
      const beat = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), beatMs)))
      const step = await Promise.race([next, beat]).finally(() => clearTimeout(timer))
      if (step === undefined) {
        yield undefined
        continue
      }
      if (step.done) return
      yield step.value
      next = iterator.next()
    }
  } finally {
    next.catch(() => {})
    void iterator.return?.().catch(() => {})
  }
}
