// Ports of the host that workloads are reached by: who gets which, and when it is free again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testCloud } from '#cloud/cloud.testing.ts'
import type { Verbs } from '#cloud/cloud.ts'
import type { Caller } from '#cloud/access.ts'
import { DEFAULT_SETTINGS, type Settings } from '#cloud/context.ts'
import { tenant as tenantKind } from '#cloud/identity/tenant.kind.ts'
import { PLATFORM } from '#engine/resource.ts'
import { planVpc } from '#cloud/network/plan.ts'
import { subnet as subnetKind } from '#cloud/network/subnet.kind.ts'
import { vpc as vpcKind } from '#cloud/network/vpc.kind.ts'
import { type ErrorCode, type ErrorRule, isCloudError } from '#lib/errors.ts'
import { type PublishedPort, workload, type Workload } from './workload.kind.ts'

const refused =
  (code: ErrorCode, rule?: ErrorRule, text = /./) =>
  (error: unknown) => {
    assert.ok(isCloudError(error, code), String(error))
    assert.equal(error.details.rule, rule)
    assert.match(error.message, text)
    return true
  }

const tcp = (host: number, container = 80): PublishedPort => ({ host, container, protocol: 'tcp' })

async function published(settings: Partial<Settings> = {}) {
  const world = await testCloud({ settings: { publishedPorts: { from: 30_000, to: 30_003 }, ...settings } })
  const act = <R>(as: Caller, work: (verbs: Verbs) => Promise<R>): Promise<R> =>
    world.cloud.act(as, 'test', work)
  const tenantOf = async (name: string) => {
    const { caller } = await world.tenant(name)
    const vpc = await act(caller, (verbs) => verbs.createVpc({ name: 'one', internet: false }))
    const subnet = await act(caller, (verbs) =>
      verbs.createSubnet({ vpc: vpc.id, name: 'web', cidr: '10.1.1.0/24', gateway: '10.1.1.1' }),
    )
    const make = (name: string, ports: readonly PublishedPort[]): Promise<Workload> =>
      act(caller, (verbs) =>
        verbs.createWorkload({
          vpc: vpc.id,
          subnet: subnet.id,
          name,
          spec: { image: 'nginx:latest', published: ports as PublishedPort[] },
        }),
      )
    const change = (of: Workload, ports: readonly PublishedPort[] | null): Promise<Workload> =>
      act(caller, (verbs) =>
        verbs.patch(workload, of.id, { spec: { published: ports } }),
      ) as Promise<Workload>
    const remove = (of: Workload) => act(caller, (verbs) => verbs.deleteWorkload(of.id))
    return { caller, vpc, make, change, remove }
  }
  return { ...world, tenantOf, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() }
}

test('a port is one workload’s in the whole installation, and in force with the replicas that are ready', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  const bob = await it.tenantOf('bob')
  const web = await ann.make('web', [tcp(30_001), { ...tcp(30_001, 53), protocol: 'udp' }])
  await assert.rejects(bob.make('web', [tcp(30_001)]), refused('conflict', 'port_taken', /30001 is in use/))
  const planned = () => it.network.plans.get(ann.vpc.id)?.published
  await it.settle()
  const backends = (await it.cloud.get(ann.caller, workload, web.id)).status.replicas.map((one) => one.id)
  assert.deepEqual(planned(), [
    { id: web.id, host: 30_001, container: 80, protocol: 'tcp', backends },
    { id: web.id, host: 30_001, container: 53, protocol: 'udp', backends },
  ])
  await ann.change(web, [tcp(30_002)])
  await it.settle()
  assert.deepEqual(planned(), [{ id: web.id, host: 30_002, container: 80, protocol: 'tcp', backends }])
  await bob.make('web', [tcp(30_001)])
  await ann.change(web, null)
  await it.settle()
  assert.equal(planned(), undefined)
  assert.equal((await it.cloud.get(ann.caller, workload, web.id)).spec.published, undefined)
})

