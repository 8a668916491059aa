import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createKeyring, openMasterKey } from './secrets.ts'
import { refused } from './store.testing.ts'

test('what was sealed opens with the same key in the same place, and nowhere else', () => {
  const ring = createKeyring(randomBytes(32))
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (plain) => {
      const text = plain.toWellFormed()
      const sealed = ring.seal(text, 'user/1/password')
      assert.ok(ring.isSealed(sealed))
      assert.equal(ring.open(sealed, 'user/1/password'), text)
      assert.notEqual(ring.seal(text, 'user/1/password'), sealed, 'never the same twice')
    }),
  )
  const sealed = ring.seal('s3cret', 'user/1/password')
  const failure = /another key or for another place/
  assert.throws(() => ring.open(sealed, 'user/2/password'), failure)
  assert.throws(() => createKeyring(randomBytes(32)).open(sealed, 'user/1/password'), failure)
  const broken = sealed.slice(0, -2) + (sealed.endsWith('AA') ? 'BB' : 'AA')
  assert.throws(() => ring.open(broken, 'user/1/password'), failure)
  assert.throws(() => ring.open('plain', 'user/1/password'), /not a sealed text/)
  assert.throws(() => createKeyring(randomBytes(16)), /32 bytes/)
})

test('the master key is made once, for its user alone, and refused when others can read it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-key-'))
  try {
    const path = join(folder, 'master.key')
    const key = await openMasterKey(path, randomBytes)
    assert.equal(key.length, 32)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(await openMasterKey(path, randomBytes), key)
    assert.doesNotMatch(readFileSync(path, 'latin1'), new RegExp(key.toString('hex')))
    chmodSync(path, 0o640)
    assert.match((await refused(openMasterKey(path, randomBytes), 'unavailable')).message, /chmod 600/)
    writeFileSync(path, 'short')
    chmodSync(path, 0o600)
    assert.match((await refused(openMasterKey(path, randomBytes), 'unavailable')).message, /damaged/)
    await refused(openMasterKey(folder, randomBytes), 'unavailable')
    await assert.rejects(openMasterKey(join(folder, 'no', 'such', 'key'), randomBytes))
  } finally {
    rmSync(folder, { recursive: true })
  }
})
