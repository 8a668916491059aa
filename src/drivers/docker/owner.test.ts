import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openOwner } from './owner.ts'

test('an owner knows its own again, leaves those of others alone, and takes what nobody owns', async () => {
  const root = await mkdtemp(join(tmpdir(), 'arcus-owner-'))
  try {
    const [a, b] = [join(root, 'a'), join(root, 'b')]
    const [first, other] = [await openOwner(a), await openOwner(b)]
    const again = await openOwner(a)
    assert.equal(again.label, first.label)
    assert.equal(again.owns(first.label), true)
    assert.equal(again.owns(other.label), false)
    assert.equal(other.owns(first.label), false)
    // Made before there were owners.
    assert.equal(first.owns(undefined), true)
    assert.equal((await openOwner(b, true)).owns(first.label), true)
    // A folder that began anew is another owner, and the one before is nobody.
    await rm(b, { recursive: true })
    assert.equal(first.owns(other.label), true)
    const anew = await openOwner(b)
    assert.equal(first.owns(anew.label), false)
    assert.equal(first.owns(other.label), true)
  } finally {
    await rm(root, { recursive: true })
  }
})
