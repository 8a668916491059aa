import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { Front, FrontCertificate, FrontDriver, FrontRoute } from './front.driver.ts'

const SIGNAL_MS_MAX = 10_000

export const exampleRoute = (more: Partial<FrontRoute> = {}): FrontRoute => ({
  id: 'route-a',
  hostname: 'app.example.com',
  pathPrefix: '/',
  stripPrefix: false,
  carry: 'http',
  plain: false,
  origins: [],
  ...more,
})

export const exampleFront = (more: Partial<Front> = {}): Front => ({
  vpc: 'vpc-a',
  tenant: 'tenant-a',
  generation: 1,
  routes: [exampleRoute()],
  ...more,
})

/** A certificate that was not issued yet, whose authority asks for a proof. */
export const exampleCertificate = (more: Partial<FrontCertificate> = {}): FrontCertificate => ({
  id: 'certificate-a',
  tenant: 'tenant-a',
  generation: 1,
  challenges: [{ hostname: 'app.example.com', token: 'token-1', answer: 'token-1.thumbprint' }],
  ...more,
})

const isLostRace = (error: unknown): boolean =>
  isCloudError(error, 'conflict') && error.details.rule === 'lost_race'

/** What every front door promises without traffic. `open` gives a new, empty one. */
export function testFront(
  name: string,
  open: () => Promise<FrontDriver & { close?(): Promise<void> }>,
): void {
  const frontTest = (what: string, run: (front: FrontDriver, signal: AbortSignal) => Promise<void>): void => {
    test(`${name}: ${what}`, async () => {
      const front = await open()
      try {
        await run(front, AbortSignal.timeout(SIGNAL_MS_MAX))
      } finally {
        await front.close?.()
      }
    })
  }

  frontTest('lists what was applied, each once', async (front, signal) => {
    assert.deepEqual(await front.list(signal), { fronts: [], certificates: [] })
    await front.apply(exampleFront(), signal)
    await front.apply(exampleFront({ vpc: 'vpc-b', generation: 7, routes: [] }), signal)
    await front.apply(exampleFront({ generation: 2 }), signal)
    await front.applyCertificate(exampleCertificate(), signal)
    await front.applyCertificate(exampleCertificate({ generation: 4, challenges: [] }), signal)
    const { fronts, certificates } = await front.list(signal)
    assert.deepEqual(
      fronts.toSorted((a, b) => a.vpc.localeCompare(b.vpc)),
      [
        { vpc: 'vpc-a', generation: 2 },
        { vpc: 'vpc-b', generation: 7 },
      ],
    )
    assert.deepEqual(certificates, [{ id: 'certificate-a', generation: 4 }])
  })

  frontTest('takes the same again, and refuses an older one', async (front, signal) => {
    for (const generation of [3, 3]) {
      await front.apply(exampleFront({ generation }), signal)
      await front.applyCertificate(exampleCertificate({ generation }), signal)
    }
    await assert.rejects(front.apply(exampleFront({ generation: 2 }), signal), isLostRace)
    await assert.rejects(front.applyCertificate(exampleCertificate({ generation: 2 }), signal), isLostRace)
    const { fronts, certificates } = await front.list(signal)
    assert.deepEqual([fronts[0]?.generation, certificates[0]?.generation], [3, 3])
  })

  frontTest('removes, also what is not there', async (front, signal) => {
    await front.apply(exampleFront({ generation: 3 }), signal)
    await front.applyCertificate(exampleCertificate({ generation: 3 }), signal)
    for (const _ of [1, 2]) {
      await front.remove('vpc-a', signal)
      await front.removeCertificate('certificate-a', signal)
    }
    assert.deepEqual(await front.list(signal), { fronts: [], certificates: [] })
    assert.deepEqual(await front.traffic(signal), [])
    await front.apply(exampleFront({ generation: 1 }), signal)
    assert.deepEqual((await front.list(signal)).fronts, [{ vpc: 'vpc-a', generation: 1 }])
  })

  frontTest('ends with the newest of many at once', async (front, signal) => {
    const generations = [4, 1, 9, 3, 8, 2, 7, 6, 5]
    const results = await Promise.allSettled(
      generations.map((generation) => front.apply(exampleFront({ generation }), signal)),
    )
    for (const it of results) if (it.status === 'rejected') assert.ok(isLostRace(it.reason), it.reason)
    assert.deepEqual((await front.list(signal)).fronts, [{ vpc: 'vpc-a', generation: 9 }])
  })

  frontTest('counts from zero every route that is served', async (front, signal) => {
    const routes = [exampleRoute(), exampleRoute({ id: 'route-b', pathPrefix: '/b' })]
    await front.apply(exampleFront({ routes }), signal)
    const traffic = await front.traffic(signal)
    assert.deepEqual(traffic.map((it) => it.route).toSorted(), ['route-a', 'route-b'])
    assert.ok(traffic.every((it) => it.requests === 0 && it.active === 0 && it.latency.length === 14))
    assert.deepEqual(await front.open(signal), {})
    const { entries, cursor } = await front.accesses(undefined, 10, signal)
    assert.deepEqual(entries, [])
    assert.deepEqual(await front.accesses(cursor, 10, signal), { entries: [], cursor })
  })

  frontTest('says what the host lacks as sentences', async (front, signal) => {
    assert.ok(Array.isArray(await front.missing(signal)))
  })
}
