import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createSteps, type StepsOptions } from './steps.ts'
import { testHeld } from './wish.testing.ts'
import type { Held } from './wishes.ts'

const ok = () => Promise.resolve()

test('a start that was begun before its files changed does not bring the old ones back', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-steps-'))
  t.after(() => rm(directory, { recursive: true }))
  const withFile = (sealed: string): Held => {
    const held = testHeld({}, { mounts: [] })
    return { ...held, wish: { ...held.wish, inside: { files: [], sealed } } }
  }
  const [before, now] = [withFile('old'), withFile('new')]
  const written: unknown[] = []
  const options = {
    api: { start: ok },
    wishes: { get: () => now },
    tracks: { of: () => ({ witnessed: new Set() }) },
    links: { attachment: () => undefined },
    filesOf: (wish: Held['wish']) => wish.inside?.sealed,
    instances: { prepare: ok, write: (_: string, files: unknown) => Promise.resolve(written.push(files)) },
    volumes: { using: (_: unknown, work: () => Promise<void>) => work() },
    stays: () => Promise.resolve(true),
    directory,
  } as unknown as StepsOptions
  const steps = createSteps(options, new AbortController().signal)
  await steps.take(now.wish.id, before, { do: 'start', runtimeId: 'c1' })
  assert.deepEqual(written, ['new'])
})

test('the volumes of a container stay where they are until it has started', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-steps-'))
  t.after(() => rm(directory, { recursive: true }))
  const held = testHeld()
  const done: unknown[] = []
  const options = {
    api: { start: () => Promise.resolve(done.push('start')) },
    wishes: { get: () => held },
    tracks: { of: () => ({ witnessed: new Set() }) },
    links: { attachment: () => undefined },
    filesOf: () => undefined,
    volumes: {
      async using(mounts: unknown, work: () => Promise<void>) {
        done.push(mounts)
        await work()
        done.push('let go')
      },
    },
    stays: () => Promise.resolve(true),
    directory,
  } as unknown as StepsOptions
  const steps = createSteps(options, new AbortController().signal)
  await steps.take(held.wish.id, held, { do: 'start', runtimeId: 'c1' })
  assert.deepEqual(done, [held.wish.mounts, 'start', 'let go'])
})
