import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { type Identity, identify, isRunning, readPidFile } from '#supervise/identity.ts'
import { type Lock, takeLock } from '#supervise/lock.ts'
import { createSupervisor, pidFileOf, type ProgramState, type Supervisor } from '#supervise/supervisor.ts'
import type { Say } from './command.ts'
import { ENGINE, ensureEngine } from './engine.ts'
import { type Cloudware, commandsOf, environmentOf, programsOf, urlOf } from './programs.ts'

/** What the parent tells others by a file in the run folder. */
export type ParentStatus = {
  readonly parent: Identity
  /** Of everything that the processes are started with: another one means that they have to be replaced. */
  readonly version: string
  readonly detached: boolean
  readonly phase: 'starting' | 'ready' | 'failed'
  readonly data: string
  readonly url: string
  readonly programs: readonly ProgramState[]
  /** What this cloud cannot do here, in sentences. */
  readonly warnings: readonly string[]
  readonly error?: string
}

const statusFile = (run: string): string => join(run, 'status.json')

export const versionOf = (it: Cloudware): string => {
  const parts = [it.program, commandsOf(it), environmentOf(it, 'cloud')]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}

/** The last word of a parent; undefined when there never was one. It may be dead: see `isRunning`. */
export function readStatus(run: string): ParentStatus | undefined {
  try {
    return JSON.parse(readFileSync(statusFile(run), 'utf8')) as ParentStatus
  } catch {
    return undefined
  }
}

/** The parent that runs now. */
export function runningParent(run: string): ParentStatus | undefined {
  const status = readStatus(run)
  return status && isRunning(status.parent) ? status : undefined
}

/** Whether the container engine that runs was started by a parent of ours. */
export const engineIsOurs = (run: string): boolean => readPidFile(pidFileOf(run, ENGINE.name)) !== undefined

export const removeStatus = (run: string): void => rmSync(statusFile(run), { force: true })

/** Keeps every other `up`, and `down --purge`, away while one is at work; refused `conflict` while it is. */
export function alone(run: string): Lock {
  mkdirSync(run, { recursive: true, mode: 0o711 })
  const lock = takeLock(join(run, 'up.lock'))
  if (!lock)
    throw new CloudError('conflict', 'another `arcus up`, or a `down --purge`, is at work; wait for it')
  return lock
}

/** One line for each change that a person wants to hear of. */
export function tellChanges(say: Say): (states: readonly ProgramState[]) => void {
  const told = new Map<string, string>()
  return (states) => {
    for (const it of states) {
      if (it.state === 'starting') continue
      const line =
        it.state === 'waiting' ? `${it.name} ${it.detail}; starting it again` : `${it.name} is ${it.state}`
      if (told.get(it.name) !== line || it.state === 'waiting') say(line)
      told.set(it.name, line)
    }
  }
}

/**
 * Starts the agent, the container engine if `engine`, the edge and the cloud, keeps them running and ends when a signal
 * aborts: `stop` ends the processes (containers and their engine run on), `leave` lets all of them run for the next
 * parent. Throws when they cannot be started, or another parent runs; nothing that it started is left then.
 */
export async function runParent(options: {
  readonly cloudware: Cloudware
  readonly engine: boolean
  readonly detached: boolean
  readonly stop: AbortSignal
  readonly leave: AbortSignal
  readonly clock: Clock
  readonly say: Say
  readonly onReady: (status: ParentStatus) => void
}): Promise<void> {
  const { cloudware, clock, say } = options
  const { run, logs, data } = cloudware.layout
  const parent = identify(process.pid)
  mkdirSync(run, { recursive: true, mode: 0o711 })
  const lock = takeLock(join(run, 'parent.lock'))
  if (!lock || !parent)
    throw new CloudError('conflict', `another parent already runs the cloud below ${data}`)

  let status: ParentStatus = {
    parent,
    version: versionOf(cloudware),
    detached: options.detached,
    phase: 'starting',
    data,
    url: urlOf(cloudware),
    programs: [],
    warnings: [],
  }
  const tell = (change: Partial<ParentStatus>): void => {
    status = { ...status, ...change }
    writeFileSync(`${statusFile(run)}.next`, JSON.stringify(status), { mode: 0o644 })
    renameSync(`${statusFile(run)}.next`, statusFile(run))
  }
  const changes = tellChanges(say)
  const supervisor = createSupervisor({
    folder: run,
    logs,
    clock,
    onChange: (programs) => {
      tell({ programs })
      changes(programs)
    },
  })
  tell({})
  const engineBefore = engineIsOurs(run)
  const ended = anyOf(options.stop, options.leave)
  try {
    const starting = startAll(supervisor, options)
    const warnings = await Promise.race([starting, ended])
    starting.catch(() => {})
    if (warnings) {
      tell({ phase: 'ready', warnings })
      options.onReady(status)
      await ended
    }
    if (options.leave.aborted) await supervisor.leave()
    else await supervisor.stop(warnings || engineBefore ? [ENGINE.name] : [])
    removeStatus(run)
  } catch (error) {
    await supervisor.stop(engineBefore ? [ENGINE.name] : [])
    if (options.detached) tell({ phase: 'failed', error: messageOf(error) })
    else removeStatus(run)
    throw new CloudError('unavailable', messageOf(error), {}, error)
  } finally {
    lock.release()
  }
}

/** In the order that Docker needs: its network plugin, which is the agent, before itself. Gives what is missing. */
async function startAll(
  supervisor: Supervisor,
  options: { readonly cloudware: Cloudware; readonly engine: boolean; readonly say: Say },
): Promise<readonly string[]> {
  const { agent, edge, cloud } = programsOf(options.cloudware)
  const warnings: string[] = []
  await supervisor.start(agent)
  if (options.engine) {
    const isOurs = engineIsOurs(options.cloudware.layout.run)
    await ensureEngine(isOurs, () => supervisor.start(ENGINE), options.say).catch((error: unknown) => {
      warnings.push(`${messageOf(error)}; containers cannot run until one does`)
    })
  }
  await supervisor.start(edge)
  await supervisor.start(cloud)
  return warnings
}

const anyOf = (...signals: AbortSignal[]): Promise<undefined> =>
  new Promise((resolve) => {
    const any = AbortSignal.any(signals)
    if (any.aborted) resolve(undefined)
    any.addEventListener('abort', () => resolve(undefined), { once: true })
  })
