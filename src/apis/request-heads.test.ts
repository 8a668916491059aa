import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { openRequestHeads } from './request-heads.ts'

const HEAD = ['host', 'x', 'X-Key', 'abc']
const [here, there] = [new Socket(), new Socket()]

test('equal heads have one number, on whatever connection, and others have another', () => {
  const heads = openRequestHeads()
  const of = (rawHeaders: string[], socket = here, dialect?: string) =>
    heads.of({ socket, rawHeaders }, dialect)
  const number = of([...HEAD])?.number
  assert.ok(number !== undefined)
  assert.equal(of([...HEAD])?.number, number)
  assert.equal(of([...HEAD], there)?.number, number)
  const others = [
    ['host', 'x', 'X-Key', 'abd'],
    ['host', 'x', 'x-key', 'abc'],
    ['X-Key', 'abc', 'host', 'x'],
    [...HEAD, 'a', ''],
    ['host', 'x'],
    [],
  ]
  const numbers = [number, ...others.map((it) => of(it)?.number), of([...HEAD], new Socket(), 'toy')?.number]
  assert.equal(new Set(numbers).size, numbers.length)
  assert.equal(of([...HEAD])?.number, number)
})

test('the id of a request is apart, and several are none', () => {
  const heads = openRequestHeads()
  const of = (...ids: string[]) => {
    const rawHeaders = ['host', 'x', ...ids.flatMap((id) => ['X-Request-ID', id]), 'x-key', 'abc']
    return heads.of({ socket: here, rawHeaders }, undefined)
  }
  const [first, second, none] = [of('one'), of('two'), of()]
  assert.deepEqual([first?.requestId, second?.requestId, none?.requestId], ['one', 'two', undefined])
  assert.equal(first?.number, second?.number)
  assert.notEqual(first?.number, none?.number)
  assert.equal(of('one', 'two'), undefined)
})

test('a long head has no number', () => {
  const rawHeaders = ['x-long', 'a'.repeat(3000)]
  assert.equal(openRequestHeads().of({ socket: here, rawHeaders }, undefined), undefined)
})
