import { isDeepStrictEqual } from 'node:util'
import { CloudError } from '#lib/errors.ts'
import type { StoredRecord } from '#engine/store.ts'
import { intervalsOf, sum } from '#cloud/observe/usage.ts'
import { always, type Bounds, late, quotas as overQuotas, unsettled } from './invariants.ts'
import { createModel, type Model, type Tenant } from './model.ts'
import { NO_TROUBLE, SETTINGS } from './process.ts'
import type { Random } from './random.ts'
import { drawRequest, learn, type Request } from './requests.ts'
import { remains } from './rows.ts'
import type { Site } from './site.ts'
import { FAIR, openWorld, type Weather, type World, type WorldOptions } from './world.ts'

const THINK_MS_MAX = 4000
const CHECK_EVERY_MS = 3000
const ONLOOK_MS_MAX = 20_000
/** A loop has been up for so long before what is late is held against it. */
const UP_MS_MIN = 15_000
/** Everything works: by then all must have come to rest. The longest pause after failures is five minutes. */
const REST_MS_MAX = 30 * 60_000
const CHAOS_MS_MAX = 3 * 3_600_000

export type Outcome = {
  readonly seed: number
  readonly wrongs: readonly string[]
  readonly hash: string
  readonly requests: number
  readonly acknowledged: number
  readonly commits: number
  readonly kills: number
  readonly steps: number
  readonly troubles: ReadonlyMap<string, number>
  readonly lines: readonly string[]
}

/** The weather of a seed: from fair with a few kills to everything at once. */
export function drawWeather(random: Random): Weather {
  const rough = random.pick([0, 0.01, 0.03, 0.08])
  const killing = random.pick([0, 0.003, 0.01, 0.03])
  const share = (): number => rough * random.next()
  return {
    rates: { before: share(), after: share(), late: share() / 2, slow: share() },
    commits: {
      killBefore: killing * random.next(),
      killAfter: killing * random.next(),
      refuse: random.pick([0, 0, 0.01]),
      shortLease: random.pick([0, 0.02, 0.1, 0.3]),
    },
    disturbedEveryMs: random.pick([0, 5000, 20_000]),
    workers: random.pick([1, 1, 2]),
  }
}

/** Calls fail so often that each call of a verb meets with every trouble within some histories. */
export const ROUGH: Weather = {
  rates: { before: 0.12, after: 0.12, late: 0.01, slow: 0.01 },
  commits: NO_TROUBLE,
  disturbedEveryMs: 3000,
  workers: 1,
}

type Stage = {
  readonly world: World
  readonly model: Model
  readonly tenants: number | undefined
  requests: number
  acknowledged: number
}

/** A tenant's client: one request after another, and after a lost answer it looks what became of it. */
async function client(stage: Stage, name: string, count: number): Promise<void> {
  const { world, model } = stage
  let of: Tenant | undefined
  for (let n = 0; n < count; n++) {
    while (!of || of.going) of = await newTenant(stage, name)
    let request: Request | undefined
    while (!request) request = drawRequest(world.random, model, of)
    await world.schedule.point(undefined, world.random.int(THINK_MS_MAX))
    await world.up()
    of.asking++
    const { method, path, body } = request
    const answer = await world.ask({ method, path, token: of.token, ...(body === undefined ? {} : { body }) })
    if (answer === 'lost') await world.up()
    stage.requests++
    if (answer !== 'lost' && answer.status < 300) stage.acknowledged++
    world.trace(`${of.name}: ${request.what} ${answer === 'lost' ? answer : answer.status}`)
    for (const it of learn(model, of, request, answer, world.rows.all())) world.wrong(it)
    of.asking--
  }
}

const LOW_QUOTAS = {
  vpcs: 2,
  subnets: 3,
  workloads: 4,
  replicas: 7,
  cpuMillicores: 6000,
  memoryMib: 4096,
  externalAddresses: 2,
  publishedPorts: 3,
}
const HIGH_QUOTAS = {
  vpcs: 50,
  subnets: 200,
  workloads: 500,
  replicas: 1000,
  cpuMillicores: 2_000_000,
  memoryMib: 2_097_152,
  externalAddresses: 100,
  publishedPorts: 100,
}

/** Asks for a tenant until there is one. One whose answer was lost is nobody's: its token went with it. */
async function newTenant({ world, model }: Stage, name: string): Promise<Tenant> {
  for (let n = 0; ; n++) {
    await world.schedule.point(undefined, world.random.int(THINK_MS_MAX))
    await world.up()
    const answer = await world.ask({
      method: 'POST',
      path: '/native/tenant',
      body: { name: n ? `${name}-${n}` : name },
    })
    world.trace(`tenant ${name}: ${answer === 'lost' ? answer : answer.status}`)
    await world.up()
    if (answer === 'lost' || answer.status !== 201) continue
    const { id, token } = answer.body as { id: string; token: string }
    const row = world.rows.one(id)
    const made: Tenant = { id, name, token, going: false, quotas: row?.spec.quotas, asking: 0 }
    model.tenants.set(id, made)
    return made
  }
}

