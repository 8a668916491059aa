import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
// Also what makes `wsHandler` known to fastify's types.
import type { WebSocket } from '@fastify/websocket'
import Type, { type Static } from 'typebox'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import type { ExecSession, LogEntry } from '#cloud/compute/compute.driver.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { callerOf, whoseOf } from './caller.ts'
import { errorBody, REFUSALS } from './errors.ts'
import { byReference } from './lookup.ts'
import { asList, type ById, Flag, isOn, RefParams, PAGE_MAX } from './schema.ts'
import type { Streams } from '#apis/streams.ts'
import { carry, CLOSE, end } from '#apis/terminal.ts'

const TAIL_MAX = 100_000

const LogParams = Type.Object(
  {
    follow: Type.Optional(Flag),
    tail: Type.Optional(
      Type.Integer({ minimum: 0, maximum: TAIL_MAX, description: 'Only this many of the last lines.' }),
    ),
    after: Type.Optional(Type.String({ maxLength: 256, description: 'Cursor of an entry to go on from.' })),
    format: Type.Optional(Type.Enum(['text', 'ndjson'])),
  },
  { additionalProperties: false },
)

const Size = Type.Integer({ minimum: 1, maximum: 10_000 })
const ExecParams = Type.Object(
  {
    command: Type.Union([Type.String(), Type.Array(Type.String(), { maxItems: 256 })], {
      description: 'Once per argument.',
    }),
    tty: Type.Optional(Flag),
    width: Type.Optional(Size),
    height: Type.Optional(Size),
  },
  { additionalProperties: false },
)

/** Logs, exec and stats of replicas. */
export function replicaRoutes(app: FastifyInstance, cloud: Cloud, streams: Streams): void {
  statsRoute(app, cloud)
  historyRoute(app, cloud)
  logsRoute(app, cloud, streams)
  execRoute(app, cloud, streams)
}

const Sampled = Type.Object({
  id: Type.String(),
  sample: Type.Union([
    Type.Object({
      at: Type.String({ format: 'date-time' }),
      cpuMillicores: Type.Number(),
      memoryBytes: Type.Number(),
      cpuNs: Type.Optional(Type.Number({ description: 'Since its start, in nanoseconds.' })),
      receivedBytes: Type.Number(),
      sentBytes: Type.Number(),
    }),
    Type.Null(),
  ]),
})

function statsRoute(app: FastifyInstance, cloud: Cloud): void {
  app.get<ById>(
    '/replica/:id/stats',
    {
      schema: {
        tags: ['replica'],
        summary: 'The last sample of what a replica uses; null before the first',
        params: RefParams,
        response: { 200: Sampled, ...REFUSALS },
      },
    },
    async (request) => {
      const it = await byReference(cloud, callerOf(request), replica, request.params.id)
      const sample = cloud.sample(it.id)
      return { id: it.id, sample: sample ? { ...sample, at: new Date(sample.at).toISOString() } : null }
    },
  )
}

