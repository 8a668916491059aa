import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openAviary } from './canary.ts'

test('a secret is found in every form in which it may have been written down', () => {
  const aviary = openAviary()
  const secret = aviary.plant('one')
  aviary.plant('another')
  const texts = [
    secret,
    JSON.stringify({ password: `a"${secret}` }),
    encodeURIComponent(`?x=${secret}`),
    Buffer.from(secret).toString('hex'),
    Buffer.from(secret).toString('hex').toUpperCase(),
    ...['', 'x', 'xy', 'user:'].flatMap((before) => [
      Buffer.from(`${before}${secret}`).toString('base64'),
      Buffer.from(`${before}${secret} and more`).toString('base64url'),
    ]),
  ]
  for (const text of texts) assert.deepEqual(aviary.foundIn(`before ${text} after`), ['one'], text)
  assert.deepEqual(aviary.foundIn(Buffer.from(secret, 'utf16le')), ['one'])
  assert.deepEqual(aviary.foundIn('canary-'), [])
})
