import { createServer } from 'node:net'
import { join } from 'node:path'
import { steadyClock } from '#lib/clock.ts'
import { PROGRAM } from '#lib/entry.ts'
import { CloudError } from '#lib/errors.ts'
import { checkData, checkPort, checkReach } from '#setup/checks.ts'
import { cloudData, edgeData, folderLayout, type Layout, makeFolders } from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import {
  CLOUD_OPTIONS,
  CLOUD_OPTIONS_HELP,
  cloudArguments,
  DEFAULT_LISTEN,
  folderOption,
  FRONT_OPTIONS,
  type FrontListen,
  networkOption,
  type Listen,
  parse,
  parseFront,
  parseListen,
} from '#setup/options.ts'
import { runParent } from '#setup/parent.ts'
import { installProgram } from '#setup/program.ts'
import { type Cloudware, settingsOf, urlOf } from '#setup/programs.ts'
import { readAdmin, summary } from '#setup/summary.ts'
import { canRead, CLOUD_USER, EDGE_USER, type User, userOrNumbers } from '#setup/users.ts'
import { readPidFile } from '#supervise/identity.ts'
import { pidFileOf } from '#supervise/supervisor.ts'
import { readConfig } from './config.ts'

// The parent of a cloud's three processes below one folder, without any set-up of the machine. A cloud in one process
// (`--in-process`, or with simulated drivers only) needs no parent and is main.ts alone.

type Asked = {
  readonly layout: Layout
  readonly listen: readonly Listen[]
  readonly front: FrontListen
  readonly compute: string
  readonly network: string
  readonly more: readonly string[]
  readonly json: boolean
}

const FREE_PORT = '127.0.0.1:0'

const HELP = `Usage: arcus serve --data DIR [--listen HOST:PORT]... [--compute docker|simulated]
                   [--network linux|docker-bridge|simulated]
                   [--json] [--in-process]

Runs a cloud below a folder without any set-up of the machine. With simulated drivers, and with --in-process, it is one
process; else three, and this one is their parent, as root.

  --data DIR          where everything is kept
  --listen HOST:PORT  where the API answers (${DEFAULT_LISTEN}); port 0 takes a free one
  --http ADDRESS:PORT, --https ADDRESS:PORT
                      where the edge serves hostnames of tunnels and routes (free ports of 127.0.0.1)
  --json              say when it is ready in one line of JSON, with the administrator's credentials
  --in-process        everything in one process, for development and tests
${CLOUD_OPTIONS_HELP}

ARCUS_DOCKER in the environment names another socket of the container engine than /var/run/docker.sock.`

function read(args: readonly string[]): Asked | undefined {
  const values = parse(args, {
    help: { type: 'boolean', short: 'h' },
    data: { type: 'string' },
    listen: { type: 'string', multiple: true },
    compute: { type: 'string' },
    json: { type: 'boolean' },
    ...FRONT_OPTIONS,
    ...CLOUD_OPTIONS,
  })
  if (values.help) return undefined
  const { data, listen = [DEFAULT_LISTEN], compute = 'docker', json = false } = values
  const { http = FREE_PORT, https = FREE_PORT } = values
  if (!data) throw new CloudError('invalid', 'serve needs --data DIR')
  if (compute !== 'docker' || values.network === 'simulated')
    throw new CloudError('invalid', 'give --compute docker and a network of its, or simulated for both')
  const network = networkOption(values.network)
  const layout = folderLayout(folderOption(data))
  const more = cloudArguments(values)
  readConfig(more, {})
  return {
    layout,
    listen: listen.map(parseListen),
    front: parseFront(http, https),
    compute,
    network,
    more,
    json,
  }
}

/** A port that is free now, in place of 0: chosen here, so that the cloud keeps it when it is started again. */
async function choosePort(it: Listen): Promise<Listen> {
  if (it.port !== 0) return it
  const port = await new Promise<number>((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, it.host, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
  return parseListen(it.text.replace(/:0$/, `:${port}`))
}

/** The checkout's bundle, or a copy below the data folder when the accounts cannot read it. */
async function readableProgram(users: readonly User[], layout: Layout): Promise<string> {
  for (const user of users) {
    if (await canRead(user, join(PROGRAM, 'main.js'))) continue
    const copy = await installProgram(PROGRAM, layout.programs, (line) => console.error(line))
    await checkReach(user, join(copy, 'main.js'))
    return copy
  }
  return PROGRAM
}

async function prepare(asked: Asked): Promise<Cloudware> {
  const { layout, front, compute, network, more } = asked
  checkData(layout.data)
  const runs = readPidFile(pidFileOf(layout.run, 'cloud')) !== undefined
  const listen: Listen[] = []
  for (const it of asked.listen) {
    if (!runs) await checkPort(it)
    listen.push(await choosePort(it))
  }
  const users = { cloud: userOrNumbers(CLOUD_USER), edge: userOrNumbers(EDGE_USER) }
  makeFolders(layout, users)
  await checkReach(users.cloud, cloudData(layout))
  await checkReach(users.edge, edgeData(layout))
  const program = await readableProgram([users.cloud, users.edge], layout)
  return { layout, program, users, listen, front, compute, network, more, settings: settingsOf(process.env) }
}

await runCommand('serve', async () => {
  const asked = read(process.argv.slice(2))
  if (!asked) return console.log(HELP)
  const cloudware = await prepare(asked)
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort())
  await runParent({
    cloudware,
    engine: false,
    detached: false,
    stop: stop.signal,
    leave: new AbortController().signal,
    clock: steadyClock,
    say: (line) => console.error(line),
    onReady: ({ warnings }) => {
      const url = urlOf(cloudware)
      const admin = readAdmin(cloudware.layout)
      if (asked.json) console.log(JSON.stringify({ ready: true, url, admin }))
      else console.log(summary({ url, layout: cloudware.layout, admin, warnings, command: './arcus' }))
    },
  })
})
