import { join } from 'node:path'
import { steadyClock } from '#lib/clock.ts'
import { PROGRAM } from '#lib/entry.ts'
import { CloudError } from '#lib/errors.ts'
import { checkData, checkPort } from '#setup/checks.ts'
import { awaitReady, startParent, startUnits } from '#setup/background.ts'
import type { Say } from '#setup/command.ts'
import { hasSystemd } from '#setup/engine.ts'
import { type Layout, machineLayout } from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import {
  CLOUD_OPTIONS,
  CLOUD_OPTIONS_HELP,
  DEFAULT_DATA,
  DEFAULT_LISTEN,
  folderOption,
  FRONT_OPTIONS,
  type FrontListen,
  keptArguments,
  networkOption,
  type Listen,
  parse,
  parseFront,
  parseListen,
} from '#setup/options.ts'
import { alone, type ParentStatus, runningParent, runParent, versionOf } from '#setup/parent.ts'
import { prepareCloud, prepareHost } from '#setup/prepare.ts'
import { removeOtherVersions } from '#setup/program.ts'
import { type Cloudware, settingsOf, urlOf } from '#setup/programs.ts'
import { readRecord, writeRecord } from '#setup/record.ts'
import { readAdmin, summary } from '#setup/summary.ts'
import { unitsExist } from '#setup/units.ts'
import { CLOUD_USER, EDGE_USER, ensureUser } from '#setup/users.ts'
import { readPidFile } from '#supervise/identity.ts'
import { pidFileOf } from '#supervise/supervisor.ts'
import { readConfig } from './config.ts'

const DEFAULT_FRONT = { http: '0.0.0.0:80', https: '0.0.0.0:443' }

const HELP = `Usage: arcus up [--detach] [--data DIR] [--listen HOST:PORT]...

Sets this machine up (Debian or Ubuntu, as root) and runs the cloud. In the foreground, Ctrl-C stops the cloud and
leaves containers running. Safe to repeat: what runs is recognised, and replaced when the program has changed.

  --detach            return when the cloud is ready
  --data DIR          where everything is kept (${DEFAULT_DATA})
  --listen HOST:PORT  where the API answers (${DEFAULT_LISTEN}); DIALECT=HOST:PORT for one dialect alone; repeatable
  --http ADDRESS:PORT   where the edge sends plain HTTP on to HTTPS (${DEFAULT_FRONT.http})
  --https ADDRESS:PORT  where the edge serves the hostnames of tunnels and routes (${DEFAULT_FRONT.https})
${CLOUD_OPTIONS_HELP}

What is not given stays as it was at the last \`up\`; an empty one, such as --allow-network=, is as if never given.`

/** Of the bundle that this is. */
const CHECKOUT = join(PROGRAM, '../..')
const say: Say = (line) => console.error(line)

/** Aborted by the first of these signals; later ones change nothing, so that an orderly stop is not cut short. */
function onSignals(...names: NodeJS.Signals[]): AbortSignal {
  const controller = new AbortController()
  for (const name of names) process.on(name, () => controller.abort())
  return controller.signal
}

type Asked = {
  readonly layout: Layout
  readonly listen: readonly Listen[]
  readonly front: FrontListen
  readonly network: string
  readonly more: readonly string[]
  readonly detach: boolean
  readonly isParent: boolean
}

/** What is not said now is as it was at the last `up`. */
function read(args: readonly string[]): Asked | undefined {
  const values = parse(args, {
    help: { type: 'boolean', short: 'h' },
    detach: { type: 'boolean', short: 'd' },
    data: { type: 'string' },
    listen: { type: 'string', multiple: true },
    ...FRONT_OPTIONS,
    ...CLOUD_OPTIONS,
    // For our own use: the process that `--detach` leaves behind.
    parent: { type: 'boolean' },
  })
  if (values.help) return undefined
  const before = readRecord()
  const data = values.data === undefined ? before?.data : folderOption(values.data)
  const listen = (values.listen ?? before?.listen ?? [DEFAULT_LISTEN]).map(parseListen)
  if (listen.some((it) => it.port === 0)) throw new CloudError('invalid', '--listen needs a port here, not 0')
  const layout = machineLayout(data ?? DEFAULT_DATA)
  const { http, https } = { ...DEFAULT_FRONT, ...before?.front }
  const front = parseFront(values.http ?? http, values.https ?? https)
  const more = keptArguments(before?.more ?? [], values)
  const network = networkOption(networkIn(more))
  // What the cloud would not start with must not take the place of what runs.
  readConfig(more, {})
  return {
    layout,
    listen,
    front,
    network,
    more,
    detach: values.detach ?? false,
    isParent: values.parent ?? false,
  }
}

