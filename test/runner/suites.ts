import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { type Counts, countsOf } from './counts.ts'

/** What a suite needs of the machine. */
export type Need = 'root' | 'engine'

export type Suite = {
  readonly name: string
  /** A tool of node_modules and its arguments, or the files of node:test. */
  readonly does: { readonly tool: readonly string[] } | { readonly tests: string; readonly atOnce: number }
  readonly needs: readonly Need[]
  /** Longer than this it is ended and has failed. */
  readonly secondsMax: number
  /** Wants nothing but processor time: goes on beside the suites after it, and gives way to them. */
  readonly beside?: boolean
}

const tool = (name: string, secondsMax: number, argv: readonly string[]): Suite => ({
  name,
  does: { tool: argv },
  needs: [],
  secondsMax,
})

const onHost = (name: string, secondsMax: number, ...needs: Need[]): Suite => ({
  name,
  // One alone: each looks at the whole host.
  does: { tests: `test/${name}/**/*.test.ts`, atOnce: 1 },
  needs: ['root', ...needs],
  secondsMax,
})

/**
 * All of them together: whatever a suite may take, it gets no more than what the others left. On 2 idle cores they take
 * less than 15 minutes; a busy machine is slower, and a run cut short says nothing.
 */
export const TOTAL_SECONDS_MAX = 25 * 60

// In this order: what is quick, and what others build on, comes first.
export const SUITES: readonly Suite[] = [
  tool('types', 120, ['tsc', '--noEmit']),
  tool('lint', 120, ['oxlint', '--type-aware', '--deny-warnings', 'src', 'test', 'bench']),
  tool('format', 30, ['oxfmt', '--check', 'src', 'test', 'bench']),
  { name: 'unit', does: { tests: '{src,bench}/**/*.test.ts', atOnce: 2 }, needs: [], secondsMax: 420 },
  { name: 'sweep', does: { tests: 'test/sweep/**/*.test.ts', atOnce: 2 }, needs: [], secondsMax: 420 },
  { name: 'upgrade', does: { tests: 'test/upgrade/**/*.test.ts', atOnce: 2 }, needs: [], secondsMax: 120 },
  {
    name: 'sim',
    does: { tests: 'test/sim/**/*.test.ts', atOnce: 1 },
    needs: [],
    secondsMax: 600,
    beside: true,
  },
  {
    name: 'kills',
    does: { tests: 'test/crash/simulated.test.ts', atOnce: 1 },
    needs: [],
    secondsMax: 900,
    beside: true,
  },
  // Each file has a sandbox of its own for a host, and waits more than it works.
  {
    name: 'network',
    does: { tests: 'test/network/**/*.test.ts', atOnce: 2 },
    needs: ['root'],
    secondsMax: 240,
  },
  onHost('fixtures', 300, 'engine'),
  onHost('docker', 300, 'engine'),
  onHost('e2e', 600, 'engine'),
  {
    name: 'crash',
    does: { tests: 'test/crash/{clock,disk,docker}.test.ts', atOnce: 2 },
    needs: ['root', 'engine'],
    secondsMax: 420,
  },
  onHost('setup', 240),
]

/** How much longer a suite may take in its long form. */
const SOAK_FACTOR = 10
/** What one test or hook may use of its suite's seconds: one that hangs fails by its name, before the suite is cut off. */
const TEST_SHARE = 0.7
/** How much less urgent than others the suites beside them are, as of `nice`. */
const BESIDE_NICENESS = 10
/** From being asked to end to being killed. */
const END_SECONDS_MAX = 10

export type Outcome = Counts & { readonly seconds: number; readonly note?: string }

/** The seconds that a suite may take, after those that others used. */
export const secondsMaxOf = (suite: Suite, used: number, soak: boolean): number =>
  soak
    ? suite.secondsMax * SOAK_FACTOR
    : Math.max(1, Math.min(suite.secondsMax, Math.round(TOTAL_SECONDS_MAX - used)))

function commandOf(suite: Suite, root: string, countsFile: string, secondsMax: number): string[] {
  const node = join(root, 'node_modules/.bin/node')
  if ('tool' in suite.does) {
    const [tool = '', ...args] = suite.does.tool
    return [node, join(root, 'node_modules/.bin', tool), ...args]
  }
  const reporter = join(root, 'test/runner/counts.ts')
  return [
    node,
    '--test',
    `--test-concurrency=${suite.does.atOnce}`,
    `--test-timeout=${Math.round(secondsMax * TEST_SHARE * 1000)}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${reporter}`,
    `--test-reporter-destination=${countsFile}`,
    suite.does.tests,
  ]
}

const readCounts = (file: string): Counts => countsOf(existsSync(file) ? readFileSync(file, 'utf8') : '')

/**
 * Runs a suite with its output on ours and gives what it came to. A tool counts as one test; a run that ended without
 * counts, found no test or took too long has one failure more.
 */
export async function runSuite(
  suite: Suite,
  how: {
    readonly root: string
    readonly scratch: string
    readonly env: Readonly<Record<string, string | undefined>>
    readonly secondsMax: number
    /** A file for its output instead of ours. */
    readonly output?: number
    readonly signal: AbortSignal
  },
): Promise<Outcome> {
  const since = performance.now()
  const countsFile = join(how.scratch, `${suite.name}.counts`)
  rmSync(countsFile, { force: true })
  const [command = '', ...args] = commandOf(suite, how.root, countsFile, how.secondsMax)
  // A group of its own, so that it can be ended whole.
  const child = spawn(command, args, {
    cwd: how.root,
    env: how.env,
    detached: true,
    stdio: ['ignore', how.output ?? 'inherit', how.output ?? 'inherit'],
  })
  if (suite.beside && child.pid) setPriority(child.pid, BESIDE_NICENESS)
  const signal = AbortSignal.any([how.signal, AbortSignal.timeout(how.secondsMax * 1000)])
  const endGroup = (name: NodeJS.Signals): void => {
    try {
      if (child.pid) process.kill(-child.pid, name)
    } catch {
      // Every process of the group is gone.
    }
  }
  let late: NodeJS.Timeout | undefined
  const end = (): void => {
    endGroup('SIGTERM')
    late = setTimeout(() => endGroup('SIGKILL'), END_SECONDS_MAX * 1000)
  }
  signal.addEventListener('abort', end, { once: true })
  const code = await new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('error', () => resolve(127))
    child.once('exit', (exit, by) => resolve(exit ?? by))
  })
  signal.removeEventListener('abort', end)
  clearTimeout(late)
  const seconds = (performance.now() - since) / 1000
  if (how.signal.aborted) return { passed: 0, failed: 1, skipped: 0, seconds, note: 'interrupted' }
  if ('tool' in suite.does && !signal.aborted) {
    return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, seconds }
  }
  const counts = readCounts(countsFile)
  const fail = (note: string): Outcome => ({ ...counts, failed: counts.failed + 1, seconds, note })
  if (signal.aborted) return fail(`not done within ${how.secondsMax} s`)
  if (counts.passed + counts.failed + counts.skipped === 0) return fail('ran no test')
  if (code !== 0 && counts.failed === 0) return fail(`ended with ${code}`)
  return { ...counts, seconds }
}
