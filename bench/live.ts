import { get } from 'node:https'
import { join } from 'node:path'
import { type BenchCloud, startCloud } from './cloud.ts'
import type { Bench, Context } from './context.ts'
import { atMost, type Figure } from './figure.ts'
import { type Program, startProgram } from './process.ts'
import { openSyncing } from './reconcile.ts'
import { inTurn, median, quantile } from './rounds.ts'

const SAMPLES = 50
const MS_MAX = 10_000
/** Between two looks: asked without a pause, the edge would do nothing else. */
const LOOK_MS = 2
const DOMAIN = 'bench.example.com'
const AIM = atMost('value', 100)
/** All of it is loopback, so that a simulated replica's address is one that the edge reaches. */
const FABRIC = '127.64.0.0/12'

type Edge = Program<{ readonly https: number; readonly ports: readonly [number, number] }>
type Made = { readonly id: string }

/** What the front door answers for a name over a new connection; undefined when it refuses the handshake or has nobody. */
async function answerOf({ ready }: Edge, hostname: string): Promise<string | undefined> {
  return await new Promise((resolve) => {
    const to = { host: '127.0.0.1', port: ready.https, agent: false, rejectUnauthorized: false }
    get({ ...to, servername: hostname, headers: { host: hostname } }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve(response.statusCode === 200 ? text : undefined))
    }).on('error', () => resolve(undefined))
  })
}

/** Milliseconds from now until the front door answers so for a name. */
async function until(edge: Edge, hostname: string, answer: string | undefined): Promise<number> {
  const since = performance.now()
  for (;;) {
    const seen = await answerOf(edge, hostname)
    const ms = performance.now() - since
    if (seen === answer) return ms
    if (ms > MS_MAX) throw new Error(`${hostname} answers ${seen} after ${MS_MAX} ms, not ${answer}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

/** A tenant with a workload that runs, and what changes routes to it. */
async function prepare(cloud: BenchCloud, edge: Edge) {
  const { id: tenant } = await cloud.native<Made>('POST', '/tenant', { name: 'bench' })
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> =>
    await cloud.native<T>(method, path, body, tenant)
  const make = async (kind: string, name: string, spec: object): Promise<string> =>
    (await call<Made>('POST', `/${kind}`, { name, spec })).id
  await make('domain', DOMAIN, {})
  const vpc = await make('vpc', 'only', { internet: false })
  const subnet = await make('subnet', 'only', { vpc, cidr: '10.9.0.0/24' })
  const workload = await make('workload', 'only', { vpc, subnet, image: 'nginx', replicas: 2 })
  const targets = edge.ready.ports.map((port) => [{ workload, port, weight: 1 }])
  const hostnameOf = (name: string): string => `${name}.${DOMAIN}`
  const it = {
    hostnameOf,
    create: async (name: string) =>
      await make('route', name, { vpc, hostname: hostnameOf(name), targets: targets[0] }),
    change: async (id: string) => await call('PATCH', `/route/${id}`, { spec: { targets: targets[1] } }),
    remove: async (id: string) => await call('DELETE', `/route/${id}`),
  }
  // The first of all waits for the replicas.
  await it.create('first')
  await until(edge, hostnameOf('first'), 'one')
  return it
}

async function run({ scratch, scale }: Context): Promise<Figure[]> {
  const socket = join(scratch, 'edge.sock')
  await using edge: Edge = await startProgram([
    join(import.meta.dirname, 'live.process.ts'),
    join(scratch, 'edge'),
    socket,
  ])
  await using cloud = await startCloud(join(scratch, 'cloud'), undefined, [
    `--edge=${socket}`,
    `--fabric=${FABRIC}`,
  ])
  const it = await prepare(cloud, edge)
  const syncing = openSyncing(scratch)
  const perRound = Math.max(1, Math.round(Math.min(SAMPLES, scale.samples) / scale.rounds))
  const seen = { made: [] as number[], changed: [] as number[], removed: [] as number[] }
  const rounds = { made: [] as number[], changed: [] as number[], removed: [] as number[] }
  let count = 0
  const measured = await inTurn(
    scale.rounds,
    async () => {
      const own = { made: [] as number[], changed: [] as number[], removed: [] as number[] }
      for (let n = 0; n < perRound; n++) {
        const name = `r-${++count}`
        const hostname = it.hostnameOf(name)
        const id = await it.create(name)
        own.made.push(await until(edge, hostname, 'one'))
        await it.change(id)
        own.changed.push(await until(edge, hostname, 'two'))
        await it.remove(id)
        own.removed.push(await until(edge, hostname, undefined))
      }
      for (const what of ['made', 'changed', 'removed'] as const) {
        seen[what].push(...own[what])
        rounds[what].push(quantile(own[what], 0.99))
      }
      return median(own.made)
    },
    async () => {
      const floor: number[] = []
      for (let n = 0; n < perRound * 3; n++)
        floor.push(syncing.once() + (await until(edge, it.hostnameOf('first'), 'one')))
      return median(floor)
    },
  )
  syncing.close()
  return (['made', 'changed', 'removed'] as const).map((what) => {
    const ours = quantile(seen[what], 0.99)
    return {
      bench: 'live',
      what: `from the answer to a route being ${what} to the front door doing so, p99 of ${seen[what].length}`,
      unit: 'ms',
      against: 'one fdatasync of 4 KiB and one request over a new TLS connection, median',
      aim: AIM,
      ours,
      peer: measured.peer,
      ratio: median(rounds[what].map((one, at) => one / (measured.rounds.peer[at] ?? NaN))),
      rounds: { ours: rounds[what], peer: measured.rounds.peer },
      also: { 'p50, ms': median(seen[what]), 'longest, ms': Math.max(...seen[what]) },
    }
  })
}

export const live: Bench = {
  name: 'live',
  about:
    'from a durable change of a route to the front door that serves it, over a cloud and an edge process',
  needs: [],
  run,
}
