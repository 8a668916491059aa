import { replica } from '#cloud/compute/replica.kind.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import type { SeenContainer } from '#cloud/compute/compute.driver.ts'
import { AGENT_AWAY, type Case, type Ground } from './stuck.testing.ts'

// Every way for a pod and its replicas to hang: image, registry, network, health, crashes, quota, containers that stay.

const HEALTH: Workload['spec']['health'] = {
  check: { type: 'http', port: 80, path: '/ready' },
  intervalSeconds: 5,
  timeoutSeconds: 1,
  failuresMax: 3,
  startSeconds: 0,
}
const DISK = 'its process does not end: it waits for a disk'

const mend = (ground: Ground): void => ground.mend()

async function replicasOf(ground: Ground, of: string): Promise<readonly string[]> {
  const { items } = await ground.it.engine.list(replica, { tenant: ground.tenant, terms: [`workload:${of}`] })
  return items.map((it) => it.id)
}

/** The containers of a pod are seen like this from now on. */
async function pretend(ground: Ground, of: string, seen?: Partial<SeenContainer>): Promise<void> {
  for (const id of await replicasOf(ground, of)) {
    ground.it.compute.pretend(id, seen)
    await ground.it.engine.wake(`replica/${id}`)
  }
}
const asItIs = async (ground: Ground, id: string): Promise<void> => {
  const it = await ground.it.engine.get(replica, '*', id)
  await pretend(ground, it?.spec.workload ?? id)
}

async function running(ground: Ground, spec: Parameters<Ground['pod']>[0] = {}): Promise<string> {
  const { id } = await ground.pod(spec)
  await ground.settle()
  return id
}

const first = async (ground: Ground, of: string): Promise<string> => (await replicasOf(ground, of))[0] ?? ''

const crash = async (ground: Ground, id: string): Promise<void> => {
  const of = (await ground.it.engine.get(workload, '*', id)) ? await first(ground, id) : id
  ground.it.compute.exit(of, 1)
  await ground.it.engine.wake(`replica/${of}`)
}

/** A pod that ended by itself, which only a restart brings back. */
async function ended(ground: Ground, code: number): Promise<string> {
  const id = await running(ground)
  const one = await first(ground, id)
  ground.it.compute.exit(one, code)
  await ground.it.engine.wake(`replica/${one}`)
  return id
}

const restart = async (ground: Ground, id: string): Promise<void> => {
  const of = (await ground.it.engine.get(replica, '*', id))?.spec.workload ?? id
  await ground.act(async (verbs) => await verbs.restartWorkload(of))
}
const otherImage = async (ground: Ground, id: string): Promise<void> => {
  const of = (await ground.it.engine.get(replica, '*', id))?.spec.workload ?? id
  await ground.act(async (verbs) => await verbs.configureWorkload(of, { image: 'nginx:latest' }))
}

const STARTING: readonly Case[] = [
  {
    kind: 'workload',
    state: 'pending',
    title: 'its network is not made',
    async stick(ground) {
      const at = await ground.network()
      ground.fail('network.apply')
      return (await ground.pod({}, at)).id
    },
    says: /web-0: .*the router of VPC net0/,
    free: mend,
  },
  {
    kind: 'workload',
    state: 'pending',
    title: 'its image comes for ever',
    async stick(ground) {
      const { id } = await ground.pod()
      await pretend(ground, id, { state: 'pulling', progress: { doneBytes: 5, totalBytes: 10 } })
      return id
    },
    says: /web-0: pulling the image, 50 %/,
    free: asItIs,
  },
  {
    kind: 'workload',
    state: 'pending',
    title: 'its health check never passes',
    async stick(ground) {
      const { id } = await ground.pod({ health: HEALTH })
      await pretend(ground, id, { state: 'running', ready: false })
      return id
    },
    says: /web-0: it runs, but its health check does not pass: GET \/ready on port 80/,
    free: asItIs,
  },
  {
    kind: 'workload',
    state: 'pending',
    title: 'the host agent cannot be reached',
    async stick(ground) {
      const at = await ground.network()
      const { id } = await ground.pod({}, at)
      ground.fail('compute', AGENT_AWAY)
      return id
    },
    says: /web-0: .*the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'workload',
    state: 'error',
    title: 'there is no such image',
    ended: true,
    stick: async (ground) => (await ground.pod({ image: 'missing:latest' })).id,
    says: /no such image: missing:latest/,
    free: otherImage,
  },
  {
    kind: 'workload',
    state: 'error',
    title: 'its registry is away',
    ended: true,
    async stick(ground) {
      const { id } = await ground.pod()
      await pretend(ground, id, { state: 'failed', message: 'the registry 127.0.0.1:5000 does not answer' })
      return id
    },
    says: /the registry 127\.0\.0\.1:5000 does not answer/,
    free: asItIs,
  },
]

