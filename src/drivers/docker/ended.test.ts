import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { simulatedClock } from '#lib/clock.ts'
import { untilOver } from './ended.ts'

/** A stream that Docker never ends, and what was read of it. */
function reading(isOver: () => boolean) {
  const clock = simulatedClock()
  const stream = new PassThrough()
  const read: string[] = []
  let isHeld: Promise<void> | undefined
  const whole = (async () => {
    for await (const piece of untilOver(stream, { isOver, close: () => stream.destroy(), clock })) {
      read.push(String(piece))
      await isHeld
    }
    return 'ended'
  })()
  whole.catch(() => {})
  return {
    clock,
    stream,
    read,
    whole,
    hold: (until: Promise<void>) => void (isHeld = until),
    async pass(seconds: number) {
      for (let second = 0; second < seconds; second++) {
        await clock.advance(1000)
        await turn()
      }
    },
  }
}

describe('a stream of something that runs', () => {
  test('is left open for as long as that runs, however silent', async () => {
    let over = false
    const it = reading(() => over)
    await it.pass(300)
    it.stream.write('late')
    await it.pass(1)
    assert.deepEqual(it.read, ['late'])
    assert.equal(it.stream.destroyed, false)
    over = true
    await it.pass(6)
    assert.equal(await it.whole, 'ended')
  })

  test('ends by itself when that is over and Docker does not end it, with all that came', async () => {
    const it = reading(() => true)
    await it.pass(3)
    it.stream.write('the last words')
    await turn()
    await it.pass(2)
    assert.equal(it.stream.destroyed, false, 'the silence begins anew with each word')
    await it.pass(2)
    assert.equal(await it.whole, 'ended')
    assert.deepEqual(it.read, ['the last words'])
  })

  test('is not cut while its reader is slow', async () => {
    const it = reading(() => true)
    const held = Promise.withResolvers<void>()
    it.hold(held.promise)
    it.stream.write('one')
    await it.pass(60)
    it.stream.write('two')
    held.resolve()
    await it.pass(1)
    assert.deepEqual(it.read, ['one', 'two'])
    await it.pass(6)
    assert.equal(await it.whole, 'ended')
  })

  test('that breaks says so, and an end is an end', async () => {
    const broken = reading(() => false)
    broken.stream.destroy(new Error('connection reset'))
    await assert.rejects(broken.whole, /connection reset/)
    const ended = reading(() => false)
    ended.stream.end('done')
    assert.equal(await ended.whole, 'ended')
    assert.equal(ended.clock.nextMs(), undefined, 'nobody looks any more')
  })
})