const HistoryParams = Type.Object(
  {
    from: Type.Optional(
      Type.String({ format: 'date-time', description: 'The first moment; all that is kept by default.' }),
    ),
    to: Type.Optional(Type.String({ format: 'date-time', description: 'The moment it ends before.' })),
    after: Type.Optional(
      Type.String({ maxLength: 64, description: 'The cursor of the last one seen, to go on.' }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
  },
  { additionalProperties: false },
)

function historyRoute(app: FastifyInstance, cloud: Cloud): void {
  app.get<ById & { Querystring: Static<typeof HistoryParams> }>(
    '/replica/:id/history',
    {
      schema: {
        tags: ['replica'],
        summary: 'What a replica used, a sample a minute, oldest first; kept for 15 days',
        params: RefParams,
        querystring: HistoryParams,
        response: {
          200: Type.Object({
            items: Type.Array(
              Type.Object({
                cursor: Type.String(),
                at: Type.String({ format: 'date-time' }),
                cpuMillicores: Type.Number(),
                memoryBytes: Type.Number(),
                cpuNs: Type.Optional(Type.Number({ description: 'Since its start, in nanoseconds.' })),
                receivedBytes: Type.Number(),
                sentBytes: Type.Number(),
              }),
            ),
          }),
          ...REFUSALS,
        },
      },
    },
    async (request) => {
      const { from, to, ...rest } = request.query
      const caller = callerOf(request)
      const it = await byReference(cloud, caller, replica, request.params.id)
      const samples = await cloud.history(caller, it.id, {
        ...rest,
        ...(from === undefined ? {} : { from: Date.parse(from) }),
        ...(to === undefined ? {} : { to: Date.parse(to) }),
      })
      return {
        items: samples.map(({ id: _id, at, ...sample }) => ({ ...sample, at: new Date(at).toISOString() })),
      }
    },
  )
}

const logLine = (entry: LogEntry, format: 'text' | 'ndjson'): string =>
  format === 'text'
    ? `${entry.line}\n`
    : `${JSON.stringify({ ...entry, at: new Date(entry.at).toISOString() })}\n`

function logsRoute(app: FastifyInstance, cloud: Cloud, streams: Streams): void {
  app.get<ById & { Querystring: Static<typeof LogParams> }>(
    '/replica/:id/logs',
    {
      schema: {
        tags: ['replica'],
        summary: 'What a replica printed, oldest first, as text or as JSON lines with cursors',
        params: RefParams,
        querystring: LogParams,
        response: {
          200: {
            content: {
              'text/plain': { schema: Type.String() },
              'application/x-ndjson': { schema: Type.String() },
            },
          },
          ...REFUSALS,
        },
      },
    },
    async (request, reply) => {
      const { follow, tail, after, format = 'text' } = request.query
      const caller = callerOf(request)
      const it = await byReference(cloud, caller, replica, request.params.id)
      const signal = streams.open(request, reply.raw, whoseOf(cloud, request), {
        right: 'read',
        action: 'instance:read',
      })
      const how = {
        follow: isOn(follow),
        ...(tail === undefined ? {} : { tail }),
        ...(after === undefined ? {} : { after }),
      }
      const entries = await cloud.logs(caller, it.id, how, signal)
      async function* lines(): AsyncGenerator<string> {
        try {
          for await (const entry of entries) yield logLine(entry, format)
        } catch (error) {
          if (!signal.aborted) throw error
        }
      }
      return reply
        .header('content-type', format === 'text' ? 'text/plain; charset=utf-8' : 'application/x-ndjson')
        .header('cache-control', 'no-store')
        .header('x-content-type-options', 'nosniff')
        .send(Readable.from(lines(), { objectMode: false }))
    },
  )
}

function execRoute(app: FastifyInstance, cloud: Cloud, streams: Streams): void {
  app.route<ById & { Querystring: Static<typeof ExecParams> }>({
    method: 'GET',
    url: '/replica/:id/exec',
    schema: {
      tags: ['replica'],
      summary: 'Run a command in a replica, over a WebSocket',
      description:
        'Binary frames carry standard input and output. Text frames are JSON: from the client `{"resize":{"width":80,"height":24}}` and `{"eof":true}` (end of input), from the server `{"exitCode":0}` before it closes, or `{"error":{…}}`.',
      params: RefParams,
      querystring: ExecParams,
      response: { ...REFUSALS },
    },
    handler: () => {
      throw new CloudError('invalid', 'This is a WebSocket: ask with Upgrade: websocket')
    },
    wsHandler: (socket, request) => {
      const signal = streams.open(request, socket, whoseOf(cloud, request), {
        right: 'write',
        action: 'instance:update',
      })
      runCommand(cloud, request, socket, signal).catch((error: unknown) => {
        if (!isCloudError(error)) streams.log.error('exec failed', { requestId: request.id, error })
        end(socket, CLOSE.failed, errorBody(error, request.id))
      })
    },
  })
}

/** Runs the request's command and carries its input and output until it ends, the client goes or the signal aborts. */
async function runCommand(
  cloud: Cloud,
  request: FastifyRequest<ById & { Querystring: Static<typeof ExecParams> }>,
  socket: WebSocket,
  signal: AbortSignal,
): Promise<void> {
  const { command, tty, width, height } = request.query
  const caller = callerOf(request)
  const size = width === undefined || height === undefined ? {} : { width, height }
  const open = async (): Promise<ExecSession> => {
    const it = await byReference(cloud, caller, replica, request.params.id)
    return await cloud.exec(caller, it.id, { command: asList(command), tty: isOn(tty), ...size }, signal)
  }
  await carry(socket, open, signal, (error) => errorBody(error, request.id))
}
