import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { testCloud } from '#cloud/cloud.testing.ts'
import { behindOf, paced, PROGRESS_EVERY_MS, type Progress, progressWords } from './progress.ts'
import { replica } from './replica.kind.ts'
import { workload } from './workload.kind.ts'

test('progress is written down once a second at most, and the last one is', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ afterMs: fc.integer({ min: -5000, max: 3000 }), doneBytes: fc.nat() })),
      (looks) => {
        let [now, had] = [1_000_000, undefined as Progress | undefined]
        for (const { afterMs, doneBytes } of looks) {
          now += afterMs
          const next = paced(had, { doneBytes }, now)
          if (next !== had) {
            assert.deepEqual(next, { doneBytes, at: now })
            if (had) assert.ok(now < had.at || now >= had.at + PROGRESS_EVERY_MS)
          }
          had = next
        }
        assert.equal(paced(had, { doneBytes: 7 }, now + PROGRESS_EVERY_MS).doneBytes, 7)
      },
    ),
  )
})

test('words tell of it in steps, and of what nobody knows nothing', () => {
  assert.equal(progressWords('it comes', { doneBytes: 49, totalBytes: 100 }), 'it comes, 40 %')
  assert.equal(progressWords('it comes', { doneBytes: 49 }), 'it comes')
  assert.equal(progressWords('it comes', undefined), 'it comes')
  const [half, third] = [
    { doneBytes: 50, totalBytes: 100 },
    { doneBytes: 30, totalBytes: 90 },
  ]
  assert.equal(behindOf([half, undefined, third]), third)
  assert.equal(behindOf([undefined]), undefined)
})

test('who waits for an image sees how much of it is there, at the price of a commit a second', async () => {
  await using it = await testCloud()
  const { caller, id: tenant } = await it.tenant('acme')
  const { id } = await it.cloud.act(caller, 'test', async (verbs) => {
    const vpc = await verbs.createVpc({ name: 'net', internet: false })
    const at = { name: 'front', cidr: '10.1.0.0/24', gateway: '10.1.0.1' }
    const subnet = await verbs.createSubnet({ vpc: vpc.id, ...at })
    return await verbs.createWorkload({
      vpc: vpc.id,
      subnet: subnet.id,
      name: 'web',
      spec: { image: 'nginx', replicas: 1 },
    })
  })
  await it.settle()
  const slotOf = async () => (await it.engine.list(replica, { tenant })).items[0]
  const slot = await slotOf()
  assert.ok(slot)
  const totalBytes = 100 << 20
  const began = it.clock.now()
  const revisions = new Set<number>()
  let doneBytes = 0
  for (; it.clock.now() < began + 5000; doneBytes += 1 << 20) {
    it.compute.pretend(slot.id, { state: 'pulling', ready: false, progress: { doneBytes, totalBytes } })
    await it.engine.wake(`replica/${slot.id}`)
    await it.settle(100)
    await it.clock.advance(100)
    for (const one of [await slotOf(), await it.cloud.get(caller, workload, id)])
      if (one?.kind === 'workload') revisions.add(one.revision)
  }
  const { status } = await it.cloud.get(caller, workload, id)
  const seen = (await slotOf())?.status
  assert.equal(seen?.phase, 'pending')
  assert.equal(seen.message, progressWords('pulling the image', seen.progress))
  for (const { progress } of [seen, status]) {
    assert.equal(progress?.totalBytes, totalBytes)
    // Two seconds behind at most: each of two is paced.
    assert.ok(progress.doneBytes > doneBytes - (21 << 20) && progress.doneBytes < doneBytes)
  }
  // One a second, and where the message goes a step further.
  assert.ok(revisions.size <= 12, `${revisions.size} commits`)
  it.compute.pretend(slot.id)
  await it.settle()
  const after = await it.cloud.get(caller, workload, id)
  assert.deepEqual([after.status.state, after.status.progress], ['running', undefined])
  assert.equal((await slotOf())?.status.progress, undefined)
})
