import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replica } from '#cloud/compute/replica.kind.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import { testDialect } from './thecloud.testing.ts'

async function world() {
  const it = await testDialect()
  const ann = await it.person('ann')
  const mounts = async () => {
    const [slot] = (await it.world.engine.list(replica, { tenant: ann.tenant })).items
    return it.world.compute.wishes.get(slot?.id ?? '')?.mounts.map(({ volume: of, path }) => ({ of, path }))
  }
  const instance = async (more: object = {}) =>
    await ann.data('POST', '/instances', { name: 'web', image: 'nginx', ...more })
  return {
    it,
    ann,
    mounts,
    instance,
    settle: async () => await it.world.settle(),
    make: async (name = 'data', size = 2) => await ann.data('POST', '/volumes', { name, size_gb: size }),
    [Symbol.asyncDispose]: async () => await it[Symbol.asyncDispose](),
  }
}

test('a volume is made, listed, read by name and deleted', async () => {
  await using w = await world()
  const made = await w.make()
  assert.deepEqual(
    [made.status, made.size_gb, made.user_id, made.encrypted],
    ['AVAILABLE', 2, w.ann.id, false],
  )
  await w.settle()
  const now = await w.ann.data('GET', '/volumes/data')
  assert.deepEqual({ ...now, updated_at: made.updated_at }, made)
  assert.deepEqual(await w.ann.data('GET', '/volumes'), [now])
  assert.deepEqual(await w.it.world.compute.volumes(AbortSignal.timeout(1000)), [made.id])
  assert.equal((await w.ann.data('DELETE', `/volumes/${made.id}`)).message, 'volume deleted')
  assert.equal((await w.ann.call('GET', '/volumes/data')).status, 404)
  await w.settle()
  assert.deepEqual(await w.it.world.compute.volumes(AbortSignal.timeout(1000)), [])
})

test('names are taken once in a tenant, and sizes have limits', async () => {
  await using w = await world()
  const bob = await w.it.person('bob')
  await w.make()
  assert.equal((await w.ann.call('POST', '/volumes', { name: 'data', size_gb: 1 })).status, 409)
  assert.equal((await bob.call('POST', '/volumes', { name: 'data', size_gb: 1 })).status, 201)
  for (const wrong of [
    { name: 'ab', size_gb: 1 },
    { name: 'abc', size_gb: 0 },
    { name: 'abc', size_gb: 16_001 },
  ])
    assert.equal((await w.ann.call('POST', '/volumes', wrong)).status, 400)
})

test('one is mounted at launch, held by it, and there again once it is terminated', async () => {
  await using w = await world()
  const { id } = await w.make()
  const { id: instance, volume_binds: binds } = await w.instance({
    volumes: [{ volume_id: 'data', mount_path: '/data' }],
  })
  assert.deepEqual(binds, [`${id}:/data`])
  await w.settle()
  assert.deepEqual(await w.mounts(), [{ of: id, path: '/data' }])
  assert.equal((await w.ann.data('GET', '/instances/web')).status, 'RUNNING')
  const held = await w.ann.data('GET', '/volumes/data')
  assert.deepEqual([held.status, held.instance_id, held.mount_path], ['IN-USE', instance, '/data'])
  const second = await w.ann.call('POST', '/instances', {
    name: 'second',
    image: 'nginx',
    volume_binds: ['data:/data'],
  })
  assert.equal(second.status, 409)
  const refused = await w.ann.call('DELETE', '/volumes/data')
  assert.deepEqual([refused.status, refused.body.error.type], [400, 'INVALID_INPUT'])
  await w.ann.data('DELETE', '/instances/web')
  await w.settle()
  assert.equal((await w.ann.data('GET', '/volumes/data')).status, 'AVAILABLE')
  assert.equal((await w.it.world.engine.get(volume, w.ann.tenant, id))?.status.state, 'available')
})

test('one is attached later, in a new container, and detached', async () => {
  await using w = await world()
  const { id } = await w.make()
  const { id: instance } = await w.instance()
  await w.settle()
  const before = (await w.ann.data('GET', '/instances/web')).container_id
  const body = { instance_id: 'web', mount_path: '/srv' }
  assert.deepEqual(await w.ann.data('POST', '/volumes/data/attach', body), {
    message: 'volume attached',
    device_path: '/dev/vdb',
  })
  assert.equal((await w.ann.call('POST', '/volumes/data/attach', body)).status, 409)
  await w.settle()
  assert.deepEqual(await w.mounts(), [{ of: id, path: '/srv' }])
  assert.notEqual((await w.ann.data('GET', '/instances/web')).container_id, before)
  assert.equal((await w.ann.data('GET', '/volumes')).at(0).instance_id, instance)
  assert.equal((await w.ann.data('POST', '/volumes/data/detach')).message, 'volume detached')
  const again = await w.ann.call('POST', '/volumes/data/detach')
  assert.deepEqual([again.status, again.body.error.type], [400, 'INVALID_INPUT'])
  await w.settle()
  assert.deepEqual(await w.mounts(), [])
  assert.equal((await w.ann.data('GET', '/volumes/data')).status, 'AVAILABLE')
})

