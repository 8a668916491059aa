import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { type Identity, identify, isRunning, readPidFile, withPidFile } from './identity.ts'
import { lastLines, openLog, rotateLog, sizeOfLog } from './logfile.ts'
import { stopByPidFile, stopProcess } from './stop.ts'

/** A program to keep running. */
export type Program = {
  /** Names its pid file and its log. */
  readonly name: string
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Whether it serves now; asked again and again until it does. An error counts as no. */
  readonly ready: (signal: AbortSignal) => Promise<boolean>
  readonly readySecondsMax: number
  /** From being asked to end to being killed. */
  readonly stopSecondsMax: number
  /** Starts that may fail before the first success; later failures are repeated for ever. */
  readonly firstStartsMax: number
  /** Adopt a running one also when it was started in another way; without it such a one is replaced. */
  readonly adoptChanged?: boolean
}

export type ProgramState = {
  readonly name: string
  readonly state: 'starting' | 'ready' | 'waiting' | 'stopped'
  readonly pid?: number
  /** How often it was started again. */
  readonly restarts: number
  /** Why it is not ready, in words. */
  readonly detail?: string
}

export type Limits = {
  readonly backoffMsMin: number
  readonly backoffMsMax: number
  /** A process that was ready this long starts the backoff afresh. */
  readonly steadyMs: number
  readonly readyPollMs: number
  readonly readyCallMsMax: number
  /** How often an adopted process is looked at: the kernel tells only a parent when a process ends. */
  readonly adoptedPollMs: number
  readonly rotateMs: number
}

export const LIMITS: Limits = {
  backoffMsMin: 200,
  backoffMsMax: 30_000,
  steadyMs: 10_000,
  readyPollMs: 50,
  readyCallMsMax: 5_000,
  adoptedPollMs: 250,
  rotateMs: 30_000,
}

export type Supervisor = {
  /**
   * Starts a program, or adopts it when it still runs from an earlier parent (replacing it when it was started in
   * another way), and keeps it running. Resolves when it is ready; rejects with why it never was.
   */
  start(program: Program): Promise<void>
  /** Ends the programs, the last one started first, but leaves those named alone. */
  stop(leave?: readonly string[]): Promise<void>
  /** Stops watching; the programs run on for the next parent to adopt. */
  leave(): Promise<void>
  states(): readonly ProgramState[]
}

type Running = { readonly identity: Identity; readonly ended: Promise<string>; readonly logFrom: number }
type Kept = {
  readonly program: Program
  readonly stop: AbortController
  done: Promise<void>
  state: ProgramState
  process?: Identity
}

export const pidFileOf = (folder: string, name: string): string => join(folder, `${name}.pid`)
export const logOf = (folder: string, name: string): string => join(folder, `${name}.log`)

/** How a program was started, short enough to compare. */
export const fingerprintOf = (it: Pick<Program, 'argv' | 'env' | 'cwd'>): string =>
  createHash('sha256')
    .update(JSON.stringify([it.argv, it.env, it.cwd]))
    .digest('hex')
    .slice(0, 16)

/** Milliseconds to wait after this many failures in a row. */
export const backoffMs = (failures: number, limits: Limits): number =>
  Math.min(limits.backoffMsMin * 2 ** Math.max(0, failures - 1), limits.backoffMsMax)

