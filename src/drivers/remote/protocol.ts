import { CloudError, ERROR_CODES, type ErrorCode, type ErrorDetails } from '#lib/errors.ts'

// What the cloud and the host agent say to each other over the agent's socket: one POST a verb, its arguments as a JSON
// array, its result as JSON. Logs and events are lines of JSON; exec is an upgraded connection of frames.

/** Grows when a verb changes; a neighbour one apart is served, so that the two processes can be upgraded in any order. */
export const PROTOCOL = 4
export const PROTOCOL_HEADER = 'arcus-protocol'
/** Of the cloud's lease: each write carries it, and one older than the newest seen is refused. */
export const EPOCH_HEADER = 'arcus-epoch'

export const BODY_BYTES_MAX = 32 * 1024 * 1024
export const FRAME_BYTES_MAX = 1024 * 1024
export const VERB_MS_MAX = 120_000
export const PURGE_MS_MAX = 300_000

export const speaks = (theirs: unknown): boolean => {
  const version = Number(theirs)
  return Number.isInteger(version) && Math.abs(version - PROTOCOL) <= 1
}

/** Every verb of the two drivers that crosses the socket, and whether it changes anything. */
export const VERBS = {
  'network/missing': 'read',
  'network/listening': 'read',
  'network/applyHost': 'write',
  'network/apply': 'write',
  'network/observe': 'read',
  'network/list': 'read',
  'network/remove': 'write',
  'network/purge': 'write',
  'network/audit': 'read',
  'network/mend': 'write',
  'compute/missing': 'read',
  'compute/prepare': 'write',
  'compute/apply': 'write',
  'compute/observe': 'read',
  'compute/list': 'read',
  'compute/remove': 'write',
  'compute/applyVolume': 'write',
  'compute/observeVolume': 'read',
  'compute/removeVolume': 'write',
  'compute/volumes': 'read',
  'compute/observeImage': 'read',
  'compute/fetchImage': 'write',
  'compute/samples': 'read',
  'compute/purge': 'write',
  'compute/audit': 'read',
  'compute/mend': 'write',
} as const
export type Verb = keyof typeof VERBS
export const isVerb = (path: string): path is Verb => Object.hasOwn(VERBS, path)
export const deadlineOf = (verb: Verb): number => (verb.endsWith('/purge') ? PURGE_MS_MAX : VERB_MS_MAX)

export const STREAMS = ['compute/logs', 'compute/events'] as const
export type StreamVerb = (typeof STREAMS)[number]
export const EXEC = 'compute/exec'

export type WireError = {
  readonly code: ErrorCode | 'internal'
  readonly message: string
  readonly details: ErrorDetails
}
/** One line of a stream. A stream that ends without `end` or `error` broke. */
export type Line = { readonly item: unknown } | { readonly end: true } | { readonly error: WireError }

/** An expected refusal whole; of anything else only that it happened: the agent's log has the rest. */
export const packError = (error: unknown): WireError =>
  error instanceof CloudError
    ? { code: error.code, message: error.message, details: error.details }
    : { code: 'internal', message: 'the host agent failed; its log says why', details: {} }

export function unpackError(value: unknown): Error {
  const { code, message, details } = (value ?? {}) as Partial<WireError>
  const text = typeof message === 'string' ? message : 'the host agent failed'
  const known = ERROR_CODES.find((it) => it === code)
  return known ? new CloudError(known, text, details ?? {}) : new Error(text)
}

/** Kinds of frame of an exec; the first is `start` from the cloud, answered by `started` or `error`. */
export const FRAME = { start: 0, started: 1, data: 2, end: 3, resize: 4, exit: 5, error: 6 } as const
export type FrameKind = (typeof FRAME)[keyof typeof FRAME]

const HEADER_BYTES = 5

export function frame(kind: FrameKind, payload: Uint8Array | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload) : payload
  const header = Buffer.alloc(HEADER_BYTES)
  header[0] = kind
  header.writeUInt32BE(body.length, 1)
  return Buffer.concat([header, body])
}

/** The frames of a connection; throws at one that is too long. */
export async function* framesOf(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ readonly kind: number; readonly payload: Buffer }, void, undefined> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of source) {
    rest = rest.length ? Buffer.concat([rest, chunk]) : Buffer.from(chunk)
    let at = 0
    while (rest.length - at >= HEADER_BYTES) {
      const bytes = rest.readUInt32BE(at + 1)
      if (bytes > FRAME_BYTES_MAX) throw new Error(`a frame of ${bytes} bytes is too long`)
      const end = at + HEADER_BYTES + bytes
      if (rest.length < end) break
      yield { kind: rest[at] ?? 0, payload: rest.subarray(at + HEADER_BYTES, end) }
      at = end
    }
    rest = rest.subarray(at)
  }
}
