import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { CACHE_DEFAULT } from '../test/fixtures/build.ts'
import { unpacked } from '../test/fixtures/packages.ts'
import type { Context } from './context.ts'

export const MESSAGE_BYTES = 64
/** From a server being started to it listening. */
const LISTENS_MS = 500
const execute = promisify(execFile)

/** Debian's iperf3 and sockperf, unpacked beside the fixtures and not installed. */
export type Tools = {
  readonly iperf3: string
  readonly sockperf: string
  readonly env: Record<string, string | undefined>
}

export async function findTools({ say }: Pick<Context, 'say'>): Promise<Tools> {
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

/** Two machines that reach each other: the network namespace of each, as a path, and the address of the second. */
export type Pair = { readonly from: string; readonly to: string; readonly address: string }

export const namespaceOf = (pid: number): string => `/proc/${pid}/ns/net`

/**
 * The network alone: client and server are processes of this machine that enter the machines' network namespaces, so
 * that neither an image nor a container's own limits matter.
 */
const inside = (namespace: string, argv: readonly string[]): [string, string[]] => [
  'nsenter',
  [`--net=${namespace}`, ...argv],
]

async function withServer<T>(
  namespace: string,
  argv: readonly string[],
  tools: Tools,
  use: () => Promise<T>,
): Promise<T> {
  const server: ChildProcess = spawn(...inside(namespace, argv), { env: tools.env, stdio: 'ignore' })
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

const ask = async (namespace: string, argv: readonly string[], tools: Tools): Promise<string> =>
  (await execute(...inside(namespace, argv), { env: tools.env })).stdout

/** Gigabits per second of one TCP stream. */
export const throughput = async (
  { from, to, address }: Pair,
  tools: Tools,
  seconds: number,
): Promise<number> =>
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
export const roundTrip = async (
  { from, to, address }: Pair,
  tools: Tools,
  seconds: number,
): Promise<number> =>
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
