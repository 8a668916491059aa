import { writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Outcome, playHistory } from './history.ts'
import { openSite } from './site.ts'

const HELP = `Usage: node test/sim/replay.ts SEED [--count N] [--every N] [--trace] [--json]

Plays the history of a seed, or of several one after another, and says what was wrong in it.

  --count N  so many seeds, from SEED up
  --every N  only each Nth of them
  --trace    every step: simulated milliseconds, what was asked, committed and went wrong
  --json     one line for each history, for programs`

const WRONGS_SHOWN_MAX = 20

/** The outcome of a history as one line for programs. */
export type Line = Omit<Outcome, 'lines' | 'troubles'> & {
  readonly troubles: Readonly<Record<string, number>>
}

function show(it: Outcome, how: { trace: boolean; json: boolean }): void {
  if (how.json) {
    const { lines: _, troubles, ...rest } = it
    writeSync(1, `${JSON.stringify({ ...rest, troubles: Object.fromEntries(troubles) } satisfies Line)}\n`)
    return
  }
  if (how.trace) for (const line of it.lines) console.log(line)
  const counts = `${it.requests} requests, ${it.acknowledged} done, ${it.commits} commits, ${it.kills} kills`
  console.log(
    `seed ${it.seed}: ${it.wrongs.length} wrong (${counts}, ${it.steps} steps, ${it.hash.slice(0, 16)})`,
  )
  for (const wrong of it.wrongs.slice(0, WRONGS_SHOWN_MAX)) console.log(`  ${wrong}`)
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      count: { type: 'string', default: '1' },
      every: { type: 'string', default: '1' },
      trace: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const [first, count, every] = [Number(positionals[0]), Number(values.count), Number(values.every)]
  if (values.help || ![first, count, every].every((it) => Number.isSafeInteger(it) && it >= 0)) {
    console.log(HELP)
    return values.help ? 0 : 2
  }
  await using site = await openSite()
  let failed = 0
  for (let seed = first; seed < first + count; seed += every) {
    const it = await playHistory(site, { seed })
    if (it.wrongs.length) failed++
    show(it, values)
  }
  return failed ? 1 : 0
}

process.exitCode = await main()
