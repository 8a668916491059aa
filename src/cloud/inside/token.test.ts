import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import type { Replica } from '#cloud/compute/replica.kind.ts'
import { createTokens } from './token.ts'

const ID = '0198c0de-0000-7000-8000-000000000001'
const tokensOf = (key: string) => {
  let made = 0
  const tokens = createTokens((text) => {
    made++
    return createHmac('sha256', key).update(text).digest('base64url')
  })
  return { tokens, made: () => made }
}
const replica = { id: ID, spec: { attempt: 3 } } as unknown as Pick<Replica, 'id' | 'spec'>

test('a token is read as often as it is sent, and its proof made once', () => {
  const { tokens, made } = tokensOf('a key')
  const token = tokens.of(replica)
  const bearer = tokens.read(token)
  assert.equal(bearer?.replica, ID)
  const before = made()
  for (let it = 0; it < 5; it++) assert.deepEqual(tokens.read(token), bearer)
  assert.equal(made(), before)
})

test('a wrong proof is refused, before the right one was seen and after, and is not remembered', () => {
  const { tokens } = tokensOf('a key')
  const right = tokens.of(replica)
  const [prefix, proof] = [right.slice(0, -43), right.slice(-43)]
  const wrong = prefix + (proof.startsWith('A') ? 'B' : 'A') + proof.slice(1)
  const foreign = tokensOf('another key').tokens.of(replica)
  const later = right.replace(/_(\d+)_/, (_, attempt) => `_${Number(attempt) + 1}_`)
  for (let it = 0; it < 2; it++) {
    for (const bad of [wrong, foreign, later]) assert.equal(tokens.read(bad), undefined)
    assert.ok(tokens.read(right))
  }
})
