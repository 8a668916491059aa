import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import Docker from 'dockerode'
import { startCloud, type TestCloud } from '../test/e2e/cloud.testing.ts'
import { containerOf } from '../test/e2e/host.testing.ts'
import { CACHE_DEFAULT, ensureFixtures } from '../test/fixtures/build.ts'
import type { Bench, Context } from './context.ts'
import { atLeast, atMost, type Figure } from './figure.ts'
import { inTurn } from './rounds.ts'
import { findTools, MESSAGE_BYTES, namespaceOf, type Pair, roundTrip, throughput } from './wire.ts'

const IMAGE = 'idle:latest'
const LABEL = 'arcus.bench'
const NETWORK = 'arcus-bench'
const execute = promisify(execFile)
const docker = async (...args: string[]): Promise<string> => (await execute('docker', args)).stdout.trim()

/** Two pods of one subnet. */
async function podPair(cloud: TestCloud): Promise<Pair> {
  const tenant = await cloud.tenant('bench')
  const subnet = await tenant.subnet(await tenant.vpc('bench'))
  const made = await Promise.all(
    ['a', 'b'].map((name) => tenant.pod(subnet, name, { container_image: IMAGE })),
  )
  const [a, b] = await Promise.all(made.map((it) => tenant.running(it)))
  if (!a || !b) throw new Error('a pod is missing')
  const [from, to] = [await containerOf(a), await containerOf(b)]
  return { from: namespaceOf(from.pid), to: namespaceOf(to.pid), address: b.ip_addresses[0] ?? '' }
}

type Network = AsyncDisposable & Pair

/** Two plain containers on a bridge network of Docker's own. */
async function bridgePair(): Promise<Network> {
  await docker('network', 'create', '--label', LABEL, NETWORK)
  const ids = await Promise.all(
    ['a', 'b'].map(
      async () => await docker('run', '--detach', '--label', LABEL, '--network', NETWORK, IMAGE),
    ),
  )
  const format = '{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
  const [a = '', b = ''] = (await docker('inspect', '--format', format, ...ids)).split('\n')
  return {
    from: namespaceOf(Number(a.split(' ')[0])),
    to: namespaceOf(Number(b.split(' ')[0])),
    address: b.split(' ')[1] ?? '',
    async [Symbol.asyncDispose]() {
      await docker('rm', '--force', ...ids)
      await docker('network', 'rm', NETWORK)
    },
  }
}

async function run(context: Context): Promise<Figure[]> {
  const { trafficRounds: rounds, trafficSeconds: seconds } = context.scale
  await ensureFixtures(new Docker(), { cache: CACHE_DEFAULT, say: context.say }, [IMAGE])
  const tools = await findTools(context)
  await using cloud = await startCloud({ data: join(context.scratch, 'cloud') })
  const pods = await podPair(cloud)
  await using bridge = await bridgePair()
  const against = "two containers on one of Docker's bridges"
  return [
    {
      bench: 'traffic',
      what: 'TCP throughput between two pods of a subnet',
      unit: 'Gbit/s',
      against,
      aim: atLeast('ratio', 0.95),
      ...(await inTurn(
        rounds,
        async () => await throughput(pods, tools, seconds),
        async () => await throughput(bridge, tools, seconds),
      )),
    },
    {
      bench: 'traffic',
      what: `TCP round trip of ${MESSAGE_BYTES} bytes between them, median`,
      unit: 'µs',
      against,
      aim: atMost('ratio', 1.1),
      ...(await inTurn(
        rounds,
        async () => await roundTrip(pods, tools, seconds),
        async () => await roundTrip(bridge, tools, seconds),
      )),
    },
  ]
}

export const traffic: Bench = {
  name: 'traffic',
  about: "pod to pod TCP throughput and latency against two containers on Docker's bridge",
  needs: ['root', 'engine'],
  run,
}
