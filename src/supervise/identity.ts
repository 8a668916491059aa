import { readFileSync } from 'node:fs'

/** One process for as long as it lives: a pid alone may belong to another one later. */
export type Identity = {
  readonly pid: number
  /** Clock ticks from boot to its start. */
  readonly start: number
  readonly boot: string
}

const START_FIELD = 22

const tryRead = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

const bootId = (): string => tryRead('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown'

/** Reads a line of /proc/PID/stat. The command stands in brackets and may itself hold blanks and brackets. */
function parseStat(line: string): { pid: number; state: string; start: number } | undefined {
  const end = line.lastIndexOf(')')
  const after = line.slice(end + 2).split(' ')
  const start = Number(after[START_FIELD - 3])
  const pid = Number.parseInt(line, 10)
  return end > 0 && pid > 0 && Number.isInteger(start) ? { pid, state: after[0] ?? '', start } : undefined
}

/** Undefined when there is no such process, or only what is left of one that its parent has not fetched yet. */
export function identify(pid: number): Identity | undefined {
  const stat = parseStat(tryRead(`/proc/${pid}/stat`) ?? '')
  if (!stat || stat.state === 'Z' || stat.state === 'X') return undefined
  return { pid, start: stat.start, boot: bootId() }
}

export const isRunning = (it: Identity): boolean => {
  const now = identify(it.pid)
  return now?.start === it.start && now.boot === it.boot
}

/** Sends a signal to exactly this process; nothing happens when it is gone. */
export function signalTo(it: Identity, signal: NodeJS.Signals): void {
  if (!isRunning(it)) return
  try {
    process.kill(it.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** What a pid file says of a process: which one, and the fingerprint of how it was started. */
export type PidFile = { readonly identity: Identity; readonly fingerprint: string }

// The process writes its own pid file before it becomes the program, so there is no moment at which it runs unknown.
const WRITE_THEN_BECOME =
  'read -r boot </proc/sys/kernel/random/boot_id && read -r stat </proc/$$/stat && ' +
  'printf "%s %s %s\\n" "$2" "$boot" "$stat" >"$1" && shift 2 && exec "$@"'

/** The command line that leaves a pid file and then becomes `argv`. */
export const withPidFile = (
  path: string,
  fingerprint: string,
  argv: readonly string[],
): [string, ...string[]] => ['/bin/sh', '-c', WRITE_THEN_BECOME, 'sh', path, fingerprint, ...argv]

/** The process of a pid file if it still runs. */
export function readPidFile(path: string): PidFile | undefined {
  const [, fingerprint = '', boot = '', line = ''] =
    /^(\S+) (\S+) (.+)$/.exec((tryRead(path) ?? '').trim()) ?? []
  const stat = parseStat(line)
  if (!stat) return undefined
  const identity = { pid: stat.pid, start: stat.start, boot }
  return isRunning(identity) ? { identity, fingerprint } : undefined
}