const CHANGING: readonly Case[] = [
  {
    kind: 'workload',
    state: 'restarting',
    title: 'the old container does not stop',
    async stick(ground) {
      const id = await running(ground)
      await pretend(ground, id, { state: 'stopping', attempt: 1, ready: false, message: DISK })
      await restart(ground, id)
      return id
    },
    says: /web-0: .*it waits for a disk/,
    free: asItIs,
  },
  {
    kind: 'workload',
    state: 'updating',
    title: 'the new image comes for ever',
    async stick(ground) {
      const id = await running(ground)
      await ground.act(async (verbs) => await verbs.configureWorkload(id, { image: 'nginx:next' }))
      await pretend(ground, id, { state: 'pulling', attempt: 2, ready: false, message: 'pulling the image' })
      return id
    },
    says: /web-0: pulling the image/,
    free: asItIs,
  },
  {
    kind: 'workload',
    state: 'scaling',
    title: 'one more replica does not start',
    word: 'degraded',
    async stick(ground) {
      const id = await running(ground)
      ground.fail('compute.apply', new Error('no space left on device: /var/lib/docker'))
      await ground.act(async (verbs) => await verbs.scaleWorkload(id, 1, 10))
      return id
    },
    says: /web-1: .*no space left on device/,
    free: mend,
  },
  {
    kind: 'workload',
    state: 'degraded',
    title: 'the autoscaler wants more than the quota gives',
    settings: {
      settings: {
        quotas: {
          vpcs: 5,
          subnets: 5,
          workloads: 5,
          replicas: 2,
          cpuMillicores: 99_000,
          memoryMib: 99_000,
          externalAddresses: 1,
          publishedPorts: 1,
        },
      },
    },
    async stick(ground) {
      const id = await running(ground, {
        autoscaling: { enabled: true, min: 2, max: 4, cpuTargetMillicores: 200 },
      })
      for (let round = 0; round < 4; round++) {
        for (const one of await replicasOf(ground, id)) ground.it.compute.load(one, 900)
        await ground.settle(16_000)
      }
      return id
    },
    says: /The quota for replicas is used up; an administrator can raise it/,
    async free(ground, id) {
      await ground.act(
        async (verbs) =>
          await verbs.configureWorkload(id, { autoscaling: { enabled: true, min: 2, max: 2 } }),
      )
    },
  },
  {
    kind: 'workload',
    state: 'degraded',
    title: 'a lost container cannot be made again',
    async stick(ground) {
      const id = await running(ground, { replicas: 2 })
      const one = await first(ground, id)
      ground.fail('compute.apply', new Error('docker: no space left on device'))
      ground.it.compute.vanish(one)
      await ground.it.engine.wake(`replica/${one}`)
      return id
    },
    says: /web-0: .*docker: no space left on device/,
    free: mend,
  },
  {
    kind: 'workload',
    state: 'running',
    title: 'its program ends again and again',
    async stick(ground) {
      const id = await running(ground, { healing: true })
      await crash(ground, id)
      return id
    },
    during: crash,
    says: /web-0: it started again \d+ times/,
    free: () => {},
  },
  {
    kind: 'workload',
    state: 'stopped',
    title: 'its program ended',
    ended: true,
    stick: async (ground) => await ended(ground, 3),
    says: /The workload ended with exit code 3/,
    free: restart,
  },
  {
    kind: 'workload',
    state: 'deleting',
    title: 'its container does not stop',
    async stick(ground) {
      const id = await running(ground)
      await pretend(ground, id, { state: 'stopping', message: DISK })
      await ground.act(async (verbs) => await verbs.deleteWorkload(id))
      return id
    },
    says: /waits for replica web-0/,
    free: asItIs,
  },
  {
    kind: 'workload',
    state: 'deleting',
    title: 'its volume cannot be removed',
    async stick(ground) {
      const id = await running(ground, { persistence: { enabled: true, path: '/data' } })
      ground.fail(
        'compute.removeVolume',
        new Error('rm: /var/lib/arcus/agent/volumes: read-only file system'),
      )
      await ground.act(async (verbs) => await verbs.deleteWorkload(id))
      return id
    },
    says: /read-only file system/,
    free: mend,
  },
]

