import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
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

test('what is wished while a container is looked at is not taken back by what was seen', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-tracks-'))
  t.after(() => rm(folder, { recursive: true }))
  const wishes = await openWishes(folder, silentLog)
  const held = testHeld()
  const { id } = held.wish
  await wishes.put(held)
  let removed: Promise<void> | undefined
  const links = {
    // Asked for in the midst of a look.
    attachment() {
      removed ??= wishes.put({ ...held, removing: true })
      return testAttachment
    },
  } as unknown as Links
  const api = { inspect: async () => await Promise.resolve(STARTED) } as unknown as DockerApi
  const stop = new AbortController()
  const tracks = createTracks({ api, wishes, links, clock: systemClock, log: silentLog }, stop.signal)
  tracks.of(id).runtimeIds.add('c1')
  await tracks.look(id)
  await removed
  stop.abort()
  assert.equal(wishes.get(id)?.removing, true)
  assert.equal(wishes.get(id)?.starts, 1, 'and what was seen is kept as well')
})
