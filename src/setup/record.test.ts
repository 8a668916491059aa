import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readRecord, writeRecord } from './record.ts'

const root = mkdtempSync(join(tmpdir(), 'arcus-record-'))
after(() => rmSync(root, { recursive: true }))

test('what an earlier up was told is kept when a later one cannot write it', async () => {
  const path = join(root, 'etc/up.json')
  const told = { data: '/srv/arcus', listen: ['127.0.0.1:8080'], more: ['--fabric', '10.240.0.0/12'] }
  await writeRecord(told, path)
  assert.deepEqual(readRecord(path), told)
  const module = fileURLToPath(new URL('record.ts', import.meta.url))
  const script = `import { writeRecord } from ${JSON.stringify(module)}
    await writeRecord({ data: '/other', listen: [], more: [] }, ${JSON.stringify(path)})`
  // No file may grow, as on a full disk.
  const shell = ['-c', 'ulimit -f 0; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', script]
  assert.notEqual(spawnSync('/bin/sh', shell, { stdio: 'ignore' }).status, 0)
  assert.deepEqual(readRecord(path), told)
})
