import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { HostPlan, NetworkDriver, PlannedBalancer, VpcPlan } from './network.driver.ts'
import { EVERY_PROMISE, type NetworkPromise } from './promises.driver.ts'

/** A driver without VPCs, on a host where it may do what it likes; it is disposed of after each test. */
export type NetworkBench = AsyncDisposable & { readonly driver: NetworkDriver }

const never = new AbortController().signal
const isLostRace = (error: unknown): boolean =>
  isCloudError(error, 'conflict') && error.details.rule === 'lost_race'

/** The plan of a host for tests. */
export const plannedHost: HostPlan = {
  generation: 1,
  fabric: '100.120.0.0/16',
  resolver: '100.120.0.53',
  external: [{ cidr: '100.72.0.0/24', masquerade: true }],
  allowed: [],
}

const idOf = (kind: string, number: number): string =>
  `00000000-0000-7000-${kind.padStart(4, '8')}-${String(number).padStart(12, '0')}`

/** The plan of a VPC for tests: a subnet, two attachments, a VIP in front of them and a security group. */
export function plannedVpc(number: number, more: Partial<VpcPlan> = {}): VpcPlan {
  const range6 = `fd00:0:${number}`
  const attachments = [11, 12].map((last) => ({
    id: idOf('a', number * 100 + last),
    subnet: idOf('5', number),
    address: `10.0.1.${last}`,
    address6: `${range6}:1::${last}`,
    mac: `02:00:0a:00:01:${last}`,
    fabric: `100.120.128.${number * 20 + last}`,
    egress: `100.72.0.${number}`,
    groups: [idOf('6', number)],
  }))
  return {
    vpc: idOf('1', number),
    tenant: idOf('0', 1),
    generation: 1,
    index: number,
    internet: true,
    range6: `${range6}::/48`,
    uplink: { host: `100.120.1.${number * 2}`, vpc: `100.120.1.${number * 2 + 1}` },
    subnets: [{ id: idOf('5', number), cidr: '10.0.1.0/24', gateway: '10.0.1.1', cidr6: `${range6}:1::/64` }],
    attachments,
    vips: [
      {
        id: idOf('7', number),
        subnet: idOf('5', number),
        address: '10.0.1.100',
        address6: `${range6}:1::100`,
        ports: [{ protocol: 'tcp', port: 80 }],
        backends: attachments.map((it) => it.id),
        external: `100.72.0.${100 + number}`,
      },
    ],
    groups: [{ id: idOf('6', number), rules: [{ direction: 'ingress', protocol: 'tcp', peer: 'any' }] }],
    ...more,
  }
}

/** A load balancer of `plannedVpc(1)`, which has none. */
export const plannedBalancer: PlannedBalancer = {
  id: idOf('8', 1),
  subnet: idOf('5', 1),
  address: '10.0.1.110',
  port: 8080,
  at: 20_001,
}

/** A plan without what needs promises that are not made. */
function within(plan: VpcPlan, number: number, promises: ReadonlySet<NetworkPromise>): VpcPlan {
  const { vips, groups, attachments, ...rest } = promises.has('same-ranges')
    ? plan
    : (JSON.parse(JSON.stringify(plan).replaceAll('"10.0.', `"10.${100 + number}.`)) as VpcPlan)
  return {
    ...rest,
    vips: promises.has('vip') ? vips : [],
    groups: promises.has('groups') ? groups : [],
    attachments: promises.has('groups') ? attachments : attachments.map((it) => ({ ...it, groups: [] })),
  }
}

/** Plans that need a promise, each beside the one of the VPC that it is of. */
const needing = (planOf: (number: number) => VpcPlan): readonly [NetworkPromise, VpcPlan][] => {
  const plan = planOf(1)
  const [subnet] = plan.subnets
  const [front] = plannedVpc(1).vips
  assert.ok(subnet && front)
  const second = { ...subnet, id: idOf('5', 99), cidr: '10.99.0.0/24', gateway: '10.99.0.1' }
  return [
    ['same-ranges', { ...planOf(2), subnets: [{ ...subnet, id: idOf('5', 2) }] }],
    ['subnets', { ...plan, subnets: [subnet, second] }],
    ['routes', { ...plan, subnets: [{ ...subnet, routes: [] }] }],
    ['groups', { ...plan, attachments: plan.attachments.map((it) => ({ ...it, groups: [idOf('6', 1)] })) }],
    ['external-address', { ...plan, vips: [front] }],
    [
      'elastic-ip',
      { ...plan, attachments: plan.attachments.map((it, at) => ({ ...it, elastic: `100.72.0.${50 + at}` })) },
    ],
    [
      'published',
      {
        ...plan,
        published: [{ id: idOf('7', 1), protocol: 'tcp', host: 30_080, container: 80, backends: [] }],
      },
    ],
    [
      'balancers',
      { ...plan, balancers: [{ ...plannedBalancer, address: subnet.gateway.replace(/1$/, '110') }] },
    ],
    ['peering', { ...plan, peerings: [{ id: idOf('9', 1), vpc: idOf('1', 2), ranges: ['10.98.0.0/24'] }] }],
  ]
}

/**
 * What every NetworkDriver keeps, asked through its interface alone. `open` gives one with `plannedHost` applied and no
 * VPC; `made` are its promises.
 */
