import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { steadyClock } from '#lib/clock.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { jsonLog, type LogLevel } from '#lib/log.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import { openConnector } from '#drivers/cloudflare/connector.ts'
import type { Listen } from '#drivers/edge/dns.ts'
import { localEdge } from '#drivers/edge/local.ts'
import { type Owner, serveEdge } from '#drivers/edge/server.ts'
import { localFront } from '#drivers/front/local.ts'

const USAGE =
  'edge --data DIR --socket PATH [--owner UID:GID] [--dns ADDRESS:PORT] [--http ADDRESS:PORT] [--https ADDRESS:PORT] [--log-level debug|info|warn|error]'
/** For who only wants names answered. */
const FREE_PORT = '127.0.0.1:0'
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

const invalid = (flag: string, how: string): CloudError =>
  new CloudError('invalid', `--${flag} ${how}; usage: ${USAGE}`)

function readListen(flag: string, text: string): Listen {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:]+)\]|([\d.]+)):(\d{1,5})$/i.exec(text) ?? []
  const address = v6 ?? v4
  if (address === undefined || Number(port) > 65_535) throw invalid(flag, `must be ADDRESS:PORT, not ${text}`)
  return { address, port: Number(port) }
}

function readOwner(text: string): Owner {
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(text) ?? []
  if (uid === undefined || gid === undefined) throw invalid('owner', `must be UID:GID, not ${text}`)
  return { uid: Number(uid), gid: Number(gid) }
}

type Flag = 'data' | 'socket' | 'owner' | 'dns' | 'http' | 'https' | 'log-level'
type Flags = Readonly<Partial<Record<Flag, string>>>

function readFlags(args: readonly string[]): Flags {
  const string = { type: 'string' } as const
  const options = {
    data: string,
    socket: string,
    owner: string,
    dns: string,
    http: string,
    https: string,
    'log-level': string,
  }
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CloudError('invalid', `${messageOf(error)}; usage: ${USAGE}`)
  }
}

/** Runs the edge process until it is told to stop. */
async function main(args: readonly string[]): Promise<void> {
  const stopped = new Promise((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  const values = readFlags(args)
  const { data, socket, dns, http, https, owner } = values
  if (!data) throw invalid('data', 'is missing')
  if (!socket) throw invalid('socket', 'is missing')
  const level = LEVELS.find((it) => it === (values['log-level'] ?? process.env['ARCUS_LOG'] ?? 'info'))
  if (!level) throw invalid('log-level', `must be one of ${LEVELS.join(', ')}`)
  const log = jsonLog(level).with({ process: 'edge' })
  // Before anything is made: what is asked for may be wrong.
  const listen = {
    dns: dns === undefined ? undefined : readListen('dns', dns),
    http: readListen('http', http ?? FREE_PORT),
    https: readListen('https', https ?? FREE_PORT),
    owner: owner === undefined ? undefined : readOwner(owner),
  }
  await mkdir(data, { recursive: true, mode: 0o700 })
  const seal = createKeyring(await openMasterKey(join(data, 'seal.key'), randomBytes))
  const shared = { clock: steadyClock, log }
  const edge = await localEdge({
    ...shared,
    directory: join(data, 'zones'),
    listen: listen.dns,
  })
  const front = await localFront({
    ...shared,
    directory: join(data, 'front'),
    http: listen.http,
    https: listen.https,
    seal,
  })
  const connector = await openConnector({
    ...shared,
    program: 'cloudflared',
    path: process.env['PATH'] ?? '',
    file: join(data, 'connector'),
    seal,
  })
  try {
    const control = await serveEdge({
      edge,
      front,
      connector,
      socket,
      log,
      ...(listen.owner === undefined ? {} : { owner: listen.owner }),
    })
    log.info('edge serves', { socket, zones: (await edge.list(AbortSignal.timeout(1000))).length })
    await stopped
    await control.close()
  } finally {
    await Promise.all([edge.close(), front.close(), connector.close()])
  }
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(
    `edge: ${isCloudError(error) ? error.message : `${messageOf(error)}\n${(error as Error).stack}`}\n`,
  )
  process.exitCode = 1
}
