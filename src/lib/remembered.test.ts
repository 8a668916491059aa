import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jsonOf, remembered } from './remembered.ts'

test('what is remembered is made once for each thing, and written once', () => {
  let [made, written] = [0, 0]
  const double = remembered((it: { readonly size: number }) => ({
    size: it.size * 2,
    made: ++made,
    toJSON() {
      written++
      return this.size
    },
  }))
  const one = { size: 1 }
  assert.equal(double(one), double(one))
  assert.notEqual(double({ size: 1 }), double(one))
  assert.equal(made, 2)
  for (let it = 0; it < 3; it++) assert.equal(jsonOf(double(one)), '2')
  assert.equal(written, 1)
})

test('what is not remembered is written anew', () => {
  const it = { size: 1 }
  assert.equal(jsonOf(it), '{"size":1}')
  it.size = 2
  assert.equal(jsonOf(it), '{"size":2}')
  for (const other of [null, 'a"b', 3, [1]]) assert.equal(jsonOf(other), JSON.stringify(other))
})
