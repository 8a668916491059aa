import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { Caller } from '#cloud/access.ts'
import { PROVIDER, testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { serviceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import type { Leak } from './compare.ts'
import type { Finding } from './finding.driver.ts'

const signal = AbortSignal.timeout(60_000)

/** A cloud with a VPC and one running pod in it. */
async function inhabited(): Promise<{ it: TestCloud; caller: Caller; vpc: string; replica: string }> {
  const it = await testCloud()
  const { caller } = await it.tenant('acme')
  const vpc = await it.cloud.act(caller, 'test', async (verbs) => {
    const made = await verbs.createVpc({ name: 'production', internet: true })
    const within = { vpc: made.id, name: 'web', cidr: '10.100.1.0/24', gateway: '10.100.1.1' }
    const subnet = await verbs.createSubnet(within)
    const spec = { image: 'nginx:latest' }
    await verbs.createWorkload({ vpc: made.id, subnet: subnet.id, name: 'web', spec })
    return made.id
  })
  await it.settle()
  const [first] = (await it.cloud.list(caller, replica)).items
  return { it, caller, vpc, replica: first?.id ?? assert.fail('no replica') }
}

const eventsOf = async (it: TestCloud, subject?: string): Promise<string[]> =>
  (
    await it.cloud.records(it.admin, { stream: 'event', ...(subject === undefined ? {} : { subject }) })
  ).records.flatMap(({ what, body }) => {
    const { detail } = body as { detail?: string }
    return detail === undefined ? [] : [`${what} ${detail}`]
  })

const left: Finding = { what: 'orphan', thing: 'link', detail: 'link arcus-u9 left', mend: 'driver' }

describe('an audit', () => {
  test('of a host that is as the records say finds and records nothing', async () => {
    const { it } = await inhabited()
    await using _ = it
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
    assert.deepEqual(await it.cloud.mend(it.admin, signal), [])
    assert.deepEqual(await eventsOf(it), [])
  })

  test('names a router that differs with its tenant, has it repaired, and tells both', async () => {
    const { it, vpc } = await inhabited()
    await using _ = it
    it.network.meddle(vpc, { what: 'missing', thing: 'table', detail: 'rules flushed' })
    const [leak, ...more] = await it.cloud.leaks(it.admin, signal)
    assert.deepEqual(more, [])
    assert.deepEqual(
      [leak?.what, leak?.thing, leak?.kind, leak?.id, leak?.culprit, leak?.by],
      ['missing', 'table', 'vpc', vpc, 'vpc production of acme', 'resource'],
    )
    assert.match(leak?.mend ?? '', /within 30 s.*arcus explain vpc/)
    await it.cloud.mend(it.admin, signal)
    await it.settle()
    assert.deepEqual(await it.cloud.mend(it.admin, signal), [])
    assert.deepEqual(await eventsOf(it, vpc), ['vpc.drifted rules flushed', 'vpc.repaired rules flushed'])
  })

  test('tells a difference once, however often it is seen, and since when', async () => {
    const { it, replica: id } = await inhabited()
    await using _ = it
    const since = it.clock.now()
    const mend = { command: 'umount /x' }
    it.compute.litter({ ...left, thing: 'mount', detail: 'mount at /x', of: { kind: 'replica', id }, mend })
    await it.cloud.mend(it.admin, signal)
    await it.clock.advance(60_000)
    const [leak] = await it.cloud.mend(it.admin, signal)
    const [seen] = await it.cloud.leaks(it.admin, signal)
    for (const one of [leak, seen]) {
      assert.equal(one?.since, since)
      assert.equal(one?.mend, 'run `umount /x`')
      assert.equal(one?.culprit, 'replica web-0 of acme')
    }
    assert.deepEqual(await eventsOf(it, id), ['replica.orphaned mount at /x'])
  })

  test('lets each driver mend what is its own, once, and counts it', async () => {
    const { it } = await inhabited()
    await using _ = it
    it.network.litter(left)
    it.edge.litter({ ...left, thing: 'file', detail: 'file x.json of no zone' })
    const found = await it.cloud.mend(it.admin, signal)
    assert.deepEqual(found.map((one) => `${one.by} ${one.culprit}`).toSorted(), [
      'edge the host',
      'network the host',
    ])
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
    assert.deepEqual((await eventsOf(it)).toSorted(), [
      'host.orphaned file x.json of no zone',
      'host.orphaned link arcus-u9 left',
      'host.removed file x.json of no zone',
      'host.removed link arcus-u9 left',
    ])
    const text = await it.cloud.metrics()
    assert.match(text, /arcus_repairs_total\{thing="link"\} 1/)
    assert.match(text, /arcus_repairs_total\{thing="file"\} 1/)
  })

  test('shows in the metrics what it found and could not mend', async () => {
    const { it } = await inhabited()
    await using _ = it
    const one = it.compute.litter({
      ...left,
      thing: 'mount',
      detail: 'mount at /x',
      mend: { command: 'umount /x' },
    })
    await it.cloud.mend(it.admin, signal)
    assert.match(await it.cloud.metrics(), /arcus_findings\{what="orphan",thing="mount"\} 1/)
    one.clear()
    await it.cloud.mend(it.admin, signal)
    assert.doesNotMatch(await it.cloud.metrics(), /arcus_findings\{/)
    assert.match(await it.cloud.metrics(), /arcus_repairs_total\{thing="mount"\} 1/)
  })

  test('finds the host changed before it is brought up to date', async () => {
    const { it } = await inhabited()
    await using _ = it
    // As the Linux driver does: a plan that is applied repairs the host's part.
    const one = it.network.litter({ what: 'missing', thing: 'table', detail: 'table gone', mend: 'driver' })
    const apply = it.network.applyHost.bind(it.network)
    it.network.applyHost = async (plan, stop) => {
      one.clear()
      await apply(plan, stop)
    }
    assert.deepEqual(
      (await it.cloud.mend(it.admin, signal)).map((leak) => leak.detail),
      ['table gone'],
    )
    await it.cloud.mend(it.admin, signal)
    assert.deepEqual(await eventsOf(it), ['host.drifted table gone', 'host.repaired table gone'])
  })

  test('removes a container, a router, a volume and names that no record knows, and says whose it was', async () => {
    const { it, vpc, replica: id } = await inhabited()
    await using _ = it
    const plan = it.network.plans.get(vpc) ?? assert.fail()
    const wish = it.compute.wishes.get(id) ?? assert.fail()
    const zone = it.edge.zones.get(vpc) ?? assert.fail()
    const [other, third, volume] = [1, 2, 3].map((n) => `00000000-0000-7000-8000-00000000000${n}`) as [
      string,
      string,
      string,
    ]
    await it.network.apply({ ...plan, vpc: other }, signal)
    await it.edge.apply({ ...zone, vpc: other }, signal)
    await it.compute.apply({ ...wish, id: third, mounts: [{ volume, path: '/x', readOnly: false }] }, signal)
    const found = await it.cloud.mend(it.admin, signal)
    assert.deepEqual(
      found.map((one) => `${one.what} ${one.thing} ${one.kind} ${one.id} ${one.culprit}`),
      [
        `orphan namespace vpc ${other} nobody`,
        `orphan container replica ${third} workload web of acme`,
        `orphan volume volume ${volume} nobody`,
        `orphan zone zone ${other} nobody`,
      ],
    )
    await it.clock.advance(1000)
    assert.deepEqual(await it.cloud.mend(it.admin, signal), [])
    assert.deepEqual([...it.network.plans.keys()], [vpc])
    assert.deepEqual(
      (await it.compute.list(signal)).map((one) => one.id),
      [id],
    )
    assert.deepEqual(await it.compute.volumes(signal), [])
    assert.deepEqual([...it.edge.zones.keys()], [vpc])
    assert.ok((await eventsOf(it, third)).includes('replica.removed a container that no replica has'))
  })

  test('does not call a difference what only one of two looks sees', async () => {
    const { it } = await inhabited()
    await using _ = it
    const one = it.network.litter(left)
    const look = it.network.audit.bind(it.network)
    it.network.audit = async (stop) => {
      const found = await look(stop)
      one.clear()
      return found
    }
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
  })

  test('goes on beside a driver that does not know how', async () => {
    const { it, vpc } = await inhabited()
    await using _ = it
    it.compute.audit = () => Promise.reject(new CloudError('unsupported', 'no such verb'))
    it.network.meddle(vpc, { what: 'missing', thing: 'table', detail: 'rules flushed' })
    assert.deepEqual(
      (await it.cloud.leaks(it.admin, signal)).map((leak) => leak.detail),
      ['rules flushed'],
    )
  })

  test('is for administrators', async () => {
    const { it, caller } = await inhabited()
    await using _ = it
    await assert.rejects(it.cloud.mend(caller, signal), (error) => isCloudError(error, 'forbidden'))
  })

  test('of the cloud is made at its start and again on a timer', async () => {
    const { it, vpc } = await inhabited()
    await using _ = it
    const stop = new AbortController()
    it.network.meddle(vpc, { what: 'drift', thing: 'route', detail: 'route changed' })
    const running = it.cloud.run(stop.signal)
    const until = async (what: string, count: number): Promise<void> => {
      for (let tries = 0; tries < 400; tries++) {
        if ((await eventsOf(it, vpc)).length >= count) return
        await it.clock.advance(1000)
        // The store writes in a thread of its own.
        await sleep(5)
      }
      assert.fail(`${what}: ${(await eventsOf(it, vpc)).join()}`)
    }
    try {
      await until('found and repaired', 2)
      it.network.meddle(vpc, { what: 'drift', thing: 'route', detail: 'route changed again' })
      await until('found and repaired again', 4)
    } finally {
      stop.abort()
      await running
    }
  })
})

/** A cloud with a tunnel into a VPC and one into the platform, both in force. */
async function ledInto() {
  const { it, caller, vpc } = await inhabited()
  const tenant = caller.tenant
  const ids = await it.cloud.act(it.admin, 'test', async (verbs) => {
    await verbs.addDomain(tenant, 'acme.example')
    await verbs.putProvider({
      ...PROVIDER,
      cloudflareDomain: 'cloud.example',
    })
    return (await verbs.createServiceTunnel({ service: 'api', protocol: 'https', subdomain: 'api' })).id
  })
  const [pod] = (await it.cloud.list(caller, workload)).items
  const own = await it.cloud.act(
    caller,
    'test',
    async (verbs) =>
      (
        await verbs.createTunnel({
          workload: pod?.id ?? '',
          protocol: 'http',
          hostname: 'app.acme.example',
          port: 80,
        })
      ).id,
  )
  await it.settle()
  const certificates = (await it.engine.list(certificate, { tenant: '*' })).items
  return { it, caller, vpc, pod: pod?.id ?? '', tunnel: own, service: ids, certificates }
}

const told = (leaks: readonly Leak[]): string[] =>
  leaks.map((one) => `${one.what} ${one.thing} ${one.kind} ${one.id} ${one.culprit} by ${one.by}`).toSorted()

describe('an audit of the edge', () => {
  test('finds nothing where everything leads as it should, also after it was all taken away again', async () => {
    const { it, caller, tunnel: id, service } = await ledInto()
    await using _ = it
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
    await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteTunnel(id))
    await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.remove(serviceTunnel as never, service))
    await it.settle()
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
    assert.deepEqual([it.front.fronts.size, it.front.certificates.size], [0, 0])
  })

  test('hands over again what the edge has lost, of VPCs and of the platform', async () => {
    const { it, vpc, service, certificates } = await ledInto()
    await using _ = it
    const before = [new Map(it.front.fronts), new Map(it.front.certificates)] as const
    for (const one of [vpc, 'platform']) await it.front.remove(one, signal)
    for (const { id } of certificates) await it.front.removeCertificate(id, signal)
    assert.deepEqual(
      told(await it.cloud.mend(it.admin, signal)),
      [
        `missing front vpc ${vpc} vpc production of acme by resource`,
        `missing front service-tunnel ${service} service-tunnel api-tunnel by resource`,
        ...certificates.map(({ id, name, tenant }) => {
          const whose = tenant === 'platform' ? '' : ' of acme'
          return `missing certificate certificate ${id} certificate ${name}${whose} by resource`
        }),
      ].toSorted(),
    )
    await it.settle()
    assert.deepEqual(await it.cloud.mend(it.admin, signal), [])
    const served = (fronts: typeof it.front.fronts, issued: typeof it.front.certificates) => [
      new Map([...fronts].map(([id, one]) => [id, one.routes])),
      new Map([...issued].map(([id, one]) => [id, one.issued])),
    ]
    assert.deepEqual(served(it.front.fronts, it.front.certificates), served(...before))
    assert.deepEqual(
      (await eventsOf(it, vpc)).map((one) => one.split(' ')[0]),
      ['vpc.drifted', 'vpc.repaired'],
    )
  })

  test('removes what no record knows, and the front of a VPC that nothing leads into', async () => {
    const { it, caller, vpc, tunnel: id, service, certificates } = await ledInto()
    await using _ = it
    const [front, platform] = [vpc, 'platform'].map((one) => it.front.fronts.get(one) ?? assert.fail())
    const [one] = certificates
    const served = it.front.certificates.get(one?.id ?? '') ?? assert.fail()
    await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteTunnel(id))
    await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.remove(serviceTunnel as never, service))
    await it.settle()
    const stranger = '00000000-0000-7000-8000-000000000009'
    if (front && platform) {
      await it.front.apply({ ...front, vpc: stranger }, signal)
      await it.front.apply({ ...front, generation: 99 }, signal)
      await it.front.apply({ ...platform, generation: 99 }, signal)
    }
    await it.front.applyCertificate({ ...served, id: stranger }, signal)
    assert.deepEqual(
      told(await it.cloud.mend(it.admin, signal)),
      [
        `orphan front front ${stranger} nobody by removal`,
        `orphan front front platform nobody by removal`,
        `orphan front vpc ${vpc} vpc production of acme by resource`,
        `orphan certificate certificate ${stranger} nobody by removal`,
      ].toSorted(),
    )
    for (const key of [`vpc/${vpc}`] as const) await it.engine.wake(key)
    await it.settle()
    assert.deepEqual([it.front.fronts.size, it.front.certificates.size], [0, 0])
    assert.deepEqual(await it.cloud.mend(it.admin, signal), [])
  })

  test('leaves alone what is on its way: not yet taken by the edge, or not yet let go of', async () => {
    let away = false
    const { it, caller, vpc, pod, tunnel: id } = await ledInto()
    await using _ = it
    const [apply, remove] = [it.front.apply.bind(it.front), it.front.remove.bind(it.front)]
    const guard = async (work: () => Promise<void>): Promise<void> => {
      if (away) throw new CloudError('unavailable', 'the edge does not answer')
      await work()
    }
    it.front.apply = async (...given) => await guard(() => apply(...given))
    it.front.remove = async (...given) => await guard(() => remove(...given))
    const certify = it.front.applyCertificate.bind(it.front)
    it.front.applyCertificate = async (...given) => await guard(() => certify(...given))
    away = true
    const other = await it.cloud.act(caller, 'test', async (verbs) => {
      await verbs.deleteTunnel(id)
      const to = { workload: pod, protocol: 'http', port: 80 } as const
      return await verbs.createTunnel({ ...to, hostname: 'two.acme.example', name: 'two' })
    })
    await it.settle()
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
    away = false
    await it.settle(60_000)
    assert.deepEqual(
      it.front.fronts.get(vpc)?.routes.map((one) => one.id),
      [other.id],
    )
    assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
  })
})

