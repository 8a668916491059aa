import { execFile } from 'node:child_process'
import { CloudError } from '#lib/errors.ts'

// One command may list the rules or flows of a large VPC, and no more.
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024
export const COMMAND_MS_MAX = 30_000
/** Tells of each command which process began it, so that one that outlives it is found. */
export const PARENT_VARIABLE = 'ARCUS_COMMAND_OF'
// Fixed, so that what runs as root does not depend on who started the process; English, since messages are read.
const ENV = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin',
  LC_ALL: 'C',
  [PARENT_VARIABLE]: String(process.pid),
}

export type RunOptions = { readonly input?: string; readonly signal?: AbortSignal }

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
export function run(command: readonly string[], { input, signal }: RunOptions = {}): Promise<string> {
  const [file = '', ...args] = command
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      {
        env: ENV,
        encoding: 'utf8',
        maxBuffer: OUTPUT_BYTES_MAX,
        timeout: COMMAND_MS_MAX,
        ...(signal && { signal }),
      },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout)
        if (signal?.aborted) return reject(signal.reason as Error)
        if (error.killed)
          return reject(
            new CloudError('unavailable', `${file} did not end within ${COMMAND_MS_MAX / 1000} s`),
          )
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

const netns = (namespace: string): string => `--net=/run/netns/${namespace}`

/** Runs a command in a network namespace. */
export const runIn = (namespace: string, command: readonly string[], options?: RunOptions): Promise<string> =>
  run(['nsenter', netns(namespace), ...command], options)

/** Many `ip` commands in one process, in a namespace or on the host; stops at the first that fails. */
export async function ipBatch(
  namespace: string | undefined,
  lines: readonly string[],
  options: RunOptions = {},
): Promise<void> {
  if (!lines.length) return
  const where = namespace ? ['-n', namespace] : []
  await run(['ip', ...where, '-batch', '-'], { ...options, input: `${lines.join('\n')}\n` })
}

/** The JSON answers of many `ip … show` commands; one that fails is left out when `lenient`. */
export async function ipShow(
  namespace: string | undefined,
  lines: readonly string[],
  { lenient = false, ...options }: RunOptions & { lenient?: boolean } = {},
): Promise<(unknown[] | undefined)[]> {
  const where = namespace ? ['-n', namespace] : []
  const command = ['ip', ...where, ...(lenient ? ['-force'] : []), '-json', '-batch', '-']
  let text: string
  try {
    text = await run(command, { ...options, input: `${lines.join('\n')}\n` })
  } catch (error) {
    if (!lenient || !(error instanceof CommandFailed) || error.missing) throw error
    text = error.stdout
  }
  const answers = text.split('\n').filter((line) => line.trim())
  return answers.map((line) => JSON.parse(line) as unknown[])
}

/** Loads rules in one transaction. */
export const nftLoad = (
  namespace: string | undefined,
  rules: string,
  options: RunOptions = {},
): Promise<string> => {
  const command = ['nft', '-f', '-']
  return namespace
    ? runIn(namespace, command, { ...options, input: rules })
    : run(command, { ...options, input: rules })
}
