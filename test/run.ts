import { randomUUID } from 'node:crypto'
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '#lib/errors.ts'
import { parseWords } from '#setup/options.ts'
import { hostSnapshot } from './e2e/host.testing.ts'
import {
  clean,
  hasMachineData,
  type Machine,
  MARK,
  prepareMachine,
  readableCheckout,
  type Run,
  whatIsLeft,
} from './runner/host.ts'
import { type Outcome, runSuite, secondsMaxOf, SUITES, type Suite } from './runner/suites.ts'

const HELP = `Usage: arcus test [--soak] [SUITE]...

Runs every check and test, or the suites named: ${SUITES.map((it) => it.name).join(', ')}.
As root it installs what they need, and starts a container engine if none answers; nothing of it remains running.

  --soak  the long forms`

const USAGE = 2
const INTERRUPTED = 130
const LEFT_SHOWN_MAX = 40
const ROOT = join(import.meta.dirname, '..')
const say = (line: string): void => console.log(line)

function read(): { suites: readonly Suite[]; soak: boolean } | undefined {
  const { values, positionals } = parseWords(process.argv.slice(2), {
    help: { type: 'boolean', short: 'h' },
    soak: { type: 'boolean' },
  })
  if (values.help) return undefined
  const unknown = positionals.filter((name) => !SUITES.some((it) => it.name === name))
  if (unknown.length > 0) throw new Error(`there is no suite ${unknown.join(', ')}`)
  const suites = SUITES.filter((it) => positionals.length === 0 || positionals.includes(it.name))
  return { suites, soak: values.soak ?? false }
}

type Result = { readonly suite: Suite; readonly outcome?: Outcome; readonly leftOut?: string }

/** Why a suite cannot run on this machine. */
function whyLeftOut(suite: Suite, machine: Machine | undefined): string | undefined {
  if (suite.needs.includes('root') && machine?.whyNotHost !== undefined) return machine.whyNotHost
  return suite.needs.includes('engine') ? machine?.whyNoEngine : undefined
}

type Results = { readonly results: readonly Result[]; readonly left: readonly string[] }

async function runAll(suites: readonly Suite[], soak: boolean, signal: AbortSignal): Promise<Results> {
  const scratch = mkdtempSync(join(tmpdir(), 'arcus-test-'))
  // Accounts of services pass through it to what tests put below.
  chmodSync(scratch, 0o711)
  const run: Run = { mark: randomUUID(), scratch, hadData: hasMachineData() }
  const left: string[] = []
  let results: Result[] = []
  let machine: Machine | undefined
  try {
    if (suites.some((it) => it.needs.length > 0)) machine = await prepareMachine(scratch, say)
    const changeable = machine !== undefined && machine.whyNotHost === undefined
    const hasEngine = machine !== undefined && machine.whyNoEngine === undefined
    const before = changeable ? await hostSnapshot(hasEngine) : undefined
    const root = changeable ? await readableCheckout(ROOT, scratch) : ROOT
    results = await runEach(suites, { machine, run, root, soak, signal })
    if (before && !signal.aborted) left.push(...(await whatIsLeft(before, run, hasEngine)))
    if (before && (signal.aborted || left.length > 0)) await clean(before, run, hasEngine, say)
  } finally {
    await machine?.stop()
    try {
      rmSync(scratch, { recursive: true, force: true })
    } catch (error) {
      left.push(`folder ${scratch}: ${messageOf(error)}`)
    }
  }
  return { results, left }
}

async function runEach(
  suites: readonly Suite[],
  how: { machine: Machine | undefined; run: Run; root: string; soak: boolean; signal: AbortSignal },
): Promise<Result[]> {
  const { machine, run, root, soak, signal } = how
  const { scratch } = run
  const env = { ...process.env, TMPDIR: scratch, [MARK]: run.mark, ...(soak ? { ARCUS_SOAK: '1' } : {}) }
  const since = performance.now()
  const outcomeOf = async (suite: Suite, output?: number): Promise<Result & { line: string }> => {
    const secondsMax = secondsMaxOf(suite, (performance.now() - since) / 1000, soak)
    const file = output === undefined ? {} : { output }
    const outcome = await runSuite(suite, { root, scratch, env, secondsMax, signal, ...file })
    const note = outcome.note ? `, ${outcome.note}` : ''
    const line = `--- ${suite.name}: ${outcome.seconds.toFixed(1)} s of ${secondsMax} s${note}`
    return { suite, outcome, line }
  }
  const results = new Map<Suite, Result>()
  // What was said beside another suite is shown when that has ended.
  const texts: string[] = []
  const showTexts = (): void => texts.splice(0).forEach(say)
  let besides = Promise.resolve()
  const runBeside = async (suite: Suite): Promise<void> => {
    if (signal.aborted) return
    const file = join(scratch, `${suite.name}.output`)
    const output = openSync(file, 'w')
    const result = await outcomeOf(suite, output)
    closeSync(output)
    results.set(suite, result)
    texts.push(`\n=== ${suite.name}\n${readFileSync(file, 'utf8')}${result.line}`)
  }
  for (const suite of suites) {
    const leftOut = whyLeftOut(suite, machine)
    if (leftOut !== undefined) results.set(suite, { suite, leftOut })
    if (leftOut !== undefined || signal.aborted) continue
    if (suite.beside) {
      besides = besides.then(async () => await runBeside(suite))
      continue
    }
    say(`\n=== ${suite.name}`)
    const result = await outcomeOf(suite)
    say(result.line)
    results.set(suite, result)
    showTexts()
  }
  await besides
  showTexts()
  return suites.flatMap((it) => results.get(it) ?? [])
}

/** Says what everything came to and gives the exit code. The closing line is for machines too. */
function report(results: readonly Result[], left: readonly string[], isCi: boolean): number {
  say('')
  let [passed, failed, skipped] = [0, 0, 0]
  for (const { suite, outcome, leftOut } of results) {
    if (leftOut !== undefined) {
      say(`${suite.name.padEnd(10)} left out: ${leftOut}`)
      if (isCi) failed++
    }
    if (!outcome) continue
    passed += outcome.passed
    failed += outcome.failed
    skipped += outcome.skipped
    const counts = `${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped} skipped`
    say(
      `${suite.name.padEnd(10)} ${outcome.seconds.toFixed(1).padStart(6)} s  ${counts}${outcome.note ? ` (${outcome.note})` : ''}`,
    )
  }
  if (left.length > 0) {
    failed++
    say('left on this machine by the tests:')
    for (const it of left.slice(0, LEFT_SHOWN_MAX)) say(`  ${it}`)
    if (left.length > LEFT_SHOWN_MAX) say(`  and ${left.length - LEFT_SHOWN_MAX} more`)
  }
  say(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
  return failed > 0 || passed === 0 ? 1 : 0
}

async function main(): Promise<number> {
  let asked
  try {
    asked = read()
  } catch (error) {
    console.error(`arcus: ${messageOf(error)} (see \`arcus test --help\`)`)
    return USAGE
  }
  if (!asked) {
    say(HELP)
    return 0
  }
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => interrupt.abort())
  const { results, left } = await runAll(asked.suites, asked.soak, interrupt.signal)
  const code = report(results, left, process.env['CI'] === 'true')
  return interrupt.signal.aborted ? INTERRUPTED : code
}

process.exitCode = await main()
