import { spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { identify, isRunning, signalTo } from '#supervise/identity.ts'
import { lastLines, openLog, sizeOfLog } from '#supervise/logfile.ts'
import { logOf } from '#supervise/supervisor.ts'
import { type Say, TOOL_PATH } from './command.ts'
import { ENGINE, ensureEngine } from './engine.ts'
import { readStatus, removeStatus, runningParent, tellChanges } from './parent.ts'
import { nodeOf } from './program.ts'
import { type Cloudware, programsOf } from './programs.ts'
import { applyUnits, stopUnits, unitOf, unitSaid } from './units.ts'

const START_SECONDS_MAX = 300
const HAND_OVER_SECONDS_MAX = 60
/** The longest pause between two starts, and the time of a start. */
const BACK_SECONDS_MAX = 45
const POLL_MS = 100
const LINES_SHOWN = 3

/** Waits for a condition; false when it took too long. */
async function within(
  seconds: number,
  clock: Clock,
  condition: () => boolean | Promise<boolean>,
): Promise<boolean> {
  const signal = new AbortController().signal
  for (const until = clock.now() + seconds * 1000; !(await condition());) {
    if (clock.now() >= until) return false
    await clock.sleep(POLL_MS, signal)
  }
  return true
}

/**
 * Waits until every process of the parent that runs is ready, as after one died. Refused `unavailable` with what is wrong
 * when one does not come back.
 */
export async function awaitReady(run: string, clock: Clock): Promise<void> {
  const ill = () =>
    (runningParent(run)?.programs ?? []).filter((it) => it.state !== 'ready' && it.name !== ENGINE.name)
  if (await within(BACK_SECONDS_MAX, clock, () => ill().length === 0)) return
  const why = ill().map((it) => `${it.name} does not run: ${it.detail ?? it.state}`)
  throw new CloudError('unavailable', why.join('; '))
}

/** Asks the parent that runs to go and leave its processes to the next one. */
async function handOver(run: string, clock: Clock): Promise<void> {
  const previous = runningParent(run)
  if (!previous) return
  signalTo(previous.parent, 'SIGUSR2')
  if (await within(HAND_OVER_SECONDS_MAX, clock, () => !isRunning(previous.parent))) return
  throw new CloudError(
    'unavailable',
    `the parent process ${previous.parent.pid} does not hand over; end it and repeat`,
  )
}

/**
 * Starts a parent in the background, which adopts what runs and replaces what changed, and waits until all is ready.
 * Gives what is missing on this machine. Refused `unavailable` with the reason; then nothing of it runs.
 */
export async function startParent(
  it: Cloudware,
  stop: AbortSignal,
  say: Say,
  clock: Clock,
): Promise<readonly string[]> {
  const { run, logs, data } = it.layout
  await handOver(run, clock)
  removeStatus(run)
  const path = logOf(logs, 'parent')
  const from = sizeOfLog(path)
  const log = openLog(path)
  const front = ['--http', it.front.http.text, '--https', it.front.https.text]
  const told = ['--data', data, ...it.listen.flatMap((one) => ['--listen', one.text]), ...front, ...it.more]
  const child = spawn(nodeOf(it.program), [join(it.program, 'up.js'), '--parent', ...told], {
    cwd: '/',
    env: { PATH: TOOL_PATH, LANG: 'C.UTF-8', ...it.settings },
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  child.unref()
  const parent = identify(child.pid ?? 0)
  const tell = tellChanges(say)
  const done = await within(START_SECONDS_MAX, clock, () => {
    if (stop.aborted && parent) signalTo(parent, 'SIGTERM')
    const status = readStatus(run)
    tell(status?.programs ?? [])
    return !parent || !isRunning(parent) || status?.phase === 'ready'
  })
  const status = readStatus(run)
  if (done && status?.phase === 'ready' && parent && isRunning(parent)) return status.warnings
  if (parent) signalTo(parent, 'SIGTERM')
  removeStatus(run)
  const late = done ? 'it ended' : `not ready within ${START_SECONDS_MAX} s`
  const why = status?.error ?? [late, ...lastLines(path, from, LINES_SHOWN)].join(': ')
  throw new CloudError('unavailable', `${why}; see the logs in ${logs}`)
}

/** The same by systemd, which is the parent then and starts everything again after a reboot. */
export async function startUnits(it: Cloudware, say: Say, clock: Clock): Promise<readonly string[]> {
  const warnings: string[] = []
  const programs = Object.values(programsOf(it))
  const signal = new AbortController().signal
  try {
    await applyUnits(it, async () => {
      await ensureEngine(false, async () => {}, say).catch((error: unknown) => {
        warnings.push(`${messageOf(error)}; containers cannot run until one does`)
      })
    })
    for (const program of programs) {
      if (!(await within(program.readySecondsMax, clock, () => program.ready(signal).catch(() => false)))) {
        throw new Error(`${program.name} did not start: ${await unitSaid(unitOf(program.name))}`)
      }
      say(`${program.name} is ready`)
    }
    return warnings
  } catch (error) {
    await stopUnits()
    throw new CloudError('unavailable', messageOf(error), {}, error)
  }
}
