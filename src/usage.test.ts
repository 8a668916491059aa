import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

// Every program that `./arcus` hands over to reads its command line in one way.
const ROOT = join(import.meta.dirname, '..')
const ENDED_WITHIN_MS = 30_000

const runProgram = (program: string, ...words: string[]) =>
  new Promise<{ code: unknown; out: string; err: string }>((resolve) => {
    const how = { cwd: ROOT, timeout: ENDED_WITHIN_MS }
    execFile(process.execPath, [program, ...words], how, (error, out, err) =>
      resolve({ code: error ? error.code : 0, out, err }),
    )
  })

for (const [command, program] of [
  ['agent', 'src/host.ts'],
  ['backup', 'src/backup.ts'],
  ['bench', 'bench/bench.ts'],
  ['doctor', 'src/doctor.ts'],
  ['down', 'src/down.ts'],
  ['edge', 'src/edge.ts'],
  ['fixtures', 'test/fixtures/fixtures.ts'],
  ['restore', 'src/restore.ts'],
  ['serve', 'src/main.ts'],
  ['serve', 'src/serve.ts'],
  ['test', 'test/run.ts'],
  ['trace', 'src/trace.ts'],
  ['up', 'src/up.ts'],
] as const) {
  const run = async (word: string) => await runProgram(program, word)

  test(`${program} shows its help, and refuses what it does not know with the way there`, async () => {
    const [help, wrong] = await Promise.all([run('--help'), run('--nope')])
    assert.deepEqual([help.code, help.err], [0, ''])
    assert.match(help.out, new RegExp(`arcus ${command}\\b`))
    assert.deepEqual(wrong, {
      code: 2,
      out: '',
      err: `arcus: Unknown option '--nope' (see \`arcus ${command} --help\`)\n`,
    })
  })
}

test('an option that the cloud would not start with is refused before anything that runs is replaced', async () => {
  for (const [program, ...words] of [
    ['src/up.ts', '--published-ports', 'abc'],
    ['src/up.ts', '--fabric', '10.0.0.0/30'],
    ['src/serve.ts', '--data', join(ROOT, 'none'), '--request-rate', 'many'],
  ] as const) {
    const { code, out, err } = await runProgram(program, ...words)
    assert.deepEqual([code, out], [2, ''], err)
    assert.ok(err.startsWith(`arcus: ${words.at(-2)}`), err)
  }
})