/** What an administrator does meanwhile: quotas up and down, tenants that go. */
async function administrator(stage: Stage, count: number, bounds: Bounds): Promise<void> {
  const { world, model } = stage
  for (let n = 0; n < count; n++) {
    await world.schedule.point(undefined, world.random.int(10 * THINK_MS_MAX))
    await world.up()
    const all = [...model.tenants.values()].filter((it) => !it.going)
    if (!all.length) return
    const of = world.random.pick(all)
    of.asking++
    if (world.random.chance(0.25)) await configure(world)
    else if (world.random.chance(0.12)) {
      const path = `/${world.random.pick(['circloud/tenants', 'native/tenant'])}/${of.id}`
      const headers = await askAdmin(world, 'DELETE', path)
      world.trace(`delete ${of.name} ${headers}`)
      const row = world.rows.one(of.id)
      if (row && row.deletedAt === null && headers < 300 && headers > 0)
        world.wrong(`${path} answered and did nothing`)
      if (!row || row.deletedAt !== null) model.tenantGoes(of.id)
    } else {
      const quotas = world.random.pick([LOW_QUOTAS, HIGH_QUOTAS])
      const status = await askAdmin(world, 'PATCH', `/native/tenant/${of.id}`, { spec: { quotas } })
      world.trace(`quotas of ${of.name} ${status}`)
      const now = world.rows.one(of.id)?.spec.quotas as Record<string, number>
      const wanted = { ...of.quotas, ...quotas }
      if (status >= 200 && status < 300 && !isDeepStrictEqual(now, wanted))
        world.wrong('quotas were acknowledged and are not')
      if (!isDeepStrictEqual(now, wanted) && !isDeepStrictEqual(now, of.quotas))
        world.wrong('quotas are half changed')
      of.quotas = now
      // What is used under high quotas may stay under low ones, though nobody looked in between.
      for (const it of overQuotas(world.rows.all(), world, bounds)) world.wrong(it)
    }
    of.asking--
  }
}

/** The installation's own settings: made once, then changed; every VPC follows them. */
async function configure(world: World): Promise<void> {
  const ndots = world.random.int(15)
  const had = world.rows.all().find((row) => row.kind === 'provider')
  const spec = {
    externalCidr: SETTINGS.externalCidr,
    externalGateway: SETTINGS.externalGateway,
    peeringCidr: '10.250.0.0/24',
    nameservers: [],
    ndots,
    cloudflareAccountId: null,
    cloudflareDomain: 'sim.example',
  }
  const status = had
    ? await askAdmin(world, 'PATCH', `/native/provider/${had.id}`, { spec: { ndots } })
    : await askAdmin(world, 'POST', '/native/provider', { name: 'provider', spec })
  world.trace(`configure ${status}`)
  const now = world.rows.all().find((row) => row.kind === 'provider')?.spec.ndots as number | undefined
  if (status >= 200 && status < 300 && now !== ndots)
    world.wrong('a configuration was acknowledged and is not there')
  if (now !== ndots && now !== had?.spec.ndots)
    world.wrong('the configuration is neither the old nor the new one')
}

/** Gives the status, 0 when the answer was lost; waits until the process is up again. */
async function askAdmin(world: World, method: string, path: string, body?: unknown): Promise<number> {
  const answer = await world.ask({ method, path, ...(body === undefined ? {} : { body }) })
  await world.up()
  return answer === 'lost' ? 0 : answer.status
}

