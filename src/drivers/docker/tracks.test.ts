import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import type { Links } from './attach.ts'
import type { ContainerInfo, DockerApi } from './docker.ts'
import { createTracks } from './tracks.ts'
import { testAttachment, testHeld } from './wish.testing.ts'
import { openWishes } from './wishes.ts'

/** What Docker says of the container of `testHeld`, started just now. */
const STARTED = {
  Id: 'c1',
  Config: { Labels: { 'arcus.attempt': '1' } },
  State: {
    Status: 'running',
    Pid: process.pid,
    StartedAt: '2026-01-01T00:00:00Z',
    FinishedAt: '',
    ExitCode: 0,
  },
  HostConfig: {},
  NetworkSettings: { Networks: {} },
} as unknown as ContainerInfo

async function world(t: TestContext, links: Partial<Links> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-tracks-'))
  t.after(() => rm(folder, { recursive: true }))
  const wishes = await openWishes(folder, silentLog)
  const stop = new AbortController()
  t.after(() => stop.abort())
  const around = {
    api: { inspect: async () => await Promise.resolve(STARTED) } as unknown as DockerApi,
    links: links as Links,
    wishes,
    clock: systemClock,
    log: silentLog,
  }
  return { wishes, tracks: createTracks(around, stop.signal) }
}

test('what is wished while a container is looked at is not taken back by what was seen', async (t) => {
  let removed: Promise<void> | undefined
  const { wishes, tracks } = await world(t, {
    // Asked for in the midst of a look.
    attachment() {
      removed ??= wishes.put({ ...held, removing: true })
      return testAttachment
    },
  })
  const held = testHeld()
  const { id } = held.wish
  await wishes.put(held)
  tracks.of(id).runtimeIds.add('c1')
  await tracks.look(id)
  await removed
  assert.equal(wishes.get(id)?.removing, true)
  assert.equal(wishes.get(id)?.starts, 1, 'and what was seen is kept as well')
})

test('of one that is still to run only the words are told, and then that it runs', async (t) => {
  const { wishes, tracks } = await world(t, { attachment: () => undefined })
  const told: string[] = []
  tracks.listen((event) => void told.push(event.what))
  const held = testHeld()
  const { id } = held.wish
  await wishes.put(held)
  tracks.tell(id)
  const track = tracks.of(id)
  track.doing = 'starting'
  tracks.tell(id)
  track.why = 'its network is not there yet'
  tracks.tell(id)
  tracks.tell(id)
  track.why = undefined
  track.doing = undefined
  track.runtimeIds.add('c1')
  await tracks.look(id)
  assert.deepEqual(told, ['waiting', 'starting', 'running'])
})
