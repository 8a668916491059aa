import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { run } from '#lib/command.ts'
import { silentLog } from '#lib/log.ts'
import { openVolumes } from './volumes.ts'

const GIB = 1024 ** 3
const LOOK_MS = 5
const volume = '01900000-0000-7000-8000-000000000001'
const copy = '01900000-0000-7000-8000-000000000002'

/** Volumes of which one has a file system of 1 GiB, mounted nowhere. */
async function world(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-disks-'))
  t.after(() => rm(folder, { recursive: true }))
  const files = join(folder, 'volumes-disks')
  await mkdir(files)
  const file = join(files, volume)
  await run(['truncate', '--size', String(GIB), file])
  await run(['mkfs.ext4', '-q', '-F', file])
  const open = async () => await openVolumes(join(folder, 'volumes'), silentLog, new AbortController().signal)
  return { files, file, open }
}

test('a volume has the size of its file system, and what ended while it grew is gone on with', async (t) => {
  const { file, open } = await world(t)
  // As the agent leaves it that ends just then.
  await truncate(file, 2 * GIB)
  const { disks } = await open()
  assert.deepEqual(await disks.observe(volume), { state: 'ready', sizeGib: 1 })
  await disks.apply({ id: volume, sizeGib: 2 })
  await disks.idle()
  assert.deepEqual(await disks.observe(volume), { state: 'ready', sizeGib: 2 })
  assert.match(await run(['dumpe2fs', '-h', file]), new RegExp(`Block count: +${(2 * GIB) / 4096}\n`))
})

test('a volume that is removed while it is made is gone', async (t) => {
  const { files, open } = await world(t)
  const volumes = await open()
  await volumes.disks.apply({ id: copy, sizeGib: 1, from: volume })
  assert.equal((await volumes.disks.observe(copy))?.state, 'making')
  await volumes.remove(copy)
  await volumes.disks.idle()
  assert.deepEqual(await readdir(files), [volume])
  assert.equal(await volumes.disks.observe(copy), undefined)
  // And one that waits for its turn to be made.
  await volumes.using([{ volume: copy }], async () => {
    await volumes.disks.apply({ id: copy, sizeGib: 1, from: volume })
    await volumes.remove(copy)
  })
  await volumes.disks.idle()
  assert.deepEqual(await readdir(files), [volume])
})

test('a volume that was being made when the agent ended leaves nothing when it is removed', async (t) => {
  const { files, open } = await world(t)
  await writeFile(join(files, `${copy}.next`), 'half')
  await (await open()).remove(copy)
  assert.deepEqual(await readdir(files), [volume])
})

test('a volume does not grow while a container is started with it', async (t) => {
  const { open } = await world(t)
  const { disks, using } = await open()
  await using([{ volume }, { volume }], async () => {
    await disks.apply({ id: volume, sizeGib: 2 })
    // Its turn to be copied would come once it has grown.
    await disks.apply({ id: copy, sizeGib: 2, from: volume })
    while ((await disks.observe(copy))?.state === 'making') await sleep(LOOK_MS)
    assert.equal((await disks.observe(copy))?.state, 'ready')
    assert.equal((await disks.observe(volume))?.sizeGib, 1)
  })
  await disks.idle()
  assert.deepEqual(await disks.observe(volume), { state: 'ready', sizeGib: 2 })
})

test('a volume is left alone while a command of an agent that is gone still works on it', async (t) => {
  const { file, open } = await world(t)
  const { disks } = await open()
  const left = spawn('flock', ['--no-fork', file, 'cat'])
  t.after(() => left.kill())
  left.stdin.write('begun')
  await once(left.stdout, 'data')
  await disks.apply({ id: volume, sizeGib: 2 })
  await disks.idle()
  const seen = await disks.observe(volume)
  assert.deepEqual([seen?.state, seen?.sizeGib], ['growing', 1])
  left.stdin.end()
  await once(left, 'exit')
  await disks.apply({ id: volume, sizeGib: 2 })
  await disks.idle()
  assert.deepEqual(await disks.observe(volume), { state: 'ready', sizeGib: 2 })
})
