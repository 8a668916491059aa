import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { openApply } from '#engine/store.sqlite.apply.ts'
import { openQueue } from '#engine/store.sqlite.queue.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { toy } from '#engine/store.testing.ts'
import type { Mutation } from '#engine/store.ts'
import { startBare } from './bare.ts'
import { bearer, type BenchCloud, registerPerson, startCloud } from './cloud.ts'
import type { Bench, Context } from './context.ts'
import { type Aim, atLeast, type Figure } from './figure.ts'
import { fireAt, type Load, startLoad } from './load.ts'
import { inTurn, median } from './rounds.ts'

export const CLIENTS = 64
/** Of ed25519, of nobody. */
const PUBLIC_KEY = `ssh-ed25519 ${Buffer.concat([Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0 '), Buffer.alloc(32, 7)]).toString('base64')} bench`
const ids = createIds(systemClock)

/** What the creation of one resource comes to in the store: the resource, the claim on its name, its audit entry, its work. */
function creation(): Mutation[] {
  const now = systemClock.now()
  const id = ids.next()
  const resource = toy({ id, tenant: 'bench', name: id })
  const record = { stream: 'audit', tenant: 'bench', subject: id, at: now, what: 'thing.create' } as const
  return [
    { do: 'create', resource, refs: [], terms: [`name:${id}`], settleBy: now + 60_000 },
    { do: 'claim', owner: id, claim: { pool: 'names', value: id, ends: 'deletion' } },
    { do: 'record', record: { ...record, body: { size: 1 } } },
  ]
}

/** The same mutations through the same code, one transaction and so one fsync each; no thread, no queue to wait in. */
function openOneByOne(folder: string) {
  const db = new DatabaseSync(join(folder, 'arcus.sqlite'))
  db.exec('PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32000')
  const queue = openQueue(db, systemClock.now())
  const { apply, flush } = openApply(db, queue)
  return {
    commit(mutations: readonly Mutation[]): void {
      db.exec('BEGIN IMMEDIATE')
      for (const it of mutations) apply(it, systemClock.now())
      flush()
      db.exec('COMMIT')
      queue.settle()
    },
    close: (): void => db.close(),
  }
}

/** Commits per second of the store with 64 clients, against the same commits with an fsync each. */
async function inStore({ scratch, scale }: Context): Promise<Figure> {
  const folders = ['ours', 'peer'].map((name) => join(scratch, name))
  const [ourFolder = '', peerFolder = ''] = folders
  const open = async (directory: string) =>
    await openSqliteStore({ directory, clock: systemClock, log: silentLog })
  // The peer's tables are made by the store too.
  await (await open(peerFolder))[Symbol.asyncDispose]()
  await using store = await open(ourFolder)
  const peer = openOneByOne(peerFolder)
  const batches: number[] = []
  const measured = await inTurn(
    scale.rounds,
    async () => {
      const before = await store.stats()
      const [since, end] = [performance.now(), performance.now() + scale.loadMs]
      let count = 0
      const client = async (): Promise<void> => {
        for (; performance.now() < end; count++) await store.commit(creation())
      }
      await Promise.all(Array.from({ length: CLIENTS }, client))
      const after = await store.stats()
      batches.push((after.commits - before.commits) / (after.batches - before.batches))
      return count / ((performance.now() - since) / 1000)
    },
    async () => {
      const [since, end] = [performance.now(), performance.now() + scale.loadMs]
      let count = 0
      for (; performance.now() < end; count++) peer.commit(creation())
      return await Promise.resolve(count / ((performance.now() - since) / 1000))
    },
  )
  peer.close()
  return {
    bench: 'creates',
    what: `durable creates in the store, ${CLIENTS} clients`,
    unit: 'commits/s',
    against: 'the same mutations, one transaction and one fsync each',
    aim: atLeast('ratio', 5),
    also: { 'commits that shared an fsync': median(batches) },
    ...measured,
  }
}

/** What is made over HTTP: a request, by whom, and what to call it. */
type Creation = {
  readonly what: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Its text has `[<id>]` where each one differs. */
  readonly body: object
  readonly aim?: Aim
}

/** Creates per second over HTTP, against the barest server that is as durable. */
async function overHttp(
  { scratch, scale }: Context,
  load: Load,
  cloud: BenchCloud,
  { what, path, headers: who, body, aim }: Creation,
): Promise<Figure> {
  const headers = { ...who, 'content-type': 'application/json' }
  const text = JSON.stringify(body)
  const sample = text.replace('[<id>]', 'sample')
  const made = await fetch(`${cloud.url}${path}`, { method: 'POST', headers, body: sample })
  if (made.status !== 201) throw new Error(`POST ${path} answered ${made.status} ${await made.text()}`)
  const answer: unknown = await made.json()
  await using bare = await startBare([{ method: 'POST', path, status: 201, answer }], {
    database: join(scratch, `bare${path.replaceAll('/', '-')}.sqlite`),
  })
  const side = (server: typeof cloud | typeof bare, url: string) => async () => {
    const shot = { url: `${url}${path}`, method: 'POST', headers, body: text } as const
    return (await fireAt(load, server, { ...shot, connections: CLIENTS, forMs: scale.loadMs })).hit.perSecond
  }
  const ours = side(cloud, cloud.url)
  await ours()
  return {
    bench: 'creates',
    what: `durable creates over HTTP, ${CLIENTS} clients (${what})`,
    unit: 'requests/s',
    against: 'bare fastify, one row in SQLite and one fsync each',
    ...(aim ? { aim } : {}),
    ...(await inTurn(scale.rounds, ours, side(bare, bare.ready.url))),
  }
}

async function inDialects(context: Context): Promise<Figure[]> {
  await using load = await startLoad()
  await using cloud = await startCloud(join(context.scratch, 'cloud'))
  const { id: tenant } = await cloud.native<{ id: string }>('POST', '/tenant', { name: 'bench' })
  const { headers } = await registerPerson(cloud)
  const login = { server: 'registry.example', username: 'robot', password: 'a password' }
  const all: Creation[] = [
    {
      what: 'a registry login, native',
      path: '/native/registry-credential',
      headers: { ...bearer(cloud.ready.admin.token), 'arcus-tenant': tenant },
      body: { name: 'c-[<id>]', labels: { run: randomUUID() }, spec: login },
    },
    {
      what: 'a public key, thecloud, let by an IAM policy',
      path: '/thecloud/ssh-keys',
      headers,
      body: { name: 'c-[<id>]', public_key: PUBLIC_KEY },
      aim: atLeast('ratio', 5),
    },
  ]
  const figures: Figure[] = []
  for (const it of all) figures.push(await overHttp(context, load, cloud, it))
  return figures
}

export const creates: Bench = {
  name: 'creates',
  about: `durable creates with ${CLIENTS} clients against one fsync per commit`,
  needs: [],
  run: async (context) => [await inStore(context), ...(await inDialects(context))],
}
