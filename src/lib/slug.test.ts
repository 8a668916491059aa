import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { slugOf } from './slug.ts'

test('a slug is lower case words, whatever the name', () => {
  assert.equal(slugOf('My Container'), 'my-container')
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (name) => {
      assert.match(slugOf(name), /^([a-z0-9]+(-[a-z0-9]+)*)?$/)
      assert.equal(slugOf(slugOf(name)), slugOf(name))
    }),
  )
})
