import assert from 'node:assert/strict'
import { test } from 'node:test'
import Type, { type TSchema } from 'typebox'
import { isCloudError } from '#lib/errors.ts'
import { validatorCompiler } from './validation.ts'

const Thing = Type.Object({
  name: Type.String({ pattern: '^[a-z]+$', title: 'a word' }),
  count: Type.Optional(Type.Integer({ minimum: 1 })),
  note: Type.Optional(Type.Union([Type.String({ maxLength: 3 }), Type.Null()])),
  mode: Type.Optional(Type.Enum(['on', 'off'])),
  list: Type.Optional(Type.Array(Type.Object({ id: Type.String({ format: 'uuid' }) }), { maxItems: 2 })),
  map: Type.Optional(Type.Record(Type.String(), Type.Integer({ maximum: 5 }))),
})

const refusal = (value: unknown, schema: TSchema = Thing): [string | undefined, string] | undefined => {
  const compile = validatorCompiler as (route: {
    schema: TSchema
    httpPart: string
    method: string
    url: string
  }) => (value: unknown) => { error?: Error }
  const { error } = compile({ schema, httpPart: 'body', method: 'POST', url: '/' })(value)
  if (!error) return undefined
  assert.ok(isCloudError(error, 'invalid'))
  return [error.details.field, error.message]
}

test('the first wrong field is named in words', () => {
  const id = '6f1c2f0e-6f5a-4c5e-9b8e-0d7c3a2f1b10'
  assert.equal(
    refusal({ name: 'a', note: null, mode: 'on', list: [{ id }], map: { x: 5 }, extra: 1 }),
    undefined,
  )
  for (const [value, expected] of [
    [undefined, [undefined, 'Body must be an object']],
    [{}, ['name', 'is required']],
    [{ name: 'A' }, ['name', 'must be a word']],
    [{ name: 5 }, ['name', 'must be a word']],
    [{ name: 'a', count: 0 }, ['count', 'must be at least 1']],
    [{ name: 'a', count: 1.5 }, ['count', 'must be an integer']],
    [{ name: 'a', note: 5 }, ['note', 'must be a string or null']],
    [{ name: 'a', mode: 'up' }, ['mode', 'must be on or off']],
    [{ name: 'a', list: {} }, ['list', 'must be a list']],
    [{ name: 'a', list: [{ id }, {}] }, ['list[1].id', 'is required']],
    [{ name: 'a', list: [{ id: 'x' }] }, ['list[0].id', 'must be a UUID']],
    [{ name: 'a', list: [{ id }, { id }, { id }] }, ['list', 'must have at most 2 entries']],
    [{ name: 'a', map: { x: 6 } }, ['map.x', 'must be at most 5']],
  ] as const)
    assert.deepEqual(refusal(value), expected, JSON.stringify(value))
})

test('a text too long for one side of a choice is told by the choice', () => {
  assert.deepEqual(refusal({ name: 'a', note: 'long' }), ['note', 'must be a string or null'])
})
