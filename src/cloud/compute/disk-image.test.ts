import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { testCloud } from '#cloud/cloud.testing.ts'
import { diskImage, type DiskImage } from './disk-image.kind.ts'
import { planDiskImage } from './disk-image.reconcile.ts'
import type { SeenDiskImage } from './disk-images.driver.ts'

const never = new AbortController().signal
const ABOUT = { name: 'debian', os: 'linux', version: '13' }
const URL = 'https://images.example/debian.qcow2'

async function world() {
  const it = await testCloud()
  const { caller, id: tenant } = await it.tenant('acme')
  const act: typeof it.cloud.act = async (_, what, work) => await it.cloud.act(caller, what, work)
  return {
    it,
    caller,
    make: async (more: { url?: string } = {}) =>
      (await act(caller, 'test', async (verbs) => await verbs.createDiskImage({ ...ABOUT, ...more }))).id,
    change: async (id: string, spec: object) =>
      await act(caller, 'test', async (verbs) => await verbs.patch(diskImage, id, { spec })),
    statusOf: async (id: string) => (await it.engine.get(diskImage, tenant, id))?.status,
    wake: async (id: string) => {
      await it.engine.wake(`image/${id}`)
      await it.settle()
    },
    [Symbol.asyncDispose]: async () => await it[Symbol.asyncDispose](),
  }
}

const failed = (final: boolean): SeenDiskImage => ({ state: 'failed', message: 'it broke', final })

test('whatever is seen of it, an image comes to rest, and is fetched a few times at most', () => {
  const seen = fc.constantFrom<SeenDiskImage | undefined>(
    undefined,
    failed(true),
    failed(false),
    { state: 'arriving', progress: { doneBytes: 5, totalBytes: 10 } },
    { state: 'present', content: { format: 'iso', sizeBytes: 1, sha256: 'a' } },
  )
  fc.assert(
    fc.property(fc.array(seen, { maxLength: 30 }), fc.boolean(), (looks, isImport) => {
      const spec = { os: 'linux', version: '1', public: false, ...(isImport ? { source: URL } : {}) }
      let it = { spec, status: { state: 'pending' }, generation: 1, observed: 0 } as unknown as DiskImage
      let now = 1000
      // Only what is fetched can fail.
      for (const look of looks.filter((one) => isImport || one?.state !== 'failed')) {
        const { outcome, fetch } = planDiskImage(it, look, now)
        assert.ok(!fetch || isImport, 'nothing is fetched of what is uploaded')
        if (outcome.do === 'again') {
          assert.ok(outcome.afterMs > 0 && outcome.afterMs <= 60_000)
          now += outcome.afterMs
        }
        assert.notEqual(outcome.do, 'gone')
        if (outcome.do === 'gone') return
        const { state } = outcome.status ?? it.status
        if (look?.state === 'present') assert.equal(state, 'active')
        if (outcome.do === 'settled') assert.notEqual(state, 'loading')
        it = {
          ...it,
          status: outcome.status ?? it.status,
          observed: outcome.do === 'settled' ? 1 : it.observed,
        }
      }
    }),
  )
  // One that always fails in passing.
  let it = {
    spec: { source: URL },
    status: { state: 'loading' },
    generation: 1,
    observed: 0,
  } as unknown as DiskImage
  let [fetches, now] = [0, 0]
  for (let looks = 0; looks < 100 && it.observed === 0; looks++) {
    const { outcome, fetch } = planDiskImage(it, fetches ? failed(false) : undefined, now)
    if (fetch) fetches++
    assert.ok(outcome.do !== 'gone' && outcome.status)
    now += outcome.do === 'again' ? outcome.afterMs : 0
    it = { ...it, status: outcome.status, observed: outcome.do === 'settled' ? 1 : 0 }
  }
  assert.deepEqual([it.status.state, fetches], ['error', 4])
})

test('one whose next fetch is further ahead than it was put off is fetched: the clock was set back', () => {
  const spec = { os: 'linux', version: '1', public: false, source: URL }
  const plan = (retryAt: number) => {
    const status = { state: 'loading', failures: 2, retryAt }
    return planDiskImage({ spec, status, generation: 1, observed: 0 } as DiskImage, failed(false), 0).fetch
  }
  assert.deepEqual([plan(10_000), plan(10_001)], [undefined, true])
})

test('one that could not be had is had from another address', async () => {
  await using w = await world()
  const id = await w.make({ url: URL })
  w.it.images.pretend(id, failed(true))
  await w.it.settle()
  assert.deepEqual(await w.statusOf(id), { state: 'error', message: 'it broke' })
  await w.wake(id)
  assert.equal((await w.statusOf(id))?.state, 'error', 'not by itself')
  await assert.rejects(w.change(id, { url: 'http://127.0.0.1/a' }), { code: 'invalid' })
  await assert.rejects(w.change(id, { url: null }), { code: 'invalid' })
  w.it.images.pretend(id)
  await w.change(id, { url: 'https://other.example/debian.iso?key=hidden' })
  await w.it.settle()
  const status = await w.statusOf(id)
  assert.deepEqual([status?.state, status?.format], ['active', 'iso'])
  const { spec } = await w.it.cloud.get(w.caller, diskImage, id)
  assert.equal(spec.source, 'https://other.example/debian.iso')
  assert.ok(!JSON.stringify(spec).includes('hidden'))
  await assert.rejects(w.change(id, { url: URL }), { code: 'conflict' })
})

test('the audit finds files that nobody knows, that are lost, and content that a crash kept from its record', async () => {
  await using w = await world()
  const [id, stranger] = [await w.make(), '00000000-0000-7000-8000-000000000001']
  await w.it.settle()
  for (const one of [id, stranger])
    await w.it.images.receive(one, { format: 'raw' }, Readable.from([Buffer.from('a')]))
  const found = async () =>
    (await w.it.cloud.leaks(w.it.admin, never))
      .filter((it) => it.thing === 'image')
      .map((it) => `${it.what} ${it.id}`)
      .toSorted()
  assert.deepEqual(await found(), [`drift ${id}`, `orphan ${stranger}`])
  await w.it.cloud.mend(w.it.admin, never)
  await w.it.settle()
  assert.deepEqual(await found(), [])
  assert.deepEqual(await w.it.images.list(never), [id])
  assert.equal((await w.statusOf(id))?.state, 'active')
  w.it.images.vanish(id)
  assert.deepEqual(await found(), [`missing ${id}`])
  await w.it.cloud.mend(w.it.admin, never)
  await w.it.settle()
  const lost = { state: 'error', message: 'its file is gone from this machine' }
  assert.deepEqual(await w.statusOf(id), lost)
  await w.change(id, { description: 'other' })
  await w.it.settle()
  assert.deepEqual(await w.statusOf(id), lost)
  await w.it.cloud.images.upload(w.caller, id, async (keep) => {
    await keep({ name: 'a.iso', content: Readable.from([Buffer.from('b')]) })
  })
  await w.it.settle()
  assert.equal((await w.statusOf(id))?.state, 'active')
})

test('one that is deleted while its content arrives leaves nothing', async () => {
  await using w = await world()
  const id = await w.make()
  const done = w.it.cloud.images.upload(w.caller, id, async (keep) => {
    await w.it.cloud.act(w.caller, 'test', async (verbs) => await verbs.deleteDiskImage(id))
    await keep({ name: 'a.raw', content: Readable.from([Buffer.from('b')]) })
  })
  await assert.rejects(done, { code: 'not_found' })
  await w.it.settle()
  assert.equal(await w.statusOf(id), undefined)
  assert.deepEqual(await w.it.images.list(never), [])
})
