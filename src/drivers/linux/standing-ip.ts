import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import type { Socket } from 'node:net'
import { COMMAND_ENV, COMMAND_MS_MAX, CommandFailed, type RunOptions } from '#lib/command.ts'
import { CloudError } from '#lib/errors.ts'
import { createLanes } from '#lib/lanes.ts'
import { ipIn, namespacePath } from './run.ts'

/**
 * To begin a process takes longer than what `ip` then does, so one that was begun stays for what comes next: machines come
 * and go many at a time.
 */
const STAYS_MS = 2000
/** Of those that nobody uses at the moment, beyond which the one that was used longest ago ends. */
const STANDING_MAX = 16
/** There in every namespace, and the only thing that is printed: it was reached, so all before it was done. */
const LAST = 'link show dev lo'
const REFUSED = /Command failed -:(\d+)/

type Standing = {
  /** Its namespace; empty: the host. */
  readonly key: string
  readonly child: ChildProcess
  readonly command: readonly string[]
  /** Of the namespace that it is in: another may have got the name. */
  readonly inode: number
  /** Lines so far: `ip` counts them where it refuses one. */
  said: number
  leaves?: NodeJS.Timeout
}

const standing = new Map<string, Standing>()
const inTurn = createLanes()

const inodeOf = (namespace: string | undefined): number =>
  namespace === undefined ? 0 : (statSync(namespacePath(namespace), { throwIfNoEntry: false })?.ino ?? -1)

/** Whether it keeps this process from ending. */
function hold({ child }: Standing, holds: boolean): void {
  for (const it of [child, child.stdin, child.stdout, child.stderr] as (ChildProcess | Socket | null)[])
    it?.[holds ? 'ref' : 'unref']()
}

/** Nobody says anything to it any more. */
function forget(it: Standing): void {
  clearTimeout(it.leaves)
  if (standing.get(it.key) === it) standing.delete(it.key)
}

function begin(namespace: string | undefined): Standing {
  const command = [...ipIn(namespace), '-oneline', '-batch', '-']
  const [file = '', ...args] = command
  const child = spawn(file, args, { env: COMMAND_ENV, stdio: 'pipe' })
  // Its end is seen by `close`.
  child.stdin.on('error', () => {})
  child.on('error', () => {})
  const it = { child, command, key: namespace ?? '', inode: inodeOf(namespace), said: 0 }
  child.once('close', () => forget(it))
  standing.set(it.key, it)
  return it
}

/** Says the lines, and waits until the last was done; `ip` ends at the first that it refuses. It is to be ended where this throws. */
function say(
  it: Standing,
  lines: readonly string[],
  { signal, limitMs = COMMAND_MS_MAX }: RunOptions,
): Promise<void> {
  const { child, command } = it
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let [stdout, stderr] = ['', '']
  let missing = false
  const onOut = (chunk: Buffer): void => {
    stdout += chunk.toString()
    if (stdout.endsWith('\n')) resolve()
  }
  const onError = (chunk: Buffer): void => void (stderr += chunk.toString())
  const onMissing = (error: NodeJS.ErrnoException): void => void (missing = error.code === 'ENOENT')
  const onClose = (): void => reject(new CommandFailed(command, missing, stdout, stderr))
  const onAbort = (): void => reject(signal?.reason as Error)
  const late = setTimeout(
    () => reject(new CloudError('unavailable', `ip did not end within ${limitMs / 1000} s`)),
    limitMs,
  )
  child.stdout?.on('data', onOut)
  child.stderr?.on('data', onError)
  child.on('error', onMissing)
  child.on('close', onClose)
  signal?.addEventListener('abort', onAbort)
  if (signal?.aborted) onAbort()
  else child.stdin?.write(`${[...lines, LAST].join('\n')}\n`)
  return promise.finally(() => {
    clearTimeout(late)
    child.stdout?.off('data', onOut)
    child.stderr?.off('data', onError)
    child.off('error', onMissing)
    child.off('close', onClose)
    signal?.removeEventListener('abort', onAbort)
  })
}

/**
 * Many `ip` commands that print nothing, in a namespace or on the host; stops at the first that fails, as `ipBatch` does, but
 * by a process that stays for the next. Whoever removes the namespace calls `endIp` first.
 */
export async function ipLines(
  namespace: string | undefined,
  lines: readonly string[],
  options: RunOptions = {},
): Promise<void> {
  if (!lines.length) return
  await inTurn(namespace ?? '', async () => {
    const there = standing.get(namespace ?? '')
    if (there && there.inode !== inodeOf(namespace)) await end(there)
    const it = standing.get(namespace ?? '') ?? begin(namespace)
    const before = it.said
    try {
      await sayTo(it, lines, options)
    } catch (error) {
      const at = REFUSED.exec(error instanceof CommandFailed ? error.stderr : '')?.[1]
      if (before === 0 || at === undefined) throw error
      // It knows links by the numbers that they had when it was first told of them; another knows what is now.
      await sayTo(begin(namespace), lines.slice(Number(at) - before - 1), options)
    }
  })
}

async function sayTo(it: Standing, lines: readonly string[], options: RunOptions): Promise<void> {
  clearTimeout(it.leaves)
  delete it.leaves
  hold(it, true)
  try {
    await say(it, lines, options)
  } catch (error) {
    await end(it)
    throw error
  }
  it.said += lines.length + 1
  hold(it, false)
  it.leaves = setTimeout(leave, STAYS_MS, it).unref()
  // The one that was used last comes last.
  if (standing.delete(it.key)) standing.set(it.key, it)
  const idle = [...standing.values()].filter((other) => other.leaves !== undefined)
  if (idle.length > STANDING_MAX && idle[0]) leave(idle[0])
}

function leave(it: Standing): void {
  forget(it)
  it.child.stdin?.end()
}

async function end(it: Standing): Promise<void> {
  forget(it)
  const { child } = it
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}

/** Ends what stays in a namespace, which would keep it there without a name. */
export const endIp = (namespace: string): Promise<void> =>
  inTurn(namespace, async () => {
    const it = standing.get(namespace)
    if (it) await end(it)
  })
