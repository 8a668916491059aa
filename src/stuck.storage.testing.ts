import type { SeenVolume } from '#cloud/compute/compute.driver.ts'
import { diskImage } from '#cloud/compute/disk-image.kind.ts'
import type { SeenDiskImage } from '#cloud/compute/disk-images.driver.ts'
import { snapshot } from '#cloud/storage/snapshot.kind.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import { AGENT_AWAY, type Case, type Ground } from './stuck.testing.ts'

// Every way for a volume, a snapshot and an image to hang: a full disk, no tools, a host agent that is away, somebody who
// uses it, an address that brings nothing.

const FULL = 'mkfs.ext4: no space left on device'
const USED = 'it grows once no container that runs uses it'

const mend = (ground: Ground): void => ground.mend()

async function made(ground: Ground, settle = true): Promise<string> {
  const { id } = await ground.act(async (verbs) => await verbs.createVolume({ name: 'data', sizeGib: 1 }))
  if (settle) await ground.settle()
  return id
}

async function copied(ground: Ground, settle = true): Promise<string> {
  const of = await made(ground)
  const { id } = await ground.act(async (verbs) => await verbs.createSnapshot({ volume: of }))
  if (settle) await ground.settle()
  return id
}

const grow = async (ground: Ground, id: string): Promise<void> =>
  void (await ground.act(async (verbs) => await verbs.patch(volume, id, { spec: { sizeGib: 2 } })))

/** It is seen like this from now on. */
async function pretend(ground: Ground, id: string, seen?: SeenVolume): Promise<void> {
  ground.it.compute.pretendVolume(id, seen)
  for (const kind of ['volume', 'snapshot'] as const) await ground.it.engine.wake(`${kind}/${id}`)
}
const asItIs = async (ground: Ground, id: string): Promise<void> => await pretend(ground, id)

async function inUse(ground: Ground): Promise<string> {
  const id = await made(ground)
  const { id: instance } = await ground.pod()
  await ground.settle()
  await ground.act(async (verbs) => await verbs.attachVolume({ volume: id, instance, path: '/data' }))
  await ground.settle()
  return id
}

const UNREADABLE = new Error('EIO: i/o error, scandir images')

async function registered(ground: Ground, url?: string): Promise<string> {
  const about = { name: 'debian', os: 'linux', version: '13', ...(url === undefined ? {} : { url }) }
  return (await ground.act(async (verbs) => await verbs.createDiskImage(about))).id
}

/** One whose content is seen like this instead of fetched. */
async function imported(ground: Ground, seen: SeenDiskImage): Promise<string> {
  const id = await registered(ground, 'https://images.example/debian.qcow2')
  ground.it.images.pretend(id, seen)
  return id
}

async function fetchAgain(ground: Ground, id: string): Promise<void> {
  ground.it.images.pretend(id)
  await ground.it.engine.wake(`image/${id}`)
}

