import { setTimeout as pause } from 'node:timers/promises'
import { PROGRAM } from '#lib/entry.ts'
import { type Check, limited, missing, ok, type Finding } from './check.ts'
import { type Host, isRoot } from './host.ts'

const MIB = 1024 * 1024
/** Below this a cloud and one container do not fit. */
const MEMORY_BYTES_MIN = 512 * MIB
const MEMORY_BYTES_GOOD_MIN = 1024 * MIB
/** Connections, files and pipes of the cloud process at its limits. */
const OPEN_FILES_MIN = 8192
const WATCHES_MIN = 512
/** How long the two clocks are compared, and how far they may part meanwhile. */
const STEADY_MS = 250
const STEP_MS_MAX = 100
/** Written by a clock that was ahead. */
const AHEAD_MS_MAX = 5000
const YEAR_MAX = 2200

const mib = (bytes: number): string => `${Math.round(bytes / MIB)} MiB`

function operatingSystem(host: Host): Finding {
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(host.read('/etc/os-release') ?? '')?.[1] ?? host.platform
  if (host.platform !== 'linux')
    return missing(`${name} is no Linux`, 'use a machine with Debian 12 or Ubuntu 24.04')
  if (!['x64', 'arm64'].includes(host.arch))
    return missing(`${host.arch} is neither x86-64 nor arm64`, 'use another machine')
  const seen = `${name}, Linux ${(host.read('/proc/sys/kernel/osrelease') ?? '').trim()}, ${host.arch}`
  return host.has('apt-get')
    ? ok(seen)
    : limited(`${seen}; without apt-get \`up\` installs nothing by itself`, 'install what is missing by hand')
}

function node(host: Host): Finding {
  const wanted = (host.read(`${PROGRAM}/.node-version`) ?? '').trim()
  if (wanted === '' || host.node === `v${wanted}`) return ok(`Node ${host.node}`)
  return limited(`Node ${host.node}, tested with v${wanted}`, 'start it by ./arcus, which brings its own')
}

function memory(host: Host): Finding {
  const { total, free } = host.memory
  const seen = `${mib(free)} of ${mib(total)} are free`
  if (free < MEMORY_BYTES_MIN)
    return missing(`${seen}, ${mib(MEMORY_BYTES_MIN)} are needed`, 'end something, or give it more memory')
  if (free < MEMORY_BYTES_GOOD_MIN)
    return limited(`${seen}: enough for a few containers`, 'give it more memory')
  return ok(seen)
}

function openFiles(host: Host): Finding {
  const [, , hard = ''] = /^Max open files +(\S+) +(\S+)/m.exec(host.read('/proc/self/limits') ?? '') ?? []
  if (hard === 'unlimited' || Number(hard) >= OPEN_FILES_MIN) return ok(`a process may open ${hard} files`)
  return limited(
    `a process may open ${hard || 'an unknown number of'} files, under load ${OPEN_FILES_MIN} are needed`,
    `ulimit -Hn ${OPEN_FILES_MIN} before \`up\`, or a line in /etc/security/limits.conf`,
  )
}

function watches(host: Host): Finding {
  const instances = Number(host.read('/proc/sys/fs/inotify/max_user_instances') ?? WATCHES_MIN)
  if (instances >= WATCHES_MIN) return ok(`${instances} processes of one account may watch files`)
  return limited(
    `${instances} processes of one account may watch files, and all containers whose user has one number share them`,
    `sysctl -w fs.inotify.max_user_instances=${WATCHES_MIN}`,
  )
}