/** The network that a command line chose. */
function networkIn(more: readonly string[]): string | undefined {
  const at = more.indexOf('--network')
  return at < 0 ? undefined : more[at + 1]
}

const cloudwareOf = (
  { layout, listen, front, network, more }: Asked,
  program: string,
  users: Cloudware['users'],
): Cloudware => ({
  layout,
  program,
  users,
  listen,
  front,
  compute: 'docker',
  network,
  more,
  settings: settingsOf(process.env),
})

/** Sets the machine up; nothing is made before what can be refused was looked at. */
async function prepare(asked: Asked): Promise<Cloudware> {
  const { layout, listen, front, more } = asked
  const parent = runningParent(layout.run)
  const record = readRecord()
  const before = parent ? parent.data : record?.data
  const runs =
    parent !== undefined || unitsExist() || readPidFile(pidFileOf(layout.run, 'cloud')) !== undefined
  if (runs && before !== undefined && before !== layout.data) {
    throw new CloudError(
      'conflict',
      `Arcus already runs with its data in ${before}; end it first with \`arcus down\``,
    )
  }
  checkData(layout.data)
  // What our own cloud listens on is taken, and rightly so.
  const held = runs ? (record?.listen ?? []) : []
  for (const it of listen) if (!held.includes(it.text)) await checkPort(it)
  await prepareHost(say, steadyClock)
  const { program, users } = await prepareCloud(layout, say)
  await writeRecord({
    data: layout.data,
    listen: listen.map((it) => it.text),
    front: { http: front.http.text, https: front.https.text },
    more,
  })
  return cloudwareOf(asked, program, users)
}

function print(it: Cloudware, warnings: readonly string[]): void {
  const command = process.cwd() === CHECKOUT ? './arcus' : join(CHECKOUT, 'arcus')
  console.log(summary({ url: urlOf(it), layout: it.layout, admin: readAdmin(it.layout), warnings, command }))
}

/** The parent that stays in the background: everything is set up, and the program is the one it was started from. */
async function beParent(asked: Asked): Promise<void> {
  const users = { cloud: await ensureUser(CLOUD_USER), edge: await ensureUser(EDGE_USER) }
  const cloudware = cloudwareOf(asked, PROGRAM, users)
  // No terminal is its own: what ends one must not end it.
  process.on('SIGHUP', () => {})
  await supervise(cloudware, true, () => {})
}

/** Keeps the processes running until a signal; `onReady` is told what is missing. */
const supervise = (
  cloudware: Cloudware,
  detached: boolean,
  onReady: (warnings: readonly string[]) => void,
): Promise<void> =>
  runParent({
    cloudware,
    engine: true,
    detached,
    // A terminal that is closed ends what was started in it.
    stop: detached ? onSignals('SIGINT', 'SIGTERM') : onSignals('SIGINT', 'SIGTERM', 'SIGHUP'),
    leave: onSignals('SIGUSR2'),
    clock: steadyClock,
    say,
    onReady: (status) => onReady(status.warnings),
  })

/** What was missing may be there by now: a new parent in the background adopts everything and looks again. */
const mayMend = (parent: ParentStatus): boolean => parent.detached && parent.warnings.length > 0

async function up(asked: Asked, isStarted: () => void): Promise<void> {
  const it = await prepare(asked)
  // While it is alone: what it removes may else be what another one has just put there.
  const started = (warnings: readonly string[]): void => {
    removeOtherVersions(it.program, it.layout.programs)
    print(it, warnings)
  }
  const parent = runningParent(it.layout.run)
  const isSame = parent?.phase === 'ready' && parent.version === versionOf(it)
  if (!parent && hasSystemd() && (asked.detach || unitsExist())) {
    started(await startUnits(it, say, steadyClock))
  } else if (isSame && !mayMend(parent)) {
    await awaitReady(it.layout.run, steadyClock)
    started(parent.warnings)
  } else if (parent && !parent.detached) {
    const where = `in the foreground as process ${parent.parent.pid}`
    const how = 'with another program or other options; end that first'
    throw new CloudError('conflict', `Arcus already runs ${where}, ${how}`)
  } else if (parent || asked.detach) {
    started(await startParent(it, onSignals('SIGINT', 'SIGTERM', 'SIGHUP'), say, steadyClock))
  } else {
    await supervise(it, false, (warnings) => {
      started(warnings)
      isStarted()
      say('Ctrl-C stops the cloud; containers keep running.')
    })
  }
}

await runCommand('up', async () => {
  const asked = read(process.argv.slice(2))
  if (!asked) return console.log(HELP)
  if (asked.isParent) return await beParent(asked)
  const lock = alone(asked.layout.run)
  try {
    await up(asked, () => lock.release())
  } finally {
    lock.release()
  }
})
