import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { run } from './command.ts'
import { agentSocket, cloudData, edgeData, instancesFolder } from './layout.ts'
import { capabilitiesOf, type Cloudware, commandsOf, environmentOf } from './programs.ts'

const UNITS = '/etc/systemd/system'
const TMPFILES = '/etc/tmpfiles.d/arcus.conf'
const PENDING = '/etc/arcus/restarts.json'
const SYSTEMCTL_SECONDS_MAX = 120
const SOCKET_SECONDS_MAX = 30

/** Our units, in the order of their start. */
export const UNIT_NAMES = ['arcus-agent.service', 'arcus-edge.service', 'arcus-cloud.service'] as const

/** One word of a setting: systemd splits at blanks and expands `%`. */
const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%')}"`

/** One word of a command line, where it expands `$` too. */
const word = (text: string): string => quoted(text).replaceAll('$', () => '$$')

const environment = (it: Cloudware, name: string): string =>
  Object.entries(environmentOf(it, name))
    .map(([key, value]) => `Environment=${quoted(`${key}=${value}`)}\n`)
    .join('')

/** For ever; systemd's growing pauses came with 254, later than the oldest one that we run on. */
const RESTART = 'Restart=always\nRestartSec=1s\n'

export const unitOf = (name: string): string => `arcus-${name}.service`

const capabilities = (names: readonly string[]): string => {
  const list = names.map((it) => `CAP_${it.toUpperCase()}`).join(' ')
  return `AmbientCapabilities=${list}\nCapabilityBoundingSet=${list}\n`
}

const withoutRoot = (user: string, writable: string): string =>
  `User=${user}\nGroup=${user}\nNoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=read-only\n` +
  `PrivateDevices=yes\nProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectControlGroups=yes\n` +
  `RestrictSUIDSGID=yes\nReadWritePaths=${writable}\n`

const unit = (parts: { unit: string; service: string }): string =>
  `# Written by \`arcus up\`; it is replaced by the next one.\n[Unit]\n${parts.unit}StartLimitIntervalSec=0\n\n` +
  `[Service]\n${parts.service}${RESTART}\n[Install]\nWantedBy=multi-user.target\n`

/** The text of every file that systemd gets, by path. */
export function renderUnits(it: Cloudware): Record<string, string> {
  const commands = commandsOf(it)
  const allowed = capabilitiesOf(it)
  const { layout, users } = it
  const start = (argv: readonly string[]): string =>
    `WorkingDirectory=${it.program}\nExecStart=${argv.map(word).join(' ')}\n`
  const wait = `until [ -S ${agentSocket(layout)} ]; do sleep 0.1; done`
  const writable = (data: string, name: string, more = ''): string =>
    [data, join(layout.cache, name), more].join(' ').trim()
  return {
    // Before Docker, which needs our network plugin while it starts; killed alone, so that what it watches lives on.
    [join(UNITS, 'arcus-agent.service')]: unit({
      unit: 'Description=Arcus host agent\nAfter=local-fs.target network-pre.target\nBefore=docker.service\n',
      service:
        `${environment(it, 'agent')}${start(commands.agent)}` +
        `ExecStartPost=/usr/bin/timeout ${SOCKET_SECONDS_MAX} /bin/sh -c ${word(wait)}\nKillMode=process\n`,
    }),
    [join(UNITS, 'arcus-edge.service')]: unit({
      unit: 'Description=Arcus edge\nAfter=arcus-agent.service network.target\n',
      service:
        `${environment(it, 'edge')}${start(commands.edge)}${capabilities(allowed.edge)}` +
        withoutRoot(users.edge.name, writable(edgeData(layout), 'edge', join(layout.run, 'edge'))),
    }),
    [join(UNITS, 'arcus-cloud.service')]: unit({
      unit: 'Description=Arcus cloud\nAfter=arcus-agent.service arcus-edge.service network.target\n',
      // Its standard output is for a terminal and may hold credentials.
      service:
        `${environment(it, 'cloud')}${start(commands.cloud)}StandardOutput=null\n${capabilities(allowed.cloud)}` +
        withoutRoot(users.cloud.name, writable(cloudData(layout), 'cloud', instancesFolder(layout))),
    }),
    [TMPFILES]:
      `d ${layout.run} 0711 root root\n` +
      `d ${join(layout.run, 'edge')} 2750 ${users.edge.name} ${users.cloud.name}\n` +
      `d ${instancesFolder(layout)} 0750 root ${users.cloud.name}\n`,
  }
}

const systemctl = (...args: string[]): Promise<string> => run(['systemctl', ...args], SYSTEMCTL_SECONDS_MAX)

export const unitsExist = (): boolean => UNIT_NAMES.some((it) => existsSync(join(UNITS, it)))

const current = (path: string): string | undefined =>
  existsSync(path) ? readFileSync(path, 'utf8') : undefined

/** Where the units' files are below, and who is asked to do something with them. */
export type Init = {
  readonly root: string
  readonly systemctl: (...args: string[]) => Promise<unknown>
}

/** The units whose files changed, until each was started with what it says now. */
async function openPending(root: string) {
  const file = join(root, PENDING)
  const names = new Set(JSON.parse((await readIfThere(file)) ?? '[]') as string[])
  const write = async (): Promise<void> => {
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 })
    if (names.size) await writeAtomically(file, JSON.stringify([...names]))
    else rmSync(file, { force: true })
  }
  return {
    names,
    async add(more: readonly string[]): Promise<void> {
      for (const it of more) names.add(it)
      await write()
    },
    async done(name: string): Promise<void> {
      if (names.delete(name)) await write()
    },
  }
}

/**
 * Writes the units, enables them and (re)starts those that changed or do not run, one by one. What it was cut short in, it
 * does the next time.
 */
export async function applyUnits(
  it: Cloudware,
  onAgent: () => Promise<void>,
  { root, systemctl: ask }: Init = { root: '/', systemctl },
): Promise<void> {
  const changed = Object.entries(renderUnits(it))
    .map(([path, text]) => ({ path: join(root, path), text }))
    .filter(({ path, text }) => current(path) !== text)
  const pending = await openPending(root)
  await pending.add(UNIT_NAMES.filter((name) => changed.some(({ path }) => path.endsWith(name))))
  for (const { path, text } of changed) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text, { mode: 0o600 })
  }
  if (changed.length > 0 || pending.names.size > 0) await ask('daemon-reload')
  await ask('enable', '--quiet', ...UNIT_NAMES)
  for (const name of UNIT_NAMES) {
    await ask(pending.names.has(name) ? 'restart' : 'start', name)
    await pending.done(name)
    if (name === 'arcus-agent.service') await onAgent()
  }
}

/** The last lines a unit said, for a message. */
export const unitSaid = async (name: string): Promise<string> =>
  (
    await run(
      ['journalctl', '--unit', name, '--lines', '3', '--output', 'cat', '--no-pager'],
      SYSTEMCTL_SECONDS_MAX,
    )
  ).trim()

/** Stops and disables the units; true when there were any. */
export async function stopUnits(): Promise<boolean> {
  const there = UNIT_NAMES.filter((it) => existsSync(join(UNITS, it)))
  for (const name of there.toReversed()) await systemctl('disable', '--quiet', '--now', name)
  return there.length > 0
}

/** Removes the files; the units must be stopped. */
export async function removeUnits(): Promise<void> {
  if (!unitsExist()) return
  for (const name of UNIT_NAMES) rmSync(join(UNITS, name), { force: true })
  rmSync(TMPFILES, { force: true })
  await systemctl('daemon-reload')
}
