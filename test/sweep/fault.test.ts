import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { twisted } from './arbitrary.ts'
import type { Json } from './ask.ts'
import { openAviary } from './canary.ts'
import { fits, INTERNAL } from './judge.ts'
import { ownOf } from './dialect.ts'
import { questionFor } from './request.ts'
import { secretFieldsOf } from './secrets.ts'
import { sweepWorld } from './world.ts'

const world = await sweepWorld()
after(async () => await world[Symbol.asyncDispose]())
const own = await world.seed()

// A fault of ours is logged whole and shown as nothing but its number: also then no secret is in either.
test('what breaks while a secret is kept shows it to nobody', async () => {
  const { store } = world.it.engine
  const commit = store.commit
  store.commit = async (mutations) => {
    await Promise.resolve()
    throw new Error(`disk full after ${mutations.length} mutations`)
  }
  const aviary = openAviary()
  let broke = 0
  try {
    for (const { table, operations } of world.dialects)
      for (const operation of operations)
        for (const { path } of secretFieldsOf(table, operation)) {
          const need = table.need(operation)
          const isAdmin = need === 'operate' || need === 'hidden'
          const { token, socketPath } = isAdmin ? { token: world.admin } : ownOf(table, own)
          const headers = isAdmin ? table.inTenant?.(own.tenant.id) : undefined
          const question = questionFor(table, operation, {
            known: table.known(own, token),
            unique: world.unique(),
            token,
            socketPath,
            ...(headers ? { headers } : {}),
          })
          const to = aviary.plant(`${table.name} ${operation.key} ${path}`)
          const body = twisted(JSON.parse(String(question.body)) as Json, [{ do: 'set', path, to }])
          const answer = await world.asker.ask({ ...question, body: JSON.stringify(body) })
          const at = `${operation.key} answered ${answer.status} ${answer.text}`
          assert.ok(answer.status >= 400, at)
          if (answer.status === 500) broke++
          fits(table.refusal, answer.body, at)
          assert.doesNotMatch(String(table.messageOf(answer.body)), INTERNAL, at)
          assert.doesNotMatch(answer.text, /disk full/, at)
          assert.deepEqual(aviary.foundIn(answer.text), [], at)
        }
  } finally {
    store.commit = commit
  }
  assert.ok(broke >= world.dialects.length, `only ${broke} broke`)
  assert.equal(world.bugs.filter((line) => line.includes('disk full')).length, broke, 'each was logged')
  assert.deepEqual(aviary.foundIn(world.bugs.join('')), [])
})
