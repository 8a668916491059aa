import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { commandExists, run, runLong, type Say } from '#setup/command.ts'
import { ENGINE, ENGINE_PID_FILE, engineAnswers, ensureEngine, hasSystemd } from '#setup/engine.ts'
import { machineLayout } from '#setup/layout.ts'
import { DEFAULT_DATA } from '#setup/options.ts'
import { HOST_NEEDS, type Need } from '#lib/needs.ts'
import { enginePackages, installPackages, missingPackages } from '#setup/packages.ts'
import { runningParent } from '#setup/parent.ts'
import { canRead, CLOUD_USER, userOrNumbers } from '#setup/users.ts'
import { readRecord } from '#setup/record.ts'
import { unitsExist } from '#setup/units.ts'
import { identify } from '#supervise/identity.ts'
import { stopProcess } from '#supervise/stop.ts'
import { createSupervisor } from '#supervise/supervisor.ts'
import { hostSnapshot } from '../e2e/host.testing.ts'

const STOP_SECONDS_MAX = 120
const PURGE_SECONDS_MAX = 120
const COPY_SECONDS_MAX = 120
const TOOL_SECONDS_MAX = 30
const ANCESTORS_MAX = 64
/** What test/docker calls its own agents. */
const PREFIXES_OF_TESTS = ['atc', 'ati', 'atr']
const SOURCE = join(import.meta.dirname, '../../src')
const GOES_MS_MAX = 15_000
const POLL_MS = 250
/** In the environment of everything that a run starts, however far down. */
export const MARK = 'ARCUS_TEST_RUN'

/** Why the suites that change the machine cannot run here; undefined when they can. */
function whyNotHere(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root: run it as root'
  if (runningParent(machineLayout(DEFAULT_DATA).run) || unitsExist()) {
    return 'Arcus runs on this machine: end it with `./arcus down --purge`'
  }
  return undefined
}

/** Whether `up` has left anything on this machine. */
export const hasMachineData = (): boolean => existsSync(DEFAULT_DATA) || readRecord() !== undefined

/** One run of the suites. */
export type Run = {
  /** Carried by its processes. */
  readonly mark: string
  /** Its folder for everything it keeps. */
  readonly scratch: string
  /** Whether `up` had been here before. */
  readonly hadData: boolean
}

/** What the machine has for the suites. */
export type Machine = {
  /** Why nothing can be changed on it. */
  readonly whyNotHost?: string
  /** Why no container engine runs. */
  readonly whyNoEngine?: string
  /** Ends an engine that did not run before. */
  stop(): Promise<void>
}

/** What only tests call. */
const TEST_NEEDS: readonly Need[] = [
  { command: 'ping', package: 'iputils-ping' },
  { command: 'iptables', package: 'iptables' },
  { command: 'curl', package: 'curl' },
  { command: 'ssh', package: 'openssh-client' },
  { command: 'pebble', package: 'pebble' },
]

const nothing = async (): Promise<void> => {}

/** Installs what is missing and sees to it that a container engine answers. */
export async function prepareMachine(scratch: string, say: Say): Promise<Machine> {
  const whyNotHost = whyNotHere()
  if (whyNotHost !== undefined) return { whyNotHost, whyNoEngine: whyNotHost, stop: nothing }
  try {
    await installPackages(missingPackages([...HOST_NEEDS, ...TEST_NEEDS]), say, systemClock)
  } catch (error) {
    return { whyNotHost: messageOf(error), whyNoEngine: messageOf(error), stop: nothing }
  }
  if (await engineAnswers()) return { stop: nothing }
  try {
    if (!commandExists('dockerd')) await installPackages(enginePackages(), say, systemClock)
    // Only started, not kept running: suites stop and start it themselves.
    const supervisor = createSupervisor({ folder: scratch, logs: scratch, clock: systemClock })
    try {
      await ensureEngine(false, () => supervisor.start(ENGINE), say)
    } finally {
      await supervisor.leave()
    }
    return { stop: stopEngine }
  } catch (error) {
    return { whyNoEngine: messageOf(error), stop: nothing }
  }
}

/** Whichever daemon runs by now: a suite may have started it again. */
async function stopEngine(): Promise<void> {
  if (hasSystemd()) {
    await run(['systemctl', 'stop', 'docker.socket', 'docker.service'], STOP_SECONDS_MAX)
    return
  }
  const daemon = engineProcess()
  if (daemon) await stopProcess(daemon, STOP_SECONDS_MAX, systemClock)
}

function engineProcess() {
  if (!existsSync(ENGINE_PID_FILE)) return undefined
  const pid = Number.parseInt(readFileSync(ENGINE_PID_FILE, 'utf8'), 10)
  return commandOf(pid).includes('dockerd') ? identify(pid) : undefined
}

const readProc = (pid: number, file: string): string => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

const commandOf = (pid: number): string => readProc(pid, 'cmdline').replaceAll('\0', ' ').trim()

const parentOf = (pid: number): number => {
  const stat = readProc(pid, 'stat')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0)
}

const OURS = /src\/(main|host|edge|up|serve)\.ts/

/**
 * Processes that a run started and that live, the engine and what belongs to it excepted: by its mark, or, where that is
 * not handed on, as Arcus with its data in the run's own folder or in the machine's, where it did not run before.
 */
