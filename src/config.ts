import { CloudError } from '#lib/errors.ts'
import { overlaps, parseCidr } from '#lib/cidr.ts'
import type { LogLevel } from '#lib/log.ts'
import { DEFAULT_SETTINGS, type Settings } from '#cloud/context.ts'
import { CLOUD_OPTIONS, parse, publishedPortsOption } from '#setup/options.ts'
import { hostRoutes } from '#setup/ranges.ts'

export type Address = { readonly host: string; readonly port: number }

/** What the cloud process is told, by flags first and environment second. */
export type Config = {
  readonly data: string
  readonly listen: Address
  /** Dialects served alone on an address of their own. */
  readonly alone: readonly { readonly dialect: string; readonly address: Address }[]
  readonly compute: 'docker' | 'simulated'
  readonly network: 'linux' | 'docker-bridge' | 'simulated'
  readonly agent: string | undefined
  readonly edge: string | undefined
  readonly inProcess: boolean
  /** Where the front door listens, which is in this process or in the edge's; free ports of loopback by default. */
  readonly front: { readonly http: Address; readonly https: Address }
  /** Where Cloudflare's API is asked, for tests; Cloudflare's own by default. */
  readonly cloudflareApi: string | undefined
  /** Print readiness as one JSON line. */
  readonly json: boolean
  readonly logLevel: LogLevel
  readonly trustedProxies: readonly string[]
  readonly settings: Settings
}

const OPTIONS = {
  data: { type: 'string' },
  listen: { type: 'string', multiple: true },
  compute: { type: 'string' },
  agent: { type: 'string' },
  edge: { type: 'string' },
  'in-process': { type: 'boolean' },
  http: { type: 'string' },
  https: { type: 'string' },
  json: { type: 'boolean' },
  ...CLOUD_OPTIONS,
} as const

const FREE_PORT = '127.0.0.1:0'

const invalid = (message: string): CloudError => new CloudError('invalid', message)

/** One sentence naming the flag when something is wrong. */
export function readConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Config {
  const values = parse(args, OPTIONS)
  const listens = values.listen ?? (env['ARCUS_LISTEN'] ? [env['ARCUS_LISTEN']] : [])
  const named = listens.filter((it) => it.includes('='))
  const plain = listens.filter((it) => !it.includes('='))
  if (plain.length > 1) throw invalid('--listen: give one HOST:PORT, and DIALECT=HOST:PORT for more')
  const listen = parseAddress(plain[0] ?? '127.0.0.1:8080')
  return {
    data: values.data ?? env['ARCUS_DATA'] ?? './data',
    listen,
    alone: named.map((it) => ({
      dialect: it.slice(0, it.indexOf('=')),
      address: parseAddress(it.slice(it.indexOf('=') + 1)),
    })),
    compute: oneOf('compute', values.compute, ['docker', 'simulated'], 'docker'),
    network: oneOf('network', values.network, ['linux', 'docker-bridge', 'simulated'], 'linux'),
    agent: values.agent,
    edge: values.edge,
    inProcess: values['in-process'] ?? false,
    front: {
      http: parseAddress(values.http ?? FREE_PORT, 'http'),
      https: parseAddress(values.https ?? FREE_PORT, 'https'),
    },
    json: values.json ?? false,
    logLevel: oneOf(
      'log-level',
      values['log-level'] ?? env['ARCUS_LOG'],
      ['debug', 'info', 'warn', 'error'],
      'info',
    ),
    trustedProxies: values['trusted-proxy'] ?? [],
    settings: {
      ...readSettings(values),
      api: apiAddress(listen),
      edgePort: parseAddress(values.https ?? FREE_PORT, 'https').port,
    },
    cloudflareApi: env['ARCUS_CLOUDFLARE_API'],
  }
}

/** An address of this machine that a listener answers plain HTTP on. */
const apiAddress = ({ host, port }: Address): Settings['api'] => ({
  address: host === '0.0.0.0' || host === 'localhost' ? '127.0.0.1' : host === '::' ? '::1' : host,
  port,
})

function oneOf<const T extends string>(
  flag: string,
  value: string | undefined,
  allowed: readonly T[],
  otherwise: T,
): T {
  if (value === undefined) return otherwise
  const found = allowed.find((it) => it === value)
  if (found === undefined) throw invalid(`--${flag}: must be one of ${allowed.join(', ')}, not ${value}`)
  return found
}

/** `HOST:PORT`, with IPv6 hosts in brackets; port 0 takes a free one. */
export function parseAddress(text: string, flag = 'listen'): Address {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65_535) throw invalid(`--${flag}: must be HOST:PORT, not ${text}`)
  return { host: (match[1] ?? match[2]) || '0.0.0.0', port }
}

type Values = {
  network?: string | undefined
  fabric?: string | undefined
  'external-pool'?: string | undefined
  'published-ports'?: string | undefined
  'allow-network'?: string[] | undefined
  registration?: string | undefined
  'request-rate'?: string | undefined
  'login-rate'?: string | undefined
}

function readSettings(values: Values): Settings {
  const fabricText = values.fabric ?? DEFAULT_SETTINGS.fabric
  const externalText = values['external-pool'] ?? DEFAULT_SETTINGS.externalCidr
  const fabric = parseCidr(fabricText)
  const external = parseCidr(externalText)
  if (!fabric || fabric.prefix > 20)
    throw invalid(`--fabric: must be an IPv4 network of /20 or larger, not ${fabricText}`)
  if (!external || external.prefix > 30)
    throw invalid(`--external-pool: must be an IPv4 network of /30 or larger, not ${externalText}`)
  if (overlaps(fabric, external))
    throw invalid(`--external-pool ${externalText} overlaps the fabric range ${fabricText}`)
  const allowed = values['allow-network'] ?? []
  for (const it of allowed)
    if (!parseCidr(it)) throw invalid(`--allow-network: must be an IPv4 network, not ${it}`)
  const first = (range: { base: number }): string =>
    [24, 16, 8, 0].map((shift) => ((range.base + 1) >>> shift) & 255).join('.')
  return {
    ...DEFAULT_SETTINGS,
    fabric: fabricText,
    resolver: first(fabric),
    externalCidr: externalText,
    externalGateway: first(external),
    publishedPorts: publishedPortsOption(values['published-ports']),
    allowedNetworks: allowed,
    registration: oneOf('registration', values.registration, ['open', 'closed'], 'open') === 'open',
    rates: readRates(values),
    hostNetworks: values.network === 'docker-bridge' ? hostNetworks() : [],
  }
}

function readRates(values: Values): Settings['rates'] {
  const { perSecond, burst, loginsPerMinute } = DEFAULT_SETTINGS.rates
  const read = (flag: 'request-rate' | 'login-rate', otherwise: number): number => {
    const text = values[flag]
    if (text === undefined) return otherwise
    if (!/^\d{1,6}$/.test(text)) throw invalid(`--${flag}: must be a whole number, not ${text}`)
    return Number(text)
  }
  const rate = read('request-rate', perSecond)
  return {
    perSecond: rate,
    burst: rate === perSecond ? burst : 2 * rate,
    loginsPerMinute: read('login-rate', loginsPerMinute),
  }
}

/** Networks among the host's routes: not the default, and none of Docker's bridges, which Docker keeps apart itself. */
const hostNetworks = (): string[] =>
  hostRoutes(undefined, (link) => !link.startsWith('br-')).filter((it) => !it.endsWith('/0'))
