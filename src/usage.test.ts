import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

// Every program that `./arcus` hands over to reads its command line in one way.
const ROOT = join(import.meta.dirname, '..')
const ENDED_WITHIN_MS = 30_000

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
  ['up', 'src/up.ts'],
] as const) {
  const run = (word: string) =>
    new Promise<{ code: unknown; out: string; err: string }>((resolve) => {
      const how = { cwd: ROOT, timeout: ENDED_WITHIN_MS }
      execFile(process.execPath, [program, word], how, (error, out, err) =>
        resolve({ code: error ? error.code : 0, out, err }),
      )
    })

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