/** The parent of our processes: pid files in `folder`, their standard error in `logs`. */
export function createSupervisor(options: {
  readonly folder: string
  readonly logs: string
  readonly clock: Clock
  readonly limits?: Partial<Limits>
  /** Told of each change; what it throws changes nothing. */
  readonly onChange?: (states: readonly ProgramState[]) => void
}): Supervisor {
  const { folder, logs, clock } = options
  const limits = { ...LIMITS, ...options.limits }
  const all: Kept[] = []
  const states = (): ProgramState[] => all.map((it) => it.state)
  const change = (
    kept: Kept,
    state: Omit<ProgramState, 'name' | 'restarts'>,
    restarts = kept.state.restarts,
  ): void => {
    kept.state = { name: kept.program.name, restarts, ...state }
    try {
      options.onChange?.(states())
    } catch {
      // Whoever hears of it, by a file on a full disk, must not end the keeping; the next change tells this one too.
    }
  }

  mkdirSync(folder, { recursive: true, mode: 0o711 })
  mkdirSync(logs, { recursive: true, mode: 0o750 })
  const ending = new AbortController()
  let isRotating = false
  /** Runs while there is something to keep, since it keeps this process alive. */
  const rotate = (): void => {
    if (isRotating) return
    isRotating = true
    void repeat(limits.rotateMs, ending.signal, clock, () => rotateAll(logs))
  }

  const launch = async (program: Program, signal: AbortSignal): Promise<Running> => {
    const pidFile = pidFileOf(folder, program.name)
    const found = readPidFile(pidFile)
    if (found && (program.adoptChanged || found.fingerprint === fingerprintOf(program))) {
      return { identity: found.identity, ended: gone(found.identity, limits, clock, signal), logFrom: 0 }
    }
    if (found) await stopProcess(found.identity, program.stopSecondsMax, clock)
    return spawnProgram(program, pidFile, logOf(logs, program.name))
  }

  /** One life of a program; says why it ended and how long it had been ready. */
  const live = async (kept: Kept, onReady: () => void): Promise<{ why: string; readyMs: number }> => {
    const { program } = kept
    const { signal } = kept.stop
    const running = await launch(program, signal)
    const { pid } = running.identity
    kept.process = running.identity
    change(kept, { state: 'starting', pid })
    const failed = await untilReady(program, running, limits, clock, signal)
    signal.throwIfAborted()
    if (failed) {
      await stopProcess(running.identity, program.stopSecondsMax, clock)
      const said = lastLines(logOf(logs, program.name), running.logFrom, 1)
      return { why: [failed, ...said].join(': '), readyMs: 0 }
    }
    const since = clock.now()
    change(kept, { state: 'ready', pid })
    onReady()
    const why = await Promise.race([running.ended, aborted(signal)])
    return { why, readyMs: clock.now() - since }
  }

  const keep = async (kept: Kept, onReady: () => void, onFailure: (why: string) => void): Promise<void> => {
    const { signal } = kept.stop
    let failures = 0
    let wasReady = false
    while (!signal.aborted) {
      const { why, readyMs } = await live(kept, () => {
        wasReady = true
        onReady()
      }).catch((error: unknown) => ({ why: messageOf(error), readyMs: 0 }))
      signal.throwIfAborted()
      failures = readyMs >= limits.steadyMs ? 1 : failures + 1
      if (!wasReady && failures >= kept.program.firstStartsMax) {
        change(kept, { state: 'stopped', detail: why })
        return onFailure(why)
      }
      change(kept, { state: 'waiting', detail: why }, kept.state.restarts + 1)
      await clock.sleep(backoffMs(failures, limits), signal)
    }
  }

  const release = async (kept: Kept): Promise<void> => {
    kept.stop.abort()
    await kept.done
  }

  return {
    states,
    start: (program) =>
      new Promise((resolve, reject) => {
        if (ending.signal.aborted) return reject(new Error(`${program.name} did not start: it was stopped`))
        const stop = new AbortController()
        const state: ProgramState = { name: program.name, state: 'starting', restarts: 0 }
        const kept: Kept = { program, stop, done: Promise.resolve(), state }
        all.push(kept)
        rotate()
        const fail = (why: string): void => reject(new Error(`${program.name} did not start: ${why}`))
        kept.done = keep(kept, resolve, fail).catch((error: unknown) => {
          fail(stop.signal.aborted ? 'it was stopped' : messageOf(error))
        })
      }),
    async stop(leave = []) {
      ending.abort()
      for (const kept of all.toReversed()) {
        await release(kept)
        if (leave.includes(kept.program.name)) continue
        if (kept.process) await stopProcess(kept.process, kept.program.stopSecondsMax, clock)
        await stopByPidFile(pidFileOf(folder, kept.program.name), kept.program.stopSecondsMax, clock)
        change(kept, { state: 'stopped' })
      }
    },
    async leave() {
      ending.abort()
      for (const kept of all) await release(kept)
    },
  }
}

/** Starts it in a session of its own, so that nothing that ends its parent or a terminal ends it. */
function spawnProgram(program: Program, pidFile: string, logPath: string): Running {
  const logFrom = sizeOfLog(logPath)
  const log = openLog(logPath)
  const [command, ...args] = withPidFile(pidFile, fingerprintOf(program), program.argv)
  try {
    // Standard output is for a person at a terminal and may hold credentials; logs go to standard error.
    const child = spawn(command, args, {
      cwd: program.cwd,
      env: program.env,
      detached: true,
      stdio: ['ignore', 'ignore', log],
    })
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message))
      child.once('exit', (code, signal) =>
        resolve(signal ? `ended by ${signal}` : `ended with code ${code ?? 0}`),
      )
    })
    child.unref()
    const pid = child.pid ?? 0
    return { identity: identify(pid) ?? { pid, start: 0, boot: '' }, ended, logFrom }
  } finally {
    closeSync(log)
  }
}

/** Resolves when an adopted process is gone. */
async function gone(it: Identity, limits: Limits, clock: Clock, signal: AbortSignal): Promise<string> {
  while (isRunning(it) && !signal.aborted) await clock.sleep(limits.adoptedPollMs, signal).catch(() => {})
  return 'ended'
}

const aborted = (signal: AbortSignal): Promise<string> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve('stopped')
    signal.addEventListener('abort', () => resolve('stopped'), { once: true })
  })

/** Undefined once the program is ready, else why it is not going to be. */
async function untilReady(
  program: Program,
  running: Running,
  limits: Limits,
  clock: Clock,
  stop: AbortSignal,
): Promise<string | undefined> {
  let ended: string | undefined
  void running.ended.then((why) => (ended = why))
  const until = clock.now() + program.readySecondsMax * 1000
  while (!stop.aborted) {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(limits.readyCallMsMax)])
    const ready = await program.ready(signal).catch(() => false)
    if (ended) return ended
    if (ready) return undefined
    if (clock.now() >= until) return `not ready within ${program.readySecondsMax} s`
    await clock.sleep(limits.readyPollMs, stop).catch(() => {})
  }
  return 'stopped'
}

function rotateAll(logs: string): void {
  try {
    for (const it of readdirSync(logs)) if (it.endsWith('.log')) rotateLog(join(logs, it))
  } catch {
    // A full disk or a folder that is gone must not end the parent; the next turn looks again.
  }
}

async function repeat(everyMs: number, signal: AbortSignal, clock: Clock, work: () => void): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(everyMs, signal).catch(() => {})
    if (!signal.aborted) work()
  }
}
