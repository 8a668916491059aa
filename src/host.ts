import { dirname, join } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { jsonLog } from '#lib/log.ts'
import { serveDrivers } from '#drivers/remote/server.ts'
import { runCommand } from '#setup/main.ts'
import { levelOption, ownerOption, parse, publishedPortsOption } from '#setup/options.ts'
import { localHost, type LocalNetwork, networkIn } from './local-host.ts'

const HELP = `Usage: arcus agent --data DIR (--socket PATH | --purge [--all]) [--owner UID:GID] [--prefix NAME]
                   [--docker SOCKET] [--network linux|docker-bridge] [--published-ports FROM-TO]
                   [--log-level debug|info|warn|error]

Runs the host agent, which \`arcus up\` and \`arcus serve\` start themselves; with --purge it removes what one made.`
const PURGE_MS_MAX = 240_000

const string = { type: 'string' } as const
const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  data: string,
  socket: string,
  owner: string,
  prefix: string,
  docker: string,
  network: string,
  'published-ports': string,
  purge: { type: 'boolean' },
  // Also what another folder's agent made under this name.
  all: { type: 'boolean' },
  'log-level': string,
} as const

const invalid = (message: string): CloudError => new CloudError('invalid', message)

/** The network that is given, or that the folder has. */
async function readNetwork(given: string | undefined, data: string): Promise<LocalNetwork> {
  if (given === undefined) return (await networkIn(data)) ?? 'linux'
  if (given === 'linux' || given === 'docker-bridge') return given
  throw invalid(`--network is linux or docker-bridge, not ${given}`)
}

/** Runs the host agent until it is told to stop; containers run on without it. */
async function main(): Promise<void> {
  const stopped = new Promise((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  const values = parse(process.argv.slice(2), OPTIONS)
  if (values.help) return console.log(HELP)
  const { data, socket, prefix } = values
  const docker = values.docker ?? process.env['ARCUS_DOCKER']
  if (!data || (!socket && !values.purge)) throw invalid('agent needs --data DIR and --socket PATH')
  if (prefix !== undefined && !/^[a-z][a-z0-9]{0,4}$/.test(prefix)) {
    throw invalid(`--prefix takes 1 to 5 of a-z and 0-9, not ${prefix}`)
  }
  const owner = ownerOption(values.owner ?? '0:0')
  const level = levelOption(values['log-level'] ?? process.env['ARCUS_LOG'])
  const network = await readNetwork(values.network, data)
  if (process.getuid?.() !== 0 && network === 'linux')
    throw new CloudError('forbidden', 'the host agent needs root: it makes namespaces and links')
  const log = jsonLog(level).with({ process: 'agent' })
  const host = await localHost({
    directory: data,
    takeOver: values.all === true && !socket,
    network,
    publishedPorts: publishedPortsOption(values['published-ports']),
    clock: systemClock,
    log,
    ...(socket === undefined ? {} : { instances: { folder: join(dirname(socket), 'instances'), owner } }),
    ...(prefix === undefined ? {} : { prefix }),
    ...(docker === undefined ? {} : { docker }),
  })
  try {
    const { compute } = host
    if (!socket) {
      try {
        await compute.purge(AbortSignal.timeout(PURGE_MS_MAX))
      } finally {
        await host.network.purge(AbortSignal.timeout(PURGE_MS_MAX))
      }
      return
    }
    const served = await serveDrivers({
      network: host.network,
      compute,
      socket,
      owner,
      epochs: join(data, 'epoch'),
      log,
    })
    log.info('host agent serves', { socket })
    await stopped
    await served.close()
  } finally {
    await host.close()
  }
}

await runCommand('agent', main)
process.exit()
