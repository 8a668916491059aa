import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { takeLock } from './lock.ts'
import { lastLines, openLog, rotateLog, sizeOfLog } from './logfile.ts'

const folder = mkdtempSync(join(tmpdir(), 'arcus-logfile-'))
after(() => rmSync(folder, { recursive: true }))

test('a log is cut under a writer that keeps it open', () => {
  const path = join(folder, 'cut.log')
  const file = openLog(path)
  writeSync(file, 'x'.repeat(100))
  assert.equal(rotateLog(path, 100), false)
  writeSync(file, 'y')
  assert.equal(rotateLog(path, 100), true)
  writeSync(file, 'after')
  closeSync(file)
  assert.equal(readFileSync(path, 'utf8'), 'after')
  assert.equal(sizeOfLog(`${path}.1`), 101)
})

test('the last words of a program are those since its start, in words', () => {
  const path = join(folder, 'said.log')
  writeFileSync(path, 'from before\n')
  const from = sizeOfLog(path)
  assert.deepEqual(lastLines(path, from, 2), [])
  writeFileSync(
    path,
    'one\n{"level":"error","message":"cannot open","error":{"message":"no such file"}}\n\n',
    { flag: 'a' },
  )
  assert.deepEqual(lastLines(path, from, 1), ['cannot open: no such file'])
  assert.deepEqual(lastLines(path, from, 9), ['one', 'cannot open: no such file'])
  assert.deepEqual(lastLines(join(folder, 'none.log'), 0, 9), [])
})

test('a lock is held by one process, and free when that is killed', async () => {
  const path = join(folder, 'a.lock')
  const module = fileURLToPath(new URL('lock.ts', import.meta.url))
  const script = `import { takeLock } from ${JSON.stringify(module)}
    console.log(takeLock(${JSON.stringify(path)}) ? 'held' : 'refused'); setInterval(() => {}, 1e6)`
  const other = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const said = await new Promise((resolve) => other.stdout.once('data', resolve))
  assert.equal(String(said), 'held\n')
  assert.equal(takeLock(path), undefined)
  const ended = new Promise((resolve) => other.once('exit', resolve))
  other.kill('SIGKILL')
  await ended
  const mine = takeLock(path)
  assert.ok(mine)
  assert.equal(takeLock(path), undefined)
  mine.release()
  takeLock(path)?.release()
})
