import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '#lib/clock.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { jsonLog, type LogLevel } from '#lib/log.ts'
import { serveDrivers } from '#drivers/remote/server.ts'
import { localHost, type LocalNetwork, networkIn } from './local-host.ts'

const USAGE =
  'host --data DIR (--socket PATH | --purge [--all]) [--owner UID:GID] [--prefix NAME] [--docker SOCKET] [--network linux|docker-bridge] [--log-level debug|info|warn|error]'
const PURGE_MS_MAX = 240_000
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

const invalid = (flag: string, how: string): CloudError =>
  new CloudError('invalid', `--${flag} ${how}; usage: ${USAGE}`)

function readFlags(args: readonly string[]) {
  const string = { type: 'string' } as const
  const options = {
    data: string,
    socket: string,
    owner: string,
    prefix: string,
    docker: string,
    network: string,
    purge: { type: 'boolean' } as const,
    // Also what another folder's agent made under this name.
    all: { type: 'boolean' } as const,
    'log-level': string,
  }
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CloudError('invalid', `${messageOf(error)}; usage: ${USAGE}`)
  }
}

function readOwner(text: string): { uid: number; gid: number } {
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(text) ?? []
  if (uid === undefined || gid === undefined) throw invalid('owner', `must be UID:GID, not ${text}`)
  return { uid: Number(uid), gid: Number(gid) }
}

/** The network that is given, or that the folder has. */
async function readNetwork(given: string | undefined, data: string): Promise<LocalNetwork> {
  if (given === undefined) return (await networkIn(data)) ?? 'linux'
  if (given === 'linux' || given === 'docker-bridge') return given
  throw invalid('network', `must be linux or docker-bridge, not ${given}`)
}

/** Runs the host agent until it is told to stop; containers run on without it. */
async function main(args: readonly string[]): Promise<void> {
  const stopped = new Promise((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  const values = readFlags(args)
  const { data, socket, prefix } = values
  const docker = values.docker ?? process.env['ARCUS_DOCKER']
  if (!data) throw invalid('data', 'is missing')
  if (!socket && !values.purge) throw invalid('socket', 'is missing')
  if (prefix !== undefined && !/^[a-z][a-z0-9]{0,4}$/.test(prefix)) {
    throw invalid('prefix', `must be 1 to 5 of a-z and 0-9, not ${prefix}`)
  }
  const owner = readOwner(values.owner ?? '0:0')
  const level = LEVELS.find((it) => it === (values['log-level'] ?? process.env['ARCUS_LOG'] ?? 'info'))
  if (!level) throw invalid('log-level', `must be one of ${LEVELS.join(', ')}`)
  const network = await readNetwork(values.network, data)
  if (process.getuid?.() !== 0 && network === 'linux')
    throw new CloudError('forbidden', 'the host agent needs root: it makes namespaces and links')
  const log = jsonLog(level).with({ process: 'agent' })
  const host = await localHost({
    directory: data,
    takeOver: values.all === true && !socket,
    network,
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

try {
  await main(process.argv.slice(2))
  process.exit(0)
} catch (error) {
  const text = isCloudError(error) ? error.message : `${messageOf(error)}\n${(error as Error).stack}`
  process.stderr.write(`host agent: ${text}\n`)
  process.exit(1)
}
