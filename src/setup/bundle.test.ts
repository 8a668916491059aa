import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { ENTRIES } from '#lib/entry.ts'
import { versionOf } from './bundle.ts'

const ROOT = join(import.meta.dirname, '../..')
const COMMAND_MS_MAX = 60_000

const write = (checkout: string, path: string, text: string): void => {
  mkdirSync(dirname(join(checkout, path)), { recursive: true })
  writeFileSync(join(checkout, path), text)
}

test('the version of a bundle follows its code and its dependencies, not its tests', () => {
  const checkout = mkdtempSync(join(tmpdir(), 'arcus-program-'))
  const versionWith = (path: string, text: string): string => {
    write(checkout, path, text)
    return versionOf(checkout)
  }
  try {
    versionWith('package-lock.json', '{}')
    versionWith('src/main.ts', 'one')
    const first = versionWith('src/cloud/cloud.ts', 'one')
    assert.equal(versionWith('src/main.test.ts', 'a test'), first)
    assert.equal(versionWith('docs/page.md', 'a page'), first)
    const changed = [
      versionWith('src/cloud/cloud.ts', 'two'),
      versionWith('package-lock.json', '{"two":2}'),
      versionWith('src/cloud/more.ts', ''),
      versionWith('src/engine/migrations/0001-one.sql', ''),
    ]
    assert.equal(new Set([first, ...changed]).size, 5)
  } finally {
    rmSync(checkout, { recursive: true })
  }
})

