import type { FastifyInstance, FastifyRequest } from 'fastify'
// Also what makes `wsHandler` known to fastify's types.
import type { WebSocket } from '@fastify/websocket'
import Type from 'typebox'
import type { Inside, Instance } from '#cloud/cloud.ts'
import { attemptOf } from '#cloud/compute/replica.kind.ts'
import { isCloudError } from '#lib/errors.ts'
import type { Mount } from '#apis/http.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'
import { encodeNotification } from './notification.ts'
import { createPositions, type Positions, RESUME_SECONDS } from './positions.ts'
import { ErrorEnvelope } from './schema/error.ts'

export const NOTIFICATION_LIMITS = {
  /** A reader that takes nothing for this long is dropped; its position is kept. */
  stallMs: 10_000,
  /** A client that answers no ping for twice as long is gone. */
  pingMs: 30_000,
}
export type NotificationLimits = typeof NOTIFICATION_LIMITS
const CURSOR_LENGTH_MAX = 128

/** Codes and reasons a connection is closed with (RFC 6455, 7.4). */
const CLOSES = {
  leaving: [1012, 'the platform starts anew: connect again'],
  token: [1008, 'the token of this instance is no longer good'],
  slow: [1013, 'notifications were read too slowly: connect again'],
  gone: [4410, 'the cursor is none, or too old: read everything again, and connect without it'],
  failed: [1011, 'something failed: connect again'],
} as const
/** What the client's own, orderly end of a connection looks like: it wants no more. */
const CLOSED_BY_CLIENT = 1000

const querystring = Type.Object({
  after: Type.Optional(
    Type.String({
      maxLength: CURSOR_LENGTH_MAX,
      description: '`cursor` of the last message that was read; the header Last-Event-ID says the same.',
    }),
  ),
})

/** What of the notifications of one connection was sent, and what its client surely has. */
type Progress = { sent: string; received: string }

/**
 * Asks the client by a ping after what was sent: its pong says that all before it has come, so that a connection that breaks
 * leaves a position with no gap behind it. Also ends a connection whose client answers no more.
 */
function confirm(
  socket: WebSocket,
  progress: Progress,
  { pingMs }: NotificationLimits,
): { now(): void; stop(): void } {
  let asked: string | undefined
  let isLate = false
  const ask = (): void => {
    if (asked !== undefined || socket.readyState !== socket.OPEN) return
    asked = progress.sent
    socket.ping()
  }
  socket.on('pong', () => {
    progress.received = asked ?? progress.received
    asked = undefined
    isLate = false
    if (progress.received !== progress.sent) ask()
  })
  const beat = setInterval(() => {
    if (asked !== undefined && isLate) return socket.terminate()
    isLate = asked !== undefined
    ask()
  }, pingMs)
  return { now: ask, stop: () => clearInterval(beat) }
}

/** Sends a text frame; false when the client did not take it in time. */
async function send(socket: WebSocket, text: string, stallMs: number): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(() => late.resolve(false), stallMs)
  const taken = new Promise<true>((resolve, reject) =>
    socket.send(text, (error) => (error ? reject(error) : resolve(true))),
  )
  taken.catch(() => {})
  return await Promise.race([taken, late.promise]).finally(() => clearTimeout(timer))
}

/** Tells one client what happens, until it goes, its token does or the server stops; gives why it ends. */
async function tell(
  inside: Inside,
  of: Instance,
  socket: WebSocket,
  progress: Progress,
  limits: NotificationLimits,
  signal: AbortSignal,
): Promise<keyof typeof CLOSES> {
  const confirming = confirm(socket, progress, limits)
  const began = progress.sent
  try {
    for await (const event of inside.events(of, { after: began }, signal)) {
      const message = encodeNotification(event, of.tenant.id)
      if (message && !(await send(socket, JSON.stringify(message), limits.stallMs))) return 'slow'
      progress.sent = event.cursor
      if (message) confirming.now()
    }
    return signal.aborted ? 'leaving' : 'token'
  } catch (error) {
    if (signal.aborted) return 'leaving'
    if (isCloudError(error, 'invalid')) return 'gone'
    if (isCloudError(error, 'gone')) return progress.sent === began ? 'gone' : 'slow'
    throw error
  } finally {
    confirming.stop()
  }
}

/** Where a connection begins: where it says, where the one before it broke, or now. */
async function positionOf(
  inside: Inside,
  request: FastifyRequest,
  positions: Positions,
  instance: string,
): Promise<string> {
  const { replica } = instanceOf(request)
  const { after } = request.query as { after?: string }
  const last = request.headers['last-event-id']
  const named = after ?? (typeof last === 'string' ? last : undefined)
  if (named !== undefined && named !== '') return named
  const left = positions.take(instance)
  if (left !== undefined) return left
  const brokenAt = positions.brokenAt(instance, replica.status.startedAt)
  return brokenAt === undefined ? await inside.lastEvent() : await inside.eventBefore(brokenAt)
}

/** Notifications over a WebSocket, contract section 8; `/` is where the vendor's document has them. */
export function notificationRoutes(
  app: FastifyInstance,
  inside: Inside,
  { clock, log }: Mount,
  limits: NotificationLimits,
): void {
  const positions = createPositions(clock)
  const ending = new AbortController()
  app.addHook('preClose', async () => ending.abort(new Error('the server is going down')))

  const serve = async (socket: WebSocket, request: FastifyRequest): Promise<void> => {
    const of = instanceOf(request)
    const instance = `${of.replica.id} ${attemptOf(of.replica)}`
    const gone = new AbortController()
    let closedWith: number | undefined
    socket.once('close', (code: number) => {
      closedWith = code
      gone.abort(new Error('the client went away'))
    })
    socket.on('error', (error) => log.debug('notification client failed', { requestId: request.id, error }))
    // Nothing is to be said by it, and what is said all the same is not kept.
    socket.on('message', () => {})
    let end: keyof typeof CLOSES | undefined
    try {
      const from = await positionOf(inside, request, positions, instance)
      const progress = { sent: from, received: from }
      const leave = (code: number): void => {
        const isOver = end === 'token' || end === 'gone' || code === CLOSED_BY_CLIENT
        if (isOver) positions.end(instance)
        else positions.leave(instance, progress.received)
      }
      // At once: the next connection may come before the telling has ended.
      if (closedWith === undefined) socket.once('close', leave)
      else leave(closedWith)
      end = await tell(inside, of, socket, progress, limits, AbortSignal.any([gone.signal, ending.signal]))
    } catch (error) {
      if (!gone.signal.aborted) log.error('notifications failed', { requestId: request.id, error })
      end = 'failed'
    }
    const [code, reason] = CLOSES[end]
    socket.close(code, reason)
  }

  for (const [url, hide] of [
    ['/v1/notifications', false],
    ['/', true],
  ] as const)
    app.route({
      method: 'GET',
      url,
      schema: {
        hide,
        tags: ['Notifications'],
        operationId: 'getNotifications',
        summary: 'What happens in the environment, as it happens: a WebSocket',
        description: `Text frames of one JSON document each, from now on. A connection that broke goes on where it stopped when the next one of the instance comes within ${RESUME_SECONDS} s: what was on its way may come twice, nothing is left out. \`after\` goes on from any message that is kept still.`,
        querystring,
        response: { default: ErrorEnvelope },
      },
      handler: () => {
        throw refusal('404.uri', 'This is a WebSocket: ask with Upgrade: websocket.')
      },
      wsHandler: (socket, request) => void serve(socket, request),
    })
}
