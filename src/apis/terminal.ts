import type { WebSocket } from '@fastify/websocket'
import type { ExecSession } from '#cloud/compute/compute.driver.ts'
import { CloudError } from '#lib/errors.ts'

// A command in a container over a WebSocket. Binary frames carry its input and output; text frames are JSON: from the client
// `{"resize":{"width":80,"height":24}}` and `{"eof":true}`, from the server `{"exitCode":0}` before it closes.

/** Output of an exec session that may wait for a slow reader; above it the command waits. */
const WAITING_BYTES_MAX = 1_048_576
export const PING_SECONDS = 30
const FRAME_TEXT_MAX = 1024

/** Codes a WebSocket closes with (RFC 6455, 7.4.1). */
export const CLOSE = { done: 1000, leaving: 1001, failed: 1011 } as const

/** Says a last thing and closes. */
export function end(socket: WebSocket, code: number, frame?: unknown): void {
  if (socket.readyState !== socket.OPEN) return
  // Paused, it would not see the client's half of the closing.
  socket.resume()
  if (frame !== undefined) socket.send(JSON.stringify(frame))
  socket.close(code)
}

/**
 * Carries the input and output of what `open` runs until it ends, the client goes or the signal aborts; `refusal` words what
 * a refused client is told.
 */
export async function carry(
  socket: WebSocket,
  open: () => Promise<ExecSession>,
  signal: AbortSignal,
  refusal: (error: CloudError) => unknown,
): Promise<void> {
  // Frames that come before the command runs wait in the connection, not here.
  socket.pause()
  const session = await open()
  const { stream, exitCode } = session
  // Whatever breaks ends the reading below; a second report of it must not end the process.
  stream.on('error', () => {})
  exitCode.catch(() => {})
  const close = (): void => {
    stream.destroy()
    if (signal.reason instanceof CloudError) end(socket, CLOSE.failed, refusal(signal.reason))
    else end(socket, CLOSE.leaving)
  }
  signal.addEventListener('abort', close, { once: true })
  if (signal.aborted) close()
  const beat = keepAlive(socket)
  try {
    takeInput(socket, session)
    await giveOutput(socket, session)
    end(socket, CLOSE.done, { exitCode: await exitCode })
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    clearInterval(beat)
    signal.removeEventListener('abort', close)
    stream.destroy()
  }
}

/** Ends a connection of whose other side nothing is heard from one ping to the next. */
function keepAlive(socket: WebSocket): NodeJS.Timeout {
  let alive = true
  const heard = (): void => void (alive = true)
  socket.on('pong', heard).on('message', heard)
  return setInterval(() => {
    // What it would answer waits behind input that the command does not take yet.
    if (socket.isPaused) return heard()
    if (!alive) return socket.terminate()
    alive = false
    socket.ping()
  }, PING_SECONDS * 1000)
}

const Control = { resize: 'resize', eof: 'eof' } as const

function takeInput(socket: WebSocket, session: ExecSession): void {
  const { stream } = session
  socket.on('message', (data: Buffer, isBinary: boolean) => {
    if (isBinary) {
      if (stream.writable && !stream.write(data)) {
        socket.pause()
        stream.once('drain', () => socket.resume())
      }
      return
    }
    const frame = data.length > FRAME_TEXT_MAX ? undefined : parsed(data.toString())
    if (frame?.[Control.eof] === true) stream.end()
    const { width, height } = (frame?.[Control.resize] ?? {}) as { width?: number; height?: number }
    if (isSize(width) && isSize(height)) session.resize(width, height).catch(() => {})
  })
  socket.resume()
}

const isSize = (it: number | undefined): it is number =>
  Number.isInteger(it) && Number(it) > 0 && Number(it) <= 10_000

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** Sends output as it comes, never more than WAITING_BYTES_MAX ahead of the reader; resolves when it ends. */
async function giveOutput(socket: WebSocket, { stream }: ExecSession): Promise<void> {
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const sent = new Promise<void>((resolve, reject) =>
      socket.send(chunk, { binary: true }, (error) => (error ? reject(error) : resolve())),
    )
    if (socket.bufferedAmount > WAITING_BYTES_MAX) await sent
    else sent.catch(() => {})
  }
}