export const STORAGE_CASES: readonly Case[] = [
  {
    kind: 'volume',
    state: 'creating',
    title: 'the host agent cannot be reached',
    async stick(ground) {
      ground.fail('compute', AGENT_AWAY)
      return await made(ground, false)
    },
    says: /the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'volume',
    state: 'available',
    title: 'what it should be was changed, and the host agent cannot be reached',
    async stick(ground) {
      const id = await made(ground)
      ground.fail('compute', AGENT_AWAY)
      await grow(ground, id)
      return id
    },
    says: /the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'volume',
    state: 'in-use',
    title: 'what it should be was changed, and the host agent cannot be reached',
    async stick(ground) {
      const id = await inUse(ground)
      ground.fail('compute.applyVolume', AGENT_AWAY)
      await ground.act(async (verbs) => await verbs.patch(volume, id, { labels: { a: 'b' } }))
      return id
    },
    says: /the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'volume',
    state: 'growing',
    title: 'a container that runs uses it',
    async stick(ground) {
      const id = await inUse(ground)
      await grow(ground, id)
      return id
    },
    says: new RegExp(USED),
    free: async (ground, id) => await ground.act(async (verbs) => await verbs.detachVolume(id)),
  },
  {
    kind: 'volume',
    state: 'error',
    title: 'the disk is full',
    async stick(ground) {
      const id = await made(ground, false)
      await pretend(ground, id, { state: 'failed', sizeGib: 0, message: FULL })
      return id
    },
    says: new RegExp(FULL),
    free: asItIs,
  },
  {
    kind: 'volume',
    state: 'deleting',
    title: 'it cannot be unmounted',
    async stick(ground) {
      const id = await made(ground)
      ground.fail('compute.removeVolume', new Error('umount: target is busy'))
      await ground.act(async (verbs) => await verbs.deleteVolume(id))
      return id
    },
    says: /target is busy/,
    free: mend,
  },
  {
    kind: 'snapshot',
    state: 'creating',
    title: 'its volume is not made yet',
    async stick(ground) {
      const of = await made(ground, false)
      await pretend(ground, of, { state: 'making', sizeGib: 0 })
      const { id } = await ground.act(async (verbs) => await verbs.createSnapshot({ volume: of }))
      return id
    },
    says: /waits for volume data, which is being made/,
    async free(ground, id) {
      const it = await ground.it.engine.get(snapshot, '*', id)
      await pretend(ground, it?.spec.volume ?? '')
    },
  },
  {
    kind: 'snapshot',
    state: 'available',
    title: 'it was described otherwise, and the host agent cannot be reached',
    async stick(ground) {
      const id = await copied(ground)
      ground.fail('compute', AGENT_AWAY)
      await ground.act(async (verbs) => await verbs.patch(snapshot, id, { spec: { description: 'other' } }))
      return id
    },
    says: /the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'snapshot',
    state: 'error',
    title: 'the disk is full',
    async stick(ground) {
      const id = await copied(ground, false)
      await pretend(ground, id, { state: 'failed', sizeGib: 0, message: FULL })
      return id
    },
    says: new RegExp(FULL),
    free: asItIs,
  },
  {
    kind: 'snapshot',
    state: 'deleting',
    title: 'it is being copied',
    async stick(ground) {
      const id = await copied(ground)
      ground.fail('compute.removeVolume', new Error('it is being copied'))
      await ground.act(async (verbs) => await verbs.remove(snapshot, id))
      return id
    },
    says: /it is being copied/,
    free: mend,
  },
  {
    kind: 'image',
    state: 'pending',
    title: 'the folder of images cannot be read',
    async stick(ground) {
      ground.fail('images', UNREADABLE)
      return await registered(ground)
    },
    says: /i\/o error/,
    free: mend,
  },
  {
    kind: 'image',
    state: 'loading',
    title: 'it cannot begin to be fetched',
    async stick(ground) {
      ground.fail('images.fetch', UNREADABLE)
      return await registered(ground, 'https://images.example/debian.qcow2')
    },
    says: /i\/o error/,
    free: mend,
  },
  {
    kind: 'image',
    state: 'loading',
    title: 'its address brings it too slowly',
    stick: async (ground) =>
      await imported(ground, { state: 'arriving', progress: { doneBytes: 450, totalBytes: 1000 } }),
    says: /it is being fetched, 40 %/,
    free: fetchAgain,
  },
  {
    kind: 'image',
    state: 'active',
    title: 'it was described otherwise, and the folder of images cannot be read',
    async stick(ground) {
      const id = await registered(ground, 'https://images.example/debian.qcow2')
      await ground.settle()
      ground.fail('images', UNREADABLE)
      await ground.act(async (verbs) => await verbs.patch(diskImage, id, { spec: { description: 'other' } }))
      return id
    },
    says: /i\/o error/,
    free: mend,
  },
  {
    kind: 'image',
    state: 'error',
    title: 'its address has no image',
    ended: true,
    stick: async (ground) =>
      await imported(ground, {
        state: 'failed',
        message: 'its address answers with status 404',
        final: true,
      }),
    says: /answers with status 404/,
    free: fetchAgain,
  },
  {
    kind: 'image',
    state: 'deleting',
    title: 'its file cannot be removed',
    async stick(ground) {
      const id = await registered(ground)
      await ground.settle()
      ground.fail('images.remove', new Error('EROFS: read-only file system'))
      await ground.act(async (verbs) => await verbs.deleteDiskImage(id))
      return id
    },
    says: /read-only file system/,
    free: mend,
  },
]
