import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { startBare } from './bare.ts'
import { bearer, startCloud } from './cloud.ts'
import type { Bench, Context } from './context.ts'
import { CLIENTS } from './creates.ts'
import { atMost, type Figure } from './figure.ts'
import { type Load, type Shot, startLoad } from './load.ts'
import type { Program } from './process.ts'
import { inTurn } from './rounds.ts'

const PRELOAD = join(import.meta.dirname, 'delay.preload.ts')

const delayUnder = (load: Load, server: Program<unknown>, shot: Shot) => async (): Promise<number> => {
  await server.ask({ delay: 'reset' })
  await load.fire(shot)
  return (await server.ask<{ p99Ms: number }>({ delay: 'read' })).p99Ms
}

async function run({ scratch, scale }: Context): Promise<Figure[]> {
  await using load = await startLoad()
  await using cloud = await startCloud(join(scratch, 'cloud'), PRELOAD)
  const { id: tenant } = await cloud.native<{ id: string }>('POST', '/tenant', { name: 'bench' })
  const spec = { server: 'registry.example', username: 'robot', password: 'a password' }
  const body = { name: 'c-[<id>]', labels: { run: randomUUID() }, spec }
  const answer = await cloud.native<unknown>(
    'POST',
    '/registry-credential',
    { ...body, name: 'sample' },
    tenant,
  )
  await using bare = await startBare(
    [{ method: 'POST', path: '/native/registry-credential', status: 201, answer }],
    {
      preload: PRELOAD,
    },
  )
  const headers = {
    ...bearer(cloud.ready.admin.token),
    'arcus-tenant': tenant,
    'content-type': 'application/json',
  }
  const shot = {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
    connections: CLIENTS,
    forMs: scale.loadMs,
  } as const
  const ours = delayUnder(load, cloud, { ...shot, url: `${cloud.url}/native/registry-credential` })
  const peer = delayUnder(load, bare, { ...shot, url: `${bare.ready.url}/native/registry-credential` })
  await ours()
  await peer()
  return [
    {
      bench: 'delay',
      what: `event-loop delay of the cloud under ${CLIENTS} durable writers, p99`,
      unit: 'ms',
      against: 'bare fastify under the same clients, which keeps nothing',
      aim: atMost('value', 5),
      ...(await inTurn(scale.rounds, ours, peer)),
    },
  ]
}

export const delay: Bench = {
  name: 'delay',
  about: `how late the event loop of the cloud is under ${CLIENTS} durable writers`,
  needs: [],
  run,
}
