import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { test } from 'node:test'
import { hashPassword, verifyPassword } from './secrets.ts'

test('a crowd of passwords leaves the threads that files need', async () => {
  const hash = await hashPassword('right')
  let done = 0
  const crowd = Array.from({ length: 12 }, async (_, at) => {
    const isRight = await verifyPassword(at === 11 ? 'right' : 'wrong', hash)
    done++
    return isRight
  })
  const file = await open('/dev/null')
  await file.close()
  assert.ok(done < crowd.length / 2, `a file waited for ${done} of them`)
  assert.deepEqual(await Promise.all(crowd), [...Array.from({ length: 11 }, () => false), true])
})
