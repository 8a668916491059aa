import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '../e2e/wait.testing.ts'
import { differences, remains } from './agreement.testing.ts'
import { type Ask, type Ledger, openLedger, reckon, workUntil } from './ledger.testing.ts'
import { type CloudProcess, cloudProcess } from './process.testing.ts'
import { type Random, randomFrom, roundsOfRun, seedOfRun } from './random.testing.ts'
import { type Part, type SimulatedWorld, simulatedWorld } from './world.testing.ts'

// kill -9 of a real cloud process on a real data folder, whose machine is simulated and outlives it. Each lane is a cloud
// of its own; the moments come from the seed.
const ROUNDS = roundsOfRun(200, 400)
const LANES = 2
const WORKERS = 2
/** A round's end comes so many answers after its start, and a moment more. */
const ANSWERS_MAX = 8
const ANSWERS_MS_MAX = 3000
const MOMENT_MS_MAX = 60
/** The longest wait before a driver's verb: a moment in which the process can die. */
const VERB_MS_MAX = 6
const CUT_MS_MAX = 120
/** About as long as a start takes. */
const START_MS_ABOUT = 300
/** Out of a hundred rounds … */
const DIES_STARTING = 15
const WITHOUT_AGENT = 20
const WITHOUT_EDGE = 10
/** … and after so many everything is let settle and the world is held against the records; the others go on at once. */
const COMPARED = 50
const SETTLES_MS = 20_000

type Lane = {
  readonly cloud: CloudProcess
  readonly world: SimulatedWorld
  readonly ledgers: readonly Ledger[]
  readonly tenants: readonly string[]
  readonly random: Random
  kills: number
  compared: number
}

const answersOf = ({ ledgers }: Lane): number =>
  ledgers.reduce((all, { acknowledged: it }) => all + it.creates + it.changes + it.deletes, 0)

/** One part of the machine goes away at a random moment and comes back a little later. */
async function away(world: SimulatedWorld, part: Part, random: Random): Promise<void> {
  await sleep(random() * MOMENT_MS_MAX * 2)
  await world.cut(part)
  await sleep(random() * CUT_MS_MAX)
  await world.serve(part)
}

async function agree(it: Lane): Promise<void> {
  const asks = it.ledgers.map((ledger) => ledger.ask)
  await eventually(
    'records and world agree',
    async () => {
      const found = await differences(asks, it.world)
      if (found.length > 0) throw new Error(found.join('\n'))
      return true
    },
    SETTLES_MS,
  )
  it.compared++
}

async function oneRound(it: Lane): Promise<void> {
  const { cloud, world, ledgers, random } = it
  const stop = new AbortController()
  const pause = (): Promise<void> => sleep(random() * 10)
  const moves: Promise<void>[] = ledgers.map((one) => workUntil(one, random, stop.signal, pause))
  if (random.percent(WITHOUT_AGENT)) moves.push(away(world, 'agent', random))
  if (random.percent(WITHOUT_EDGE)) moves.push(away(world, 'edge', random))
  const enough = answersOf(it) + random.below(ANSWERS_MAX)
  const late = performance.now() + ANSWERS_MS_MAX
  while (answersOf(it) < enough && performance.now() < late) await sleep(5)
  await sleep(random() * MOMENT_MS_MAX)
  await cloud.kill()
  it.kills++
  stop.abort()
  await Promise.all(moves)
  while (random.percent(DIES_STARTING)) {
    const starting = cloud.start().catch(() => {})
    await sleep(random() * START_MS_ABOUT)
    await cloud.kill()
    it.kills++
    await starting
  }
  await cloud.start()
  for (const one of ledgers) await reckon(one)
  if (random.percent(COMPARED)) await agree(it)
}

/** Everything is deleted, and then nothing is left in the records or the world. */
async function empty(it: Lane): Promise<void> {
  await agree(it)
  for (const id of it.tenants)
    assert.equal((await it.cloud.ask('DELETE', `/circloud/tenants/${id}`)).status, 204)
  await eventually(
    'nothing is left',
    async () => {
      const tenants = (await it.cloud.ask('GET', '/native/tenant')).body as { items: { name: string }[] }
      const leaks = (await it.cloud.ask('GET', '/native/leaks')).body as { items: unknown[] }
      const left = [...tenants.items.map((one) => one.name), ...leaks.items, ...(await remains(it.world))]
      if (left.length > 0) throw new Error(JSON.stringify(left))
      return true
    },
    SETTLES_MS,
  )
}

async function runLane(seed: number, rounds: number): Promise<Lane> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-crash-'))
  const random = randomFrom(seed)
  const jitter = randomFrom(seed + 1)
  try {
    await using world = await simulatedWorld(join(folder, 'world'), async () => {
      await sleep(jitter() * VERB_MS_MAX)
    })
    await using cloud = await cloudProcess({
      data: join(folder, 'data'),
      world,
      env: { NODE_COMPILE_CACHE: join(folder, 'cache') },
    })
    // Only a process that ends in order keeps what it compiled: starts are quicker from then on.
    await cloud.start()
    await cloud.kill('SIGTERM')
    await cloud.start()
    const ledgers: Ledger[] = []
    const tenants: string[] = []
    for (let n = 0; n < WORKERS; n++) {
      const made = await cloud.ask('POST', '/circloud/tenants', { name: `crash-${n}`, password: 'gui-pw' })
      assert.equal(made.status, 201)
      const { id, api_token: token } = made.body as { id: string; api_token: string }
      const ask: Ask = (method, path, body) => cloud.ask(method, `/native${path}`, body, { token })
      ledgers.push(await openLedger(ask, ['idle:1', 'idle:2', 'idle:3']))
      tenants.push(id)
    }
    const lane: Lane = { cloud, world, ledgers, tenants, random, kills: 0, compared: 0 }
    try {
      for (let round = 0; round < rounds; round++) await oneRound(lane)
      await empty(lane)
    } catch (error) {
      throw new Error(`after ${lane.kills} kills: ${(error as Error).message}\n${cloud.said()}`, {
        cause: error,
      })
    }
    return lane
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

describe('crashes of a simulated cloud', () => {
  test(`${ROUNDS} rounds of kill -9 under load`, async (t) => {
    const seed = seedOfRun()
    t.diagnostic(`ARCUS_SEED=${seed}`)
    const lanes = await Promise.all(
      Array.from({ length: LANES }, (_, n) => runLane(seed + n * 7919, Math.ceil(ROUNDS / LANES))),
    )
    const ledgers = lanes.flatMap((it) => it.ledgers)
    const sum = (of: (it: Ledger) => number): number => ledgers.reduce((all, it) => all + of(it), 0)
    const said = {
      kills: lanes.reduce((all, it) => all + it.kills, 0),
      compared: lanes.reduce((all, it) => all + it.compared, 0),
      creates: sum((it) => it.acknowledged.creates),
      changes: sum((it) => it.acknowledged.changes),
      deletes: sum((it) => it.acknowledged.deletes),
      unanswered: sum((it) => it.unanswered),
      lost: sum((it) => it.lost),
    }
    t.diagnostic(JSON.stringify(said))
    assert.deepEqual(
      ledgers.flatMap((it) => it.wrong),
      [],
      'nothing acknowledged is lost, and every refusal is explained by a crash',
    )
    assert.ok(said.kills >= ROUNDS && said.compared > 0)
    assert.ok(said.creates + said.changes + said.deletes > ROUNDS && said.unanswered > 0, 'there was a load')
    for (const what of ['creates', 'changes', 'deletes'] as const) assert.ok(said[what] > ROUNDS / 10, what)
  })
})
