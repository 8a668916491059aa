import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { programFile } from '../program.ts'
import type { SimulatedWorld } from './world.testing.ts'

const READY_MS_MAX = 20_000
const CALL_MS_MAX = 10_000
const LINES_KEPT = 200

export type Answer = { readonly status: number; readonly body: unknown }

/** One cloud process on a data folder, with its machine behind sockets; it can be ended and started as often as one likes. */
export type CloudProcess = AsyncDisposable & {
  readonly url: string
  /** The first administrator's token; known after the first start. */
  readonly token: string
  /** Ends when it serves; throws with what it said when it ends before. */
  start(): Promise<void>
  /** `kill -9`, unless another signal is given; ends when it has ended. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** A request by the administrator unless another token is given. Throws when no answer comes. */
  ask(
    method: string,
    path: string,
    body?: unknown,
    how?: { token?: string; tenant?: string },
  ): Promise<Answer>
  /** What it said last on standard error. */
  said(): string
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })

export async function cloudProcess(options: {
  readonly data: string
  readonly world: Pick<SimulatedWorld, 'agentSocket' | 'edgeSocket'>
  readonly env?: Readonly<Record<string, string>>
  /** More words for its command line. */
  readonly more?: readonly string[]
}): Promise<CloudProcess> {
  const { data, world, env = {}, more = [] } = options
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const args = [programFile('main'), '--data', data, '--listen', `127.0.0.1:${port}`, '--json']
  args.push('--agent', world.agentSocket, '--edge', world.edgeSocket, '--log-level', 'error', ...more)
  const lines: string[] = []
  let child: ChildProcess | undefined
  let token = ''

  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
  return {
    url,
    get token() {
      return token
    },
    async start() {
      const starting = spawn(process.execPath, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...env },
      })
      child = starting
      createInterface({ input: starting.stderr }).on('line', (line) => {
        lines.push(line)
        if (lines.length > LINES_KEPT) lines.shift()
      })
      const ready = Promise.withResolvers<void>()
      createInterface({ input: starting.stdout }).on('line', (line) => {
        if (!line.includes('"ready":true')) return
        token = (JSON.parse(line) as { admin: { token: string } }).admin.token
        ready.resolve()
      })
      starting.once('close', (code, signal) =>
        ready.reject(new Error(`the cloud ended with ${code ?? signal}: ${lines.join('\n')}`)),
      )
      const late = setTimeout(() => ready.reject(new Error('the cloud is not ready')), READY_MS_MAX)
      await ready.promise.finally(() => clearTimeout(late))
    },
    kill,
    async ask(method, path, body, how = {}) {
      const answer = await fetch(url + path, {
        method,
        headers: {
          authorization: `Bearer ${how.token ?? token}`,
          'x-auth-token': how.token ?? token,
          'x-admin-token': token,
          ...(how.tenant === undefined ? {} : { 'arcus-tenant': how.tenant }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(CALL_MS_MAX),
      })
      const text = await answer.text()
      return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
    },
    said: () => lines.join('\n'),
    [Symbol.asyncDispose]: () => kill(),
  }
}
