import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import Docker from 'dockerode'
import { CACHE_DEFAULT, ensureFixtures } from '../fixtures/build.ts'

const START_MS_MAX = 30_000
const STOP_MS_MAX = 30_000

export const run = promisify(execFile)

/** Looks until it is true; throws when that takes longer than `ms`. */
export async function until(what: string, look: () => Promise<boolean>, ms = 20_000): Promise<void> {
  const end = performance.now() + ms
  while (!(await look())) {
    if (performance.now() > end) throw new Error(`not within ${ms / 1000} s: ${what}`)
    await sleep(50)
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await Promise.race([ended, sleep(STOP_MS_MAX, undefined, { ref: false })])
}

/** A daemon that was killed leaves its mounts behind. */
async function unmountBelow(folder: string): Promise<void> {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${folder}/`))
  for (const path of mounts.toReversed()) await run('umount', [path])
}

const childrenOf = (pid: number): number[] =>
  globSync(`/proc/${pid}/task/*/children`).flatMap((file) =>
    (readIfAny(file) ?? '').split(' ').filter(Boolean).map(Number),
  )

const readIfAny = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

function killIfAny(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It went with another.
  }
}

/** A daemon that was killed while it made a container knows nothing of it any more: what runs for it here is ended. */
function endBelow(folder: string): void {
  const whole = (pid: number): number[] => [pid, ...childrenOf(pid).flatMap(whole)]
  for (const name of readdirSync('/proc')) {
    const command = /^\d+$/.test(name) ? readIfAny(`/proc/${name}/cmdline`) : undefined
    if (!command?.includes('containerd-shim') || !command.includes(`${folder}/`)) continue
    for (const pid of whole(Number(name))) killIfAny(pid)
  }
}

/** As a machine has it: beside Docker, so that containers outlive a daemon that is killed. */
async function startContainerd(
  folder: string,
  log: number,
): Promise<{ socket: string; child: ChildProcess }> {
  const socket = join(folder, 'containerd.sock')
  const config = join(folder, 'containerd.toml')
  await writeFile(config, 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
  const folders = ['--root', join(folder, 'containerd'), '--state', join(folder, 'containerd-state')]
  const child = spawn('containerd', ['--config', config, '--address', socket, ...folders], {
    stdio: ['ignore', log, log],
  })
  await until('containerd listens', () => Promise.resolve(existsSync(socket)), START_MS_MAX)
  return { socket, child }
}

/** A Docker daemon of these tests alone, which they can stop and kill as they like. */
export type Daemon = AsyncDisposable & {
  readonly socket: string
  /** Of the containerd that runs its containers. */
  readonly runtime: string
  readonly client: Docker
  /** Ends when it answers; gives the milliseconds that took. */
  start(): Promise<number>
  stop(signal: NodeJS.Signals): Promise<void>
}

/**
 * A daemon with folders, a bridge and fixtures of its own, so that nothing is shared with the machine's; it still looks for
 * plugins where all do. `net` is the third byte of its bridge's network. With `rules` it looks after the host's, as Docker
 * does where it is all there is: for a host that is a namespace of the test's own.
 */
export async function openDaemon(
  name: string,
  net: number,
  images: readonly string[] = ['idle:latest'],
  how: { readonly rules?: boolean } = {},
): Promise<Daemon> {
  const folder = await mkdtemp(join(tmpdir(), `${name}-docker-`))
  const socket = join(folder, 'docker.sock')
  const client = new Docker({ socketPath: socket })
  const bridge = `${name}br`
  await run('ip', ['link', 'del', bridge]).catch(() => {})
  await run('ip', ['link', 'add', bridge, 'type', 'bridge'])
  await run('ip', ['addr', 'add', `172.31.${net}.1/28`, 'dev', bridge])
  const log = openSync(join(folder, 'log'), 'a')
  const runtime = await startContainerd(folder, log)
  let child: ChildProcess | undefined

  const start = async (): Promise<number> => {
    const began = performance.now()
    const folders = ['--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec')]
    const files = ['--pidfile', join(folder, 'pid'), '-H', `unix://${socket}`, '--containerd', runtime.socket]
    const rules = how.rules ? [] : ['--iptables=false', '--ip6tables=false', '--ip-forward=false']
    const network = ['--bridge', bridge, ...rules]
    child = spawn('dockerd', [...folders, ...files, ...network], { stdio: ['ignore', log, log] })
    const answers = () =>
      client.ping().then(
        () => true,
        () => false,
      )
    await until('dockerd answers', answers, START_MS_MAX).catch((error: unknown) => {
      throw new Error(`dockerd did not start: ${readFileSync(join(folder, 'log'), 'utf8').slice(-2000)}`, {
        cause: error,
      })
    })
    return performance.now() - began
  }
  const stop = (signal: NodeJS.Signals): Promise<void> => end(child, signal)
  await start()
  await ensureFixtures(client, { cache: CACHE_DEFAULT, say: () => {} } as never, images)
  return {
    socket,
    runtime: runtime.socket,
    client,
    start,
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGTERM')
      await end(runtime.child, 'SIGTERM')
      endBelow(folder)
      await run('ip', ['link', 'del', bridge])
      await unmountBelow(folder)
      await rm(folder, { recursive: true, force: true })
    },
  }
}
