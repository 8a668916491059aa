import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import type { Links } from './attach.ts'
import { dockerCompute } from './compute.ts'
import type { Networks } from './networks.ts'
import { testWish } from './wish.testing.ts'
import { type Held, openWishes } from './wishes.ts'

const never = new AbortController().signal
const wish = testWish({ mounts: [] })

/** Containers of a Docker that is not there, and what is on disk of one wish. */
async function world(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-compute-'))
  const compute = await dockerCompute({
    socket: join(folder, 'docker.sock'),
    directory: folder,
    instance: 'test',
    networks: {} as Networks,
    links: { onPlan: () => () => {} } as unknown as Links,
    seal: { seal: (plain) => plain, open: (sealed) => sealed },
    clock: systemClock,
    log: silentLog,
  })
  t.after(async () => {
    await compute.close()
    await rm(folder, { recursive: true })
  })
  const kept = async (): Promise<Held | undefined> =>
    (await openWishes(join(folder, 'wishes'), silentLog)).get(wish.id)
  /** While it is there, no file of this name is written. */
  const obstacle = (name: string): string => join(folder, `${name}.next`, 'in the way')
  return { folder, compute, kept, obstacle }
}

test('a wish that could not be written is not taken for kept when it is asked for again', async (t) => {
  const { compute, kept, obstacle } = await world(t)
  const inTheWay = obstacle(`wishes/${wish.id}.json`)
  await mkdir(inTheWay, { recursive: true })
  await assert.rejects(compute.apply(wish, never))
  await assert.rejects(compute.apply(wish, never))
  await rm(join(inTheWay, '..'), { recursive: true })
  await compute.apply(wish, never)
  assert.equal((await kept())?.wish.attempt, wish.attempt)

  await mkdir(inTheWay, { recursive: true })
  await assert.rejects(compute.remove(wish.id, never))
  await rm(join(inTheWay, '..'), { recursive: true })
  await compute.remove(wish.id, never)
  assert.equal((await kept())?.removing, true)
})

test('of two that ask for one wish at once neither is told before it is on disk', async (t) => {
  const { compute, kept } = await world(t)
  const first = compute.apply(wish, never)
  await compute.apply(wish, never)
  assert.equal((await kept())?.wish.attempt, wish.attempt)
  await first
})

test('a change of its files reaches one that Docker has not told of yet', async (t) => {
  const { folder, compute, obstacle } = await world(t)
  const file = {
    name: 'variables/a',
    mode: 0o444,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
  }
  const withText = (text: string) => {
    const content = Buffer.from(text).toString('base64')
    return { ...wish, inside: { files: [{ ...file, content }] } }
  }
  const read = () => readFile(join(folder, 'inside', wish.id, file.name), 'utf8')
  await compute.apply(withText('one'), never)
  await compute.apply(withText('two'), never)
  assert.equal(await read(), 'two')

  const inTheWay = obstacle(`inside/${wish.id}`)
  await mkdir(inTheWay, { recursive: true })
  await assert.rejects(compute.apply(withText('three'), never))
  await rm(join(inTheWay, '..'), { recursive: true })
  // The wish is kept by now; its files are not there.
  await compute.apply(withText('three'), never)
  assert.equal(await read(), 'three')
})
