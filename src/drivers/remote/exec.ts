import { Duplex } from 'node:stream'
import type { ComputeDriver, ExecSession } from '#cloud/compute/compute.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import {
  EXEC,
  FRAME,
  FRAME_BYTES_MAX,
  PROTOCOL,
  PROTOCOL_HEADER,
  frame,
  framesOf,
  packError,
  unpackError,
} from './protocol.ts'

type Start = { readonly id: string; readonly how: Parameters<ComputeDriver['exec']>[1] }
type Frames = AsyncGenerator<{ readonly kind: number; readonly payload: Buffer }, void, undefined>

const HEAD = `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${EXEC}\r\n${PROTOCOL_HEADER}: ${PROTOCOL}\r\n\r\n`

const drained = (stream: Duplex): Promise<void> =>
  new Promise((resolve) => {
    if (stream.closed) return resolve()
    stream.once('drain', resolve)
    stream.once('close', resolve)
  })

/** The agent's end: runs the command that the first frame names and carries its streams until it ends or the cloud goes. */
export async function serveExec(
  socket: Duplex,
  compute: ComputeDriver,
  stopping: AbortSignal,
): Promise<void> {
  const gone = new AbortController()
  socket.on('error', () => {})
  socket.on('close', () => gone.abort(new Error('whoever asked is gone')))
  socket.write(HEAD)
  const frames: Frames = framesOf(socket)
  try {
    const session = await begin(frames, compute, AbortSignal.any([gone.signal, stopping]))
    socket.write(frame(FRAME.started))
    feed(frames, session).catch(() => session.stream.destroy())
    for await (const chunk of session.stream as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += FRAME_BYTES_MAX) {
        if (!socket.write(frame(FRAME.data, chunk.subarray(at, at + FRAME_BYTES_MAX)))) await drained(socket)
      }
    }
    socket.end(frame(FRAME.exit, String(await session.exitCode)))
  } catch (error) {
    if (!socket.destroyed) socket.end(frame(FRAME.error, JSON.stringify(packError(error))))
    if (!(error instanceof CloudError) && !gone.signal.aborted) throw error
  }
}

async function begin(frames: Frames, compute: ComputeDriver, signal: AbortSignal): Promise<ExecSession> {
  const first = await frames.next()
  if (first.done || first.value.kind !== FRAME.start)
    throw new CloudError('invalid', 'the command is missing')
  const { id, how } = JSON.parse(first.value.payload.toString('utf8')) as Start
  if (!isUuid(id)) throw new CloudError('invalid', 'an id must be a UUID')
  if (
    !Array.isArray(how.command) ||
    !how.command.length ||
    !how.command.every((it) => typeof it === 'string')
  ) {
    throw new CloudError('invalid', 'a command is an array of words')
  }
  return compute.exec(id, how, signal)
}

/** What the cloud sends, into the command. */
async function feed(frames: Frames, { stream, resize }: ExecSession): Promise<void> {
  for await (const { kind, payload } of frames) {
    if (kind === FRAME.data && stream.writable) {
      if (!stream.write(payload)) await drained(stream)
    } else if (kind === FRAME.end) {
      stream.end()
    } else if (kind === FRAME.resize) {
      const [width, height] = JSON.parse(payload.toString('utf8')) as [number, number]
      await resize(width, height)
    }
  }
}

/** The cloud's end, over a connection that was upgraded. */
export async function openExec(socket: Duplex, start: Start, signal: AbortSignal): Promise<ExecSession> {
  socket.on('error', () => {})
  const giveUp = (): void => void socket.destroy()
  signal.addEventListener('abort', giveUp, { once: true })
  socket.on('close', () => signal.removeEventListener('abort', giveUp))
  if (signal.aborted) giveUp()
  const frames: Frames = framesOf(socket)
  socket.write(frame(FRAME.start, JSON.stringify(start)))
  const first = await frames.next().finally(() => signal.throwIfAborted())
  if (first.done) throw new CloudError('unavailable', 'the host agent ended the connection')
  if (first.value.kind === FRAME.error) throw unpackError(JSON.parse(first.value.payload.toString('utf8')))
  const outcome = Promise.withResolvers<number>()
  outcome.promise.catch(() => {})
  let more = Promise.withResolvers<void>()
  const write = (it: Buffer, done: () => void): void => {
    if (socket.write(it)) done()
    else drained(socket).then(done, done)
  }
  const stream = new Duplex({
    read: () => more.resolve(),
    write: (chunk: Buffer, _, done) => write(frame(FRAME.data, chunk), done),
    final: (done) => write(frame(FRAME.end), done),
    destroy: (error, done) => {
      socket.destroy()
      more.resolve()
      done(error)
    },
  })
  stream.on('error', () => {})
  stream.on('end', () => stream.destroy())
  const hangUp = (): void => void stream.destroy()
  signal.addEventListener('abort', hangUp, { once: true })
  stream.on('close', () => signal.removeEventListener('abort', hangUp))
  const pump = async (): Promise<void> => {
    for await (const { kind, payload } of frames) {
      if (stream.destroyed) return
      more = Promise.withResolvers()
      if (kind === FRAME.data && !stream.push(payload)) await more.promise
      if (kind === FRAME.exit) outcome.resolve(Number(payload.toString('utf8')))
      if (kind === FRAME.error) throw unpackError(JSON.parse(payload.toString('utf8')))
    }
  }
  pump()
    .catch((error: unknown) => outcome.reject(error))
    .finally(() => {
      outcome.reject(new CloudError('unavailable', 'the connection to the command broke'))
      stream.push(null)
    })
  return {
    stream,
    exitCode: outcome.promise,
    resize: (width, height) =>
      new Promise((done) => {
        write(frame(FRAME.resize, JSON.stringify([width, height])), done)
      }),
  }
}
