import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pod, Vpc } from '../e2e/client.testing.ts'
import { startCloud, type TestCloud } from '../e2e/cloud.testing.ts'
import { assertNothingLeft, hostSnapshot, reachableFrom, run, tcpFrom } from '../e2e/host.testing.ts'
import { answering, listening, placeOf } from '../e2e/probe.testing.ts'
import { eventually, everyStep } from '../e2e/wait.testing.ts'
import { workUntil, type Ledger } from './load.testing.ts'

// kill -9 at random moments under a load of creates and deletes: what was acknowledged is there and works, and nothing
// is there that the records do not know. In each round the cloud process dies, then the agent.
const ROUNDS = process.env['ARCUS_SOAK'] ? 200 : 10
const WORKERS = 3
/** One end soon after another, also of a process that is just coming up … */
const ROUND_MS = 4000
/** … and after some of them time enough that the parent's pause before a start is short again. */
const QUIET_EVERY = 3
const QUIET_MS = 9000
const SETTLES_MS = 60_000

/** A small generator with a seed that the output names, so that a failing run can be repeated. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

describe('crashes', { concurrency: false }, () => {
  let cloud: TestCloud
  let host: Set<string>
  let ledgers: Ledger[]

  before(async () => {
    host = await hostSnapshot()
    cloud = await startCloud()
    ledgers = await Promise.all(
      Array.from({ length: WORKERS }, async () => {
        const tenant = await cloud.tenant('crash')
        const subnet = await tenant.subnet(await tenant.vpc('production'))
        return {
          tenant,
          subnet,
          made: new Map<string, Pod>(),
          deleted: new Set<string>(),
          maybeDeleted: new Set<string>(),
          maybeMade: new Set<string>(),
          wrong: [],
        }
      }),
    )
  })
  after(async () => {
    await everyStep(
      () => cloud?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  test(`${ROUNDS} rounds of kill -9 of cloud and agent under load`, async (t) => {
    const seed = Number(process.env['ARCUS_SEED'] ?? Math.floor(performance.timeOrigin % 2 ** 31))
    t.diagnostic(`ARCUS_SEED=${seed}`)
    const random = randomFrom(seed)
    const stop = new AbortController()
    const workers = ledgers.map((it) => workUntil(it, stop.signal))
    try {
      for (let round = 0; round < ROUNDS; round++) {
        await sleep(random() * 1500)
        cloud.kill('cloud')
        await sleep(random() * 2000)
        cloud.kill('agent')
        await sleep(ROUND_MS - random() * 2000)
        if ((round + 1) % QUIET_EVERY === 0) await sleep(QUIET_MS)
        await cloud.answers()
      }
    } finally {
      stop.abort()
      await Promise.all(workers)
    }
    const [made, deleted] = [ledgers.flatMap((it) => [...it.made]), ledgers.flatMap((it) => [...it.deleted])]
    t.diagnostic(`${made.length + deleted.length} acknowledged, ${deleted.length} of them deleted`)
    assert.deepEqual(
      ledgers.flatMap((it) => it.wrong),
      [],
      'every refusal is explained by a crash',
    )
    assert.ok(deleted.length > ROUNDS, 'there was a load')
  })

  test('what was acknowledged is there and works', async () => {
    for (const ledger of ledgers) {
      const { tenant, made } = ledger
      const listed = await eventually(
        'no pod is on its way any more',
        async () => {
          const pods = await tenant.call<Pod[]>('GET', '/pods', 200)
          const late = pods.filter((it) => it.status !== 'running')
          if (late.length > 0)
            throw new Error(late.map((it) => `${it.name} ${it.status} ${it.status_message}`).join(', '))
          return pods
        },
        SETTLES_MS,
      )
      const ids = new Set(listed.map((it) => it.id))
      for (const [id, pod] of made)
        assert.ok(ids.has(id), `${tenant.name}/${pod.name} was acknowledged and is lost`)
      const vpcs = await tenant.call<Vpc[]>('GET', '/vpcs', 200)
      for (const it of [...listed, ...vpcs]) {
        assert.ok(!ledger.deleted.has(it.id), `${it.name} was deleted and is still there`)
        const known = made.has(it.id) || it.id === ledger.subnet.vpc_id
        assert.ok(
          known || ledger.maybeMade.has(it.name) || ledger.maybeDeleted.has(it.id),
          `${it.name} is there and nobody asked for it`,
        )
      }
      await works(listed)
    }
  })

  test('records and reality agree', async () => {
    await cloud.noLeaks(SETTLES_MS)
    for (const { tenant } of ledgers) {
      const { items } = await cloud.native<{ items: { id: string }[] }>('GET', '/replica', 200, {
        tenant: tenant.id,
      })
      const held = await run(
        'docker',
        'ps',
        '--filter',
        `label=arcus.tenant=${tenant.id}`,
        '--format',
        '{{.Label "arcus.id"}}',
      )
      assert.deepEqual(held.split('\n').filter(Boolean).sort(), items.map((it) => it.id).sort())
    }
  })

  test('all deleted, nothing is left', async () => {
    await Promise.all(ledgers.map((it) => it.tenant.remove()))
    await cloud.emptied()
  })
})

/** Every pod answers at its own address, and those that serve a page at their VIP and name too. */
async function works(pods: Pod[]): Promise<void> {
  const servers = pods.filter((it) => it.container_image.startsWith('arcus-probe'))
  const [first] = servers
  if (!first) return
  await listening(...servers)
  const from = await placeOf(first)
  const vips = servers.map((it) => it.vip)
  assert.deepEqual(await reachableFrom(from, vips, 80), vips)
  for (const it of servers) assert.equal((await answering(first, it.vip, 1)).size, 1)
  for (const it of pods.filter((pod) => !servers.includes(pod))) {
    // Nothing listens there: a refusal is the container's own, silence would be a lost attachment.
    assert.equal(
      await tcpFrom(from, it.ip_addresses[0] ?? '', 80),
      'ECONNREFUSED',
      `${it.name} has its network`,
    )
  }
}
