import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { run } from '#lib/command.ts'
import { silentLog } from '#lib/log.ts'
import { openVolumes } from './volumes.ts'

const GIB = 1024 ** 3
const volume = '01900000-0000-7000-8000-000000000001'

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
  return { file, open }
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