test('it is free again when its workload is gone', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  const web = await ann.make('web', [tcp(30_001)])
  await it.settle()
  await ann.remove(web)
  await assert.rejects(ann.make('next', [tcp(30_001)]), refused('conflict', 'port_taken'))
  await it.settle()
  await ann.make('next', [tcp(30_001)])
})

test('host port 0 finds a free one as long as there is one, and stays what it became', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  it.network.occupy({ protocol: 'tcp', port: 30_002 })
  const first = await ann.make('first', [tcp(0), tcp(30_000, 81)])
  assert.deepEqual(first.spec.published, [tcp(30_001), tcp(30_000, 81)])
  const second = await ann.make('second', [tcp(0)])
  assert.deepEqual(second.spec.published, [tcp(30_003)])
  await assert.rejects(ann.make('third', [tcp(0)]), refused('exhausted', 'capacity', /--published-ports/))
  // Ports of another protocol are others.
  assert.equal((await ann.make('third', [{ ...tcp(0), protocol: 'udp' }])).spec.published?.length, 1)
  assert.deepEqual((await ann.change(first, [tcp(0)])).spec.published, [tcp(30_001)])
  assert.deepEqual((await ann.change(first, [tcp(0), tcp(0)])).spec.published, [tcp(30_001), tcp(30_000)])
})

test('many at once get a port each', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  const made = await Promise.all(['a', 'b', 'c', 'd'].map((name) => ann.make(name, [tcp(0)])))
  assert.equal(new Set(made.flatMap((one) => one.spec.published?.map((port) => port.host))).size, 4)
})

test('what cannot be published is refused, and nothing is made', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  it.network.occupy({ protocol: 'tcp', port: 30_002 })
  const listens = refused('conflict', 'port_taken', /program of the host listens on port 30002/)
  await assert.rejects(ann.make('web', [tcp(30_002)]), listens)
  await ann.make('other', [{ ...tcp(30_002), protocol: 'udp' }])
  for (const port of [22, 29_999, 30_004])
    await assert.rejects(
      ann.make('web', [tcp(port)]),
      refused('conflict', 'port_taken', /from 30000 to 30003/),
    )
  await assert.rejects(
    ann.make('web', [tcp(30_001), tcp(30_001, 81)]),
    refused('conflict', 'port_taken', /twice/),
  )
  for (const wrong of [
    [{ host: 30_001, container: 0, protocol: 'tcp' }],
    [{ host: -1 }],
    'x',
    5,
    [tcp(70_000)],
  ])
    await assert.rejects(ann.make('web', wrong as unknown as PublishedPort[]), refused('invalid'))
  const web = await ann.make('web', [tcp(30_001)])
  await assert.rejects(ann.change(web, [tcp(30_002)]), listens)
  // What it has it keeps, whoever listens there by now.
  it.network.occupy({ protocol: 'tcp', port: 30_001 })
  assert.deepEqual((await ann.change(web, [tcp(30_001), tcp(30_003)])).spec.published?.length, 2)
})

test('what is outside of a range that became narrower stays closed', async () => {
  await using it = await published({ publishedPorts: { from: 30_000, to: 30_010 } })
  const ann = await it.tenantOf('ann')
  await ann.make('web', [tcp(30_001), tcp(30_009)])
  await it.settle()
  const hosts = it.network.plans.get(ann.vpc.id)?.published?.map((one) => one.host)
  assert.deepEqual(hosts, [30_001, 30_009])
  const narrow = { ...it.cloud.settings, publishedPorts: { from: 30_000, to: 30_003 } }
  const world = {
    vpc: await it.cloud.get(ann.caller, vpcKind, ann.vpc.id),
    subnets: await it.cloud.all(ann.caller, subnetKind),
    workloads: await it.cloud.all(ann.caller, workload),
    replicas: [],
    groups: [],
    routeTables: [],
    internetGateways: [],
    elasticIps: [],
    natGateways: [],
    peered: [],
    zone: undefined,
    records: [],
    balancers: [],
    provider: undefined,
  }
  assert.deepEqual(
    planVpc(world, narrow).published?.map((one) => one.host),
    [30_001],
  )
})

