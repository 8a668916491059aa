import { execFile } from 'node:child_process'
import { CloudError } from './errors.ts'

// One command may list the rules or flows of a large VPC, and no more.
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024
export const COMMAND_MS_MAX = 30_000
/** Tells of each command which process began it, so that one that outlives it is found. */
export const PARENT_VARIABLE = 'ARCUS_COMMAND_OF'
// Fixed, so that what runs as root does not depend on who started the process; English, since messages are read.
export const COMMAND_ENV = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin',
  LC_ALL: 'C',
  [PARENT_VARIABLE]: String(process.pid),
}

export type RunOptions = {
  readonly input?: string
  readonly signal?: AbortSignal
  /** COMMAND_MS_MAX unless told. */
  readonly limitMs?: number
  /** Exit codes that are no failure; 0 unless told. */
  readonly fine?: readonly number[]
}

/** A command that could not be started (`missing`) or ended with something other than 0. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
  readonly missing: boolean
  readonly stdout: string
  readonly stderr: string
  constructor(command: readonly string[], missing: boolean, stdout: string, stderr: string) {
    super(
      missing
        ? `${command[0]} is not installed`
        : `${command.slice(0, 6).join(' ')}: ${stderr.trim().slice(0, 500)}`,
    )
    this.missing = missing
    this.stdout = stdout
    this.stderr = stderr
  }
}

/** Runs a command and gives what it printed. Throws CommandFailed, or the signal's reason. */
export function run(
  command: readonly string[],
  { input, signal, limitMs = COMMAND_MS_MAX, fine = [0] }: RunOptions = {},
): Promise<string> {
  const [file = '', ...args] = command
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      {
        env: COMMAND_ENV,
        encoding: 'utf8',
        maxBuffer: OUTPUT_BYTES_MAX,
        timeout: limitMs,
        ...(signal && { signal }),
      },
      (error, stdout, stderr) => {
        if (!error || fine.includes(Number(error.code))) return resolve(stdout)
        if (signal?.aborted) return reject(signal.reason as Error)
        if (error.killed)
          return reject(new CloudError('unavailable', `${file} did not end within ${limitMs / 1000} s`))
        reject(new CommandFailed(command, error.code === 'ENOENT', stdout, stderr))
      },
    )
    // A command that ends before it has read everything says so by its exit code.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input ?? '')
  })
}

/** Waits for a command whose refusal is fine, such as removing what is not there. */
export async function tolerant(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof CommandFailed) || error.missing) throw error
  }
}
