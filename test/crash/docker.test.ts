import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Daemon, openDaemon } from '../docker/daemon.ts'
import type { TestTenant } from '../e2e/client.testing.ts'
import { startCloud, type TestCloud } from '../e2e/cloud.testing.ts'
import { ARCUS } from '../program.ts'
import { assertNothingLeft, hostSnapshot, reachableFrom, run, tcpFrom } from '../e2e/host.testing.ts'
import { listening, placeOf } from '../e2e/probe.testing.ts'
import { eventually, everyStep } from '../e2e/wait.testing.ts'
import { type Ask, type Ledger, openLedger, reckon, workUntil } from './ledger.testing.ts'
import { type Random, randomFrom, roundsOfRun, seedOfRun } from './random.testing.ts'

// kill -9 of cloud, agent, edge and container engine, one and several at once, at random moments under creates, changes and
// deletes. The engine is of these tests alone. What was acknowledged is there, as it was last changed, and works; nothing is
// there that the records do not know.
const ROUNDS = roundsOfRun(10, 200)
const WORKERS = 2
const NET = 99
const [PROBE, IDLE] = ['arcus-probe:latest', 'idle:latest']
const VICTIMS = ['cloud', 'agent', 'edge', 'engine'] as const
const LOAD_MS_MAX = 2500
const PAUSE_MS = 300
const ENGINE_AWAY_MS_MAX = 1500
/** After so many rounds everything is let settle and compared, which also lets the parent's pauses become short again. */
const COMPARE_EVERY = 5
const ANSWERS_MS_MAX = 40_000
const SETTLES_MS = 90_000

type Workload = {
  id: string
  name: string
  settled: boolean
  overdue?: string
  deletedAt?: string
  spec: { image: string; replicas: number; env: Record<string, string>; vip: string }
  status: { state: string; message?: string; ready: number }
}
type Replica = { id: string; spec: { workload: string; address: string } }
type Inspected = {
  State: { Running: boolean }
  Config: { Image: string; Env: string[]; Labels: Record<string, string> }
}

/** One kind of the cloud's processes, or the engine, in any combination. */
function victimsOf(random: Random): (typeof VICTIMS)[number][] {
  for (;;) {
    const some = VICTIMS.filter(() => random.percent(45))
    if (some.length > 0) return some
  }
}

