import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isObjectId, objectId, objectIdOf, uuidPrefix } from './object-id.ts'

test('a UUID begins with the prefix of its short spelling, and sorts after it', () => {
  fc.assert(
    fc.property(fc.uuid(), (uuid) => {
      const short = objectId(uuid)
      const prefix = uuidPrefix(short)
      assert.ok(isObjectId(short))
      assert.ok(prefix !== undefined && uuid.startsWith(prefix) && prefix < uuid)
      assert.equal(uuidPrefix(short.toUpperCase()), prefix)
    }),
  )
})

test('two UUIDs share a short spelling only where they share 96 bits', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.uuid(), (one, other) => {
      assert.equal(objectId(one) === objectId(other), one.slice(0, 27) === other.slice(0, 27))
    }),
  )
})

test('what is no id is told apart', () => {
  fc.assert(
    fc.property(
      fc.string().filter((it) => !/^[0-9a-f]{24}$/i.test(it)),
      (text) => {
        assert.equal(uuidPrefix(text), undefined)
      },
    ),
  )
  assert.throws(() => objectId('not an id'))
})

test('what has no id gets one from its text', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (one, other) => {
      assert.ok(isObjectId(objectIdOf(one)))
      assert.equal(objectIdOf(one) === objectIdOf(other), one === other)
    }),
  )
})
