import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { readPidFile } from '#supervise/identity.ts'
import { pidFileOf } from '#supervise/supervisor.ts'
import { ARCUS, ROOT } from '../program.ts'
import { circloudClient, makeTenant, type Call, type TestTenant } from './client.testing.ts'
import { run, stopDocker } from './host.testing.ts'
import { eventually } from './wait.testing.ts'

const READY_WITHIN_MS = 30_000
const STOP_WITHIN_MS = 30_000
/** A difference that no event tells of is found by an audit, twice a minute. */
const SETTLES_MS = 60_000
const LOG_LINES_KEPT = 400

export type CloudOptions = {
  compute?: 'docker' | 'simulated'
  network?: 'linux' | 'docker-bridge' | 'simulated'
  inProcess?: boolean
  /** A new folder when absent; it is removed at the end. */
  data?: string
  /** A free one when absent. */
  port?: number
  /** Ports of the front door; free ones when absent. */
  front?: FrontPorts
  /** Where Cloudflare's API is asked; nowhere that answers when absent. */
  cloudflareApi?: string
}
export type FrontPorts = { readonly http: number; readonly https: number }
/** The front door's own address, so that no client takes one of its ports meanwhile. */
export const FRONT_ADDRESS = '127.0.0.9'
export type ProcessName = 'cloud' | 'agent' | 'edge'
export type Leak = { what: string; kind: string; id: string; detail: string }

/** `tenant` is an id or name that the administrator acts in. */
export type NativeCall = { readonly body?: unknown; readonly tenant?: string }

export type TestCloud = AsyncDisposable & {
  /** Without a path. */
  readonly url: string
  readonly data: string
  /** Where tunnels are entered, at FRONT_ADDRESS. */
  readonly front: FrontPorts
  readonly admin: { username: string; password: string; token: string }
  /** Circloud's API. */
  readonly call: Call
  tenant(prefix?: string): Promise<TestTenant>
  /** The native API, as the administrator. */
  native<T = unknown>(method: string, path: string, expected: number, how?: NativeCall): Promise<T>
  leaks(): Promise<Leak[]>
  /** Waits until records and reality agree. */
  noLeaks(withinMs?: number): Promise<void>
  /** Waits until no tenant is left, also none that is on its way out, and then that records and reality agree. */
  emptied(): Promise<void>
  pid(name: ProcessName): number
  /** Ends one process at once; its parent starts it again. False when it was gone already. */
  kill(name: ProcessName): boolean
  /** Ends one process at once; nothing starts it again until the function given back is called. */
  killAndHold(name: ProcessName): () => void
  /** Waits until the API answers. */
  answers(withinMs?: number): Promise<void>
  /** Ends every process of it at once, as a power cut does. */
  cut(): Promise<void>
  /** Ends the parent alone. */
  killParent(): Promise<void>
  /** A new start on the same data and port, after `cut`, `killParent` or `stop`. */
  again(): Promise<TestCloud>
  /** Ends as an operator does; the data folder stays when it was given. */
  stop(): Promise<void>
  /** What its processes said last. */
  log(): string
}

/** Found rightly, and Docker's own: only its next start mends it. */
const MISCOUNTED = /in which Docker counts an endpoint that is gone too/

type Ready = { ready: boolean; url: string; admin: TestCloud['admin'] }

/** The process of a name, as its pid file tells: a fingerprint, the boot, then its line of /proc/PID/stat. */
function pidOf(data: string, name: ProcessName): number {
  const text = readFileSync(pidFileOf(join(data, 'run'), name), 'utf8')
  const pid = Number(text.split(' ')[2])
  assert.ok(pid > 1, `a pid file of ${name}: ${text}`)
  return pid
}

const PROCESSES: readonly ProcessName[] = ['cloud', 'edge', 'agent']

async function readyLine(child: ChildProcess, log: string[]): Promise<Ready> {
  let ready: Ready | undefined
  let ended: string | undefined
  const keep = (line: string): void => {
    log.push(line)
    if (log.length > LOG_LINES_KEPT) log.shift()
  }
  assert.ok(child.stdout && child.stderr)
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.includes('"ready":true')) ready = JSON.parse(line) as Ready
    keep(line)
  })
  createInterface({ input: child.stderr }).on('line', keep)
  child.once('exit', (code, signal) => (ended = `ended with ${code ?? signal}`))
  await eventually(
    'the cloud is ready',
    () => {
      if (ended && !ready) ready = { ready: false, url: '', admin: { username: '', password: '', token: '' } }
      return ready
    },
    READY_WITHIN_MS,
  ).catch((error: unknown) => {
    child.kill('SIGKILL')
    throw new Error(`${(error as Error).message}\n${log.join('\n')}`)
  })
  if (!ready?.ready) throw new Error(`the cloud ${ended}\n${log.join('\n')}`)
  return ready
}

/** What the last agent of this machine wrote down: whose containers and networks there may still be. */
const HOLDER = '/run/arcus-host/arcus.lock.holder'

