import { openAuthority } from '#lib/authority.ts'
import { closeSync, fdatasyncSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import Type from 'typebox'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { openBulk } from '#engine/bulk.ts'
import { createEngine, type Engine } from '#engine/engine.ts'
import { defineKind } from '#engine/kind.ts'
import { settled } from '#engine/reconcile.ts'
import type { AnyKind } from '#engine/resource.ts'
import { createKeyring } from '#engine/secrets.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { createCloud } from '#cloud/cloud.ts'
import { KINDS, RECONCILED } from '#cloud/kinds.ts'
import { tenant as tenantKind } from '#cloud/identity/tenant.kind.ts'
import { DEFAULT_SETTINGS } from '#cloud/context.ts'
import { internalIssuer } from '#drivers/issuer/internal.ts'
import { simulatedDrivers } from '#drivers/simulated/drivers.ts'
import type { Bench, Context } from './context.ts'
import { CLIENTS } from './creates.ts'
import { atLeast, atMost, type Figure } from './figure.ts'
import { inTurn, median, quantile } from './rounds.ts'

const BLOCK_BYTES = 4096
const VPCS_MAX = 1000
const ids = createIds(systemClock)

/** One block written and made durable, over and over, in a file of its own. */
export function openSyncing(folder: string) {
  const file = openSync(join(folder, 'synced'), 'w')
  const block = Buffer.alloc(BLOCK_BYTES)
  let at = 0
  return {
    /** Milliseconds that it took. */
    once(): number {
      const since = performance.now()
      writeSync(file, block, 0, BLOCK_BYTES, BLOCK_BYTES * at++)
      fdatasyncSync(file)
      return performance.now() - since
    },
    close: (): void => closeSync(file),
  }
}

const thing = defineKind({
  name: 'thing',
  spec: Type.Object({ size: Type.Integer() }),
  status: Type.Object({ state: Type.Enum(['pending', 'active']) }),
  initial: { state: 'pending' as const },
})

type Opened = AsyncDisposable & { readonly engine: Engine }

async function openEngine(
  directory: string,
  kinds: readonly AnyKind[],
  how: { tenantRefs?: boolean; reconciled?: readonly string[] } = {},
): Promise<Opened> {
  const store = await openSqliteStore({ directory, clock: systemClock, log: silentLog })
  const engine = createEngine({
    store,
    kinds,
    clock: systemClock,
    ids,
    keyring: createKeyring(randomBytes(32)),
    log: silentLog,
    random: Math.random,
    ...how,
  })
  return { engine, [Symbol.asyncDispose]: async () => await store[Symbol.asyncDispose]() }
}

/** Ends what runs until it is stopped before what it stands on is closed. */
const stopping = (stop: AbortController, running: Promise<void>): AsyncDisposable => ({
  async [Symbol.asyncDispose]() {
    stop.abort()
    await running
  },
})

/** From a commit having been answered to its reconciler being called, one at a time. */
async function pickup({ scratch, scale }: Context): Promise<Figure> {
  await using opened = await openEngine(join(scratch, 'pickup'), [thing as unknown as AnyKind])
  const { engine } = opened
  const stop = new AbortController()
  const looked = new Map<string, (at: number) => void>()
  const loop = engine.run(
    [
      {
        kind: thing as unknown as AnyKind,
        reconcile: async (it) => {
          looked.get(it.id)?.(performance.now())
          return await Promise.resolve(settled({ state: 'active' }))
        },
      },
    ],
    [],
    stop.signal,
  )
  await using _running = stopping(stop, loop)
  const once = async (): Promise<number> => {
    const id = ids.next()
    const seen = new Promise<number>((resolve) => looked.set(id, resolve))
    await engine.transact(
      async (draft) =>
        await Promise.resolve(draft.create(thing, { id, tenant: 'bench', name: id, spec: { size: 1 } })),
    )
    const committed = performance.now()
    const ms = (await seen) - committed
    looked.delete(id)
    return ms
  }
  const syncing = openSyncing(scratch)
  const all: number[] = []
  const measured = await inTurn(
    scale.rounds,
    async () => {
      const seen: number[] = []
      for (let n = 0; n < scale.samples; n++) seen.push(await once())
      all.push(...seen)
      return median(seen)
    },
    async () => await Promise.resolve(median(Array.from({ length: scale.samples }, () => syncing.once()))),
  )
  syncing.close()
  return {
    bench: 'reconcile',
    what: 'reconcile pickup after a commit, median',
    unit: 'ms',
    against: 'one fdatasync of 4 KiB on the same disk',
    aim: atMost('value', 5),
    also: { 'p99, ms': quantile(all, 0.99) },
    ...measured,
  }
}

/** What clients and reconcilers commit together while VPCs are made and deleted as fast as can be, drivers simulated. */
async function operations({ scratch, scale }: Context): Promise<Figure> {
  const folder = join(scratch, 'operations')
  await using opened = await openEngine(folder, KINDS, { tenantRefs: true, reconciled: RECONCILED })
  const { engine } = opened
  await using bulk = openBulk({ directory: join(folder, 'records'), clock: systemClock, log: silentLog })
  const cloud = createCloud({
    engine,
    bulk,
    drivers: simulatedDrivers({
      clock: systemClock,
      signer: internalIssuer(openAuthority({ folder: join(folder, 'tls'), clock: systemClock })),
    }),
    settings: DEFAULT_SETTINGS,
    log: silentLog,
    version: { version: '0.0.0', commit: null },
  })
  let token = ''
  await cloud.bootstrap(
    async (made) => await Promise.resolve(void (token = made.token)),
    () => 'a password of the bench',
  )
  const origin = { dialect: 'bench', address: '127.0.0.1', requestId: 'bench' }
  const admin = await cloud.authenticate(token, origin)
  if (!admin) throw new Error('the administrator is not known')
  const tenant = await cloud.act(admin, 'bench', async (verbs) => {
    const made = await verbs.createTenant({ name: 'bench', description: null })
    const quotas = { ...made.tenant.spec.quotas, vpcs: VPCS_MAX }
    return await verbs.patch(tenantKind, made.tenant.id, { spec: { quotas } })
  })
  const caller = await cloud.inTenant(admin, tenant.id)
  const stop = new AbortController()
  await using _running = stopping(stop, cloud.run(stop.signal))
  const syncing = openSyncing(scratch)
  const creates: number[] = []
  let made = 0
  const measured = await inTurn(
    scale.rounds,
    async () => {
      const before = await engine.store.stats()
      const [first, since] = [made, performance.now()]
      const end = since + scale.loadMs
      const client = async (): Promise<void> => {
        while (performance.now() < end) {
          const name = `v-${++made}`
          const it = await cloud.act(
            caller,
            'bench',
            async (verbs) => await verbs.createVpc({ name, internet: false }),
          )
          await cloud.act(caller, 'bench', async (verbs) => await verbs.deleteVpc(it.id))
        }
      }
      await Promise.all(Array.from({ length: CLIENTS }, client))
      const seconds = (performance.now() - since) / 1000
      creates.push((made - first) / seconds)
      return ((await engine.store.stats()).commits - before.commits) / seconds
    },
    async () => {
      const [since, end] = [performance.now(), performance.now() + scale.loadMs]
      let count = 0
      for (; performance.now() < end; count++) syncing.once()
      return await Promise.resolve(count / ((performance.now() - since) / 1000))
    },
  )
  syncing.close()
  return {
    bench: 'reconcile',
    what: `durable operations, ${CLIENTS} clients make and delete VPCs`,
    unit: 'commits/s',
    against: 'one fdatasync of 4 KiB after the other',
    aim: atLeast('value', 5000),
    also: { 'VPCs made and deleted a second': median(creates) },
    ...measured,
  }
}

export const reconcile: Bench = {
  name: 'reconcile',
  about: 'reconcile pickup after a commit, and durable operations per second',
  needs: [],
  async run(context) {
    for (const name of ['pickup', 'operations']) mkdirSync(join(context.scratch, name))
    return [await pickup(context), await operations(context)]
  },
}