const REPLICAS: readonly Case[] = [
  {
    kind: 'replica',
    state: 'pausing',
    title: 'its processes are not frozen',
    async stick(ground) {
      const id = await running(ground)
      await pretend(ground, id, { state: 'running', ready: true })
      await ground.act(async (verbs) => await verbs.pauseInstance(id))
      return await first(ground, id)
    },
    says: /its processes are being frozen/,
    free: asItIs,
  },
  {
    kind: 'replica',
    state: 'pending',
    title: 'its network is not made',
    async stick(ground) {
      const at = await ground.network()
      ground.fail('network.apply')
      return await first(ground, (await ground.pod({}, at)).id)
    },
    says: /waits for its network: the router of VPC net0/,
    free: mend,
  },
  {
    kind: 'replica',
    state: 'pending',
    title: 'the engine makes no container',
    async stick(ground) {
      ground.fail('compute.apply', new Error('docker: no space left on device'))
      return await first(ground, (await ground.pod()).id)
    },
    says: /docker: no space left on device/,
    free: mend,
  },
  {
    kind: 'replica',
    state: 'running',
    title: 'its program ends again and again',
    async stick(ground) {
      const id = await running(ground, { healing: true })
      await crash(ground, id)
      return await first(ground, id)
    },
    during: crash,
    says: /it started again \d+ times/,
    free: () => {},
  },
  {
    kind: 'replica',
    state: 'unready',
    title: 'its health check does not pass any more',
    async stick(ground) {
      const id = await running(ground, { health: HEALTH })
      await pretend(ground, id, { ready: false })
      return await first(ground, id)
    },
    says: /its health check does not pass: GET \/ready on port 80/,
    free: asItIs,
  },
  {
    kind: 'replica',
    state: 'failed',
    title: 'there is no such image',
    ended: true,
    stick: async (ground) => await first(ground, (await ground.pod({ image: 'missing:latest' })).id),
    says: /no such image: missing:latest/,
    free: otherImage,
  },
  {
    kind: 'replica',
    state: 'stopping',
    title: 'its container does not stop',
    async stick(ground) {
      const id = await running(ground)
      const one = await first(ground, id)
      await pretend(ground, id, { state: 'stopping', message: DISK })
      await ground.act(async (verbs) => await verbs.stopReplica(one))
      return one
    },
    says: /it waits for a disk/,
    free: asItIs,
  },
  {
    kind: 'replica',
    state: 'deleting',
    title: 'its container does not stop',
    async stick(ground) {
      const id = await running(ground)
      const one = await first(ground, id)
      await pretend(ground, id, { state: 'stopping', message: DISK })
      await ground.act(async (verbs) => await verbs.deleteWorkload(id))
      return one
    },
    says: /it waits for a disk/,
    free: asItIs,
  },
  {
    kind: 'replica',
    state: 'deleting',
    title: 'its VIP does not let go of it',
    async stick(ground) {
      const id = await running(ground, { replicas: 2 })
      ground.fail('network.apply')
      await ground.act(async (verbs) => await verbs.deleteWorkload(id))
      return await first(ground, id)
    },
    says: /its VIP to let go of it: the router of VPC net0/,
    free: mend,
  },
]

export const COMPUTE_CASES: readonly Case[] = [...STARTING, ...CHANGING, ...REPLICAS]
