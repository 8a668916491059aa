import { createHash } from 'node:crypto'
import type { SimulatedCompute } from '#drivers/simulated/compute.ts'
import { simulatedDrivers } from '#drivers/simulated/drivers.ts'
import type { SimulatedFront } from '#drivers/simulated/front.ts'
import type { simulatedEdge } from '#drivers/simulated/edge.ts'
import type { simulatedNetwork } from '#drivers/simulated/network.ts'
import { CALM, type Pending, type Trouble, type TroubleRates } from './driver.ts'
import { createLedger, type Ledger } from './ledger.ts'
import { type CommitTrouble, NO_TROUBLE, type Process, startProcess } from './process.ts'
import { type Random, seeded } from './random.ts'
import { openRows, type Rows } from './rows.ts'
import { createSchedule, type Schedule } from './schedule.ts'
import type { Asked, Site } from './site.ts'

/** How rough a history is. */
export type Weather = {
  readonly rates: TroubleRates
  readonly commits: CommitTrouble
  /** Milliseconds between two things that befall the world by themselves, on average; 0 for none. */
  readonly disturbedEveryMs: number
  readonly workers: number
}

export const FAIR: Weather = { rates: CALM, commits: NO_TROUBLE, disturbedEveryMs: 0, workers: 1 }

const DOWN_MS_MAX = 30_000
const TRACE_LINES_MAX = 200_000

export type World = AsyncDisposable & {
  readonly random: Random
  readonly schedule: Schedule
  readonly ledger: Ledger
  readonly rows: Rows
  readonly directory: string
  readonly adminToken: string
  readonly compute: SimulatedCompute
  readonly network: ReturnType<typeof simulatedNetwork>
  readonly edge: ReturnType<typeof simulatedEdge>
  readonly front: SimulatedFront
  /** Undefined while it is down. */
  process(): Process | undefined
  setWeather(to: Weather): void
  /** Kills the process; it is started again after a while. */
  kill(): void
  /** Waits until the process is up. */
  up(): Promise<void>
  /** 'lost' when the process was killed before it answered. */
  ask(request: Omit<Asked, 'token'> & { token?: string }): Promise<{ status: number; body: unknown } | 'lost'>
  trace(line: string): void
  /** Says that something is wrong; the history goes on and fails in the end. */
  wrong(text: string): void
  readonly wrongs: readonly string[]
  readonly troubles: ReadonlyMap<string, number>
  readonly kills: { readonly before: number; readonly after: number; readonly anywhere: number }
  lines(): readonly string[]
  hash(): string
}

export type WorldOptions = {
  readonly seed: number
  readonly weather: Weather
  /** Kills once, at this commit of the history. */
  readonly killAt?: { readonly commit: number; readonly when: 'before' | 'after' }
}

/** One history's world: simulated drivers that outlive the process, and the process that comes and goes. */
export async function openWorld(site: Site, { seed, weather: first, killAt }: WorldOptions): Promise<World> {
  const random = seeded(seed)
  const schedule = createSchedule(random, site.startMs)
  const ledger = createLedger()
  const drivers = simulatedDrivers({ clock: schedule, signer: site.signer })
  const { compute, network, edge, front } = drivers
  const folder = site.folder()
  const hash = createHash('sha256')
  const lines: string[] = []
  const wrongs: string[] = []
  const troubles = new Map<string, number>()
  const kills = { before: 0, after: 0, anywhere: 0 }
  let weather = first
  let current: Process | undefined
  const processes: Process[] = []
  let isOver = false
  let killed = Promise.withResolvers<'lost'>()
  let risen = Promise.withResolvers<void>()
  const pending: Pending = new Map()
  let boundaries = 0
  let starting = 0

  const trace = (line: string): void => {
    const text = `${schedule.now() - site.startMs} ${line}`
    hash.update(`${text}\n`)
    if (lines.length < TRACE_LINES_MAX) lines.push(text)
  }
  const wrong = (text: string): void => {
    if (isOver || wrongs.includes(text)) return
    trace(`WRONG ${text}`)
    wrongs.push(text)
  }
  const start = async (): Promise<void> => {
    const mine = ++starting
    current = await startProcess({
      directory: folder.directory,
      drivers,
      schedule,
      random,
      ledger,
      workers: weather.workers,
      faults: {
        pending,
        rates: () => weather.rates,
        onTrouble(verb: string, trouble: Trouble, from: string) {
          const key = `${verb} ${trouble} ${from}`
          troubles.set(key, (troubles.get(key) ?? 0) + 1)
        },
        trace,
      },
      trouble: () => weather.commits,
      onKilled: () => fall('at a commit'),
      atCommit(when) {
        if (when === 'before') boundaries++
        return killAt !== undefined && killAt.commit === boundaries && killAt.when === when && mine === 1
      },
      onBug: (line) => wrong(`logged as an error: ${line.trim()}`),
    })
    processes.push(current)
    site.lead(current, (line) => wrong(`logged as an error: ${line.trim()}`))
    trace('up')
    risen.resolve()
  }
  /** The process is gone: clients see it, and a new one is started after a while. */
  function fall(where: string): void {
    const dead = current
    if (!dead) return
    current = undefined
    kills.anywhere++
    trace(`killed ${where}`)
    risen = Promise.withResolvers()
    site.lead(undefined, (line) => wrong(`logged as an error by a dead process: ${line.trim()}`))
    killed.resolve('lost')
    killed = Promise.withResolvers()
    void schedule
      .point(undefined, random.int(DOWN_MS_MAX))
      .then(async () => {
        await dead.kill()
        await start()
      })
      .catch((error: unknown) => wrong(`a start failed: ${String(error)}`))
  }

  await start()
  const rows = openRows(folder.directory)
  return {
    random,
    schedule,
    ledger,
    rows,
    directory: folder.directory,
    adminToken: site.adminToken,
    compute,
    network,
    edge,
    front,
    process: () => current,
    setWeather: (to) => void (weather = to),
    kill() {
      if (!current) return
      schedule.kill(current.life)
      fall('anywhere')
    },
    async up() {
      while (!current) await risen.promise
    },
    async ask(request) {
      if (!current) return 'lost'
      const loss = killed.promise
      schedule.busy(1)
      const answer = await Promise.race([site.ask({ token: site.adminToken, ...request }), loss])
      schedule.busy(-1)
      return answer
    },
    trace,
    wrong,
    wrongs,
    troubles,
    kills,
    lines: () => lines,
    hash: () => hash.copy().digest('hex'),
    async [Symbol.asyncDispose]() {
      rows.close()
      site.lead(undefined, () => {})
      if (current) {
        schedule.kill(current.life)
        await current.kill()
      }
      isOver = true
      for (const it of processes) it.bury()
      folder.remove()
    },
  }
}
