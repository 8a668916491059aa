import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '#lib/errors.ts'
import { parseWords } from '#setup/options.ts'
import { BENCHES } from './benches.ts'
import { type Bench, type Context, FULL, type Need, SMOKE } from './context.ts'
import { engineVersion } from './engine.ts'
import { type Figure, isMet } from './figure.ts'
import { machine, table, writeBetweenMarks } from './table.ts'

/** What the bench of the edge is held against, and asks with. */
const NGINX = ['/usr/sbin/nginx', '/usr/bin/wrk']
const USAGE = 2
const README = join(import.meta.dirname, '../README.md')
const HELP = `Usage: arcus bench [--json FILE] [--readme] [--smoke] [BENCH]...

Measures Arcus side by side with something that does the same without it; the two take turns, and each figure is the
median of several rounds. All benches, or those named:
${BENCHES.map((it) => `  ${it.name.padEnd(10)} ${it.about}${it.needs.length ? ' (root, a container engine)' : ''}`).join('\n')}

  --json FILE  also write every figure with its rounds
  --readme     also write the table into README.md
  --smoke      tiny counts, to see that the benches work; the figures mean nothing

Keep the machine quiet meanwhile. Exit code 1 when a bench failed; a missed aim is only said.`

type Asked = {
  readonly benches: readonly Bench[]
  readonly json: string | undefined
  readonly readme: boolean
  readonly smoke: boolean
}

function read(): Asked | undefined {
  const { values, positionals } = parseWords(process.argv.slice(2), {
    help: { type: 'boolean', short: 'h' },
    json: { type: 'string' },
    readme: { type: 'boolean' },
    smoke: { type: 'boolean' },
  })
  if (values.help) return undefined
  const unknown = positionals.filter((name) => !BENCHES.some((it) => it.name === name))
  if (unknown.length > 0) throw new Error(`there is no bench ${unknown.join(', ')}`)
  const benches = BENCHES.filter((it) => positionals.length === 0 || positionals.includes(it.name))
  return { benches, json: values.json, readme: values.readme ?? false, smoke: values.smoke ?? false }
}

/** What this machine lacks of what benches need, as sentences. */
async function lacking(): Promise<ReadonlyMap<Need, string>> {
  const lacks = new Map<Need, string>()
  if (process.getuid?.() !== 0) lacks.set('root', 'it needs root')
  if ((await engineVersion()) === undefined) lacks.set('engine', 'no container engine answers')
  if (!NGINX.every((it) => existsSync(it))) lacks.set('nginx', "it needs Debian's packages nginx and wrk")
  return lacks
}

type Result = { figures: Figure[]; failed: string[]; leftOut: { name: string; why: string }[] }

async function runAll({ benches, smoke }: Asked, say: (line: string) => void): Promise<Result> {
  const scratch = mkdtempSync(join(tmpdir(), 'arcus-bench-'))
  // Accounts of services pass through it to their data.
  chmodSync(scratch, 0o711)
  // As `./arcus` does: compiled code is kept between starts, for both sides.
  process.env['NODE_COMPILE_CACHE'] ??= join(scratch, 'compiled')
  const lacks = await lacking()
  const result: Result = { figures: [], failed: [], leftOut: [] }
  try {
    for (const bench of benches) {
      const why = bench.needs.flatMap((it) => lacks.get(it) ?? [])
      if (why.length) {
        result.leftOut.push({ name: bench.name, why: why.join(' and ') })
        continue
      }
      const since = performance.now()
      const context: Context = { scratch: join(scratch, bench.name), scale: smoke ? SMOKE : FULL, say }
      mkdirSync(context.scratch)
      try {
        result.figures.push(...(await bench.run(context)))
        say(`${bench.name}: ${((performance.now() - since) / 1000).toFixed(0)} s`)
      } catch (error) {
        result.failed.push(bench.name)
        say(`${bench.name} failed: ${error instanceof Error ? error.stack : messageOf(error)}`)
      }
      rmSync(context.scratch, { recursive: true, force: true })
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return result
}

async function main(): Promise<number> {
  let asked
  try {
    asked = read()
  } catch (error) {
    console.error(`arcus: ${messageOf(error)} (see \`arcus bench --help\`)`)
    return USAGE
  }
  if (!asked) {
    console.log(HELP)
    return 0
  }
  const since = performance.now()
  const { figures, failed, leftOut } = await runAll(asked, (line) => console.error(line))
  const host = machine(cpus().length, totalmem())
  const text = `${table(figures)}\n\n${host}.`
  console.log(text)
  for (const { name, why } of leftOut) console.log(`${name} left out: ${why}`)
  const missed = figures.filter((it) => isMet(it) === false)
  const minutes = ((performance.now() - since) / 60_000).toFixed(1)
  console.error(`${figures.length} figures, ${missed.length} beyond their aim, ${minutes} min`)
  if (asked.json !== undefined) {
    const record = { at: new Date().toISOString(), host, smoke: asked.smoke, figures, failed, leftOut }
    writeFileSync(asked.json, `${JSON.stringify(record, null, 2)}\n`)
  }
  if (asked.readme) {
    if (failed.length || leftOut.length || asked.smoke || asked.benches.length < BENCHES.length)
      throw new Error('README.md gets the figures of a whole run only')
    writeBetweenMarks(README, text)
  }
  return failed.length ? 1 : 0
}

process.exitCode = await main()