describe('an audit that cannot put one thing right', () => {
  test('puts right the others all the same, each time', async () => {
    const { it, vpc } = await inhabited()
    await using _ = it
    const [stuck, removed] = ['stuck', 'removed'].map((_, at) => `00000000-0000-7000-8000-00000000000${at}`)
    assert.ok(stuck && removed)
    const plan = it.network.plans.get(vpc) ?? assert.fail()
    for (const id of [stuck, removed]) await it.network.apply({ ...plan, vpc: id }, signal)
    const remove = it.network.remove.bind(it.network)
    it.network.remove = async (id, stop) => {
      if (id === stuck) throw new CloudError('conflict', 'something holds it')
      await remove(id, stop)
    }
    it.compute.mend = () => Promise.reject(new CloudError('unavailable', 'the disk is full'))
    it.compute.litter({ ...left, detail: 'left by compute' })
    it.edge.litter({ ...left, detail: 'left by edge' })
    it.network.meddle(vpc, { what: 'missing', thing: 'table', detail: 'rules flushed' })
    await assert.rejects(it.cloud.mend(it.admin, signal), /the disk is full/)
    await it.settle()
    assert.deepEqual(
      (await it.cloud.leaks(it.admin, signal)).map((one) => `${one.id} ${one.detail}`),
      [`${stuck} a router that no VPC has`, ' left by compute'],
    )
  })
})

