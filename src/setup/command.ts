import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'

/** Where Debian keeps the tools we call; root's own PATH may lack the sbin folders. */
export const TOOL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024
const LINES_KEPT = 15
const PROGRESS_MS = 10_000

/** Tells a person what is being done, one line at a time. */
export type Say = (line: string) => void

export const commandExists = (name: string): boolean =>
  TOOL_PATH.split(':').some((folder) => existsSync(join(folder, name)))

/** Runs a command without a shell and gives its output; throws with what it said when it fails. */
export function run(argv: readonly string[], secondsMax: number): Promise<string> {
  const [command = '', ...args] = argv
  const env = { PATH: TOOL_PATH, LANG: 'C.UTF-8' }
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      { env, timeout: secondsMax * 1000, maxBuffer: OUTPUT_BYTES_MAX },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout)
        const said = (stderr.trim() || stdout.trim()).split('\n').at(-1)
        reject(
          new Error(`${command}: ${error.killed ? `not done in ${secondsMax} s` : said || error.message}`),
        )
      },
    )
  })
}

/** Whether a command succeeds. */
export const succeeds = (argv: readonly string[], secondsMax: number): Promise<boolean> =>
  run(argv, secondsMax).then(
    () => true,
    () => false,
  )

/**
 * Runs a command that takes long: says that it still works every ten seconds. When it fails or takes longer than
 * `secondsMax` its last lines are said, and it throws with the very last.
 */
export async function runLong(
  argv: readonly string[],
  how: {
    readonly env: Readonly<Record<string, string>>
    readonly secondsMax: number
    readonly say: Say
    readonly clock: Clock
  },
): Promise<void> {
  const [command = '', ...args] = argv
  const since = how.clock.now()
  const kept: string[] = []
  const done = new AbortController()
  const child = spawn(command, args, {
    env: { PATH: TOOL_PATH, LANG: 'C.UTF-8', ...how.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: how.secondsMax * 1000,
  })
  const keep = (chunk: Buffer): void => {
    kept.push(...chunk.toString('utf8').split('\n').filter(Boolean))
    kept.splice(0, kept.length - LINES_KEPT)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const progress = async (): Promise<void> => {
    while (!done.signal.aborted) {
      await how.clock.sleep(PROGRESS_MS, done.signal)
      how.say(`  … ${Math.round((how.clock.now() - since) / 1000)} s`)
    }
  }
  void progress().catch(() => {})
  try {
    const code = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (exit, signal) => resolve(exit ?? signal))
    })
    if (code === 0) return
    for (const line of kept) how.say(`  ${line}`)
    throw new Error(`${command} ended with ${code}: ${kept.at(-1) ?? 'it said nothing'}`)
  } finally {
    done.abort()
  }
}
