import { mkdirSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { createEngine } from '#engine/engine.ts'
import { createKeyring } from '#engine/secrets.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { KINDS, RECONCILED } from '#cloud/kinds.ts'
import { registryCredential } from '#cloud/compute/registry-credential.kind.ts'
import { bearer, startCloud } from './cloud.ts'
import type { Bench, Context } from './context.ts'
import { atLeast, type Figure } from './figure.ts'
import { startLoad } from './load.ts'
import { compareReads } from './reads.ts'

/** Resources made by one commit. */
const PER_COMMIT = 500
const COMMITS_AT_ONCE = 4
const PAGE = 100

/** Fills the database of a cloud that does not run: a tenant's registry logins, made by the engine as its verbs do. */
async function fill(directory: string, tenant: string, count: number): Promise<void> {
  await using store = await openSqliteStore({ directory, clock: systemClock, log: silentLog })
  const engine = createEngine({
    store,
    kinds: KINDS,
    clock: systemClock,
    ids: createIds(systemClock),
    keyring: createKeyring(randomBytes(32)),
    log: silentLog,
    random: Math.random,
    tenantRefs: true,
    reconciled: RECONCILED,
  })
  let next = 0
  const work = async (): Promise<void> => {
    while (next < count) {
      const first = next
      next = Math.min(count, next + PER_COMMIT)
      const last = next
      await engine.transact(async (draft) => {
        for (let n = first; n < last; n++)
          draft.create(registryCredential, {
            tenant,
            name: `c-${n}`,
            spec: { server: 'registry.example', username: 'robot', password: 'a password' },
            labels: { nth: String(n % 10) },
          })
        await Promise.resolve()
      })
    }
  }
  await Promise.all(Array.from({ length: COMMITS_AT_ONCE }, work))
}

/** A cloud with so many registry logins of one tenant. */
export async function startFilled(data: string, count: number) {
  mkdirSync(data)
  let tenant: string
  {
    await using empty = await startCloud(data)
    tenant = (await empty.native<{ id: string }>('POST', '/tenant', { name: 'bench' })).id
  }
  await fill(data, tenant, count)
  const cloud = await startCloud(data)
  return { cloud, tenant, headers: { ...bearer(cloud.ready.admin.token), 'arcus-tenant': tenant } }
}

async function run(context: Context): Promise<Figure[]> {
  const { few, many } = context.scale
  await using load = await startLoad()
  const large = await startFilled(join(context.scratch, 'large'), many)
  await using largeCloud = large.cloud
  const small = await startFilled(join(context.scratch, 'small'), few)
  await using smallCloud = small.cloud
  const middle = async ({ cloud, tenant }: typeof large): Promise<{ id: string; after: string }> => {
    type Page = { items: { id: string }[]; next: string }
    const page = await cloud.native<Page>('GET', `/registry-credential?limit=${PAGE / 2}`, undefined, tenant)
    return { id: page.items.at(-1)?.id ?? '', after: page.next }
  }
  const [inLarge, inSmall] = [await middle(large), await middle(small)]
  const figures: Figure[] = []
  for (const [what, pathOf] of [
    ['GET by id', (at: typeof inLarge) => `/native/registry-credential/${at.id}`],
    [
      `GET of a page of ${PAGE}`,
      (at: typeof inLarge) => `/native/registry-credential?limit=${PAGE}&after=${at.after}`,
    ],
  ] as const) {
    // What is remembered is as fast whatever there is.
    const distinct = 'header'
    const compared = await compareReads(
      context,
      load,
      { server: largeCloud, url: `${largeCloud.url}${pathOf(inLarge)}`, headers: large.headers, distinct },
      { server: smallCloud, url: `${smallCloud.url}${pathOf(inSmall)}`, headers: small.headers, distinct },
    )
    figures.push({
      bench: 'growth',
      what: `${what}, ${many.toLocaleString('en')} resources`,
      against: `the same with ${few.toLocaleString('en')}`,
      aim: atLeast('ratio', 0.8),
      ...compared,
    })
  }
  return figures
}

export const growth: Bench = {
  name: 'growth',
  about: 'GET and a page of a list with many resources against few',
  needs: [],
  run,
}