describe('crashes', { concurrency: false }, () => {
  const stack = new AsyncDisposableStack()
  const seed = seedOfRun()
  const random = randomFrom(seed)
  const kills: Record<string, number> = {}
  let daemon: Daemon
  let cloud: TestCloud
  let host: Set<string>
  let tenants: TestTenant[]
  let ledgers: Ledger[]

  before(async () => {
    host = await hostSnapshot()
    daemon = stack.use(await openDaemon('acr', NET, [PROBE, IDLE]))
    // Read by the agent, by the program that purges, and by Docker's own client.
    process.env['ARCUS_DOCKER'] = daemon.socket
    process.env['DOCKER_HOST'] = `unix://${daemon.socket}`
    cloud = await startCloud()
    tenants = await Promise.all(Array.from({ length: WORKERS }, () => cloud.tenant('crash')))
    ledgers = await Promise.all(tenants.map((it) => openLedger(askOf(it), [PROBE, IDLE])))
  })
  after(async () => {
    await everyStep(
      () => cloud?.[Symbol.asyncDispose](),
      async () => {
        delete process.env['ARCUS_DOCKER']
        delete process.env['DOCKER_HOST']
        await stack.disposeAsync()
      },
      () => assertNothingLeft(host),
    )
  })

  const askOf =
    (tenant: TestTenant): Ask =>
    async (method, path, body) => {
      const answer = await fetch(`${cloud.url}/native${path}`, {
        method,
        headers: {
          authorization: `Bearer ${tenant.token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(15_000),
      })
      return { status: answer.status, body: await answer.json() }
    }

  const list = async <T>(ledger: Ledger, kind: string): Promise<T[]> => {
    const { body } = await ledger.ask('GET', `/${kind}?limit=1000`)
    return (body as { items: T[] }).items
  }

  async function end(victim: (typeof VICTIMS)[number]): Promise<void> {
    // One whose turn comes while it is down since the last round cannot be killed again.
    if (victim !== 'engine' && !cloud.kill(victim)) return
    kills[victim] = (kills[victim] ?? 0) + 1
    if (victim !== 'engine') return
    await daemon.stop('SIGKILL')
    await sleep(random() * ENGINE_AWAY_MS_MAX)
    await daemon.start()
  }

  /** Every wish is true: the containers that run are the replicas, with the image and environment last asked for. */
  async function settledAndTrue(ledger: Ledger, tenant: TestTenant): Promise<true> {
    const [workloads, replicas] = [
      await list<Workload>(ledger, 'workload'),
      await list<Replica>(ledger, 'replica'),
    ]
    const late = workloads.filter(
      (it) => !it.settled || it.deletedAt !== undefined || it.status.ready !== it.spec.replicas,
    )
    if (late.length > 0)
      throw new Error(
        late.map((it) => `${it.name} ${it.status.state} ${it.overdue ?? it.status.message}`).join(', '),
      )
    const named = await run('docker', 'ps', '-aq', '--filter', `label=arcus.tenant=${tenant.id}`)
    const ids = named.split('\n').filter(Boolean)
    const real = ids.length ? (JSON.parse(await run('docker', 'inspect', ...ids)) as Inspected[]) : []
    const running = real.filter((it) => it.State.Running)
    const seen = running.map((it) => it.Config.Labels['arcus.id'] ?? '')
    assert.deepEqual(seen.sort(), replicas.map((it) => it.id).sort(), 'containers are replicas')
    assert.equal(real.length, running.length, 'no container is left that does not run')
    for (const it of workloads) {
      const own = running.filter((one) => one.Config.Labels['arcus.workload'] === it.id)
      assert.equal(own.length, it.spec.replicas, it.name)
      for (const { Config: config } of own) {
        assert.equal(config.Image, it.spec.image, it.name)
        for (const [name, value] of Object.entries(it.spec.env))
          assert.ok(config.Env.includes(`${name}=${value}`), `${it.name} has ${name}=${value}`)
      }
    }
    return true
  }

  const compare = async (): Promise<void> => {
    for (const [n, ledger] of ledgers.entries()) {
      const tenant = tenants[n]
      assert.ok(tenant)
      await eventually('every wish is true', () => settledAndTrue(ledger, tenant), SETTLES_MS)
    }
    await cloud.noLeaks(SETTLES_MS)
  }

  test(`${ROUNDS} rounds of kill -9 of ${VICTIMS.join(', ')} under load`, async (t) => {
    t.diagnostic(`ARCUS_SEED=${seed}`)
    for (let round = 0; round < ROUNDS; round++) {
      const stop = new AbortController()
      const working = ledgers.map((it) =>
        workUntil(it, random, stop.signal, () => sleep(PAUSE_MS, undefined)),
      )
      try {
        await sleep(random() * LOAD_MS_MAX)
        const victims = victimsOf(random)
        await Promise.all(victims.map(end))
        await sleep(random() * LOAD_MS_MAX)
        await cloud.answers(ANSWERS_MS_MAX)
      } finally {
        stop.abort()
        await Promise.all(working)
      }
      await cloud.answers(ANSWERS_MS_MAX)
      for (const it of ledgers) await reckon(it)
      if ((round + 1) % COMPARE_EVERY === 0) await compare()
    }
    const sum = (of: (it: Ledger) => number): number => ledgers.reduce((all, it) => all + of(it), 0)
    const acknowledged = {
      creates: sum((it) => it.acknowledged.creates),
      changes: sum((it) => it.acknowledged.changes),
      deletes: sum((it) => it.acknowledged.deletes),
    }
    t.diagnostic(
      JSON.stringify({
        kills,
        ...acknowledged,
        unanswered: sum((it) => it.unanswered),
        lost: sum((it) => it.lost),
      }),
    )
    assert.deepEqual(
      ledgers.flatMap((it) => it.wrong),
      [],
      'nothing acknowledged is lost, and every refusal is explained by a crash',
    )
    for (const [what, count] of Object.entries(acknowledged)) assert.ok(count > 0, `there were ${what}`)
  })

  test('what was acknowledged is as it was last changed, and works', async () => {
    await compare()
    for (const ledger of ledgers) {
      const workloads = await list<Workload>(ledger, 'workload')
      const servers = workloads.filter((it) => it.spec.image === PROBE)
      const [first] = servers
      if (!first) continue
      await listening(...servers)
      const from = await placeOf(first)
      const vips = servers.map((it) => it.spec.vip)
      assert.deepEqual(await reachableFrom(from, vips, 80), vips)
      const idle = workloads.filter((it) => it.spec.image === IDLE).map((it) => it.id)
      for (const { spec } of await list<Replica>(ledger, 'replica')) {
        // Nothing listens there: a refusal is the container's own, silence would be a lost attachment.
        if (idle.includes(spec.workload)) assert.equal(await tcpFrom(from, spec.address, 80), 'ECONNREFUSED')
      }
    }
  })

  test('a backup goes back where more has happened since', async () => {
    const [ledger] = ledgers
    const [tenant] = tenants
    assert.ok(ledger && tenant)
    const wishes = async (): Promise<unknown[]> =>
      (await list<Workload>(ledger, 'workload')).map(({ id, spec }) => ({ id, spec }))
    const before = await wishes()
    const [first] = await list<Workload>(ledger, 'workload')
    const file = join(cloud.data, 'backup.tar')
    await run(ARCUS, 'backup', file, '--data', cloud.data)
    // A later attempt of what is in it, and something that is not.
    if (first) await ledger.ask('PATCH', `/workload/${first.id}`, { spec: { env: { ROUND: 'since' } } })
    const { vpc, subnet } = ledger
    const since = { vpc, subnet, image: IDLE, replicas: 1 }
    assert.equal((await ledger.ask('POST', '/workload', { name: 'since', spec: since })).status, 201)
    await eventually('every wish is true', () => settledAndTrue(ledger, tenant), SETTLES_MS)
    await cloud.stop()
    await assert.rejects(run(ARCUS, 'restore', file, '--data', cloud.data), /holds a cloud already/)
    await rm(join(cloud.data, 'cloud'), { recursive: true })
    await run(ARCUS, 'restore', file, '--data', cloud.data)
    await rm(file)
    cloud = await cloud.again()
    assert.deepEqual(await wishes(), before)
    await compare()
  })

  test('all deleted, nothing is left', async () => {
    await Promise.all(tenants.map((it) => it.remove()))
    await cloud.emptied()
    assert.equal((await run('docker', 'ps', '-aq')).trim(), '', 'no container')
  })
})