/** A year that can be, no later than what was written last, and no steps while we look. */
async function time(host: Host, written: () => number | undefined): Promise<Finding> {
  const now = host.clock.now()
  const date = new Date(now).toISOString().slice(0, 19)
  const set = 'timedatectl set-ntp true, or date -s with the right time'
  const built = written()
  if (built !== undefined && now < built - AHEAD_MS_MAX)
    return missing(
      `the clock says ${date}, earlier than the files it wrote (${new Date(built).toISOString().slice(0, 19)})`,
      set,
    )
  if (new Date(now).getUTCFullYear() > YEAR_MAX) return missing(`the clock says ${date}`, set)
  const steady = host.steadyMs()
  await pause(STEADY_MS)
  const step = host.clock.now() - now - (host.steadyMs() - steady)
  if (Math.abs(step) > STEP_MS_MAX)
    return limited(
      `the clock jumped by ${Math.round(step)} ms while it was looked at`,
      'let one program set it',
    )
  return ok(`${date} UTC`)
}

/** What the usual keepers of the time leave while they run. */
const KEEPERS = [
  '/run/systemd/timesync/synchronized',
  '/run/chrony/chronyd.pid',
  '/run/chronyd.pid',
  '/run/ntpd.pid',
  '/run/ntpsec/ntpd.pid',
  '/run/openntpd.pid',
]

const timeKeeper = (host: Host): Finding =>
  KEEPERS.some((it) => host.exists(it))
    ? ok('a program keeps the clock right')
    : limited(
        'no program is seen to keep the clock right; certificates and tokens need it',
        'apt-get install -y chrony',
      )

function reboot(host: Host): Finding {
  if (host.exists('/run/systemd/system')) return ok('systemd starts everything again')
  return limited(
    'there is no systemd: nothing starts Arcus after a reboot',
    'call `./arcus up --detach` at boot, for example by a line `@reboot` in root’s crontab',
  )
}

/** The controllers that bound containers; of version 1 those that are switched on. */
function controllersOf(host: Host): { readonly version: 1 | 2; readonly names: readonly string[] } {
  const unified = host.read('/sys/fs/cgroup/cgroup.controllers')
  if (unified !== undefined) return { version: 2, names: unified.trim().split(' ') }
  const lines = (host.read('/proc/cgroups') ?? '').split('\n')
  return { version: 1, names: lines.flatMap((line) => /^(\w+)\t\d+\t\d+\t1$/.exec(line)?.[1] ?? []) }
}

function cgroups(host: Host): Finding {
  const { version, names } = controllersOf(host)
  const lacking = ['cpu', 'memory', 'pids'].filter((it) => !names.includes(it))
  if (lacking.length)
    return missing(
      `cgroups of version ${version} without ${lacking.join(', ')}: a container cannot be bounded`,
      lacking.includes('memory') ? 'boot with cgroup_enable=memory' : 'boot another kernel',
    )
  return ok(`cgroups of version ${version} bound CPU, memory and processes`)
}

const root = (host: Host): Finding =>
  isRoot(host)
    ? ok('run by root')
    : missing(`run by the account ${host.uid}; \`up\` needs root`, 'sudo ./arcus doctor')

/** The machine, its kernel's limits and its clock. `written` is when the newest file of ours was written, in milliseconds. */
export const systemChecks = (host: Host, written: () => number | undefined): readonly Check[] => [
  { id: 'system', features: ['cloud', 'vpcs', 'pods'], required: true, probe: () => operatingSystem(host) },
  { id: 'node', features: ['cloud'], required: true, probe: () => node(host) },
  { id: 'root', features: ['cloud', 'vpcs', 'pods'], required: true, probe: () => root(host) },
  { id: 'memory', features: ['cloud', 'pods'], required: true, probe: () => memory(host) },
  { id: 'open-files', features: ['cloud'], required: true, probe: () => openFiles(host) },
  { id: 'clock', features: ['cloud'], required: true, probe: () => time(host, written) },
  { id: 'time-service', features: ['cloud'], required: false, probe: () => timeKeeper(host) },
  { id: 'cgroups', features: ['pods'], required: true, probe: () => cgroups(host) },
  { id: 'file-watches', features: ['pods'], required: false, probe: () => watches(host) },
  { id: 'start-at-boot', features: ['reboot'], required: false, probe: () => reboot(host) },
]