test('while the host does not answer nothing new is published, and the rest goes on', async () => {
  let isAway = false
  await using it = await testCloud({
    fault(verb) {
      if (isAway && verb === 'network.listening') throw new Error('broken')
    },
  })
  const { caller } = await it.tenant('ann')
  const make = (name: string, spec: object) =>
    it.cloud.act(caller, 'test', (verbs) => verbs.launchInstance({ name, image: 'nginx', ...spec }))
  isAway = true
  await assert.rejects(make('web', { published: [tcp(0)] }), refused('unavailable', undefined, /try again/))
  await make('web', {})
  isAway = false
  assert.equal((await make('two', { published: [tcp(0)] })).spec.published?.[0]?.host, 30_000)
})

test('a tenant publishes as many ports as its quota gives, exactly, and gets back what it gives up', async () => {
  await using it = await published({ quotas: { ...DEFAULT_SETTINGS.quotas, publishedPorts: 3 } })
  const ann = await it.tenantOf('ann')
  const full = refused('exhausted', 'quota', /quota for published ports is used up; an administrator/)
  const made = await Promise.allSettled([1, 2, 3, 4].map(async (n) => await ann.make(`pod-${n}`, [tcp(0)])))
  const [one, two] = made.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []))
  for (const it of made) if (it.status === 'rejected') assert.ok(full(it.reason))
  assert.equal(made.filter((it) => it.status === 'fulfilled').length, 3)
  assert.ok(one && two)
  const [port = tcp(0)] = one.spec.published ?? []
  await assert.rejects(ann.change(one, [port, { ...tcp(0), protocol: 'udp' }]), full)
  await ann.change(two, null)
  const more = await ann.change(one, [port, { ...tcp(0), protocol: 'udp' }])
  await assert.rejects(ann.make('late', [tcp(0)]), full)
  await ann.remove(more)
  await it.settle()
  assert.equal((await ann.make('late', [tcp(0), tcp(0, 81)])).spec.published?.length, 2)
  const bob = await it.tenantOf('bob')
  await assert.rejects(bob.make('web', [tcp(0), tcp(0, 81)]), refused('exhausted', 'capacity'))
})

test('ports of before there was a quota are counted at the next start, and nobody loses one', async () => {
  await using it = await published()
  const ann = await it.tenantOf('ann')
  const web = await ann.make('web', [tcp(0), tcp(0, 81)])
  const pool = `quota:${ann.caller.tenant}:publishedPorts`
  const { store } = it.engine
  const start = async () =>
    await it.cloud.bootstrap(
      async () => {},
      () => '',
    )
  await it.cloud.act(
    it.admin,
    'test',
    async (verbs) =>
      await verbs.patch(tenantKind, ann.caller.tenant, { spec: { quotas: { publishedPorts: 1 } } }),
  )
  // As it was: nothing counted, no maximum.
  await store.commit([
    { do: 'release', pool, value: web.id, owner: web.id },
    { do: 'release', pool: 'singleton', value: 'published ports counted', owner: PLATFORM },
    { do: 'pool', pool, max: Number.MAX_SAFE_INTEGER, owner: ann.caller.tenant },
  ])
  await start()
  await start()
  assert.equal((await store.claim(pool, web.id))?.amount, 2)
  await assert.rejects(ann.make('more', [tcp(0)]), refused('exhausted', 'quota'))
  const before = { spec: { description: null, quotas: { vpcs: 1 } }, status: {} }
  const { spec } = tenantKind.upgrades[1]?.(before) ?? {}
  assert.deepEqual(spec?.['quotas'], { vpcs: 1, publishedPorts: 100 })
})
