import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls, type PeerCertificate } from 'node:tls'
import { WebSocket } from 'ws'
import { ARCUS } from '../program.ts'
import { FRONT_ADDRESS, type TestCloud } from './cloud.testing.ts'
import { eventually } from './wait.testing.ts'

const ANSWER_MS_MAX = 10_000
const CLIENT_READY_MS = 20_000
const BODY_CHARS_MAX = 1_000_000
/** Between two requests of a load: 50 a second. */
const LOAD_EVERY_MS = 20
const LOAD_CONNECTIONS_MAX = 32

export type Tunnel = {
  readonly id: string
  readonly tunnel_name: string
  readonly hostname: string
  readonly protocol_type: string
  readonly status: string
  readonly pod_id: string
  readonly subdomain: string
  readonly domain: string
  readonly service_port: number
}
export type Answer = { readonly status: number; readonly body: string }
export type Load = {
  /** The requests that were not answered as they should, in words, and all that were made. */
  end(): Promise<{ readonly asked: number; readonly failed: readonly string[]; readonly slowestMs: number }>
}

/** A client outside that reaches the front door by its address and trusts the cloud's own authority, or another. */
export type Visitor = AsyncDisposable & {
  /** `at` is a path; `sni` and `host` are the tunnel's hostname unless told. Throws what the connection failed with. */
  get(
    hostname: string,
    at?: string,
    how?: { readonly host?: string; readonly agent?: Agent },
  ): Promise<Answer>
  /** Asks for `at` 50 times a second; each must be answered 200, with what `fits`. */
  load(hostname: string, at: string, fits?: (body: string) => boolean): Load
  /** The certificate that the front door shows for a name, if the visitor trusts it. */
  certificate(hostname: string): Promise<PeerCertificate>
  /** Why the front door refuses a TLS handshake for a name. */
  refusal(hostname: string): Promise<string>
  /** What comes back over a WebSocket on the hostname, until it is as long as what was sent. */
  webSocket(hostname: string, text: string): Promise<string>
  /** `arcus tunnel connect`, until disposed; every connection to the port goes through the tunnel. */
  connected(hostname: string): Promise<AsyncDisposable & { readonly port: number }>
  /** What a login over ssh gives, with `arcus tunnel connect` as its way. */
  ssh(hostname: string, login: { user: string; password: string }, command: string): Promise<string>
}

