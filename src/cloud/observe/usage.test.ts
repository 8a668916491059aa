import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { StoredRecord } from '#engine/store.ts'
import { testCloud } from '#cloud/cloud.testing.ts'
import { intervalsOf, sum } from './usage.ts'
import { meter, type Metered } from './usage.kind.ts'

const small = { cpuMillicores: 250, memoryMib: 512 }
const large = { cpuMillicores: 1000, memoryMib: 512 }
const it = { id: 'r', tenant: 't' }

const stored = (records: readonly { at: number; what: string; body: unknown }[]): StoredRecord[] =>
  records.map((one, at) => ({ stream: 'usage', tenant: 't', subject: 'r', cursor: String(at), ...one }))

test('a replica is metered while it runs, in the class it runs in', () => {
  const started = meter(it, undefined, small, 10)
  assert.deepEqual(started.open, { since: 10, ...small })
  assert.deepEqual(
    started.records.map((one) => one.what),
    ['replica.opened'],
  )
  assert.deepEqual(meter(it, started.open, small, 20), { open: started.open, records: [] })
  const grown = meter(it, started.open, large, 30)
  assert.deepEqual(
    grown.records.map((one) => [one.what, one.body]),
    [
      ['replica.closed', { since: 10, ...small }],
      ['replica.opened', large],
    ],
  )
  assert.deepEqual(meter(it, grown.open, undefined, 40).open, undefined)
  assert.deepEqual(meter(it, undefined, undefined, 50), { open: undefined, records: [] })
})

test('the sum of a period is the sum of its parts, however a replica ran', () => {
  const steps = fc.array(fc.tuple(fc.nat(1000), fc.constantFrom(undefined, small, large)), { maxLength: 30 })
  fc.assert(
    fc.property(steps, fc.nat(20_000), fc.nat(20_000), fc.nat(20_000), (moves, a, b, c) => {
      const [from = 0, middle = 0, to = 0] = [a, b, c].toSorted((one, other) => one - other)
      let [now, open]: [number, Metered | undefined] = [0, undefined]
      const records: { at: number; what: string; body: unknown }[] = []
      let used = 0
      for (const [after, running] of moves) {
        if (open) used += Math.max(0, Math.min(now + after, to) - Math.max(now, from))
        now += after
        const next = meter(it, open, running, now)
        for (const one of next.records) records.push({ ...one, at: now })
        open = next.open
      }
      if (open) used += Math.max(0, to - Math.max(now, from))
      const intervals = intervalsOf(stored(records))
      const total = (start: number, end: number): number =>
        sum(intervals, start, end).replicas.reduce((all, one) => all + one.milliseconds, 0)
      assert.equal(total(from, to), used)
      assert.equal(total(from, middle) + total(middle, to), used)
    }),
  )
})

test('a tenant is billed for what runs and for the addresses it holds, until they are gone', async () => {
  await using world = await testCloud()
  const { caller } = await world.tenant('acme')
  const act = <R>(work: Parameters<typeof world.cloud.act<R>>[2]) => world.cloud.act(caller, 'test', work)
  const since = world.clock.now()
  const vpc = await act(async (verbs) => await verbs.createVpc({ name: 'v', internet: true }))
  const subnet = await act(
    async (verbs) =>
      await verbs.createSubnet({ vpc: vpc.id, name: 's', cidr: '10.0.0.0/24', gateway: '10.0.0.1' }),
  )
  const common = { vpc: vpc.id, subnet: subnet.id }
  const spec = { image: 'idle', egress: true, replicas: 2, ...large }
  const own = await act(
    async (verbs) => await verbs.createWorkload({ ...common, name: 'own', inbound: true, spec }),
  )
  await act(
    async (verbs) => await verbs.createWorkload({ ...common, name: 'nat', spec: { ...spec, ...small } }),
  )
  await world.settle()
  await world.clock.advance(3_600_000)
  const hour = await world.cloud.usage(caller, { from: since, to: world.clock.now() })
  assert.deepEqual(
    hour.replicas.map(({ milliseconds, ...of }) => [of, Math.round(milliseconds / 3_600_000)]),
    [
      [small, 2],
      [large, 2],
    ],
  )
  assert.equal(Math.round(hour.externalAddresses.milliseconds / 3_600_000), 2)

  await act(async (verbs) => await verbs.deleteVpc(vpc.id))
  await world.settle(60_000)
  await world.clock.advance(3_600_000)
  const after = await world.cloud.usage(caller, { from: since, to: world.clock.now() })
  for (const [n, { milliseconds }] of after.replicas.entries()) {
    const before = hour.replicas[n]?.milliseconds ?? 0
    assert.ok(milliseconds >= before && milliseconds < before + 120_000, `${milliseconds} after ${before}`)
  }
  const left = await world.cloud.usage(caller, { from: world.clock.now() - 3_000_000, to: world.clock.now() })
  assert.deepEqual([left.replicas, left.externalAddresses.milliseconds], [[], 0])
  assert.equal(own.spec.externalAddress === undefined, false)
  await assert.rejects(world.cloud.usage(caller, { from: 2, to: 1 }), /must not be after the end/)
})
