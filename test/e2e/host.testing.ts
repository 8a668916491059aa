import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync, openSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Action, HttpSeen, TcpSeen } from './inside.ts'
import { eventually } from './wait.testing.ts'

const RUN_TIMEOUT_MS = 30_000
const DOCKER_STOP_MS = 60_000
const DOCKER_START_MS = 60_000
const INSIDE = fileURLToPath(new URL('inside.ts', import.meta.url))
const execute = promisify(execFile)

/** Runs a command and gives its output; throws with what it said when it fails. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(command, args, { timeout: RUN_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 })
  return stdout
}

const lines = (text: string): string[] => text.split('\n').filter((it) => it !== '')

// --- Containers -------------------------------------------------------------------------------------------------

export type Container = {
  readonly id: string
  readonly pid: number
  readonly startedAt: string
  readonly replica: string
}

type Inspected = {
  Id: string
  State: { Pid: number; StartedAt: string }
  Config: { Labels: Record<string, string> }
}

/** The running containers of a workload, by its id. */
export async function containersOf(workload: string): Promise<Container[]> {
  const ids = lines(
    await run('docker', 'ps', '-q', '--no-trunc', '--filter', `label=arcus.workload=${workload}`),
  )
  if (ids.length === 0) return []
  return (JSON.parse(await run('docker', 'inspect', ...ids)) as Inspected[])
    .filter((it) => it.State.Pid > 0)
    .map((it) => ({
      id: it.Id,
      pid: it.State.Pid,
      startedAt: it.State.StartedAt,
      replica: it.Config.Labels['arcus.id'] ?? '',
    }))
}

/** Its only running container; fails when there is none or more than one. */
export async function containerOf(workload: { id: string; name: string }): Promise<Container> {
  const [first, ...more] = await containersOf(workload.id)
  assert.ok(first && more.length === 0, `${workload.name} should have one container`)
  return first
}

// --- Other network namespaces -----------------------------------------------------------------------------------

/** `pid:123` or the name of a namespace in /var/run/netns. */
export type Place = { readonly pid: number } | { readonly namespace: string }

const enter = (place: Place): [string, string] => [
  'nsenter',
  `--net=${'pid' in place ? `/proc/${place.pid}/ns/net` : `/var/run/netns/${place.namespace}`}`,
]

async function inside<T>(place: Place, action: Action): Promise<T> {
  const [command, ...args] = [...enter(place), process.execPath, INSIDE, JSON.stringify(action)]
  return JSON.parse(await run(command, ...args)) as T
}

export const httpFrom = (
  place: Place,
  url: string,
  how: { times?: number; timeoutMs?: number } = {},
): Promise<HttpSeen[]> => inside(place, { do: 'http', url, ...how })

/** The body of one successful answer; fails with what was seen otherwise. */
export async function bodyFrom(place: Place, url: string): Promise<string> {
  const [seen] = await httpFrom(place, url)
  assert.ok(seen && 'status' in seen && seen.status === 200, `GET ${url}: ${JSON.stringify(seen)}`)
  return seen.body
}

type Opening = { source?: string; timeoutMs?: number }

export async function tcpFrom(place: Place, host: string, port: number, how: Opening = {}): Promise<TcpSeen> {
  const [seen = ''] = await inside<TcpSeen[]>(place, { do: 'tcp', hosts: [host], port, ...how })
  return seen
}

/** The hosts that a connection could be opened to. */
export async function reachableFrom(
  place: Place,
  hosts: readonly string[],
  port: number,
  how: Opening = {},
): Promise<string[]> {
  const seen = await inside<TcpSeen[]>(place, { do: 'tcp', hosts, port, timeoutMs: 1500, ...how })
  return hosts.filter((_, index) => seen[index] === 'connected')
}

export const udpFrom = (
  place: Place,
  host: string,
  port: number,
  text: string,
  how: Opening = {},
): Promise<{ answer: string } | { error: string }> => inside(place, { do: 'udp', host, port, text, ...how })

export type Listener = AsyncDisposable & { readonly heard: { text: string; from: string }[] }

