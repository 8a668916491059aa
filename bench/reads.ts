import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench, Context } from './context.ts'
import { startBare } from './bare.ts'
import { bearer, type BenchCloud, registerPerson, startCloud } from './cloud.ts'
import { atLeast, type Figure } from './figure.ts'
import { fireAt, type Load, type Shot, startLoad } from './load.ts'
import type { Program } from './process.ts'
import { inTurn, median } from './rounds.ts'

const CONNECTIONS = 32
const AIM = atLeast('ratio', 0.8)
const WRITES_PER_SECOND = 50

type Target = {
  readonly server: Program<unknown>
  readonly url: string
  readonly socketPath?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Every request equals none before it. */
  readonly distinct?: Shot['distinct']
}

/** Requests per second of two servers that answer the same body. */
export async function compareReads(
  { scale }: Context,
  load: Load,
  ours: Target,
  peer: Target,
): Promise<Omit<Figure, 'bench' | 'what' | 'against'>> {
  const micros = { ours: [] as number[], peer: [] as number[] }
  const busy: number[] = []
  const side = (target: Target, name: 'ours' | 'peer') => async (): Promise<number> => {
    const shot = {
      url: target.url,
      headers: target.headers ?? {},
      ...(target.socketPath === undefined ? {} : { socketPath: target.socketPath }),
      distinct: target.distinct,
      connections: CONNECTIONS,
      forMs: scale.loadMs,
    }
    const seen = await fireAt(load, target.server, shot)
    micros[name].push(seen.cpuMicros)
    busy.push(seen.busy)
    return seen.hit.perSecond
  }
  // Once before it counts: compiled code and warm caches for both.
  for (const target of [ours, peer]) await side(target, 'ours')()
  for (const list of [micros.ours, busy]) list.length = 0
  const measured = await inTurn(scale.rounds, side(ours, 'ours'), side(peer, 'peer'))
  return {
    ...measured,
    unit: 'requests/s',
    also: {
      'server CPU per request, ours, µs': median(micros.ours),
      'server CPU per request, peer, µs': median(micros.peer),
      'processors the server was busy with, least': Math.min(...busy),
    },
  }
}

/** Changes a VPC that nobody reads, at a steady rate, or as fast as each change is durable; `stop` gives how many a second it were. */
async function startWriting(cloud: BenchCloud, tenant: string): Promise<{ stop(): Promise<number> }> {
  const { id } = await cloud.native<{ id: string }>('POST', '/vpc', { name: 'written', spec: {} }, tenant)
  const since = performance.now()
  let [made, isStopped] = [0, false]
  const write = async (): Promise<void> => {
    while (!isStopped) {
      await cloud.native('PATCH', `/vpc/${id}`, { labels: { made: String(made++) } }, tenant)
      const due = since + (made * 1000) / WRITES_PER_SECOND
      await sleep(Math.max(0, due - performance.now()))
    }
  }
  const writing = write()
  return {
    async stop() {
      isStopped = true
      await writing
      return (made * 1000) / (performance.now() - since)
    },
  }
}

async function run(context: Context): Promise<Figure[]> {
  await using load = await startLoad()
  await using cloud = await startCloud(join(context.scratch, 'cloud'))
  const { token: adminToken } = cloud.ready.admin
  const made = await cloud.native<{ id: string; token: string }>('POST', '/tenant', { name: 'bench' })
  const { id: tenant } = made
  const { id } = await cloud.native<{ id: string }>(
    'POST',
    '/vpc',
    { name: 'only', spec: { internet: false } },
    tenant,
  )
  while (!(await cloud.native<{ settled: boolean }>('GET', `/vpc/${id}`, undefined, tenant)).settled) continue
  const person = await registerPerson(cloud)
  const { id: theirs } = await person.call<{ id: string }>('POST', '/vpcs', { name: 'only' })
  const paths: [what: string, path: string, headers: Readonly<Record<string, string>>][] = [
    ['GET by id, native (a VPC)', `/native/vpc/${id}`, bearer(made.token)],
    [
      "GET by id, Circloud (an administrator's view of a tenant)",
      `/circloud/tenants/${tenant}`,
      { 'x-admin-token': adminToken },
    ],
    ['GET of a list of one, Circloud (VPCs)', '/circloud/vpcs', { 'x-auth-token': made.token }],
    ['GET by id, thecloud (a VPC, let by an IAM policy)', `/thecloud/vpcs/${theirs}`, person.headers],
  ]
  const [first] = paths
  const compared = async (
    [, path, headers]: (typeof paths)[number],
    distinct?: Shot['distinct'],
  ): ReturnType<typeof compareReads> => {
    const answer: unknown = await (await fetch(`${cloud.url}${path}`, { headers })).json()
    await using bare = await startBare([
      { method: 'GET', path: path.replace(/[0-9a-f-]{36}$/, ':id'), status: 200, answer },
    ])
    return await compareReads(
      context,
      load,
      { server: cloud, url: `${cloud.url}${path}`, headers, distinct },
      { server: bare, url: `${bare.ready.url}${path}`, distinct },
    )
  }
  const common = { bench: 'reads', against: 'a bare fastify route with the same body' }
  const figures: Figure[] = []
  for (const one of paths) figures.push({ ...common, what: one[0], aim: AIM, ...(await compared(one)) })
  if (!first) return figures
  const writing = await startWriting(cloud, tenant)
  const whileWritten = await compared(first)
  const perSecond = await writing.stop()
  figures.push({
    ...common,
    what: `GET by id, native, while another client makes ${WRITES_PER_SECOND} durable changes a second`,
    ...whileWritten,
    also: { ...whileWritten.also, 'changes per second': perSecond },
  })
  figures.push({
    ...common,
    what: 'GET by id, native, when no request equals one before it',
    ...(await compared(first, 'query')),
  })
  return figures
}

export const reads: Bench = {
  name: 'reads',
  about: 'GET by id, authenticated, against a bare fastify route that returns the same body',
  needs: [],
  run,
}
