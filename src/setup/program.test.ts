import assert from 'node:assert/strict'
import fs, { mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { removeOtherVersions } from './program.ts'

test('what is left of a version whose removal was cut short is not taken for that version', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-programs-'))
  t.after(async () => await rm(folder, { recursive: true }))
  mkdirSync(join(folder, 'node-v1'))
  writeFileSync(join(folder, 'node-v1', 'node'), '')
  for (const version of ['before', 'now']) {
    mkdirSync(join(folder, version))
    symlinkSync('../node-v1/node', join(folder, version, 'node'))
  }
  // It ends before anything is removed.
  const cut = t.mock.method(fs, 'rmSync', () => {})
  syncBuiltinESMExports()
  removeOtherVersions(join(folder, 'now'), folder)
  cut.mock.restore()
  syncBuiltinESMExports()
  assert.deepEqual(readdirSync(folder).toSorted(), ['before.next', 'node-v1', 'now'])
  removeOtherVersions(join(folder, 'now'), folder)
  assert.deepEqual(readdirSync(folder).toSorted(), ['node-v1', 'now'])
})