/** Ports of FRONT_ADDRESS that nobody listens on. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(async (it) => {
      await once(it.listen(0, FRONT_ADDRESS), 'listening')
      return (it.address() as AddressInfo).port
    }),
  )
  await Promise.all(servers.map((it) => once(it.close(), 'close')))
  return ports
}

async function freeFront(): Promise<FrontPorts> {
  const [http = 0, https = 0] = await freePorts(2)
  return { http, https }
}

/** Removes all that a cloud below a folder made; where Docker has lost count of a network, as the refusal says. */
async function purge(data: string): Promise<void> {
  const down = async (): Promise<unknown> => await run(ARCUS, 'down', '--data', data, '--purge')
  try {
    await down()
  } catch (error) {
    if (!/counts endpoints that are gone; restart it/.test(String(error))) throw error
    const startDocker = await stopDocker()
    await startDocker()
    await down()
  }
}

/** Removes what a cloud of a test left whose process was killed: another folder's cloud would not start beside it. */
async function removeForsaken(): Promise<void> {
  const holder = existsSync(HOLDER) ? readFileSync(HOLDER, 'utf8') : ''
  const [, pid, data = ''] = /^(?:process (\d+)|.*), data in (.+)\/agent$/m.exec(holder) ?? []
  if (!data.startsWith(join(tmpdir(), 'arcus-')) || !existsSync(data)) return
  if (pid === undefined || !existsSync(`/proc/${pid}`)) await purge(data)
}

/** Starts a whole cloud as its own processes. Disposing it removes everything it made on the host. */
export async function startCloud(options: CloudOptions = {}): Promise<TestCloud> {
  if (options.data === undefined) await removeForsaken()
  const data = options.data ?? mkdtempSync(join(tmpdir(), 'arcus-e2e-'))
  const args = ['serve', '--data', data, '--listen', `127.0.0.1:${options.port ?? 0}`, '--json']
  args.push('--compute', options.compute ?? 'docker', '--network', options.network ?? 'linux')
  const front = options.front ?? (await freeFront())
  args.push('--http', `${FRONT_ADDRESS}:${front.http}`, '--https', `${FRONT_ADDRESS}:${front.https}`)
  if (options.inProcess) args.push('--in-process')
  const env = { ...process.env, ARCUS_CLOUDFLARE_API: options.cloudflareApi ?? 'http://127.0.0.1:9' }
  const child = spawn(ARCUS, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const log: string[] = []
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const { url, admin } = await readyLine(child, log)
  const root = child.pid
  assert.ok(root)
  const call = circloudClient(`${url}/circloud`)

  const pid = (name: ProcessName): number => pidOf(data, name)
  const native: TestCloud['native'] = async <T>(
    method: string,
    path: string,
    expected: number,
    how: NativeCall = {},
  ) => {
    const { body, tenant } = how
    const answer = await fetch(`${url}/native${path}`, {
      method,
      headers: {
        authorization: `Bearer ${admin.token}`,
        ...(tenant === undefined ? {} : { 'arcus-tenant': tenant }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(15_000),
    })
    const text = await answer.text()
    assert.equal(answer.status, expected, `${method} /native${path} answered ${answer.status} ${text}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
  const leaks = async (): Promise<Leak[]> => (await native<{ items: Leak[] }>('GET', '/leaks', 200)).items
  const noLeaks = async (withinMs = SETTLES_MS): Promise<void> => {
    await eventually(
      'records and reality agree',
      async () => {
        const found = (await leaks()).filter((it) => !MISCOUNTED.test(it.detail))
        if (found.length > 0) throw new Error(JSON.stringify(found))
        return true
      },
      withinMs,
    )
  }
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS)
    await ended
    clearTimeout(late)
  }
  return {
    url,
    data,
    front,
    admin,
    call,
    native,
    leaks,
    tenant: (prefix) => makeTenant(call, admin.token, prefix),
    noLeaks,
    emptied: async () => {
      await eventually(
        'every tenant is gone',
        async () => {
          const { items } = await native<{ items: { name: string }[] }>('GET', '/tenant', 200)
          if (items.length > 0) throw new Error(`still there: ${items.map((it) => it.name).join(', ')}`)
          return true
        },
        SETTLES_MS,
      )
      await noLeaks()
    },
    pid,
    kill(name) {
      const it = readPidFile(pidFileOf(join(data, 'run'), name))
      if (it) process.kill(it.identity.pid, 'SIGKILL')
      return it !== undefined
    },
    killAndHold: (name) => {
      const target = pid(name)
      process.kill(root, 'SIGSTOP')
      process.kill(target, 'SIGKILL')
      return () => void process.kill(root, 'SIGCONT')
    },
    answers: async (withinMs = 20_000) => {
      await eventually('the API answers', async () => (await fetch(`${url}/circloud/healthz`)).ok, withinMs)
    },
    cut: async () => {
      const all = PROCESSES.map(pid)
      process.kill(root, 'SIGKILL')
      for (const it of all) process.kill(it, 'SIGKILL')
      await ended
    },
    killParent: async () => {
      process.kill(root, 'SIGKILL')
      await ended
    },
    again: () => startCloud({ ...options, data, front, port: Number(new URL(url).port) }),
    stop,
    log: () =>
      [
        ...log,
        ...PROCESSES.map((it) => join(data, 'log', `${it}.log`))
          .filter((it) => existsSync(it))
          .map((it) => readFileSync(it, 'utf8')),
      ].join('\n'),
    async [Symbol.asyncDispose]() {
      await stop()
      await purge(data)
    },
  }
}
