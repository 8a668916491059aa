import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cpuSecondsOf, memoryMbOf } from './process.ts'

const READY_MS_MAX = 5000
const run = promisify(execFile)

export type Nginx = AsyncDisposable & {
  readonly port: number
  cpuSeconds(): number
  memoryMb(): number
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** All threads of a process on one processor. */
export const pin = async (pid: number, processor: number): Promise<void> =>
  void (await run('taskset', ['-acp', String(processor), String(pid)]))

async function accepts(port: number): Promise<void> {
  for (const end = performance.now() + READY_MS_MAX; ;) {
    const socket = connect(port, '127.0.0.1')
    const there = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (there) return
    if (performance.now() > end) throw new Error('nginx did not start')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Debian's nginx with one worker on one processor. `server` is what stands in its `server`, `more` before it. */
export async function startNginx(
  folder: string,
  processor: number,
  server: string,
  more = '',
): Promise<Nginx> {
  mkdirSync(folder)
  const port = await freePort()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((it) => `${it}_temp_path ${join(folder, it)};`)
    .join(' ')
  const config = join(folder, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off; worker_processes 1; pid ${join(folder, 'pid')}; error_log ${join(folder, 'error.log')};
events { worker_connections 8192; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; ${temporary} ${more}
server { listen 127.0.0.1:${port} backlog=4096; ${server} } }`,
  )
  const child: ChildProcess = spawn('taskset', ['-c', String(processor), 'nginx', '-c', config], {
    stdio: 'ignore',
  })
  await accepts(port)
  const master = child.pid ?? 0
  const [worker = 0] = readFileSync(`/proc/${master}/task/${master}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number)
  return {
    port,
    cpuSeconds: () => cpuSecondsOf(worker),
    memoryMb: () => memoryMbOf(worker),
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** What wrk saw of a server: it asks faster than any client of ours could. */
export async function wrk(
  url: string,
  how: { readonly processor: number; readonly connections: number; readonly seconds: number },
): Promise<{ readonly answered: number; readonly perSecond: number; readonly latencyP99Ms: number }> {
  const { processor, connections, seconds } = how
  const { stdout } = await run('taskset', [
    '-c',
    String(processor),
    'wrk',
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--latency',
    url,
  ])
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`requests to ${url} failed: ${stdout}`)
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1])
  const [, p99 = 'NaN', unit = 'ms'] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? []
  const factor = unit === 'us' ? 0.001 : unit === 's' ? 1000 : 1
  return {
    answered: number(/(\d+) requests in/),
    perSecond: number(/Requests\/sec:\s+([\d.]+)/),
    latencyP99Ms: Number(p99) * factor,
  }
}