/** Listens in a namespace until disposed. UDP keeps what it heard; HTTP answers with the caller's address. */
export async function listenIn(
  place: Place | undefined,
  action: Extract<Action, { host: string }>,
): Promise<Listener> {
  const argv = [process.execPath, INSIDE, JSON.stringify(action)] as const
  const [command, ...args] = place ? ([...enter(place), ...argv] as const) : argv
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const heard: { text: string; from: string }[] = []
  let ready = false
  createInterface({ input: child.stdout }).on('line', (line) => {
    const said = JSON.parse(line) as { ready?: true; text: string; from: string }
    if (said.ready) ready = true
    else heard.push(said)
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await eventually(`a listener on ${action.host}`, () => ready, 5000)
  return {
    heard,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** Runs `ip` in a namespace. */
export async function ipIn(place: Place, ...args: string[]): Promise<string> {
  const [command, ...before] = enter(place)
  return run(command, ...before, 'ip', ...args)
}

// --- A network beyond the host ----------------------------------------------------------------------------------

export type Outside = AsyncDisposable & {
  readonly namespace: string
  /** The host's address on the link between, as a machine of its LAN sees it. */
  readonly hostLan: string
  /** A machine on the host's own network. */
  readonly neighbour: string
  /** A machine behind that one: a place in the internet, as far as the host can tell. */
  readonly far: string
  /** The routing table that leads there. */
  readonly table: string
}

/** For the one route that only what goes to `far` takes, so that the host's own ways out stay as they are. */
const FAR_TABLE = '7714'

/**
 * A namespace that plays the world outside: one address on a network of the host, one beyond it. Its link is one of the
 * host's ways out (a default route of its own, which the others go before).
 */
export async function makeOutside(name: string): Promise<Outside> {
  const namespace = `out-${name}`
  const link = `ho-${name}`.slice(0, 15)
  const outside = {
    namespace,
    hostLan: '198.51.100.1',
    neighbour: '198.51.100.2',
    far: '198.18.77.7',
    table: FAR_TABLE,
  }
  const dispose = async (): Promise<void> => {
    await run('ip', 'rule', 'del', 'to', `${outside.far}/32`, 'lookup', FAR_TABLE).catch(() => undefined)
    await run('ip', 'link', 'del', link).catch(() => undefined)
    await run('ip', 'netns', 'del', namespace).catch(() => undefined)
  }
  await dispose()
  await run('ip', 'netns', 'add', namespace)
  await run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  await run('ip', 'addr', 'add', `${outside.hostLan}/30`, 'dev', link)
  await run('ip', 'link', 'set', link, 'up')
  for (const args of [
    ['link', 'set', 'lo', 'up'],
    ['addr', 'add', `${outside.neighbour}/30`, 'dev', 'eth0'],
    ['addr', 'add', `${outside.far}/32`, 'dev', 'lo'],
    ['link', 'set', 'eth0', 'up'],
    ['route', 'add', 'default', 'via', outside.hostLan],
  ]) {
    await run('ip', '-n', namespace, ...args)
  }
  await run('ip', 'route', 'add', 'default', 'via', outside.neighbour, 'dev', link, 'metric', '4000')
  await run('ip', 'route', 'add', 'default', 'via', outside.neighbour, 'dev', link, 'table', FAR_TABLE)
  await run('ip', 'rule', 'add', 'to', `${outside.far}/32`, 'lookup', FAR_TABLE)
  return { ...outside, [Symbol.asyncDispose]: dispose }
}

// --- Docker's daemon --------------------------------------------------------------------------------------------

const DOCKER_VOLUMES = '/var/lib/docker/volumes'
const DOCKER_PID_FILE = '/var/run/docker.pid'
const systemd = existsSync('/run/systemd/system')

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    // A zombie is dead, only not yet fetched by its parent.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

/** Stops Docker's daemon as a reboot would and gives what starts it again with the same arguments. */
export async function stopDocker(): Promise<() => Promise<void>> {
  if (systemd) {
    await run('systemctl', 'stop', 'docker.socket', 'docker.service')
    return async () => void (await run('systemctl', 'start', 'docker.socket', 'docker.service'))
  }
  const pid = Number(readFileSync(DOCKER_PID_FILE, 'utf8'))
  const [command = 'dockerd', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
  const written = readlinkSync(`/proc/${pid}/fd/1`)
  process.kill(pid, 'SIGTERM')
  await eventually('dockerd ends', () => !alive(pid), DOCKER_STOP_MS)
  return async () => {
    const log = openSync(existsSync(written) ? written : '/dev/null', 'a')
    // It outlives the run, whose own folder for temporary files it must not look for then.
    const { TMPDIR: _, ...env } = process.env
    spawn(command, args, { detached: true, stdio: ['ignore', log, log], env }).unref()
    await eventually(
      'dockerd answers',
      () => run('docker', 'version', '--format', '{{.Server.Version}}'),
      DOCKER_START_MS,
    )
  }
}

// --- What is on the host ----------------------------------------------------------------------------------------

/**
 * Mounts that whoever first needs them makes for all after: iproute2 the folder of namespaces, an engine its handle on the
 * host's own namespace.
 */
const STAYING = ['/run/netns', '/run/docker/netns/default']

/** Everything a cloud could leave behind, as words; without an engine only what is the host's own. */
export async function hostSnapshot(hasEngine = true): Promise<Set<string>> {
  const docker = async (...args: string[]): Promise<string> => (hasEngine ? await run('docker', ...args) : '')
  const [containers, networks, namespaces, links, addresses, rules, tables, routes] = await Promise.all([
    docker('ps', '-aq'),
    docker('network', 'ls', '--format', '{{.Name}}'),
    run('ip', 'netns', 'list'),
    run('ip', '-o', 'link', 'show'),
    run('ip', '-o', 'addr', 'show', 'dev', 'lo'),
    run('ip', 'rule', 'list'),
    run('nft', 'list', 'tables'),
    run('ip', 'route', 'show', 'table', 'all'),
  ])
  const named = (what: string, text: string, word = /^\S+/): string[] =>
    lines(text).map((line) => `${what} ${word.exec(line)?.[0] ?? line}`)
  // Asked for by API, Docker would wait for every plugin that it ever heard of.
  const volumes = existsSync(DOCKER_VOLUMES) ? readdirSync(DOCKER_VOLUMES) : []
  const mounts = lines(readFileSync('/proc/self/mounts', 'utf8'))
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => /docker|arcus|netns/.test(path) && !STAYING.includes(path))
  return new Set([
    ...named('container', containers),
    ...named('docker network', networks),
    ...volumes.map((it) => `docker volume ${it}`),
    ...named('namespace', namespaces),
    ...named('link', links, /(?<=^\d+: )[^:@]+/),
    ...named('address', addresses, /inet6? \S+/),
    ...named('rule', rules, /.*/),
    ...named('nft', tables, /.*/),
    ...named('route', routes, /.*/),
    ...mounts.map((it) => `mount ${it}`),
    ...arcusProcesses(),
  ])
}

/** Of clouds whose machine is simulated: they touch nothing of this one, and their rounds go on beside those of the host. */
const SIMULATED = /\/arcus-(crash|clock)-/

/** Our own processes on this host, by command line. */
function arcusProcesses(): string[] {
  return readdirSync('/proc')
    .filter((it) => /^\d+$/.test(it))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        const isOurs = /\/(main|host|edge)\.[jt]s /.test(command) && !SIMULATED.test(command)
        return isOurs ? [`process ${pid} ${command.trim()}`] : []
      } catch {
        return []
      }
    })
}

/** Fails with every line of what is on the host now and was not before. */
export async function assertNothingLeft(before: ReadonlySet<string>, withinMs = 15_000): Promise<void> {
  let left: string[] = []
  await eventually(
    'the host is as it was',
    async () => {
      left = [...(await hostSnapshot())].filter((it) => !before.has(it))
      if (left.length > 0) throw new Error(left.join('; '))
      return true
    },
    withinMs,
  )
}
