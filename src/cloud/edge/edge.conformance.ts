import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { EdgeDriver, Zone } from './edge.driver.ts'

const SIGNAL_MS_MAX = 10_000

export const exampleZone = (more: Partial<Zone> = {}): Zone => ({
  vpc: 'vpc-a',
  generation: 1,
  callers: ['127.0.1.1'],
  names: {
    web: { a: ['10.0.1.5'], aaaa: ['fd00::5'] },
    'web.production.internal': { a: ['10.0.1.5'], aaaa: ['fd00::5'] },
  },
  suffixes: ['production.internal'],
  nameservers: [],
  forward: true,
  ...more,
})

/** What every edge promises. `open` gives a new, empty one. */
export function testEdge(name: string, open: () => Promise<EdgeDriver & { close?(): Promise<void> }>): void {
  const edgeTest = (what: string, run: (edge: EdgeDriver, signal: AbortSignal) => Promise<void>): void => {
    test(`${name}: ${what}`, async () => {
      const edge = await open()
      try {
        await run(edge, AbortSignal.timeout(SIGNAL_MS_MAX))
      } finally {
        await edge.close?.()
      }
    })
  }

  edgeTest('lists what was applied, each VPC once', async (edge, signal) => {
    assert.deepEqual(await edge.list(signal), [])
    await edge.apply(exampleZone(), signal)
    await edge.apply(exampleZone({ vpc: 'vpc-b', generation: 7 }), signal)
    await edge.apply(exampleZone({ generation: 2 }), signal)
    const listed = (await edge.list(signal)).toSorted((a, b) => a.vpc.localeCompare(b.vpc))
    assert.deepEqual(listed, [
      { vpc: 'vpc-a', generation: 2 },
      { vpc: 'vpc-b', generation: 7 },
    ])
  })

  edgeTest('takes the same again, and refuses an older one', async (edge, signal) => {
    await edge.apply(exampleZone({ generation: 3 }), signal)
    await edge.apply(exampleZone({ generation: 3 }), signal)
    await assert.rejects(
      edge.apply(exampleZone({ generation: 2 }), signal),
      (error: unknown) => isCloudError(error, 'conflict') && error.details.rule === 'lost_race',
    )
    assert.deepEqual(await edge.list(signal), [{ vpc: 'vpc-a', generation: 3 }])
  })

  edgeTest('removes, also what is not there', async (edge, signal) => {
    await edge.apply(exampleZone({ generation: 3 }), signal)
    await edge.remove('vpc-a', signal)
    await edge.remove('vpc-a', signal)
    assert.deepEqual(await edge.list(signal), [])
    await edge.apply(exampleZone({ generation: 1 }), signal)
    assert.deepEqual(await edge.list(signal), [{ vpc: 'vpc-a', generation: 1 }])
  })

  edgeTest('ends with the newest of many at once', async (edge, signal) => {
    const generations = [4, 1, 9, 3, 8, 2, 7, 6, 5]
    const results = await Promise.allSettled(
      generations.map((generation) => edge.apply(exampleZone({ generation }), signal)),
    )
    for (const it of results)
      if (it.status === 'rejected') assert.ok(isCloudError(it.reason, 'conflict'), it.reason)
    assert.deepEqual(await edge.list(signal), [{ vpc: 'vpc-a', generation: 9 }])
  })
}
