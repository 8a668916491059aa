import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import Docker from 'dockerode'
import { startCloud, type TestCloud } from '../test/e2e/cloud.testing.ts'
import { CACHE_DEFAULT, ensureFixtures } from '../test/fixtures/build.ts'
import { startBare } from './bare.ts'
import type { Bench, Context } from './context.ts'
import { atMost, type Figure } from './figure.ts'
import { memoryMbOf } from './process.ts'
import { inTurn, summarise } from './rounds.ts'
import { watchPods } from './watch.ts'

/** Sleeps until it is told to stop; ready as soon as it runs. */
const IMAGE = 'idle:latest'
/** What a pod has unless it says otherwise. */
const LIMITS = ['--cpus', '1', '--memory', '512m', '--pids-limit', '512']
const AT_ONCE_ROUNDS = 3

/** On every container that is made here, with the number of this process. */
const LABEL = `arcus.bench=${process.pid}`
const run = promisify(execFile)

const docker = async (...args: string[]): Promise<string> => (await run('docker', args)).stdout.trim()

/** A plain container of the same image with the same limits, and what its start took. */
async function dockerRun(): Promise<{ id: string; ms: number }> {
  const since = performance.now()
  const id = await docker('run', '--detach', '--label', LABEL, ...LIMITS, IMAGE)
  return { id, ms: performance.now() - since }
}
/** What a failure left of them. */
async function dockerRemoveAll(): Promise<void> {
  const left = await docker('ps', '--all', '--quiet', '--filter', `label=${LABEL}`)
  if (left !== '') await dockerRemove(...left.split('\n'))
}
const dockerRemove = async (...ids: string[]): Promise<void> => void (await docker('rm', '--force', ...ids))

type Pods = {
  /** Makes so many at once; milliseconds until the last one runs, after which they are removed. */
  make(count: number): Promise<number>
}

async function openPods(cloud: TestCloud): Promise<Pods> {
  const tenant = await cloud.tenant('bench')
  const subnet = await tenant.subnet(await tenant.vpc('bench'))
  let made = 0
  return {
    async make(count) {
      await using watch = await watchPods(cloud, tenant.id)
      const since = performance.now()
      const pods = await Promise.all(
        Array.from({ length: count }, () => tenant.pod(subnet, `p-${++made}`, { container_image: IMAGE })),
      )
      const ends = await Promise.all(pods.map((it) => watch.running(it.id)))
      await Promise.all(pods.map((it) => tenant.call('DELETE', `/pods/${it.id}`, 204)))
      await Promise.all(pods.map((it) => watch.gone(it.id)))
      return Math.max(...ends) - since
    },
  }
}

async function containersAtOnce(count: number): Promise<number> {
  const since = performance.now()
  const all = await Promise.all(Array.from({ length: count }, dockerRun))
  const ms = performance.now() - since
  await dockerRemove(...all.map((it) => it.id))
  return ms
}

async function startTimes(cloud: TestCloud, { scale }: Context): Promise<Figure[]> {
  const pods = await openPods(cloud)
  const against = '`docker run --detach` of the same local image with the same limits'
  const once = async (): Promise<number> => {
    const { id, ms } = await dockerRun()
    await dockerRemove(id)
    return ms
  }
  // The first of each pays for what the others find in memory.
  await pods.make(1)
  await once()
  const one = await inTurn(scale.podRounds, async () => await pods.make(1), once)
  const count = scale.podsAtOnce
  const all = await inTurn(
    Math.min(AT_ONCE_ROUNDS, scale.podRounds),
    async () => await pods.make(count),
    async () => await containersAtOnce(count),
  )
  const aim = atMost('ratio', 1.15)
  return [
    { bench: 'pods', what: 'pod, create to running', unit: 'ms', against, aim, ...one },
    {
      bench: 'pods',
      what: `${count} pods at once, create to all running`,
      unit: 'ms',
      against: `${count} of them at once`,
      aim,
      ...all,
    },
  ]
}

/** Idle memory of the three processes after a first start, each against a bare process. */
async function memory({ scratch, scale }: Context): Promise<Figure[]> {
  const names = { cloud: 'the cloud', agent: 'the host agent', edge: 'the edge' } as const
  const processes = Object.keys(names) as (keyof typeof names)[]
  const seen: Record<keyof typeof names, number[]> = { cloud: [], agent: [], edge: [] }
  const seenBare: number[] = []
  for (let round = 0; round < scale.memoryRounds; round++) {
    await using cloud = await startCloud({ data: join(scratch, `idle-${round}`) })
    await using bare = await startBare([{ method: 'GET', path: '/healthz', status: 200, answer: {} }])
    await new Promise((resolve) => setTimeout(resolve, scale.idleMs))
    for (const name of processes) seen[name].push(memoryMbOf(cloud.pid(name)))
    seenBare.push(bare.memoryMb())
  }
  return processes.map((name) => ({
    bench: 'pods',
    what: `idle memory of ${names[name]}, real drivers`,
    unit: 'MB resident',
    against: 'a bare fastify process',
    ...(name === 'cloud' ? { aim: atMost('value', 130) } : {}),
    ...summarise({ ours: seen[name], peer: seenBare }),
  }))
}

export const pods: Bench = {
  name: 'pods',
  about: 'pod create to running against docker run, 50 at once, and idle memory of the three processes',
  needs: ['root', 'engine'],
  async run(context) {
    await ensureFixtures(new Docker(), { cache: CACHE_DEFAULT, say: context.say }, [IMAGE])
    const idle = await memory(context)
    await using cloud = await startCloud({ data: join(context.scratch, 'cloud') })
    try {
      return [...idle, ...(await startTimes(cloud, context))]
    } finally {
      await dockerRemoveAll()
    }
  },
}
