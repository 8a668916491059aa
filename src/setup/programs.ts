import { readFileSync } from 'node:fs'
import { request as requestTls } from 'node:https'
import { join } from 'node:path'
import { formatIpv4, parseCidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { request } from '#lib/http.ts'
import type { Program } from '#supervise/supervisor.ts'
import { TOOL_PATH } from './command.ts'
import { answers } from './engine.ts'
import { agentData, agentSocket, cloudData, edgeData, edgeSocket, type Layout } from './layout.ts'
import { type FrontListen, type Listen, reachable } from './options.ts'
import { nodeOf } from './program.ts'
import { asUser, type User } from './users.ts'

const FABRIC_DEFAULT = '100.112.0.0/12'
const DNS_PORT = 53
const READY_SECONDS_MAX = 30
const STOP_SECONDS_MAX = 20
const STARTS_MAX = 3
const UNPRIVILEGED_PORTS = '/proc/sys/net/ipv4/ip_unprivileged_port_start'

/** What the three processes are started with. */
export type Cloudware = {
  readonly layout: Layout
  /** The bundle that they run. */
  readonly program: string
  readonly users: { readonly cloud: User; readonly edge: User }
  readonly listen: readonly Listen[]
  /** Where the edge serves tunnels and routes. */
  readonly front: FrontListen
  readonly compute: string
  readonly network: string
  /** More words for the cloud's command line. */
  readonly more: readonly string[]
  /** Settings of ours from the environment, by name. */
  readonly settings: Readonly<Record<string, string>>
}

/** Variables of the environment that the processes get; others may be secrets of whoever calls. */
const SETTINGS = ['ARCUS_LOG', 'ARCUS_DOCKER', 'ARCUS_CLOUDFLARE_API']

export const settingsOf = (env: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(SETTINGS.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])))

/** Where the API answers; plain HTTP is for this machine alone. */
export function urlOf(it: Cloudware): string {
  const main = mainOf(it)
  const loopback = main.host === 'localhost' || main.host === '::1' || main.host.startsWith('127.')
  return `${loopback ? 'http' : 'https'}://${reachable(main)}`
}

function mainOf(it: Cloudware): Listen {
  const main = it.listen.find((one) => one.dialect === undefined)
  if (!main) throw new CloudError('invalid', '--listen needs one HOST:PORT for all dialects')
  return main
}

/** An option of the cloud's with its value, for another process; empty when it is not given. */
function givenOf({ more }: Cloudware, option: string): readonly string[] {
  const at = more.indexOf(option)
  return at < 0 ? [] : more.slice(at, at + 2)
}

/** The address of the host that VPCs ask for names: the first of the fabric. */
function resolverOf(it: Cloudware): string {
  const fabric = parseCidr(givenOf(it, '--fabric')[1] ?? FABRIC_DEFAULT)
  if (!fabric) throw new CloudError('invalid', '--fabric must be an IPv4 network')
  return `${formatIpv4(fabric.base + 1)}:${DNS_PORT}`
}

/** Room for what requests leave behind, so that it is collected seldom. */
const EDGE_HEAP = ['--min-semi-space-size=16', '--max-semi-space-size=32']
/**
 * A quarter of the room that Node gives by itself: starting takes all that there is, and none of it comes back. What is
 * collected more often is less each time, and stops the thread for less long. `arcus` says the same to a cloud in one process.
 */
export const CLOUD_HEAP = ['--max-semi-space-size=4']
/**
 * Each of Node's threads would get a heap of its own for what is not JavaScript's, and what one gave back no other could
 * take. Before the process starts, or it has no effect; `arcus` says the same to what it starts.
 */
export const MALLOC = { MALLOC_ARENA_MAX: '2' }

/** Ports below this need a capability. */
const lowestOpenPort = (): number => Number.parseInt(readFileSync(UNPRIVILEGED_PORTS, 'utf8'), 10)

