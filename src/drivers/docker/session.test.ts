import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { simulatedClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import type { DockerApi } from './docker.ts'
import { followDocker } from './session.ts'

/** Longer than the longest pause between two tries. */
const PAUSE_MS = 5000
const TRIES_MAX = 100

test('a session that does not open leaves no stream of events behind', async () => {
  const clock = simulatedClock()
  const stop = new AbortController()
  const streams: AbortSignal[] = []
  const api = {
    ping: () => Promise.resolve(),
    events(_: unknown, signal: AbortSignal) {
      streams.push(signal)
      return Promise.resolve(new PassThrough())
    },
  } as unknown as DockerApi
  const onOpen = () =>
    streams.length < 3 ? Promise.reject(new Error('no rules can be set')) : Promise.resolve()
  const how = { instance: 'test', clock, log: silentLog, onOpen, onOpened() {}, onEvent() {} }
  const session = followDocker(api, how, stop.signal)
  for (let tries = 0; tries < TRIES_MAX && session.current() === undefined; tries++) {
    await setImmediate()
    await clock.advance(PAUSE_MS)
  }
  assert.equal(session.current(), 1)
  assert.deepEqual(
    streams.map((it) => it.aborted),
    [true, true, false],
  )
  stop.abort()
})
