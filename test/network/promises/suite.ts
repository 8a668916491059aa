import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { EVERY_PROMISE, NETWORK_PROMISES, type NetworkPromise } from '#cloud/network/promises.driver.ts'
import { BALANCERS } from './balancers.ts'
import { GATEWAYS } from './gateways.ts'
import { GROUPS } from './groups.ts'
import { INSIDE } from './inside.ts'
import { NAMING } from './names.ts'
import { OUTSIDE } from './outside.ts'
import { PLATFORM } from './platform.ts'
import { PUBLISHED } from './published.ts'
import type { Scene } from './scene.ts'
import { VIPS } from './vips.ts'

/** One test of a promise. */
export type Check = (what: string, run: () => Promise<void>) => void
/** Says with `check` what must hold in a scene, and changes nothing that `reset` of the scene does not take back. */
export type Prove = (scene: Scene, check: Check) => void

/** A promise without a proof does not compile. */
const PROOFS: Readonly<Record<NetworkPromise, Prove>> = {
  ...INSIDE,
  ...VIPS,
  ...BALANCERS,
  ...NAMING,
  ...OUTSIDE,
  ...GROUPS,
  ...GATEWAYS,
  ...PUBLISHED,
  ...PLATFORM,
}

/** Proves with real packets each promise that the scene's driver makes, and that none of them went without a test. */
export function provePromises(driver: string, scene: Scene): void {
  const passed = new Map<NetworkPromise, number>()
  for (const promise of EVERY_PROMISE.filter((it) => scene.promises.has(it))) {
    describe(`${driver}, ${promise}: ${NETWORK_PROMISES[promise]}`, () => {
      after(() => scene.reset())
      PROOFS[promise](scene, (what, run) => {
        test(what, async () => {
          await run()
          passed.set(promise, (passed.get(promise) ?? 0) + 1)
        })
      })
    })
  }
  test(`${driver}: every promise that is made was proved`, () => {
    for (const it of scene.promises) assert.ok(passed.get(it), `${it} was not`)
  })
  test(`${driver}: nothing of all this is drift`, async () => {
    for (const it of await scene.network.list(scene.signal)) assert.deepEqual(it.drift, [])
  })
}