export function processesOf({ mark, scratch }: Run): number[] {
  const engine = engineProcess()?.pid
  const isOurs = (command: string): boolean =>
    OURS.test(command) && (command.includes(scratch) || command.includes(DEFAULT_DATA))
  const isMarked = (pid: number): boolean => readProc(pid, 'environ').split('\0').includes(`${MARK}=${mark}`)
  const isShim = (pid: number): boolean => commandOf(pid).includes('containerd-shim')
  const isOfEngine = (pid: number): boolean =>
    lineage(pid).some((it) => it === engine || (isShim(it) && !commandOf(it).includes(scratch)))
  // Containers of an engine that a suite ran have nothing of ours but their shim.
  const isOfSuite = (pid: number): boolean =>
    lineage(pid).some((it) => isShim(it) && commandOf(it).includes(scratch))
  return readdirSync('/proc')
    .filter((it) => /^\d+$/.test(it))
    .map(Number)
    .filter((pid) => pid !== process.pid && identify(pid) !== undefined)
    .filter((pid) => isMarked(pid) || isOurs(commandOf(pid)) || isOfSuite(pid))
    .filter((pid) => !isOfEngine(pid))
}

/** A process and those above it. */
function lineage(pid: number): number[] {
  const found: number[] = []
  for (let at = pid; at > 1 && found.length < ANCESTORS_MAX; at = parentOf(at)) found.push(at)
  return found
}

/** What the kernel makes by itself: routes of links that were there before. */
function isSystems(it: string, before: ReadonlySet<string>): boolean {
  const [, link] = /^route .* dev (\S+) .*proto kernel/.exec(it) ?? []
  return link !== undefined && before.has(`link ${link}`)
}

/** What is on the machine now and was not before, after it had time to go. */
export async function whatIsLeft(
  before: ReadonlySet<string>,
  it: Run,
  hasEngine: boolean,
): Promise<string[]> {
  const signal = new AbortController().signal
  for (const until = systemClock.now() + GOES_MS_MAX; ; await systemClock.sleep(POLL_MS, signal)) {
    const now = await hostSnapshot(hasEngine)
    const left = [...now].filter(
      (one) => !before.has(one) && !isSystems(one, before) && !one.startsWith('process '),
    )
    left.push(...processesOf(it).map((pid) => `process ${pid} ${commandOf(pid)}`))
    if (!it.hadData && hasMachineData()) left.push(`folder ${DEFAULT_DATA}`)
    if (left.length === 0 || systemClock.now() > until) return left
  }
}

/** The checkout, or a copy of it when accounts of services cannot read it, as below /root. */
export async function readableCheckout(root: string, scratch: string): Promise<string> {
  if (await canRead(userOrNumbers(CLOUD_USER), join(root, 'package.json'))) return root
  const copy = join(scratch, 'checkout')
  await run(['cp', '-R', root, copy], COPY_SECONDS_MAX)
  await run(['chmod', '-R', 'go+rX', copy], COPY_SECONDS_MAX)
  return copy
}

/** Links that Docker makes for containers of others. */
const DOCKERS_LINK = /^(veth|docker|br-)/

/** The command that removes one line of a snapshot; undefined for what goes with something else. */
function removalOf(it: string): string[] | undefined {
  const [, what = '', name = ''] = /^(namespace|link|nft table) (.+)$/.exec(it) ?? []
  if (what === 'namespace') return ['ip', 'netns', 'delete', name]
  if (what === 'link' && !DOCKERS_LINK.test(name)) return ['ip', 'link', 'delete', name]
  if (what === 'nft table') return ['nft', 'delete', 'table', ...name.split(' ')]
  return undefined
}

/** Ends what a run started and removes what it made on the machine, as far as that can be found. */
export async function clean(
  before: ReadonlySet<string>,
  it: Run,
  hasEngine: boolean,
  say: Say,
): Promise<void> {
  const tolerant = (work: Promise<unknown>): Promise<unknown> =>
    work.catch((error: unknown) => say(`not everything could be removed: ${messageOf(error)}`))
  for (const pid of processesOf(it)) {
    const found = identify(pid)
    if (found) await tolerant(stopProcess(found, 0, systemClock))
  }
  const node = process.execPath
  const purge = ['--data', join(it.scratch, 'purge'), '--purge', '--all']
  const prefixes = ['arcus', ...PREFIXES_OF_TESTS]
  const commands = prefixes.map((prefix) => [node, join(SOURCE, 'host.ts'), ...purge, '--prefix', prefix])
  if (!it.hadData && hasMachineData()) commands.unshift([node, join(SOURCE, 'down.ts'), '--purge'])
  for (const command of commands) {
    await tolerant(runLong(command, { env: {}, secondsMax: PURGE_SECONDS_MAX, say, clock: systemClock }))
  }
  for (const one of await hostSnapshot(hasEngine)) {
    const removal = before.has(one) || isSystems(one, before) ? undefined : removalOf(one)
    if (removal) await tolerant(run(removal, TOOL_SECONDS_MAX))
  }
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
  for (const mount of mounts.filter((path) => path.startsWith(`${it.scratch}/`)).toReversed()) {
    await tolerant(run(['umount', '--lazy', mount], TOOL_SECONDS_MAX))
  }
}