/** What befalls the world by itself, as long as it goes on. */
async function disturbances({ world }: Stage, everyMs: number, goesOn: () => boolean): Promise<void> {
  const { random, compute, network, edge } = world
  for (;;) {
    await world.schedule.point(undefined, random.int(2 * everyMs))
    if (!goesOn()) return
    const replicas = world.rows.all().filter((row) => row.kind === 'replica')
    const [replica, vpc] = [replicas.length ? random.pick(replicas).id : '', [...network.plans.keys()]]
    const at = vpc.length ? random.pick(vpc) : ''
    const what = random.pick([
      'exit',
      'fail',
      'vanish',
      'load',
      'drift',
      'router',
      'zone',
      'intruder',
      'litter',
      'kill',
    ] as const)
    world.trace(`disturbed: ${what} ${replica} ${at}`)
    if (what === 'exit' || what === 'fail') compute.exit(replica, what === 'exit' ? 0 : 1)
    else if (what === 'vanish') compute.vanish(replica)
    else if (what === 'load') compute.load(replica, random.int(600))
    else if (what === 'drift') network.meddle(at, { what: 'drift', thing: 'rule', detail: 'rules flushed' })
    else if (what === 'router') network.vanish(at)
    else if (what === 'zone') edge.vanish(at)
    else if (what === 'kill') world.kill()
    else if (what === 'litter')
      for (const driver of [compute, network, edge])
        driver.litter({ what: 'orphan', thing: 'file', detail: 'left over', mend: 'driver' })
    else {
      const plan = network.plans.get(at)
      const stranger = `00000000-0000-7000-8000-${String(random.int(1e12)).padStart(12, '0')}`
      if (plan)
        network.intrude({
          ...plan,
          vpc: stranger,
          uplink: { host: stranger, vpc: stranger },
          attachments: [],
          vips: [],
        })
      const wish = compute.wishes.get(replica)
      if (wish)
        await compute.apply(
          {
            ...wish,
            id: stranger,
            workload: stranger,
            mounts: [{ volume: stranger, path: '/x', readOnly: false }],
          },
          new AbortController().signal,
        )
    }
  }
}

/** Looks that change nothing: at logs, inside containers, at what the host lacks. They may fail, and nothing else. */
async function onlooker({ world }: Stage, goesOn: () => boolean): Promise<void> {
  const { random } = world
  for (;;) {
    await world.schedule.point(undefined, random.int(ONLOOK_MS_MAX))
    if (!goesOn()) return
    const cloud = world.process()?.cloud
    const replicas = world.rows.all().filter((row) => row.kind === 'replica')
    if (!cloud || !replicas.length) continue
    const { id } = random.pick(replicas)
    const what = random.pick(['logs', 'exec', 'missing', 'leaks'] as const)
    const look = async (): Promise<void> => {
      const { signal } = new AbortController()
      const caller = await cloud.authenticate(world.adminToken, {
        dialect: 'sim',
        address: '',
        requestId: '',
      })
      if (!caller) return
      if (what === 'logs') for await (const _ of await cloud.logs(caller, id, { tail: 5 }, signal));
      else if (what === 'exec')
        (await cloud.exec(caller, id, { command: ['true'], tty: false }, signal)).stream.destroy()
      else await cloud[what](caller, signal)
    }
    void look().then(
      () => world.trace(`looked: ${what}`),
      (error: unknown) => {
        if (!(error instanceof CloudError) && !String(error).includes('(simulated)'))
          world.wrong(`${what}: ${String(error)}`)
      },
    )
  }
}

async function watcher({ world, model }: Stage, bounds: Bounds, goesOn: () => boolean): Promise<void> {
  let upSince = world.schedule.now()
  for (;;) {
    await world.schedule.point(undefined, CHECK_EVERY_MS)
    if (!goesOn()) return
    for (const it of always(world, model, bounds)) world.wrong(it)
    const now = world.schedule.now()
    if (!world.process()) upSince = now
    if (now - upSince > UP_MS_MIN) for (const it of late(world.rows.all(), now)) world.wrong(it)
  }
}

/** Lets things happen until nothing is left to say, or says what is. */
async function rest(world: World, left: () => readonly string[]): Promise<void> {
  const until = world.schedule.now() + REST_MS_MAX
  let said = left()
  let isDone = said.length === 0
  const ask = async (): Promise<void> => {
    while (!isDone && world.schedule.now() < until) {
      await world.schedule.point(undefined, CHECK_EVERY_MS)
      said = left()
      isDone = said.length === 0
    }
    isDone = true
  }
  void ask()
  await world.schedule.run(() => isDone, Infinity)
  for (const it of said) world.wrong(`did not come to rest: ${it}`)
}

const finished = (work: Promise<unknown>): (() => boolean) => {
  let isDone = false
  void work.finally(() => (isDone = true))
  return () => isDone
}

async function play(stage: Stage, weather: Weather, size: number): Promise<void> {
  const { world, model } = stage
  const bounds: Bounds = new Map()
  let goesOn = true
  const until = world.schedule.now() + CHAOS_MS_MAX
  const tenants = stage.tenants ?? 1 + world.random.int(3)
  const actors = async (): Promise<void> => {
    // Tunnels are below its domain.
    await configure(world)
    const clients = Array.from({ length: tenants }, async (_, n) => await client(stage, `tenant-${n}`, size))
    await Promise.all([
      ...clients,
      world.schedule
        .point(undefined, 1000)
        .then(async () => await administrator(stage, 1 + world.random.int(4), bounds)),
    ])
  }
  const work = actors().catch((error: unknown) =>
    world.wrong(`the history broke: ${String((error as Error).stack)}`),
  )
  void watcher(stage, bounds, () => goesOn)
  void onlooker(stage, () => goesOn)
  if (weather.disturbedEveryMs > 0) void disturbances(stage, weather.disturbedEveryMs, () => goesOn)
  await world.schedule.run(finished(work), until)
  goesOn = false
  world.setWeather({ ...FAIR, workers: weather.workers })
  world.trace('fair')
  await rest(world, () => (world.process() ? unsettled(world) : ['the process is down']))
  const check = (): void => {
    for (const it of always(world, model, bounds)) world.wrong(it)
  }
  check()
  await bill(stage)
  await ending(stage)
  check()
  await bill(stage)
}

