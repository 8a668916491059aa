import { join } from 'node:path'
import type { Bench, Context } from './context.ts'
import { startBare } from './bare.ts'
import { bearer, registerPerson, startCloud } from './cloud.ts'
import { atLeast, type Figure } from './figure.ts'
import { fireAt, type Load, startLoad } from './load.ts'
import type { Program } from './process.ts'
import { inTurn, median } from './rounds.ts'

const CONNECTIONS = 32
const AIM = atLeast('ratio', 0.8)

type Target = {
  readonly server: Program<unknown>
  readonly url: string
  readonly socketPath?: string
  readonly headers?: Readonly<Record<string, string>>
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
  const figures: Figure[] = []
  for (const [what, path, headers] of paths) {
    const answer: unknown = await (await fetch(`${cloud.url}${path}`, { headers })).json()
    await using bare = await startBare([
      { method: 'GET', path: path.replace(/[0-9a-f-]{36}$/, ':id'), status: 200, answer },
    ])
    const compared = await compareReads(
      context,
      load,
      { server: cloud, url: `${cloud.url}${path}`, headers },
      { server: bare, url: `${bare.ready.url}${path}` },
    )
    figures.push({
      bench: 'reads',
      what,
      against: 'a bare fastify route with the same body',
      aim: AIM,
      ...compared,
    })
  }
  return figures
}

export const reads: Bench = {
  name: 'reads',
  about: 'GET by id, authenticated, against a bare fastify route that returns the same body',
  needs: [],
  run,
}
