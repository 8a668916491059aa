import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { simulatedClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { silentLog } from '#lib/log.ts'
import { LABEL } from './container.ts'
import { type ConvergeOptions, converge } from './converge.ts'
import type { ContainerInfo } from './docker.ts'
import { JUDGE_MS } from './plan.ts'
import { testAttachment, testHeld } from './wish.testing.ts'
import type { Held } from './wishes.ts'

const BEGAN = '2026-01-01T00:00:00Z'
const ENDED = '2026-01-02T00:00:00Z'
const IDS = [1, 2].map((n) => `01900000-0000-7000-8000-00000000000${n}`)
const CONTAINERS = ['c1', 'c2']
const STEP_MS = 100
/** Something happened to a container just now. */
const eventOf = (at: number): string => {
  const Actor = { ID: CONTAINERS[at], Attributes: { [LABEL.id]: IDS[at] } }
  return `${JSON.stringify({ timeNano: 8e18, Actor })}\n`
}
/** Several times the wait before an end is judged. */
const STEPS_MAX = (10 * JUDGE_MS) / STEP_MS

/** Two containers, which nothing starts again when they end by themselves, and a Docker that can go away. */
async function world(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-converge-'))
  t.after(() => rm(directory, { recursive: true }))
  const time = simulatedClock()
  let setBackMs = 0
  const clock = { ...time, now: () => time.now() - setBackMs }
  const held = new Map<string, Held>()
  for (const id of IDS) {
    held.set(id, testHeld({ starts: 1, lastStart: BEGAN }, { id, healing: false, keep: true, mounts: [] }))
  }
  const docker = {
    /** So many more looks at a container are answered; then Docker is away. */
    looks: Infinity,
    /** Looks at these fail, though Docker is there. */
    broken: new Set<string>(),
    /** Subnets that have a network, and none of which can be removed. */
    subnets: [] as string[],
    looked: new Set<string>(),
    running: new Set(CONTAINERS),
    started: [] as string[],
    events: new PassThrough(),
  }
  const labels = (at: number) => ({ [LABEL.id]: IDS[at] ?? '', [LABEL.attempt]: '1' })
  const inspect = (Id: string): ContainerInfo => {
    if (docker.looks-- <= 0) {
      docker.events.destroy()
      throw new CloudError('unavailable', 'Docker is away')
    }
    if (docker.broken.has(Id)) throw refusal
    docker.looked.add(Id)
    const isRunning = docker.running.has(Id)
    return {
      Id,
      Config: { Labels: labels(CONTAINERS.indexOf(Id)) },
      State: {
        Status: isRunning ? 'running' : 'exited',
        Pid: 0,
        StartedAt: BEGAN,
        FinishedAt: isRunning ? '' : ENDED,
        ExitCode: isRunning ? 0 : 143,
      },
      HostConfig: { Memory: 64 * 1024 * 1024, NanoCpus: 250_000_000 },
      NetworkSettings: { Networks: {} },
    } as unknown as ContainerInfo
  }
  const refusal = Object.assign(new Error('it is unexpectedly nil'), { statusCode: 500 })
  const ok = () => Promise.resolve()
  const options = {
    api: {
      ping: ok,
      events: () => Promise.resolve((docker.events = new PassThrough())),
      list: (asked: readonly string[]) =>
        Promise.resolve(
          asked.length > 1 ? [] : CONTAINERS.map((Id, at) => ({ Id, State: '', Labels: labels(at) })),
        ),
      inspect: async (id: string) => await Promise.resolve(id).then(inspect),
      start(id: string) {
        docker.started.push(id)
        docker.running.add(id)
        return ok()
      },
    },
    wishes: {
      get: (id: string) => held.get(id),
      all: () => [...held.values()],
      put(it: Held) {
        held.set(it.wish.id, it)
        return ok()
      },
    },
    networks: {
      doubt() {},
      list: () => Promise.resolve(docker.subnets),
      using: ok,
      join: ok,
      alone: (_: string, work: () => Promise<void>) => work(),
      remove: () => Promise.reject(refusal),
    },
    links: {
      dockerStarted: ok,
      inForce: ok,
      attachment: () => testAttachment,
      hasSubnet: () => false,
      onPlan: () => () => {},
    },
    volumes: { using: (_: unknown, work: () => Promise<void>) => work() },
    filesOf: () => undefined,
    owner: { owns: () => true },
    instance: 'test',
    directory,
    clock,
    log: silentLog,
  } as unknown as ConvergeOptions
  const stop = new AbortController()
  t.after(() => stop.abort())
  converge(options, stop.signal)
  /** Lets time pass until it is so, or far longer than it may take. */
  const passUntil = async (isSo: () => boolean): Promise<void> => {
    for (let steps = 0; steps < STEPS_MAX && !isSo(); steps++) {
      await time.advance(STEP_MS)
      await sleep(1)
    }
  }
  return { docker, held, passUntil, setBack: (ms: number) => void (setBackMs += ms) }
}

test('one that dies while Docker is there ended by itself', async (t) => {
  const { docker, held, passUntil } = await world(t)
  await passUntil(() => docker.looked.size === 2)
  docker.running.delete('c1')
  docker.events.write(eventOf(0))
  await passUntil(() => held.get(IDS[0] ?? '')?.ended !== undefined)
  assert.equal(held.get(IDS[0] ?? '')?.ended?.exitCode, 143)
  assert.deepEqual(docker.started, [])
})

test('and is known to have done so though the clock was set back', async (t) => {
  const { docker, held, passUntil, setBack } = await world(t)
  await passUntil(() => docker.looked.size === 2)
  docker.running.delete('c1')
  docker.looked.clear()
  docker.events.write(eventOf(0))
  await passUntil(() => docker.looked.has('c1'))
  setBack(3_600_000)
  await passUntil(() => held.get(IDS[0] ?? '')?.ended !== undefined)
  assert.equal(held.get(IDS[0] ?? '')?.ended?.exitCode, 143)
})

test('one that was seen to run as Docker went away amid the first looks was taken along by it', async (t) => {
  const { docker, held, passUntil } = await world(t)
  docker.looks = 1
  await passUntil(() => docker.looked.size === 1 && docker.looks < 0)
  docker.running.clear()
  docker.looks = Infinity
  await passUntil(() => docker.started.length === 2)
  assert.deepEqual(docker.started.toSorted(), CONTAINERS)
  for (const id of IDS) assert.equal(held.get(id)?.ended, undefined)
})

test('one that Docker cannot tell about does not hold up the others', async (t) => {
  const { docker, passUntil } = await world(t)
  docker.broken.add('c1')
  docker.running.clear()
  await passUntil(() => docker.started.length > 0)
  assert.deepEqual(docker.started, ['c2'])
  docker.broken.clear()
  await passUntil(() => docker.started.length > 1)
  assert.deepEqual(docker.started, ['c2', 'c1'])
})

test('a network that Docker cannot remove does not hold up the containers', async (t) => {
  const { docker, passUntil } = await world(t)
  docker.subnets.push('gone')
  docker.running.clear()
  await passUntil(() => docker.started.length === 2)
  assert.deepEqual(docker.started.toSorted(), CONTAINERS)
})
