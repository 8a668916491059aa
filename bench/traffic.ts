import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import Docker from 'dockerode'
import { startCloud, type TestCloud } from '../test/e2e/cloud.testing.ts'
import { containerOf } from '../test/e2e/host.testing.ts'
import { CACHE_DEFAULT, ensureFixtures } from '../test/fixtures/build.ts'
import { unpacked } from '../test/fixtures/packages.ts'
import type { Bench, Context } from './context.ts'
import { atLeast, atMost, type Figure } from './figure.ts'
import { inTurn } from './rounds.ts'

const IMAGE = 'idle:latest'
const LABEL = 'arcus.bench'
const NETWORK = 'arcus-bench'
const MESSAGE_BYTES = 64
/** From a server being started to it listening. */
const LISTENS_MS = 500
const execute = promisify(execFile)
const docker = async (...args: string[]): Promise<string> => (await execute('docker', args)).stdout.trim()

/** Debian's iperf3 and sockperf, unpacked beside the fixtures and not installed. */
type Tools = {
  readonly iperf3: string
  readonly sockperf: string
  readonly env: Record<string, string | undefined>
}

async function findTools({ say }: Context): Promise<Tools> {
  const [iperf3 = '', sockperf = '', ...libraries] = await Promise.all(
    ['iperf3', 'sockperf'].map(async (name) => await unpacked(name, CACHE_DEFAULT, say)),
  )
  for (const name of ['libiperf0', 'libsctp1']) libraries.push(await unpacked(name, CACHE_DEFAULT, say))
  const folders = libraries.flatMap((it) => globSync(join(it, 'usr/lib/**/*.so.*'))).map(dirname)
  return {
    iperf3: join(iperf3, 'usr/bin/iperf3'),
    sockperf: join(sockperf, 'usr/bin/sockperf'),
    env: { ...process.env, LD_LIBRARY_PATH: [...new Set(folders)].join(':') },
  }
}

/** Two containers of one network: a process of each, and the address of the second. */
type Pair = { readonly from: number; readonly to: number; readonly address: string }

/**
 * The network alone: client and server are processes of this machine that enter the containers' network namespaces, so
 * that neither the image nor a container's own limits matter.
 */
const inside = (pid: number, argv: readonly string[]): [string, string[]] => [
  'nsenter',
  [`--net=/proc/${pid}/ns/net`, ...argv],
]

async function withServer<T>(
  pid: number,
  argv: readonly string[],
  tools: Tools,
  use: () => Promise<T>,
): Promise<T> {
  const server: ChildProcess = spawn(...inside(pid, argv), { env: tools.env, stdio: 'ignore' })
  try {
    await pause(LISTENS_MS)
    return await use()
  } finally {
    const ended = once(server, 'exit')
    if (server.exitCode === null && server.signalCode === null) {
      server.kill('SIGKILL')
      await ended
    }
  }
}

const ask = async (pid: number, argv: readonly string[], tools: Tools): Promise<string> =>
  (await execute(...inside(pid, argv), { env: tools.env })).stdout

/** Gigabits per second of one TCP stream. */
const throughput = async ({ from, to, address }: Pair, tools: Tools, seconds: number): Promise<number> =>
  await withServer(to, [tools.iperf3, '--server', '--one-off'], tools, async () => {
    const said = await ask(
      from,
      [tools.iperf3, '--client', address, '--time', String(seconds), '--json'],
      tools,
    )
    const { end } = JSON.parse(said) as { end: { sum_received: { bits_per_second: number } } }
    return end.sum_received.bits_per_second / 1e9
  })

/** Microseconds of a round trip of a small message over one TCP connection, median. */
const roundTrip = async ({ from, to, address }: Pair, tools: Tools, seconds: number): Promise<number> =>
  await withServer(to, [tools.sockperf, 'server', '--tcp', '-i', address], tools, async () => {
    const size = ['--msg-size', String(MESSAGE_BYTES)]
    const said = await ask(
      from,
      [tools.sockperf, 'ping-pong', '--tcp', '-i', address, '--time', String(seconds), '--full-rtt', ...size],
      tools,
    )
    const [, micros] = /percentile 50\.\d+ =\s+([\d.]+)/.exec(said) ?? []
    if (micros === undefined) throw new Error(`sockperf said ${said}`)
    return Number(micros)
  })

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
  return { from: from.pid, to: to.pid, address: b.ip_addresses[0] ?? '' }
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
    from: Number(a.split(' ')[0]),
    to: Number(b.split(' ')[0]),
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
