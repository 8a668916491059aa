import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import { isCloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { AnyKind } from '#engine/resource.ts'
import type { Change } from '#engine/store.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { callerOf, whoseOf } from './caller.ts'
import { errorBody, REFUSALS } from './errors.ts'
import { kindOf } from './lookup.ts'
import { PAGE_MAX } from './schema.ts'
import { BEAT_SECONDS, cutWhenStalled, type Streams, withBeats } from '#apis/streams.ts'
import { encode } from './wire.ts'

const RETRY_MS = 1000

const WatchParams = Type.Object(
  {
    kind: Type.Optional(Type.String({ description: 'Changes of this kind only.' })),
    after: Type.Optional(
      Type.String({
        maxLength: 64,
        description: 'Cursor to go on from; from now when absent. The header Last-Event-ID counts before it.',
      }),
    ),
  },
  { additionalProperties: false },
)

export type WatchHow = {
  readonly kind: string | undefined
  readonly after: string | undefined
  /** Send what is there first, as events `resource`. */
  readonly list: boolean
}

const event = (name: string, data: unknown, cursor?: string): string =>
  `event: ${name}\n${cursor === undefined ? '' : `id: ${cursor}\n`}data: ${JSON.stringify(data)}\n\n`

/** Where the feed stands now, so that a watch from here misses nothing that comes after its `ready`. */
async function cursorNow(cloud: Cloud, caller: Caller): Promise<string> {
  return (await cloud.list(caller, kindOf(cloud, 'vpc'), { limit: 1 })).cursor
}

/** The change as an event: its keys and the resource as it is by now, absent when it is gone. */
async function changeEvent(cloud: Cloud, caller: Caller, change: Change): Promise<string> {
  const kind = cloud.kinds.get(change.kind)
  if (!kind || change.what === 'removed') return event('change', change, change.cursor)
  try {
    const it = await cloud.get(caller, kind, change.id)
    return event('change', { ...change, resource: encode(kind, it) }, change.cursor)
  } catch (error) {
    if (!isCloudError(error, 'not_found')) throw error
    return event('change', change, change.cursor)
  }
}

async function* everything(cloud: Cloud, caller: Caller, kind: AnyKind): AsyncGenerator<string> {
  let after: string | undefined
  do {
    const page = await cloud.list(caller, kind, {
      limit: PAGE_MAX,
      ...(after === undefined ? {} : { after }),
    })
    for (const it of page.items) yield event('resource', { resource: encode(kind, it) })
    after = page.next
  } while (after !== undefined)
}

async function* events(
  cloud: Cloud,
  request: FastifyRequest,
  how: WatchHow,
  signal: AbortSignal,
  log: Log,
): AsyncGenerator<string> {
  const caller = callerOf(request)
  try {
    const after = how.after ?? (await cursorNow(cloud, caller))
    yield `retry: ${RETRY_MS}\n`
    if (how.list && how.kind !== undefined) yield* everything(cloud, caller, kindOf(cloud, how.kind))
    yield event('ready', { cursor: after }, after)
    const changes = cloud.watch(
      caller,
      { after, ...(how.kind === undefined ? {} : { kind: how.kind }) },
      signal,
    )
    for await (const change of withBeats(changes))
      yield change ? await changeEvent(cloud, caller, change) : ': still here\n\n'
  } catch (error) {
    if (signal.aborted) return
    // Headers are long gone, so the refusal is an event; `gone` means: list again, then watch from that list's cursor.
    yield event('error', errorBody(error, request.id))
    if (!isCloudError(error)) log.error('watch failed', { requestId: request.id, error })
  }
}

/**
 * Answers with changes as server-sent events, until the client goes, its credential is revoked or the server stops. The
 * feed is read only as fast as the client takes it, so a slow one costs no memory; one that stalls is cut off.
 */
export async function sendChanges(
  cloud: Cloud,
  request: FastifyRequest,
  reply: FastifyReply,
  streams: Streams,
  how: WatchHow,
): Promise<FastifyReply> {
  if (how.kind !== undefined) kindOf(cloud, how.kind)
  const last = request.headers['last-event-id']
  const resumed = typeof last === 'string' && last !== '' ? { ...how, after: last, list: false } : how
  const signal = streams.open(request, reply.raw, whoseOf(cloud, request))
  cutWhenStalled(request, reply)
  return reply
    .header('content-type', 'text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-accel-buffering', 'no')
    .send(Readable.from(events(cloud, request, resumed, signal, streams.log), { objectMode: false }))
}

export function watchRoute(app: FastifyInstance, cloud: Cloud, streams: Streams): void {
  app.get<{ Querystring: Static<typeof WatchParams> }>(
    '/watch',
    {
      schema: {
        tags: ['watch'],
        summary: 'Changes of everything the caller may see, as server-sent events',
        description: `Events: \`ready\` (the cursor it starts from), \`change\` (cursor, kind, id, tenant, revision, what, and the resource unless it is gone), \`error\`. A comment is sent every ${BEAT_SECONDS} s. Resume with Last-Event-ID; \`gone\` means: list again.`,
        querystring: WatchParams,
        response: { 200: { content: { 'text/event-stream': { schema: Type.String() } } }, ...REFUSALS },
      },
    },
    async (request, reply) =>
      await sendChanges(cloud, request, reply, streams, {
        kind: request.query.kind,
        after: request.query.after,
        list: false,
      }),
  )
}
