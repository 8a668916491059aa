import { mkdir } from 'node:fs/promises'
import { steadyClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { jsonLog } from '#lib/log.ts'
import { serveEdge } from '#drivers/edge/server.ts'
import type { Listen } from '#drivers/front/listener.ts'
import { runCommand } from '#setup/main.ts'
import { levelOption, ownerOption, parse } from '#setup/options.ts'
import { localEdge } from './local-edge.ts'

const HELP = `Usage: arcus edge --data DIR --socket PATH [--owner UID:GID] [--dns ADDRESS:PORT] [--http ADDRESS:PORT]
                  [--https ADDRESS:PORT] [--log-level debug|info|warn|error]

Runs the edge process, which \`arcus up\` and \`arcus serve\` start themselves.`
/** For who only wants names answered. */
const FREE_PORT = '127.0.0.1:0'

function readListen(flag: string, text: string): Listen {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:]+)\]|([\d.]+)):(\d{1,5})$/i.exec(text) ?? []
  const address = v6 ?? v4
  if (address === undefined || Number(port) > 65_535)
    throw new CloudError('invalid', `--${flag} takes ADDRESS:PORT, not ${text}`)
  return { address, port: Number(port) }
}

const string = { type: 'string' } as const
const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  data: string,
  socket: string,
  owner: string,
  dns: string,
  http: string,
  https: string,
  'log-level': string,
} as const

/** Runs the edge process until it is told to stop. */
await runCommand('edge', async () => {
  const stopped = new Promise((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  const values = parse(process.argv.slice(2), OPTIONS)
  if (values.help) return console.log(HELP)
  const { data, socket, dns, owner } = values
  if (!data || !socket) throw new CloudError('invalid', 'edge needs --data DIR and --socket PATH')
  const log = jsonLog(levelOption(values['log-level'] ?? process.env['ARCUS_LOG'])).with({ process: 'edge' })
  // Before anything is made: what is asked for may be wrong.
  const listen = {
    dns: dns === undefined ? undefined : readListen('dns', dns),
    http: readListen('http', values.http ?? FREE_PORT),
    https: readListen('https', values.https ?? FREE_PORT),
  }
  const to = owner === undefined ? {} : { owner: ownerOption(owner) }
  await mkdir(data, { recursive: true, mode: 0o700 })
  const { close, ...served } = await localEdge({ ...listen, directory: data, clock: steadyClock, log })
  try {
    const control = await serveEdge({ ...served, socket, log, ...to })
    log.info('edge serves', { socket, zones: (await served.edge.list(AbortSignal.timeout(1000))).length })
    await stopped
    await control.close()
  } finally {
    await close()
  }
})