describe('an audit that is cut short', () => {
  const VERBS = [
    ['network', 'mend'],
    ['compute', 'mend'],
    ['edge', 'mend'],
    ['network', 'remove'],
    ['compute', 'remove'],
    ['compute', 'removeVolume'],
    ['edge', 'remove'],
  ] as const
  for (const [driver, verb] of VERBS)
    for (const how of ['fails', 'is done and its answer lost'] as const)
      test(`by ${driver}.${verb} that ${how} ends with the next one`, async () => {
        const { it } = await inhabited()
        await using _ = it
        // Things that no record knows, one for each driver to mend or remove.
        for (const part of ['network', 'compute', 'edge'] as const)
          it[part].litter({ ...left, detail: `left by ${part}` })
        await it.network.apply({ ...planOf(it), vpc: NOBODY, generation: 1 }, signal)
        await it.edge.apply({ ...zoneOf(it), vpc: NOBODY, generation: 1 }, signal)
        await it.compute.apply({ ...wishOf(it), id: NOBODY, mounts: [LOST] }, signal)
        const target = it[driver] as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>
        const right = target[verb]?.bind(it[driver])
        assert.ok(right)
        let failures = 1
        target[verb] = async (...given) => {
          if (failures-- <= 0) return await right(...given)
          if (how !== 'fails') await right(...given)
          throw new CloudError('unavailable', 'the host agent does not answer')
        }
        await assert.rejects(it.cloud.mend(it.admin, signal), /does not answer/)
        for (let pass = 0; pass < 4; pass++) {
          await it.cloud.mend(it.admin, signal)
          await it.clock.advance(30_000)
          await it.settle()
        }
        if (how === 'fails') assert.ok(failures < 0, 'it was asked again')
        assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
      })

  const NOBODY = '00000000-0000-7000-8000-000000000000'
  const LOST = { volume: NOBODY, path: '/lost', readOnly: false }
  const only = <T>(all: Iterable<T>): T => [...all][0] ?? assert.fail('there is none')
  const planOf = (it: TestCloud) => only(it.network.plans.values())
  const zoneOf = (it: TestCloud) => only(it.edge.zones.values())
  const wishOf = (it: TestCloud) =>
    it.compute.wishes.get(only(it.network.plans.values()).attachments[0]?.id ?? '') ?? assert.fail('no wish')
})
