import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { CloudError } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL } from '#engine/resource.ts'
import { testCloud } from './cloud.testing.ts'
import { replica } from './compute/replica.kind.ts'
import { createWakes } from './wakes.ts'

const STEPS_MAX = 50

test('what happens to a container while its events are followed anew is seen', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  await it.cloud.act(caller, 'test', async (verbs) => {
    const { id: vpc } = await verbs.createVpc({ name: 'v', internet: true })
    const { id: subnet } = await verbs.createSubnet({ vpc, name: 's', cidr: '10.1.0.0/24' })
    await verbs.createWorkload({ vpc, subnet, name: 'web', spec: { image: 'nginx' } })
  })
  await it.settle()
  const slot = async () => (await it.engine.list(replica, { tenant: ALL })).items[0]
  const id = (await slot())?.id ?? ''
  assert.equal((await slot())?.status.ready, true)
  let streams = 0
  const compute = {
    ...it.compute,
    async *events(signal: AbortSignal) {
      if (streams++ === 0) throw new CloudError('unavailable', 'the connection to the host agent broke')
      yield* it.compute.events(signal)
    },
  }
  let wakes = 0
  const goOn = Promise.withResolvers<void>()
  const engine: Engine = {
    ...it.engine,
    async wake(...keys) {
      await it.engine.wake(...keys)
      if (keys.includes(`replica/${id}`) && wakes++ === 0) await goOn.promise
    },
  }
  const stop = new AbortController()
  const following = createWakes(engine, compute, silentLog).follow(stop.signal)
  const pass = async (isSo: () => boolean): Promise<void> => {
    for (let steps = 0; steps < STEPS_MAX && !isSo(); steps++) {
      await it.clock.advance(100)
      await sleep(5)
    }
  }
  await pass(() => wakes === 1)
  await it.settle()
  it.compute.pretend(id, { ready: false })
  goOn.resolve()
  await pass(() => wakes === 2)
  stop.abort()
  await following
  await it.settle()
  assert.equal((await slot())?.status.ready, false)
})