// A checkout of its own: the real script, lock file and dependencies, and programs that say who they are.
describe('the bundle of a checkout', () => {
  let checkout: string
  const at = (path: string): string => join(checkout, path)
  const say = (word: string): void =>
    write(checkout, 'src/cli/cli.ts', `import '#lib/said.ts'\nconsole.log('${word}')\n`)

  const arcus = (...args: string[]) =>
    new Promise<{ code: unknown; out: string; err: string }>((resolve) => {
      execFile(at('arcus'), args, { timeout: COMMAND_MS_MAX }, (error, out, err) =>
        resolve({ code: error ? error.code : 0, out, err }),
      )
    })
  const version = (): string => readFileSync(at('bundle/version'), 'utf8').trim()

  /** What a command says, and whether it made a bundle first. */
  async function said(): Promise<{ readonly words: string; readonly made: boolean }> {
    const { code, out, err } = await arcus('kinds')
    assert.equal(code, 0, err)
    return { words: out.trim().replace('\n', ' '), made: err.includes('Bundling the program …') }
  }

  before(() => {
    checkout = realpathSync(mkdtempSync(join(tmpdir(), 'arcus-bundle-')))
    for (const it of ['arcus', '.node-version', 'package.json', 'package-lock.json'])
      copyFileSync(join(ROOT, it), at(it))
    for (const it of ['src/lib', 'src/setup', 'src/supervise', 'src/bundle.ts', 'src/engine/migrations'])
      cpSync(join(ROOT, it), at(it), { recursive: true })
    mkdirSync(at('node_modules'))
    for (const it of readdirSync(join(ROOT, 'node_modules')).filter((it) => !it.startsWith('.arcus')))
      symlinkSync(join(ROOT, 'node_modules', it), at(`node_modules/${it}`))
    copyFileSync(at('package-lock.json'), at('node_modules/.arcus-lock'))
    for (const it of ENTRIES) write(checkout, `src/${it}.ts`, '')
    copyFileSync(join(ROOT, 'src/trace.ts'), at('src/trace.ts'))
    write(checkout, 'src/lib/said.ts', "console.log('said')\n")
  })
  beforeEach(async () => {
    say('one')
    await said()
  })
  after(() => rmSync(checkout, { recursive: true }))

  test('is made anew when a source changed, was added or removed, and not otherwise', async () => {
    assert.deepEqual(await said(), { words: 'said one', made: false })
    say('two')
    assert.deepEqual(await said(), { words: 'said two', made: true })
    assert.deepEqual(await said(), { words: 'said two', made: false })
    write(checkout, 'src/lib/more.ts', '')
    assert.deepEqual(await said(), { words: 'said two', made: true })
    rmSync(at('src/lib/more.ts'))
    assert.deepEqual(await said(), { words: 'said two', made: true })
    write(checkout, 'src/lib/more.test.ts', '')
    assert.deepEqual(await said(), { words: 'said two', made: false })
  })

  test('is made anew of a file of the same size that was written with an older time', async () => {
    const path = at('src/cli/cli.ts')
    const { atime, mtime } = statSync(path)
    say('six')
    utimesSync(path, atime, mtime)
    assert.deepEqual(await said(), { words: 'said six', made: true })
  })

  test('is kept while a source does not compile, and the command says what is wrong', async () => {
    const before = version()
    write(checkout, 'src/cli/cli.ts', 'console.log(\n')
    const { code, out, err } = await arcus('kinds')
    assert.deepEqual([code, out], [1, ''])
    assert.match(err, /cli\.ts:2:0: ERROR/)
    assert.match(err, /^arcus: the program could not be bundled; see above$/m)
    assert.equal(version(), before)
    say('one')
    assert.equal((await said()).words, 'said one')
  })

  test('is never run half written: one that was cut short is made again', async () => {
    say('whole')
    const next = at(`bundle/${versionOf(checkout)}.next`)
    mkdirSync(join(next, 'cli'), { recursive: true })
    writeFileSync(join(next, 'cli/cli.js'), "console.log('half')")
    assert.deepEqual(await said(), { words: 'said whole', made: true })
    assert.equal(existsSync(next), false)
    // Cut short between the folder and what says that it is of today's sources, or its folder removed by hand.
    rmSync(at('bundle/sources'))
    assert.deepEqual(await said(), { words: 'said whole', made: true })
    renameSync(at(`bundle/${version()}`), at('bundle/elsewhere'))
    assert.deepEqual(await said(), { words: 'said whole', made: true })
  })

  test('is made once for commands that come together', async () => {
    say('together')
    const all = await Promise.all([said(), said(), said()])
    assert.deepEqual(
      all.map((it) => it.words),
      Array(3).fill('said together'),
    )
    assert.equal(all.filter((it) => it.made).length, 1)
  })

  test('names its sources in a trace', async () => {
    write(
      checkout,
      'src/lib/said.ts',
      "\nexport const fail = (): never => {\n  throw new Error('a bug')\n}\n",
    )
    write(checkout, 'src/cli/cli.ts', "import { fail } from '#lib/said.ts'\nfail()\n")
    const { err } = await arcus('kinds')
    write(checkout, 'src/lib/said.ts', "console.log('said')\n")
    say('one')
    assert.match(err, /at fail \(file:\/\/.+\.js:\d+:\d+\)/)
    // Also in a line of a log.
    const traced = execFileSync(at('arcus'), ['trace'], {
      input: JSON.stringify({ stack: err }),
      encoding: 'utf8',
    })
    const { stack } = JSON.parse(traced) as { stack: string }
    assert.match(stack, /at fail \(src\/lib\/said\.ts:3:9\)\n\s+at src\/cli\/cli\.ts:2:1\n/)
  })

  test('is kept for what still runs of the two before', async () => {
    const made = [version()]
    for (const word of ['a', 'b', 'c']) {
      say(word)
      await said()
      made.push(version())
    }
    const there = made.map((it) => existsSync(at(`bundle/${it}`)))
    assert.deepEqual(there, [false, true, true, true])
  })

  test(
    'is refused to whoever cannot write it',
    { skip: process.getuid?.() !== 0 && 'it needs root' },
    async () => {
      say('denied')
      chmodSync(checkout, 0o755)
      const { code, err } = await new Promise<{ code: unknown; err: string }>((resolve) => {
        const how = { timeout: COMMAND_MS_MAX, uid: 65_534, gid: 65_534 }
        execFile(at('arcus'), ['kinds'], how, (error, _, text) => resolve({ code: error?.code, err: text }))
      })
      assert.equal(code, 1)
      assert.match(err, /is not writable by nobody, and its sources changed; run this once as its owner/)
    },
  )
})
