import assert from 'node:assert/strict'
import { globSync, mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { collect, LIMITS_FILE, render } from '../test/limits.ts'

test('docs/limits.md has every named limit with its value', () => {
  const written = readFileSync(LIMITS_FILE, 'utf8')
  assert.ok(written === render(), 'docs/limits.md is not as the constants are: run `npm run limits`')
})

test('limits are read from constants, sums, other constants and tables', () => {
  const root = mkdtempSync(join(tmpdir(), 'arcus-limits-'))
  try {
    mkdirSync(join(root, 'src'))
    writeFileSync(
      join(root, 'src/a.ts'),
      `/** How long a call may take. */
export const CALL_MS_MAX = 2 * 1_000
const TWICE_MS: number = 2 * CALL_MS_MAX
// Two lines
// of words.
const BODY_BYTES_MAX = 1 << 20
const NAME = 'no limit'
const PORT = 53
/** Of one thing. */
export const LIMITS: Limits = {
  /** Kept that long. */
  keptSeconds: 60,
  partsMax: BODY_BYTES_MAX / 1024,
}
const BACKOFF = { firstMs: 5, maxMs: 0x10 } as const
`,
    )
    writeFileSync(join(root, 'src/a.test.ts'), 'const WAIT_MS = 5\n')
    writeFileSync(
      join(root, 'src/b.ts'),
      'const SLOW_MS = 3 * CALL_MS_MAX\nfunction f() {\n  const INNER_MS = 1\n}\n',
    )
    assert.deepEqual(
      collect(root).map((it) => `${it.file} ${it.name} ${it.value} ${it.meaning}`.trim()),
      [
        'src/a.ts CALL_MS_MAX 2000 How long a call may take.',
        'src/a.ts TWICE_MS 4000',
        'src/a.ts BODY_BYTES_MAX 1048576 Two lines of words.',
        'src/a.ts LIMITS.keptSeconds 60 Kept that long.',
        'src/a.ts LIMITS.partsMax 1024 Of one thing.',
        'src/a.ts BACKOFF.firstMs 5',
        'src/a.ts BACKOFF.maxMs 16',
        'src/b.ts SLOW_MS 6000',
      ],
    )
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('no constant that is named like a limit is left out', () => {
  const found = new Set(collect().map((it) => it.name.split('.')[0]))
  // A list of numbers, such as the bounds of a histogram, is no limit.
  const named = /^(?:export )?const ([A-Z0-9_]+_(?:MS|SECONDS|BYTES|MAX|MIN|KEPT|AT_ONCE))\b(?!.*= \[)/gm
  for (const file of globSync('src/**/*.ts').filter((it) => !/\.(test|testing|conformance)\.ts$/.test(it)))
    for (const [, name] of readFileSync(file, 'utf8').matchAll(named))
      assert.ok(found.has(name), `${name} of ${file} is not a number that test/limits.ts can read`)
})
