import assert from 'node:assert/strict'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '../e2e/wait.testing.ts'
import { differences } from './agreement.testing.ts'
import { type Ask } from './ledger.testing.ts'
import { type CloudProcess, cloudProcess } from './process.testing.ts'
import { type SimulatedWorld, simulatedWorld } from './world.testing.ts'

// The wall clock of a running cloud is set: forward by a day, back by an hour, and back while it does not run. Nothing waits
// for the difference, nothing is late by it, and order by id stays order by age.
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Far below what the clock is set by, and above every pause that there should be. */
const SETTLES_MS = 20_000
/** Time for looks to fail and be put off, and for the sweep of what is late. */
const SWEPT_MS = 1500

type Workload = { id: string; name: string; settled: boolean; overdue?: string; createdAt: string }

describe('a clock that is set', { concurrency: false }, () => {
  const stack = new AsyncDisposableStack()
  let cloud: CloudProcess
  let world: SimulatedWorld
  let ask: Ask
  let vpc: string
  let subnet: string
  let clock: string
  let byMs = 0

  before(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'arcus-clock-'))
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    clock = join(folder, 'clock')
    await setBy(0)
    world = stack.use(await simulatedWorld(join(folder, 'world')))
    const preload = `--import=${join(import.meta.dirname, 'clock.preload.ts')}`
    const env = { NODE_OPTIONS: preload, ARCUS_TEST_CLOCK: clock }
    cloud = stack.use(await cloudProcess({ data: join(folder, 'data'), world, env }))
    await cloud.start()
    const made = await cloud.ask('POST', '/circloud/tenants', { name: 'acme', password: 'gui-pw' })
    const { api_token: token } = made.body as { api_token: string }
    ask = (method, path, body) => cloud.ask(method, `/native${path}`, body, { token })
    vpc = (await create('vpc', 'v', { internet: true })).id
    subnet = (await create('subnet', 's', { vpc, cidr: '10.100.1.0/24' })).id
  })
  after(() => stack.disposeAsync())

  async function setBy(ms: number): Promise<void> {
    byMs += ms
    await writeFile(`${clock}.next`, String(byMs))
    await rename(`${clock}.next`, clock)
    // Until every thread has read it.
    await sleep(100)
  }
  async function create(kind: string, name: string, spec: unknown): Promise<Workload> {
    const { status, body } = await ask('POST', `/${kind}`, { name, spec })
    assert.equal(status, 201, JSON.stringify(body))
    return body as Workload
  }
  const workload = (name: string): Promise<Workload> =>
    create('workload', name, { vpc, subnet, image: 'idle', replicas: 1 })
  const all = async (): Promise<Workload[]> =>
    ((await ask('GET', '/workload')).body as { items: Workload[] }).items
  const nothingIsLate = async (): Promise<void> =>
    assert.deepEqual(
      (await all()).flatMap((it) => it.overdue ?? []),
      [],
    )
  const agree = (): Promise<unknown> =>
    eventually(
      'records and world agree',
      async () => {
        const found = await differences([ask], world)
        if (found.length > 0) throw new Error(found.join('\n'))
        return true
      },
      SETTLES_MS,
    )
  /** Makes a workload that cannot settle yet, since nobody answers for the machine, and does something meanwhile. */
  async function unsettled(name: string, during: () => Promise<void>): Promise<void> {
    await world.cut('agent')
    await workload(name)
    await sleep(SWEPT_MS)
    await during()
    await sleep(SWEPT_MS)
    await nothingIsLate()
    await world.serve('agent')
    await agree()
    await nothingIsLate()
  }

  test('forward by a day: nothing is late by it, and everything goes on', async () => {
    await workload('first')
    await agree()
    await unsettled('forward', () => setBy(DAY_MS))
    const { createdAt } = await workload('tomorrow')
    assert.ok(Math.abs(Date.parse(createdAt) - Date.now() - DAY_MS) < HOUR_MS, createdAt)
    await agree()
  })

  test('back by an hour: nothing waits for it', async () => {
    await unsettled('back', () => setBy(-HOUR_MS))
    await workload('again')
    await agree()
  })

  test('back by an hour while it does not run: the same, and ids keep their order', async () => {
    const known = (await all()).map((it) => it.id)
    await unsettled('stopped', async () => {
      await cloud.kill()
      await setBy(-HOUR_MS)
      await cloud.start()
    })
    const { id } = await workload('youngest')
    for (const older of known) assert.ok(id > older, `${id} is after ${older}`)
    await agree()
  })

  test('and all that is deleted goes', async () => {
    for (const it of await all()) assert.equal((await ask('DELETE', `/workload/${it.id}`)).status, 202)
    await eventually('all are gone', async () => (await all()).length === 0, SETTLES_MS)
    assert.deepEqual(await world.compute.list(new AbortController().signal), [])
  })
})
