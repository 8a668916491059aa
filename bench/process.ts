import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export const ROOT = join(import.meta.dirname, '..')
const READY_MS_MAX = 60_000
const STOP_MS_MAX = 20_000
/** Ticks of /proc/PID/stat in a second; the same on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100
const ERROR_CHARS_MAX = 4000

/** A process of Node that said in one line of JSON that it is ready. */
export type Program<Ready> = AsyncDisposable & {
  readonly ready: Ready
  /** From being started to having said that it is ready. */
  readonly readyMs: number
  readonly pid: number
  /** Processor time used so far. */
  cpuSeconds(): number
  memoryMb(): number
  /** A message over its channel and the answer to it. */
  ask<Answer>(message: unknown): Promise<Answer>
}

/** Processor time that a process used so far, all its threads together. */
export function cpuSecondsOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Resident memory in megabytes (10^6 bytes). */
export function memoryMbOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  return (Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1]) * 1024) / 1e6
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await ended
  clearTimeout(late)
}

/**
 * Starts this Node with these arguments and waits for its first line; throws with what it said when it ends before. `through`:
 * a command that becomes it.
 */
export async function startProgram<Ready>(
  args: readonly string[],
  { env = {}, through = [] }: { env?: Readonly<Record<string, string>>; through?: readonly string[] } = {},
): Promise<Program<Ready>> {
  const since = performance.now()
  const [command = '', ...rest] = [...through, process.execPath, ...args]
  const child = spawn(command, rest, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let said = ''
  child.stderr?.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-ERROR_CHARS_MAX)))
  const { pid, stdout } = child
  if (pid === undefined || !stdout) throw new Error(`${args.join(' ')} did not start`)
  const late = setTimeout(() => child.kill('SIGKILL'), READY_MS_MAX)
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: stdout }).once('line', resolve)
    child.once('exit', (code, signal) =>
      reject(new Error(`${args.join(' ')} ended with ${code ?? signal}: ${said}`)),
    )
  })
  const readyMs = performance.now() - since
  clearTimeout(late)
  return {
    ready: JSON.parse(line) as Ready,
    readyMs,
    pid,
    cpuSeconds: () => cpuSecondsOf(pid),
    memoryMb: () => memoryMbOf(pid),
    ask: async <Answer>(message: unknown) =>
      await new Promise<Answer>((resolve, reject) => {
        const ended = (): void => reject(new Error(`a process ended while it was asked: ${said}`))
        child.once('exit', ended).once('message', (answer) => {
          child.off('exit', ended)
          resolve(answer as Answer)
        })
        child.send(message as object)
      }),
    [Symbol.asyncDispose]: async () => await stop(child),
  }
}
