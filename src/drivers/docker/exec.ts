import { Duplex } from 'node:stream'
import type { ExecSession } from '#cloud/compute/compute.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { type DockerApi, type DockerExec, reasonOf, statusOf } from './docker.ts'
import { untilOver } from './ended.ts'
import { framesOf } from './logs.ts'

const EXIT_POLL_MS = 50
const EXIT_POLLS_MAX = 100
/** A command that was hung up has so long to end before it is killed. */
const HANGUP_MS = 2000

export type ExecHow = {
  readonly command: readonly string[]
  readonly tty: boolean
  readonly env?: Readonly<Record<string, string>>
  readonly width?: number
  readonly height?: number
}

/**
 * Runs a command in a running container. When the signal aborts or the stream is destroyed before the command ended, the
 * command is ended too: Docker itself would leave it behind.
 */
export async function startExec(
  api: DockerApi,
  container: string,
  how: ExecHow,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExecSession> {
  signal.throwIfAborted()
  const exec = await asRefusal(
    api.createExec(container, {
      Cmd: [...how.command],
      Env: Object.entries(how.env ?? {}).map(([key, value]) => `${key}=${value}`),
      Tty: how.tty,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    }),
  )
  const socket = await asRefusal(exec.start(how.tty))
  socket.on('error', () => {})
  const resize = async (width: number, height: number): Promise<void> => {
    // Too early or too late is no failure: the size is asked again with the next change.
    if (how.tty) await exec.resize(width, height).catch(() => {})
  }
  if (how.width !== undefined && how.height !== undefined) await resize(how.width, how.height)

  const outcome = Promise.withResolvers<number>()
  outcome.promise.catch(() => {})
  const isOver = async (): Promise<boolean> => !(await exec.inspect()).Running
  const stream = overSocket(
    untilOver(socket, { isOver, close: () => socket.destroy(), clock }),
    socket,
    how.tty,
  )
  const hangUp = (): void => void stream.destroy()
  signal.addEventListener('abort', hangUp, { once: true })
  stream.on('error', () => {})
  stream.on('close', () => {
    signal.removeEventListener('abort', hangUp)
    const ended = socket.readableEnded ? Promise.resolve() : endCommand(exec, clock)
    ended
      .then(() => exitCodeOf(exec, clock))
      .then(outcome.resolve, (error: unknown) =>
        outcome.reject(new CloudError('unavailable', 'the connection to the command broke', {}, error)),
      )
  })
  // While it was begun.
  if (signal.aborted) hangUp()
  return { stream, exitCode: outcome.promise, resize }
}

/** What the command writes to read, its input to write; closes by itself once everything it wrote was read. */
function overSocket(output: AsyncIterable<Uint8Array>, socket: Duplex, tty: boolean): Duplex {
  let more = Promise.withResolvers<void>()
  const stream = new Duplex({
    read: () => more.resolve(),
    write: (chunk: Buffer, _, done) => void socket.write(chunk, done),
    final: (done) => void socket.end(done),
    destroy: (error, done) => {
      socket.destroy()
      more.resolve()
      done(error)
    },
  })
  const pump = async (): Promise<void> => {
    const pieces = (tty ? output : framesOf(output)) as AsyncIterable<
      Uint8Array | { readonly payload: Uint8Array }
    >
    for await (const piece of pieces) {
      if (stream.destroyed) return
      more = Promise.withResolvers()
      if (!stream.push('payload' in piece ? piece.payload : piece)) await more.promise
    }
    stream.push(null)
  }
  pump().catch((error: unknown) => stream.destroy(error as Error))
  stream.on('end', () => stream.destroy())
  return stream
}

const never = new AbortController().signal

async function exitCodeOf(exec: DockerExec, clock: Clock): Promise<number> {
  for (let polls = 0; polls < EXIT_POLLS_MAX; polls++) {
    const { Running, ExitCode } = await exec.inspect()
    if (!Running && ExitCode !== null) return ExitCode
    await clock.sleep(EXIT_POLL_MS, never)
  }
  throw new CloudError('unavailable', 'the command closed its streams and goes on')
}

async function endCommand(exec: DockerExec, clock: Clock): Promise<void> {
  const killAt = clock.now() + HANGUP_MS
  let signalled: NodeJS.Signals | undefined
  while (signalled !== 'SIGKILL') {
    const { Running, Pid } = await exec.inspect()
    if (!Running || !Pid) return
    const next = signalled === undefined ? 'SIGHUP' : clock.now() >= killAt ? 'SIGKILL' : undefined
    if (next) process.kill(Pid, (signalled = next))
    await clock.sleep(EXIT_POLL_MS, never)
  }
}

async function asRefusal<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    const status = statusOf(error)
    if (status === 404) throw new CloudError('not_found', 'the container is not there', {}, error)
    if (status === 409)
      throw new CloudError('conflict', 'the container is not running', { rule: 'wrong_state' }, error)
    if (status !== undefined) throw new CloudError('invalid', reasonOf(error), {}, error)
    throw error
  }
}
