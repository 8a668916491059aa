import assert from 'node:assert/strict'
import { setImmediate as soon } from 'node:timers/promises'
import { test } from 'node:test'
import { createTurns } from './turns.ts'

/** Work that ends when it is told to, and notes what it does. */
function noted(done: string[]) {
  return (name: string) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const work = async (): Promise<void> => {
      done.push(`${name} begins`)
      await promise
      done.push(`${name} ends`)
    }
    return { work, end: resolve }
  }
}

test('users go side by side, and what goes alone meets nobody, in the order asked', async () => {
  const done: string[] = []
  const turns = createTurns()
  const make = noted(done)
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(make)
  assert.ok(a && b && c && d)
  const all = [
    turns.using('x', a.work),
    turns.using('x', b.work),
    turns.alone('x', c.work),
    turns.using('x', d.work),
  ]
  await soon()
  assert.deepEqual(done.splice(0), ['a begins', 'b begins'])
  b.end()
  await soon()
  assert.deepEqual(done.splice(0), ['b ends'])
  a.end()
  await soon()
  assert.deepEqual(done.splice(0), ['a ends', 'c begins'])
  c.end()
  await soon()
  assert.deepEqual(done.splice(0), ['c ends', 'd begins'])
  d.end()
  await Promise.all(all)
})

test('other keys and failures hold nobody up', async () => {
  const turns = createTurns()
  const done: string[] = []
  const make = noted(done)
  const never = make('never')
  void turns.alone('x', never.work)
  await turns.alone('y', async () => await Promise.resolve(void done.push('y')))
  assert.deepEqual(done, ['never begins', 'y'])
  await assert.rejects(
    turns.alone('z', () => Promise.reject(new Error('no'))),
    /no/,
  )
  assert.equal(await turns.using('z', () => Promise.resolve('yes')), 'yes')
})