export async function visitorOf({ url, front }: TestCloud, trusted?: string): Promise<Visitor> {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-visitor-'))
  const ca = trusted ?? (await (await fetch(`${url}/ca.crt`)).text())
  const file = join(folder, 'ca.crt')
  writeFileSync(file, ca)
  const { https: port } = front
  const options = ['--edge', `${FRONT_ADDRESS}:${port}`, '--ca', file]
  const env = { ...process.env, HOME: folder }

  const get: Visitor['get'] = (hostname, at = '/', { host = hostname, agent } = {}) =>
    new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(ANSWER_MS_MAX)
      const asked = request(
        {
          host: FRONT_ADDRESS,
          port,
          servername: hostname,
          ca,
          path: at,
          agent: agent ?? false,
          signal,
          headers: { host },
        },
        (answer) => {
          let body = ''
          answer.setEncoding('utf8').on('data', (text: string) => {
            body += text
            if (body.length > BODY_CHARS_MAX) asked.destroy(new Error('body too long'))
          })
          answer.on('error', reject)
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }))
        },
      )
      asked.on('error', reject)
      asked.end()
    })

  const shake = async (hostname: string): Promise<PeerCertificate> => {
    const socket = connectTls({ host: FRONT_ADDRESS, port, servername: hostname, ca })
    socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new Error('no answer in time')))
    try {
      await once(socket, 'secureConnect')
      return socket.getPeerCertificate()
    } finally {
      socket.on('error', () => {})
      socket.destroy()
    }
  }

  return {
    get,
    load: (hostname, at, fits) => startLoad((agent) => get(hostname, at, { agent }), fits),
    certificate: shake,
    refusal: async (hostname) =>
      await shake(hostname).then(
        ({ subject }) => assert.fail(`${hostname} was served with ${JSON.stringify(subject)}`),
        (error: NodeJS.ErrnoException) => `${error.code} ${error.message}`,
      ),
    async webSocket(hostname, text) {
      const socket = new WebSocket(`wss://${FRONT_ADDRESS}:${port}/`, {
        servername: hostname,
        headers: { host: hostname },
        ca,
        handshakeTimeout: ANSWER_MS_MAX,
      } as object)
      try {
        await once(socket, 'open')
        let back = ''
        socket.on('message', (data: Buffer) => (back += data.toString()))
        socket.send(Buffer.from(text))
        await eventually('it comes back', () => back.length >= text.length, ANSWER_MS_MAX)
        return back
      } finally {
        socket.terminate()
      }
    },
    async connected(hostname) {
      const child = spawn(ARCUS, ['tunnel', 'connect', hostname, '--listen', '0', ...options], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      const ended = once(child, 'exit')
      let said = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
      const found = (): number => Number(/127\.0\.0\.1:(\d+) leads to/.exec(said)?.[1] ?? 0)
      await eventually('the client listens', () => found() || assert.fail(said), CLIENT_READY_MS).catch(
        (error: unknown) => {
          child.kill('SIGKILL')
          throw error
        },
      )
      return {
        port: found(),
        async [Symbol.asyncDispose]() {
          child.kill('SIGINT')
          await ended
        },
      }
    },
    async ssh(hostname, { user, password }, command) {
      const answerer = join(folder, 'askpass')
      writeFileSync(answerer, `#!/bin/sh\necho ${password}\n`, { mode: 0o700 })
      const settings = {
        ProxyCommand: `${ARCUS} tunnel connect --stdio %h ${options.join(' ')}`,
        StrictHostKeyChecking: 'no',
        UserKnownHostsFile: '/dev/null',
        PubkeyAuthentication: 'no',
        NumberOfPasswordPrompts: '1',
      }
      const flags = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
      return await new Promise((resolve, reject) => {
        execFile(
          'ssh',
          ['-F', 'none', ...flags, `${user}@${hostname}`, command],
          {
            timeout: CLIENT_READY_MS,
            env: { ...env, SSH_ASKPASS: answerer, SSH_ASKPASS_REQUIRE: 'force', DISPLAY: ':0' },
          },
          (error, out, err) => (error ? reject(new Error(`ssh: ${err}`, { cause: error })) : resolve(out)),
        )
      })
    },
    async [Symbol.asyncDispose]() {
      rmSync(folder, { recursive: true, force: true })
      await Promise.resolve()
    },
  }
}

function startLoad(
  ask: (agent: Agent) => Promise<Answer>,
  fits: (body: string) => boolean = () => true,
): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: LOAD_CONNECTIONS_MAX })
  const stop = new AbortController()
  const failed: string[] = []
  const open = new Set<Promise<void>>()
  let [asked, slowestMs] = [0, 0]
  const once = async (): Promise<void> => {
    const since = performance.now()
    const { status, body } = await ask(agent).catch((error: Error) => ({ status: 0, body: error.message }))
    slowestMs = Math.max(slowestMs, performance.now() - since)
    if (status !== 200 || !fits(body)) failed.push(`request ${asked}: ${status} ${body.trim()}`)
  }
  const all = (async () => {
    const since = performance.now()
    while (!stop.signal.aborted) {
      const one = once()
      open.add(one)
      void one.then(() => open.delete(one))
      asked++
      // By the clock, so that what a busy machine missed is made up for.
      await sleep(Math.max(0, since + asked * LOAD_EVERY_MS - performance.now()))
    }
    await Promise.all(open)
    agent.destroy()
  })()
  return {
    async end() {
      stop.abort()
      await all
      return { asked, failed, slowestMs: Math.round(slowestMs) }
    },
  }
}

/** A connection for lines of text: sends, and gives what came until it `fits`. */
export async function talk(
  port: number,
  text: string,
  fits: RegExp,
  host = '127.0.0.1',
): Promise<{ readonly socket: Socket; readonly heard: string }> {
  const socket = connect(port, host)
  await once(socket, 'connect')
  return { socket, heard: await say(socket, text, fits) }
}

export async function say(socket: Socket, text: string, fits: RegExp): Promise<string> {
  let heard = ''
  const hear = (chunk: Buffer): void => void (heard += chunk.toString())
  socket.on('data', hear)
  if (text !== '') socket.write(text)
  try {
    await eventually('an answer', () => fits.test(heard) || assert.fail(heard), ANSWER_MS_MAX)
  } finally {
    socket.off('data', hear)
  }
  return heard
}