/** Deletes every tenant; then nothing is left of them, in the records and in the world. */
async function ending({ world, model }: Stage): Promise<void> {
  const all = async (): Promise<void> => {
    for (const it of world.rows.all().filter((row) => row.kind === 'tenant' && row.deletedAt === null)) {
      let status = 0
      while (status === 0) status = await askAdmin(world, 'DELETE', `/native/tenant/${it.id}`)
      // Asked again after a lost answer it may be gone already.
      if (status >= 300 && status !== 404) world.wrong(`the tenant ${it.name} cannot be deleted: ${status}`)
      model.tenantGoes(it.id)
    }
  }
  await world.schedule.run(finished(all()), Infinity)
  const { compute, network, edge, front } = world
  const signal = new AbortController().signal
  let volumes: readonly string[] = []
  const real = (): string[] => [
    ...[...network.plans.keys()].map((it) => `router ${it}`),
    ...[...edge.zones.keys()].map((it) => `zone ${it}`),
    ...[...front.fronts.keys()].map((it) => `front ${it}`),
    ...[...front.certificates.keys()].map((it) => `certificate ${it} at the front door`),
    ...(compute.wishes.size > 0 ? [`${compute.wishes.size} containers`] : []),
    ...volumes.map((it) => `volume ${it}`),
  ]
  await rest(world, () => {
    void compute.volumes(signal).then((found) => (volumes = found))
    return [...remains(world.directory), ...real()]
  })
}

/** The bill is the sum of its intervals: by the product, from its records, and by the account of the commits. */
async function bill({ world, model }: Stage): Promise<void> {
  const now = world.schedule.now()
  const records: readonly StoredRecord[] = world.rows.usage()
  const intervals = intervalsOf(records)
  const billed = new Map<string, number>()
  for (const id of new Set([...model.tenants.keys(), ...records.map((it) => it.tenant)])) {
    const usage = sum(intervalsOf(records.filter((it) => it.tenant === id)), 0, now)
    for (const { milliseconds, ...of } of usage.replicas)
      billed.set(`${id} replica ${JSON.stringify(of)}`, milliseconds)
    billed.set(`${id} address`, usage.externalAddresses.milliseconds)
  }
  const used = world.ledger.used(now)
  for (const key of new Set([...billed.keys(), ...used.keys()]))
    if ((billed.get(key) ?? 0) !== (used.get(key) ?? 0))
      world.wrong(`${key}: billed ${billed.get(key) ?? 0} ms, used ${used.get(key) ?? 0} ms`)
  const live = new Set(world.rows.all().map((row) => row.id))
  for (const it of intervals)
    if (it.to === undefined && !live.has(it.subject))
      world.wrong(`${it.of.what} ${it.subject} is gone and still billed`)
  await Promise.resolve()
}

/** Plays the history of a seed to its end and gives what came of it. Never throws for what the history found. */
export async function playHistory(
  site: Site,
  how: {
    readonly seed: number
    /** Requests of each tenant. */
    readonly size?: number
    readonly weather?: Weather
    readonly tenants?: number
    readonly killAt?: WorldOptions['killAt']
  },
): Promise<Outcome> {
  const { seed, size = 14, killAt } = how
  await using world = await openWorld(site, {
    seed,
    weather: how.weather ?? FAIR,
    ...(killAt ? { killAt } : {}),
  })
  const weather = how.weather ?? drawWeather(world.random)
  world.setWeather(weather)
  world.trace(JSON.stringify(weather))
  const stage: Stage = { world, model: createModel(), tenants: how.tenants, requests: 0, acknowledged: 0 }
  try {
    await play(stage, weather, size)
  } catch (error) {
    world.wrong(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  return {
    seed,
    wrongs: world.wrongs,
    hash: world.hash(),
    requests: stage.requests,
    acknowledged: stage.acknowledged,
    commits: world.ledger.commits,
    kills: world.kills.anywhere,
    steps: world.schedule.steps(),
    troubles: world.troubles,
    lines: world.lines(),
  }
}