export function networkConformance(
  name: string,
  open: () => Promise<NetworkBench>,
  made: readonly NetworkPromise[] = EVERY_PROMISE,
): void {
  const promises = new Set(made)
  const planOf = (number: number, more: Partial<VpcPlan> = {}): VpcPlan =>
    within(plannedVpc(number, more), number, promises)
  const check = (what: string, run: (driver: NetworkDriver) => Promise<void>): void => {
    test(what, async () => {
      await using bench = await open()
      await run(bench.driver)
    })
  }
  const seenOf = (plan: VpcPlan) => ({
    vpc: plan.vpc,
    generation: plan.generation,
    attachments: plan.attachments.map((it) => it.id),
    drift: [],
  })

  describe(`${name}: applying`, () => {
    check('a host that can do everything lacks nothing', async (driver) => {
      assert.deepEqual(await driver.missing(never), [])
    })

    check('an applied plan is in force', async (driver) => {
      const plan = planOf(1)
      await driver.apply(plan, never)
      assert.deepEqual(await driver.observe(plan.vpc, never), seenOf(plan))
      assert.deepEqual(await driver.list(never), [seenOf(plan)])
    })

    check('the same plan again changes nothing', async (driver) => {
      const plan = planOf(1)
      await driver.apply(plan, never)
      await driver.apply(plan, never)
      await driver.apply(structuredClone(plan), never)
      assert.deepEqual(await driver.observe(plan.vpc, never), seenOf(plan))
    })

    check('a newer plan replaces the one before', async (driver) => {
      await driver.apply(planOf(1), never)
      const [first] = planOf(1).attachments
      const next = planOf(1, { generation: 2, attachments: first ? [first] : [], vips: [], groups: [] })
      await driver.apply(next, never)
      assert.deepEqual(await driver.observe(next.vpc, never), seenOf(next))
    })

    check('an older plan is refused and changes nothing', async (driver) => {
      const plan = planOf(1, { generation: 7 })
      await driver.apply(plan, never)
      await assert.rejects(
        driver.apply(planOf(1, { generation: 6, attachments: [], vips: [] }), never),
        isLostRace,
      )
      assert.deepEqual(await driver.observe(plan.vpc, never), seenOf(plan))
    })

    check('VPCs stand side by side, whatever they may have of each other', async (driver) => {
      const plans = [1, 2, 3].map((number) => planOf(number))
      await Promise.all(plans.map((it) => driver.apply(it, never)))
      const seen = (await driver.list(never)).toSorted((a, b) => a.vpc.localeCompare(b.vpc))
      assert.deepEqual(seen, plans.map(seenOf))
    })

    check('plans of one VPC that come at once leave the newest in force', async (driver) => {
      const plans = [1, 2, 3, 4].map((generation) => planOf(1, { generation }))
      const results = await Promise.allSettled(plans.toReversed().map((it) => driver.apply(it, never)))
      for (const it of results) if (it.status === 'rejected') assert.ok(isLostRace(it.reason))
      assert.equal((await driver.observe(planOf(1).vpc, never))?.generation, 4)
    })

    check("the host's plan can be applied again", async (driver) => {
      await driver.apply(planOf(1), never)
      await driver.applyHost(plannedHost, never)
      await driver.applyHost({ ...plannedHost, generation: 2, allowed: ['192.0.2.0/24'] }, never)
      assert.deepEqual(await driver.list(never), [seenOf(planOf(1))])
    })
  })

  describe(`${name}: removing`, () => {
    check('a VPC that is removed is gone, and the others stay', async (driver) => {
      await driver.apply(planOf(1), never)
      await driver.apply(planOf(2), never)
      await driver.remove(planOf(1).vpc, never)
      assert.equal(await driver.observe(planOf(1).vpc, never), undefined)
      assert.deepEqual(await driver.list(never), [seenOf(planOf(2))])
    })

    check('one that is not there is fine to remove, and to observe', async (driver) => {
      await driver.remove(planOf(1).vpc, never)
      assert.equal(await driver.observe(planOf(1).vpc, never), undefined)
      await driver.apply(planOf(1), never)
      await driver.remove(planOf(1).vpc, never)
      await driver.remove(planOf(1).vpc, never)
    })

    check('what one VPC had can be given to the next', async (driver) => {
      const plan = planOf(1)
      await driver.apply(plan, never)
      await driver.remove(plan.vpc, never)
      const heir = { ...plan, vpc: planOf(9).vpc }
      await driver.apply(heir, never)
      assert.deepEqual(await driver.list(never), [seenOf(heir)])
    })

    check('a purge leaves nothing, and may be repeated', async (driver) => {
      await driver.apply(planOf(1), never)
      await driver.apply(planOf(2), never)
      await driver.purge(never)
      assert.deepEqual(await driver.list(never), [])
      await driver.purge(never)
      await driver.applyHost(plannedHost, never)
      await driver.apply(planOf(1), never)
      assert.deepEqual(await driver.list(never), [seenOf(planOf(1))])
    })
  })

  describe(`${name}: promises`, () => {
    check('it makes those that it is known for', async (driver) => {
      assert.deepEqual(driver.promises, made)
      await Promise.resolve()
    })

    for (const [promise, plan] of needing(planOf)) {
      if (promises.has(promise)) continue
      check(`a plan that needs ${promise} is refused and changes nothing`, async (driver) => {
        await driver.apply(planOf(1), never)
        const before = await driver.list(never)
        const newer = { ...plan, generation: 2 }
        await assert.rejects(driver.apply(newer, never), (error) => isCloudError(error, 'unsupported'))
        assert.deepEqual(await driver.list(never), before)
      })
    }
  })
}
