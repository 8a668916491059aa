import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { LogLevel } from '#lib/log.ts'
import { parsePortRange, type PortRange, PUBLISHED_PORTS_DEFAULT } from '#lib/ports.ts'

export const DEFAULT_DATA = '/var/lib/arcus'
export const DEFAULT_LISTEN = '127.0.0.1:8080'
const PORT_MAX = 65_535

/** One address to listen on, for every dialect or for one. */
export type Listen = {
  readonly text: string
  readonly host: string
  readonly port: number
  /** Absent: every dialect. */
  readonly dialect?: string
}

const usage = (message: string): CloudError => new CloudError('invalid', message)

/** Reads `HOST:PORT`, `[IPV6]:PORT` or `DIALECT=HOST:PORT`; refused `invalid`. */
export function parseListen(text: string): Listen {
  const [, dialect, bracketed, plain, portText = ''] =
    /^(?:(\w+)=)?(?:\[([^\]]+)\]|([^:[\]=]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain
  const port = Number(portText)
  const fine = host !== undefined && port <= PORT_MAX && (bracketed === undefined || isIP(bracketed) === 6)
  if (!fine) throw usage(`--listen takes HOST:PORT, not ${JSON.stringify(text)}`)
  return { text, host, port, ...(dialect ? { dialect } : {}) }
}

/** Where the edge serves the hostnames of tunnels and routes. */
export type FrontListen = { readonly http: Listen; readonly https: Listen }

/** Options of the edge that `up` and `serve` hand on. */
export const FRONT_OPTIONS = { http: { type: 'string' }, https: { type: 'string' } } as const

/** Reads where the edge serves; IP addresses, since it binds them itself. */
export function parseFront(http: string, https: string): FrontListen {
  const read = (flag: string, text: string): Listen => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]=]+)):(\d{1,5})$/.exec(text) ?? []
    const host = bracketed ?? plain ?? ''
    if (!isIP(host) || Number(port) > PORT_MAX)
      throw usage(`--${flag} takes ADDRESS:PORT, not ${JSON.stringify(text)}`)
    return { text, host, port: Number(port) }
  }
  return { http: read('http', http), https: read('https', https) }
}

/** The address to reach a listener at from this machine. */
export function reachable(it: Listen): string {
  const host = it.host === '0.0.0.0' ? '127.0.0.1' : it.host === '::' ? '::1' : it.host
  return `${isIP(host) === 6 ? `[${host}]` : host}:${it.port}`
}

/** Options of the cloud process that `up` and `serve` hand on as they are. */
export const CLOUD_OPTIONS = {
  network: { type: 'string' },
  'log-level': { type: 'string' },
  'trusted-proxy': { type: 'string', multiple: true },
  'allow-network': { type: 'string', multiple: true },
  fabric: { type: 'string' },
  'external-pool': { type: 'string' },
  'published-ports': { type: 'string' },
  registration: { type: 'string' },
  'request-rate': { type: 'string' },
  'login-rate': { type: 'string' },
} as const

export const CLOUD_OPTIONS_HELP = `  --network NAME         linux, or docker-bridge where Docker is all there is, for less (docs/network.md)
  --external-pool CIDR   addresses by which workloads are reached from outside
  --published-ports A-B  ports of this machine that workloads may be reached by (30000-32767)
  --fabric CIDR          the platform's own addresses between the host and VPCs
  --allow-network CIDR   a network of the host that VPCs may reach; repeatable
  --trusted-proxy CIDR   a proxy whose forwarded headers count; repeatable
  --registration WHO     open, or closed: people then make no accounts for themselves
  --request-rate N       requests a second of one key in thecloud's dialect, twice that at once; 0: no limit
  --login-rate N         passwords that one address may try a minute there; 0: no limit
  --log-level LEVEL      debug, info, warn or error`

/** The networks that containers of Docker can have. */
export const NETWORKS = ['linux', 'docker-bridge'] as const

/** The network that a command line names; refused `invalid` when there is no such one. */
export function networkOption(text: string = NETWORKS[0]): string {
  if (!NETWORKS.some((it) => it === text))
    throw usage(`--network is one of ${NETWORKS.join(', ')}, not ${text}`)
  return text
}

type Given = { readonly [name in keyof typeof CLOUD_OPTIONS]?: string | string[] | undefined }

/** The words of a command line that say the same again. */
export const cloudArguments = (given: Given): string[] =>
  (Object.keys(CLOUD_OPTIONS) as (keyof Given)[]).flatMap((name) =>
    [given[name] ?? []].flat().flatMap((value) => [`--${name}`, value]),
  )

/** The words that an earlier command line said, but for the options that are given anew: an empty one is given back. */
export function keptArguments(before: readonly string[], given: Given): string[] {
  const values: Given = { ...parse(before, CLOUD_OPTIONS), ...given }
  return cloudArguments(
    Object.fromEntries(Object.entries(values).filter(([, it]) => String(it ?? '') !== '')),
  )
}

type Options = NonNullable<Parameters<typeof parseArgs>[0]>['options']

/** Parses options, and words beside them, strictly; refused `invalid` with what is wrong. */
export function parseWords<const T extends NonNullable<Options>>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: true })
  } catch (error) {
    throw usage(messageOf(error).split('. ')[0] ?? 'bad options')
  }
}

/** Parses options and nothing beside them. */
export function parse<const T extends NonNullable<Options>>(args: readonly string[], options: T) {
  const { values, positionals } = parseWords(args, options)
  if (positionals.length > 0) throw usage(`Unexpected argument '${positionals[0]}'`)
  return values
}

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** How much a process logs; refused `invalid` for what is no level. */
export function levelOption(text = 'info'): LogLevel {
  const level = LEVELS.find((it) => it === text)
  if (!level) throw usage(`--log-level is one of ${LEVELS.join(', ')}, not ${text}`)
  return level
}

/** The account that a process gives its socket to. */
export function ownerOption(text: string): { readonly uid: number; readonly gid: number } {
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(text) ?? []
  if (uid === undefined || gid === undefined) throw usage(`--owner takes UID:GID, not ${text}`)
  return { uid: Number(uid), gid: Number(gid) }
}

/** Which ports of the host may be published; refused `invalid` for what is no range. */
export function publishedPortsOption(text: string | undefined): PortRange {
  const range = text === undefined ? PUBLISHED_PORTS_DEFAULT : parsePortRange(text)
  if (!range) throw usage(`--published-ports takes FROM-TO, such as 30000-32767, not ${text}`)
  return range
}

export const folderOption = (text: string): string => {
  if (text.trim() === '') throw usage('--data takes a folder')
  return resolve(text)
}