test('two volumes need two paths, and a path is absolute', async () => {
  await using w = await world()
  await w.make('first')
  await w.make('second')
  await w.instance({ volumes: [{ volume_id: 'first', mount_path: '/data' }] })
  for (const [path, code] of [
    ['/data', 409],
    ['data', 400],
    ['/', 400],
    ['/a/../b', 400],
    ['/more', 200],
  ] as const) {
    const { status } = await w.ann.call('POST', '/volumes/second/attach', {
      instance_id: 'web',
      mount_path: path,
    })
    assert.equal(status, code, path)
  }
})

test('a stopped instance stays so when a volume is attached', async () => {
  await using w = await world()
  const { id } = await w.make()
  await w.instance()
  await w.settle()
  await w.ann.data('POST', '/instances/web/stop')
  await w.settle()
  await w.ann.data('POST', '/volumes/data/attach', { instance_id: 'web', mount_path: '/srv' })
  await w.settle()
  assert.equal((await w.ann.data('GET', '/instances/web')).status, 'STOPPED')
  await w.ann.data('PUT', '/instances/web', { status: 'RUNNING' })
  await w.settle()
  assert.equal((await w.ann.data('GET', '/instances/web')).status, 'RUNNING')
  assert.deepEqual(await w.mounts(), [{ of: id, path: '/srv' }])
})

test('a snapshot is made in the background, restored into a new volume, and goes with its volume', async () => {
  await using w = await world()
  const { id } = await w.make('data', 3)
  const made = await w.ann.data('POST', '/snapshots', { volume_id: id, description: 'before' })
  assert.deepEqual(
    [made.status, made.volume_name, made.size_gb, made.description],
    ['CREATING', 'data', 3, 'before'],
  )
  const early = await w.ann.call('POST', `/snapshots/${made.id}/restore`, { new_volume_name: 'copy' })
  assert.deepEqual([early.status, early.body.error.type], [400, 'INVALID_INPUT'])
  await w.settle()
  assert.equal((await w.ann.data('GET', `/snapshots/${made.id}`)).status, 'AVAILABLE')
  const copy = await w.ann.data('POST', `/snapshots/${made.id}/restore`, { new_volume_name: 'copy' })
  assert.deepEqual([copy.name, copy.size_gb, copy.status], ['copy', 3, 'AVAILABLE'])
  const taken = await w.ann.call('POST', `/snapshots/${made.id}/restore`, { new_volume_name: 'copy' })
  assert.deepEqual([taken.status, taken.body.error.type], [400, 'CONFLICT'])
  await w.settle()
  await w.ann.data('DELETE', '/volumes/data')
  await w.settle()
  assert.deepEqual(await w.ann.data('GET', '/snapshots'), [])
  assert.deepEqual(await w.it.world.compute.volumes(AbortSignal.timeout(1000)), [copy.id])
})

test('a snapshot is deleted alone, and is nobody else’s', async () => {
  await using w = await world()
  const bob = await w.it.person('bob')
  const { id } = await w.make()
  await w.settle()
  const made = await w.ann.data('POST', '/snapshots', { volume_id: id })
  assert.equal((await bob.call('GET', `/snapshots/${made.id}`)).status, 404)
  assert.equal((await bob.call('POST', '/snapshots', { volume_id: id })).status, 404)
  await w.settle()
  assert.equal((await w.ann.data('DELETE', `/snapshots/${made.id}`)).message, 'snapshot deleted')
  assert.equal((await w.ann.call('GET', `/snapshots/${made.id}`)).status, 404)
  assert.equal((await w.ann.data('GET', '/volumes/data')).status, 'AVAILABLE')
})

test('a volume grows by the native API and never shrinks', async () => {
  await using w = await world()
  const { id } = await w.make()
  await w.settle()
  const { caller } = await (async () => {
    const found = await w.it.world.cloud.authenticate(w.ann.key, {
      dialect: 'test',
      address: '127.0.0.1',
      requestId: 'test',
    })
    assert.ok(found)
    return { caller: found }
  })()
  const size = async (sizeGib: number) =>
    await w.it.world.cloud.act(
      caller,
      'grow',
      async (verbs) => await verbs.patch(volume, id, { spec: { sizeGib } }),
    )
  await size(5)
  await w.settle()
  assert.equal((await w.it.world.engine.get(volume, w.ann.tenant, id))?.status.sizeGib, 5)
  await assert.rejects(size(4), /cannot become less/)
})

test('a snapshot that is deleted right after it was restored is there until it is copied', async () => {
  await using w = await world()
  const { id } = await w.make()
  await w.settle()
  const made = await w.ann.data('POST', '/snapshots', { volume_id: id })
  await w.settle()
  const copy = await w.ann.data('POST', `/snapshots/${made.id}/restore`, { new_volume_name: 'copy' })
  const { compute } = w.it.world
  compute.pretendVolume(copy.id, { state: 'making', sizeGib: 0, message: 'others are made before it' })
  await w.ann.data('DELETE', `/snapshots/${made.id}`)
  await w.ann.data('DELETE', '/volumes/data')
  await w.settle()
  compute.pretendVolume(copy.id)
  await w.settle()
  assert.deepEqual(await compute.volumes(AbortSignal.timeout(1000)), [copy.id])
  const { status } = (await w.it.world.engine.get(volume, w.ann.tenant, copy.id)) ?? {}
  assert.deepEqual(status, { state: 'available', sizeGib: 2 })
})