const healthy = (url: string, signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve) => {
    // Whose certificate it is does not matter here: whether it serves is all that is asked.
    const ask = url.startsWith('https:') ? requestTls : request
    const asked = ask(`${url}/healthz`, { signal, rejectUnauthorized: false }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    asked.once('error', () => resolve(false))
    asked.end()
  })

/** The command lines: what a unit of systemd and our own parent have in common. */
export function commandsOf(it: Cloudware): {
  readonly agent: string[]
  readonly edge: string[]
  readonly cloud: string[]
} {
  const { layout, users } = it
  const node = (file: string, heap: readonly string[] = []): string[] => [
    nodeOf(it.program),
    ...heap,
    join(it.program, file),
  ]
  const owner = ['--owner', `${users.cloud.uid}:${users.cloud.gid}`]
  const front = ['--http', it.front.http.text, '--https', it.front.https.text]
  const https = front.slice(2)
  // Names on Docker's bridges are Docker's own.
  const dns = it.network === 'linux' ? ['--dns', resolverOf(it)] : []
  const edge = ['--data', edgeData(layout), '--socket', edgeSocket(layout), ...owner, ...dns]
  const drivers = [
    '--compute',
    it.compute,
    ...(it.more.includes('--network') ? [] : ['--network', it.network]),
  ]
  const bridges = it.network === 'linux' ? [] : ['--network', it.network]
  const sockets = ['--agent', agentSocket(layout), '--edge', edgeSocket(layout)]
  const listen = it.listen.flatMap((one) => ['--listen', one.text])
  return {
    agent: [
      ...node('host.js'),
      '--data',
      agentData(layout),
      '--socket',
      agentSocket(layout),
      ...owner,
      ...bridges,
      // What the cloud may have opened the agent knows by itself.
      ...givenOf(it, '--published-ports'),
    ],
    edge: [...node('edge.js', EDGE_HEAP), ...edge, ...front],
    cloud: [
      ...node('main.js', CLOUD_HEAP),
      '--data',
      cloudData(layout),
      ...listen,
      ...sockets,
      ...drivers,
      ...https,
      ...it.more,
    ],
  }
}

export const environmentOf = (it: Cloudware, name: string): Record<string, string> => ({
  PATH: TOOL_PATH,
  LANG: 'C.UTF-8',
  HOME: join(it.layout.data, name),
  NODE_COMPILE_CACHE: join(it.layout.cache, name),
  ...MALLOC,
  ...it.settings,
})

/** Capabilities of the two processes without root. */
export const capabilitiesOf = (it: Cloudware): { readonly edge: string[]; readonly cloud: string[] } => ({
  edge: ['net_bind_service'],
  cloud: it.listen.some((one) => one.port < lowestOpenPort()) ? ['net_bind_service'] : [],
})

/** The three processes as programs of a supervisor, in the order of their start. */
export function programsOf(it: Cloudware): {
  readonly agent: Program
  readonly edge: Program
  readonly cloud: Program
} {
  const commands = commandsOf(it)
  const capabilities = capabilitiesOf(it)
  const limits = {
    readySecondsMax: READY_SECONDS_MAX,
    stopSecondsMax: STOP_SECONDS_MAX,
    firstStartsMax: STARTS_MAX,
  }
  const program = (
    name: 'agent' | 'edge' | 'cloud',
    argv: readonly string[],
    ready: Program['ready'],
  ): Program => ({
    name,
    argv,
    env: environmentOf(it, name),
    cwd: it.program,
    ready,
    ...limits,
  })
  return {
    agent: program('agent', commands.agent, (signal) => answers(agentSocket(it.layout), '/', signal)),
    edge: program('edge', asUser(it.users.edge, capabilities.edge, commands.edge), (signal) =>
      answers(edgeSocket(it.layout), '/', signal),
    ),
    cloud: program('cloud', asUser(it.users.cloud, capabilities.cloud, commands.cloud), (signal) =>
      healthy(urlOf(it), signal),
    ),
  }
}
