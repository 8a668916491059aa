import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { programVersion } from './program.ts'

test('the version of a program follows its code and its dependencies, not its tests', () => {
  const checkout = mkdtempSync(join(tmpdir(), 'arcus-program-'))
  const write = (path: string, text: string): string => {
    mkdirSync(dirname(join(checkout, path)), { recursive: true })
    writeFileSync(join(checkout, path), text)
    return programVersion(checkout)
  }
  try {
    write('package-lock.json', '{}')
    write('src/main.ts', 'one')
    const first = write('src/cloud/cloud.ts', 'one')
    assert.equal(write('src/main.test.ts', 'a test'), first)
    assert.equal(write('docs/page.md', 'a page'), first)
    const changed = [
      write('src/cloud/cloud.ts', 'two'),
      write('package-lock.json', '{"two":2}'),
      write('src/cloud/more.ts', ''),
      write('console/dist/index.html', ''),
    ]
    assert.equal(new Set([first, ...changed]).size, 5)
  } finally {
    rmSync(checkout, { recursive: true })
  }
})
