import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { isCloudError } from '#lib/errors.ts'
import { checkPort } from '#setup/checks.ts'
import type { Layout } from '#setup/layout.ts'
import type { Listen } from '#setup/options.ts'
import { type Check, type Finding, limited, missing, ok, unseen } from './check.ts'
import { type Host, isRoot } from './host.ts'

/** What is known of an Arcus that runs or ran here. */
export type Installation = {
  readonly layout: Layout
  readonly listen: readonly Listen[]
  /** Its processes run now. */
  readonly running: boolean
  /** What they listen on. */
  readonly held: readonly string[]
  /** There was an `up`, and no `down --purge` after it. */
  readonly recorded: boolean
  readonly prefix: string
}

const DNS_PORT = 53
/** An address that no resolver uses: it is refused only where somebody listens on all addresses. */
const DNS_TRIED = '127.66.53.1'

async function apiPort(it: Listen, { running, held }: Installation): Promise<Finding> {
  if (running && held.includes(it.text)) return ok(`Arcus listens on ${it.text}`)
  try {
    await checkPort(it)
    return ok(`${it.text} is free`)
  } catch (error) {
    if (!isCloudError(error)) throw error
    const [seen = error.message, mend] = error.message.split(/; /)
    return missing(seen, mend ?? 'choose another with --listen HOST:PORT')
  }
}

const codeOf = (error: NodeJS.ErrnoException): string => error.code ?? error.message

const tcp = (address: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) => resolve(codeOf(error)))
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)))
  })

const udp = (address: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', (error) => resolve(codeOf(error)))
    socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(undefined)))
  })

async function dnsPort(host: Host): Promise<Finding> {
  const codes = [await udp(DNS_TRIED, DNS_PORT), await tcp(DNS_TRIED, DNS_PORT)].filter(
    (it) => it !== undefined,
  )
  if (codes.length === 0) return ok('port 53 is free for the VPCs’ resolver')
  if (codes.includes('EACCES') && !isRoot(host)) return unseen('port 53')
  if (!codes.includes('EADDRINUSE'))
    return { state: 'unknown', seen: `port 53 cannot be tried (${codes.join(', ')})` }
  const said = await host.run('ss', '-Hlunp', 'sport = :53').catch(() => '')
  const [, name] = /\("([^"]+)",pid=\d+/.exec(said) ?? []
  return missing(
    `${name ?? 'a program'} listens on port 53 of all addresses, which the VPCs’ resolver needs on one of its own`,
    `let ${name ?? 'it'} listen on the addresses it serves alone, or end it`,
  )
}

/** What an Arcus of this prefix leaves on a host. */
async function remains(host: Host, { layout, prefix }: Installation): Promise<string[]> {
  const namespaces = (await host.run('ip', 'netns', 'list').catch(() => ''))
    .split('\n')
    .filter((it) => new RegExp(`^${prefix}-[0-9a-f]{12}\\b`).test(it))
  const table = isRoot(host) ? await host.run('nft', 'list', 'table', 'inet', prefix).catch(() => '') : ''
  return [
    ...(host.exists(layout.data) ? [`the data folder ${layout.data}`] : []),
    ...(namespaces.length ? [`${namespaces.length} network namespaces`] : []),
    ...(table ? [`the nftables table ${prefix}`] : []),
    ...(host.exists(`/etc/docker/plugins/${prefix}.spec`) ? ['a network plugin of Docker'] : []),
    ...(host.exists('/etc/systemd/system/arcus-agent.service') ? ['units of systemd'] : []),
  ]
}

async function installed(host: Host, it: Installation): Promise<Finding> {
  if (it.running) return ok('Arcus runs here')
  const left = await remains(host, it)
  if (it.recorded)
    return ok(
      `Arcus was set up here and does not run; \`./arcus up\` goes on with ${left.join(', ') || 'nothing'}`,
    )
  if (left.length === 0) return ok('nothing of an earlier Arcus is left here')
  return limited(
    `left by an earlier Arcus, or by one that was started by \`serve\`: ${left.join(', ')}`,
    `./arcus up to go on with it, or ./arcus down --purge --data ${it.layout.data} to remove it`,
  )
}

/** What runs or ran here, and the ports that are needed. */
export const installationChecks = (host: Host, it: Installation): readonly Check[] => [
  { id: 'installation', features: ['cloud'], required: false, probe: () => installed(host, it) },
  ...it.listen.map((one): Check => ({
    id: `port-${one.port}`,
    features: ['cloud'],
    required: true,
    probe: () => apiPort(one, it),
  })),
  { id: 'port-53', features: ['names'], required: true, probe: () => dnsPort(host) },
]
