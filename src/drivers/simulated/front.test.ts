import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exampleFront, testFront } from '#cloud/edge/front.conformance.ts'
import { simulatedFront } from './front.ts'

// oxlint-disable-next-line typescript/require-await -- the suite opens front doors that take time, too
testFront('simulated', async () => simulatedFront())

test('a test sets what the front door counts and logs', async () => {
  const signal = AbortSignal.timeout(10_000)
  const front = simulatedFront()
  await front.apply(exampleFront(), signal)
  const [counted] = await front.traffic(signal)
  assert.ok(counted)
  front.counted.set('route-a', { ...counted, requests: 5 })
  front.occupy('replica-a', 2)
  front.occupy('replica-b', 1)
  front.occupy('replica-b', 0)
  const access = {
    route: 'route-a',
    tenant: 'tenant-a',
    at: 1,
    client: '192.0.2.1',
    hostname: 'app.example.com',
    receivedBytes: 0,
    sentBytes: 3,
    durationMs: 4,
  }
  for (const at of [1, 2, 3]) front.visit({ ...access, at })
  assert.equal((await front.traffic(signal))[0]?.requests, 5)
  assert.deepEqual(await front.open(signal), { 'replica-a': 2 })
  const first = await front.accesses(undefined, 2, signal)
  const second = await front.accesses(first.cursor, 2, signal)
  assert.deepEqual(
    [...first.entries, ...second.entries].map((it) => it.at),
    [1, 2, 3],
  )
  assert.deepEqual(await front.accesses(undefined, 2, signal), second)
})
