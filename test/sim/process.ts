import { CloudError } from '#lib/errors.ts'
import { createIds, type Ids } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import type { Bulk } from '#engine/bulk.ts'
import { createEngine } from '#engine/engine.ts'
import { createKeyring } from '#engine/secrets.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import type { Mutation, Store } from '#engine/store.ts'
import { createCloud, type RunningCloud } from '#cloud/cloud.ts'
import { KINDS, RECONCILED } from '#cloud/kinds.ts'
import { DEFAULT_SETTINGS, type Settings } from '#cloud/context.ts'
import type { Drivers } from '#cloud/observe/audit.ts'
import { faulty, type FaultyOptions } from './driver.ts'
import type { Ledger } from './ledger.ts'
import type { Random } from './random.ts'
import type { Life, Schedule } from './schedule.ts'

/** Small pools, so that addresses are used up and given again. */
export const SETTINGS: Settings = {
  ...DEFAULT_SETTINGS,
  fabric: '100.112.0.0/20',
  externalCidr: '100.64.0.0/28',
  externalGateway: '100.64.0.1',
  publishedPorts: { from: 30_000, to: 30_003 },
}
export const MASTER_KEY = Buffer.alloc(32, 7)

/** A look mostly takes some milliseconds, and seconds when a call is slow. */
const SHORT_LEASES_MS = [3, 30, 8000] as const

/** What happens to a process at its commits. */
export type CommitTrouble = {
  /** Killed with the commit not written, or written and not answered. */
  readonly killBefore: number
  readonly killAfter: number
  /** Refused, as by a full disk. */
  readonly refuse: number
  /** A lease that lapses while its holder still works. */
  readonly shortLease: number
}
export const NO_TROUBLE: CommitTrouble = { killBefore: 0, killAfter: 0, refuse: 0, shortLease: 0 }

export type ProcessOptions = {
  readonly directory: string
  readonly drivers: Drivers
  readonly schedule: Schedule
  readonly random: Random
  readonly ledger: Ledger
  /** Loops that work the queue at once. */
  readonly workers: number
  readonly faults: Omit<FaultyOptions, 'name' | 'schedule' | 'random'>
  trouble(): CommitTrouble
  /** The process is gone: nothing in it goes on. */
  onKilled(): void
  /** A commit is about to be written or was just written; true kills the process there. */
  atCommit(when: 'before' | 'after'): boolean
  onBug(line: string): void
}

export type Process = {
  readonly life: Life
  readonly cloud: RunningCloud
  readonly ids: Ids
  kill(): Promise<void>
  /** After the history: lets go of what still waits in it, so that nothing keeps the memory of a dead process. */
  bury(): void
}

/** A new one each time: a promise that is waited for keeps whoever waits, and with it the dead process. */
export const never = (): Promise<never> => new Promise<never>(() => {})

