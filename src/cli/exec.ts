import { pathOf } from './client.ts'
import { action, type Register, wholeNumber } from './context.ts'
import { EXIT, Failure, usage } from './failure.ts'
import { replicaFor } from './replicas.ts'
import type { World } from './world.ts'

/** Input that may wait for the connection; above it standard input is not read. */
const WAITING_BYTES_MAX = 1_048_576
const DRAIN_CHECK_MS = 20

type Options = { stdin?: boolean; tty?: boolean; replica?: number }
type Frame = { exitCode?: number; error?: { message: string } }

export const registerExec: Register = (program, world, done) => {
  program
    .command('exec')
    .description("run a command in a workload; exits with the command's exit code")
    .argument('<name>', 'a workload, or replica/NAME')
    .argument('<command...>', 'after --: the command and its arguments')
    .option('-i, --stdin', 'pass standard input on')
    .option('-t, --tty', 'give the command a terminal')
    .option('--replica <index>', 'this replica, not the first that is ready', wholeNumber(0, 10_000))
    .action(
      action<[string, string[]], Options>(
        world,
        done,
        async ({ client }, [name, command], { stdin = false, tty = false, replica }) => {
          if (tty && stdin && !world.stdin.isTTY)
            throw usage('-t needs a terminal as standard input', 'leave -t out')
          const it = await replicaFor(client, name, replica)
          const { columns, rows } = world.stdout
          const size = tty && columns && rows ? { width: columns, height: rows } : {}
          const { url, headers } = client.socket(`${pathOf('replica', it.id)}/exec`, {
            command,
            tty,
            ...size,
          })
          const socket = new WebSocket(url, { headers })
          socket.binaryType = 'arraybuffer'
          return await run(socket, world, { stdin, tty })
        },
      ),
    )
}

/** Carries input and output until the command ends; gives its exit code. */
async function run(
  socket: WebSocket,
  world: World,
  { stdin, tty }: { stdin: boolean; tty: boolean },
): Promise<number> {
  const undo: (() => void)[] = []
  try {
    return await new Promise<number>((resolve, reject) => {
      const fail = (message: string): void => reject(new Failure(EXIT.refused, message))
      socket.addEventListener('open', () => {
        if (stdin) undo.push(passInput(socket, world, tty))
        else if (!tty) socket.send('{"eof":true}')
        if (tty) undo.push(passResizes(socket, world))
      })
      socket.addEventListener('message', ({ data }: { data: ArrayBuffer | string }) => {
        if (typeof data !== 'string') return void world.stdout.write(Buffer.from(data))
        const frame = JSON.parse(data) as Frame
        if (frame.exitCode !== undefined) resolve(frame.exitCode)
        else if (frame.error) fail(frame.error.message)
      })
      socket.addEventListener('close', () => fail('the connection ended before the command did'))
      socket.addEventListener('error', () => fail('the connection to the cloud failed'))
      const stop = (): void => fail('interrupted')
      // With this terminal for its own the command gets Ctrl-C as a key, and no signal comes of it.
      world.signal.addEventListener('abort', stop, { once: true })
      undo.push(() => world.signal.removeEventListener('abort', stop))
    })
  } finally {
    for (const one of undo) one()
    socket.close()
  }
}

function passInput(socket: WebSocket, { stdin }: World, tty: boolean): () => void {
  let waiting: NodeJS.Timeout | undefined
  const onData = (chunk: Buffer): void => {
    if (socket.readyState !== WebSocket.OPEN) return
    socket.send(new Uint8Array(chunk))
    if (socket.bufferedAmount < WAITING_BYTES_MAX || waiting) return
    stdin.pause()
    waiting = setInterval(() => {
      if (socket.bufferedAmount >= WAITING_BYTES_MAX) return
      clearInterval(waiting)
      waiting = undefined
      stdin.resume()
    }, DRAIN_CHECK_MS)
  }
  const onEnd = (): void => {
    if (socket.readyState === WebSocket.OPEN) socket.send('{"eof":true}')
  }
  if (tty) stdin.setRawMode(true)
  stdin.on('data', onData).on('end', onEnd)
  return () => {
    clearInterval(waiting)
    stdin.off('data', onData).off('end', onEnd)
    if (tty) stdin.setRawMode(false)
    stdin.pause()
  }
}

function passResizes(socket: WebSocket, { stdout }: World): () => void {
  const onResize = (): void => {
    if (socket.readyState === WebSocket.OPEN)
      socket.send(JSON.stringify({ resize: { width: stdout.columns, height: stdout.rows } }))
  }
  stdout.on('resize', onResize)
  return () => stdout.off('resize', onResize)
}