/** The store as one process sees it: at each commit others may go first, and the process may be killed. */
function storeOf(inner: Store, life: Life, options: ProcessOptions, kill: () => void): Store {
  const { schedule, random, ledger } = options
  const alive = <R>(value: R): R | Promise<never> => (life.alive ? value : never())
  const reads = ['get', 'list', 'claims', 'claim', 'dependents'] as const
  const read = (name: (typeof reads)[number]) => {
    const method = inner[name].bind(inner) as (...args: unknown[]) => Promise<unknown>
    return async (...args: unknown[]) => {
      if (!life.alive) return await never()
      if (random.chance(0.03)) await schedule.point(life)
      return await alive(await method(...args))
    }
  }
  return {
    ...inner,
    ...(Object.fromEntries(reads.map((name) => [name, read(name)])) as Pick<Store, (typeof reads)[number]>),
    async commit(mutations: readonly Mutation[], how) {
      await schedule.point(life)
      const trouble = options.trouble()
      if (options.atCommit('before') || random.chance(trouble.killBefore)) {
        kill()
        return await never()
      }
      if (random.chance(trouble.refuse))
        throw new CloudError('unavailable', 'the data folder cannot be written: no space left (simulated)')
      options.faults.trace(`commit ${mutations.map(nameOf).join(', ')}`)
      const was = ledger.before(mutations)
      await inner.commit(mutations, how)
      if (how?.dryRun !== true) ledger.committed(mutations, was)
      if (options.atCommit('after') || random.chance(trouble.killAfter)) {
        kill()
        return await never()
      }
      await schedule.point(life)
    },
    async take(now, limit, leaseMs, room) {
      await schedule.point(life)
      const short = random.chance(options.trouble().shortLease)
      const works = await inner.take(
        now,
        limit,
        short ? 1 + random.int(random.pick(SHORT_LEASES_MS)) : leaseMs,
        room,
      )
      for (const work of works) ledger.leased(work.lease)
      return works
    },
    async drop(lease) {
      if (!life.alive) return await never()
      ledger.dropped(lease)
      await inner.drop(lease)
    },
    nextDue: async (except) => await alive(await (life.alive ? inner.nextDue(except) : never())),
  }
}

/** Samples are read and not kept: a file of them says nothing of correctness. */
const noBulk: Bulk = {
  append: () => {},
  read: async () => await Promise.resolve([]),
  forget: async () => await Promise.resolve(0),
  dropped: () => 0,
  [Symbol.asyncDispose]: async () => await Promise.resolve(),
}

function nameOf(m: Mutation): string {
  if ('resource' in m) return `${m.do} ${m.resource.kind} ${m.resource.id}`
  if ('lease' in m) return `${m.do} ${m.lease.key}`
  if ('id' in m) return `${m.do} ${m.id}`
  return m.do === 'enqueue' ? `enqueue ${m.key}` : m.do
}

let lives = 0

/** Starts the cloud on a data folder, as a new process would, over a world that outlives it. */
export async function startProcess(options: ProcessOptions): Promise<Process> {
  const { schedule, random, ledger, directory } = options
  const life: Life = { number: ++lives, alive: true }
  const clock = schedule.clockOf(life)
  // What was refused on purpose may be said.
  const log = jsonLog('error', (line) => {
    if (!line.includes('(simulated)')) options.onBug(line)
  })
  const inner = await openSqliteStore({ directory, clock, log, simulated: true })
  ledger.restarted()
  const kill = (): void => {
    schedule.kill(life)
    options.onKilled()
  }
  const store = storeOf(inner, life, options, kill)
  const ids = createIds(clock, (bytes) => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = random.int(256)
  })
  const engine = createEngine({
    store,
    kinds: KINDS,
    clock,
    ids,
    keyring: createKeyring(MASTER_KEY),
    log,
    random: random.next,
    pause: async (ms) => await schedule.point(life, ms),
    tenantRefs: true,
    reconciled: RECONCILED,
  })
  const wrap = <D extends object>(name: string, driver: D): D =>
    faulty(driver, life, { ...options.faults, name, schedule, random })
  const cloud = createCloud({
    engine,
    bulk: noBulk,
    drivers: {
      ...options.drivers,
      compute: wrap('compute', options.drivers.compute),
      network: wrap('network', options.drivers.network),
      edge: wrap('edge', options.drivers.edge),
      front: wrap('front', options.drivers.front),
      sockets: wrap('sockets', options.drivers.sockets),
    },
    settings: SETTINGS,
    log,
    version: { version: '0.0.0', commit: null },
  })
  const burial = new AbortController()
  for (let worker = 0; worker < options.workers; worker++)
    void cloud.run(burial.signal).catch((error: unknown) => options.onBug(`the loop ended: ${String(error)}`))
  return {
    life,
    cloud,
    ids,
    async kill() {
      if (life.alive) schedule.kill(life)
      await inner[Symbol.asyncDispose]()
    },
    bury: () => burial.abort(new Error('the history is over')),
  }
}
