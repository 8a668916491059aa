import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { cidr, contains, formatIpv4, parseIpv4 } from '#lib/cidr.ts'
import { plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { PlannedRoute, VpcPlan } from '#cloud/network/network.driver.ts'
import {
  canonical,
  difference,
  externalsOf,
  itemsInside,
  itemsOnHost,
  seenLinks,
  seenRoutes,
  seenRules,
  strayLinks,
  tableOf,
  type Item,
  type SeenItem,
} from './links.ts'
import { peeringLink, routerLink, UPLINK } from './names.ts'

const OUTSIDE = ['8.8.8.8', '192.0.2.1', '172.16.0.1']

const anyRoute = (addresses: readonly string[]): fc.Arbitrary<PlannedRoute> =>
  fc.record({
    cidr: fc.constantFrom(
      '0.0.0.0/0',
      '192.0.2.0/24',
      '192.0.2.1/32',
      '172.16.0.0/12',
      '8.0.0.0/8',
      '10.0.0.0/8',
    ),
    target: fc.oneof(
      fc.constantFrom('internet' as const, 'blackhole' as const),
      fc.constantFrom(...addresses).map((address) => ({ address })),
      fc.constantFrom({ nat: '100.72.0.40' }, { peering: 'near' }, { peering: 'far' }),
    ),
  })

/** VPCs of two subnets, with some of their machines attached and some tables. */
const anyWorld: fc.Arbitrary<{ plan: VpcPlan; links: Set<string> }> = fc
  .record({
    internet: fc.boolean(),
    lasts: fc.uniqueArray(fc.integer({ min: 2, max: 20 }), { minLength: 1, maxLength: 6 }),
    attached: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    tables: fc.array(
      fc.option(
        fc.uniqueArray(anyRoute(['10.0.1.2', '10.0.1.3', '10.0.1.99']), {
          selector: (it) => it.cidr,
          maxLength: 4,
        }),
      ),
      { minLength: 2, maxLength: 2 },
    ),
    vip: fc.boolean(),
  })
  .map(({ internet, lasts, attached, tables, vip }) => {
    const base = plannedVpc(1)
    const [subnet] = base.subnets
    const [attachment] = base.attachments
    if (!subnet || !attachment) throw new Error('no subnet')
    const second = { ...subnet, id: 'second', cidr: '10.0.2.0/24', gateway: '10.0.2.1' }
    const subnets = [subnet, second].map((it, index) => {
      const routes = tables[index]
      return routes ? { ...it, routes } : it
    })
    const attachments = lasts.map((last, index) => ({
      ...attachment,
      id: `a${last}`,
      subnet: index % 2 ? second.id : subnet.id,
      address: `10.0.${(index % 2) + 1}.${last}`,
      address6: `fd00:0:1:${(index % 2) + 1}:0:0:0:${last.toString(16)}`,
    }))
    const peerings = ['near', 'far'].map((id) => ({ id, vpc: plannedVpc(2).vpc, ranges: ['172.16.0.0/12'] }))
    const plan = { ...base, internet, subnets, attachments, vips: vip ? base.vips : [], peerings }
    const there = attachments.filter((_, index) => attached[index]).map((it) => routerLink(it.id))
    // The other router of one of the two is not there yet.
    return { plan, links: new Set([...there, peeringLink('near')]) }
  })

/** What a table says of an address: the longest prefix, of the same length the one that is not last. */
function lookUp(items: readonly Item[], table: string, address: number, least = 0): string | undefined {
  const found = items
    .map((it) => ({ ...it, parts: it.slot.split(' ') }))
    .filter(({ parts: [kind, of, to = ''] }) => kind === 'route' && of === table && !to.includes(':'))
    .map(({ parts: [, , to = '', last], value }) => ({
      network: cidr(to === 'default' ? '0.0.0.0/0' : to),
      last,
      value,
    }))
    .filter(({ network }) => network.prefix >= least && contains(network, address))
    .toSorted(
      (a, b) => b.network.prefix - a.network.prefix || Number(Boolean(a.last)) - Number(Boolean(b.last)),
    )
  return found[0]?.value
}

/** Where a packet goes, in the order of the policy rules; the kernel's own routes to the router's addresses come first. */
function routeOf(items: readonly Item[], from: string, to: string): string {
  const number = parseIpv4(to) ?? 0
  if (items.some((it) => it.slot === `address lo ${to}/32`)) return 'local'
  const inside = lookUp(items, 'main', number, 1)
  if (inside) return inside
  for (const it of items) {
    const [, range, table] = /^rule \d+ from (\S+) lookup (\d+)$/.exec(it.slot) ?? []
    if (!range || !table || !contains(cidr(range), parseIpv4(from) ?? 0)) continue
    const led = lookUp(items, table, number)
    if (led) return led
  }
  return lookUp(items, 'main', number) ?? 'unreachable'
}

const isByLink = ({ value }: Pick<Item, 'value'>): boolean => / dev [cp]/.test(` ${value}`)

describe('the routes of a VPC', () => {
  test('lead every address to its machine, unassigned ones nowhere, and out only where the plan says', () => {
    fc.assert(
      fc.property(anyWorld, fc.nat(), fc.nat(9), ({ plan, links }, target, source) => {
        const items = itemsInside(plan, plannedHost, links)
        const from = plan.attachments[source % plan.attachments.length]
        const subnet = plan.subnets.find((it) => it.id === from?.subnet)
        if (!from || !subnet) return
        for (const it of plan.attachments) {
          const expected = links.has(routerLink(it.id)) ? `dev ${routerLink(it.id)}` : 'unreachable'
          assert.equal(routeOf(items, from.address, it.address), expected)
        }
        for (const it of plan.vips) assert.equal(routeOf(items, from.address, it.address), 'local')
        const some = formatIpv4((parseIpv4('10.0.1.0') ?? 0) + (target % 512))
        const taken = [...plan.attachments, ...plan.vips].some((it) => it.address === some)
        if (!taken) assert.equal(routeOf(items, from.address, some), 'unreachable')
        const out = `via ${plan.uplink.host} dev ${UPLINK}`
        assert.equal(routeOf(items, from.address, plannedHost.resolver), out)
        // What the kernel leaves of them as the links go.
        const left = items.filter((it) => !isByLink(it))
        for (const to of OUTSIDE) {
          const way = expectedOut(plan, links, subnet.routes, to)
          assert.equal(routeOf(items, from.address, to), way)
          assert.equal(routeOf(left, from.address, to), isByLink({ value: way }) ? 'unreachable' : way)
        }
      }),
      { numRuns: 300 },
    )
  })

  /** The plan's own words on an address outside the VPC: the longest of the table's prefixes. */
  function expectedOut(
    plan: VpcPlan,
    links: Set<string>,
    routes: readonly PlannedRoute[] | undefined,
    to: string,
  ): string {
    const out = plan.internet ? `via ${plan.uplink.host} dev ${UPLINK}` : 'unreachable'
    if (!routes) return out
    const [route] = routes
      .filter((it) => contains(cidr(it.cidr), parseIpv4(to) ?? 0))
      .toSorted((a, b) => cidr(b.cidr).prefix - cidr(a.cidr).prefix)
    if (!route) return 'unreachable'
    const { target } = route
    if (target === 'internet') return out
    if (target === 'blackhole') return 'blackhole'
    if ('nat' in target) return `via ${plan.uplink.host} dev ${UPLINK}`
    if ('peering' in target) {
      const link = peeringLink(target.peering)
      return links.has(link) ? `dev ${link}` : 'unreachable'
    }
    const hop = plan.attachments.find((it) => it.address === target.address)
    return hop && links.has(routerLink(hop.id))
      ? `via ${hop.address} dev ${routerLink(hop.id)} onlink`
      : 'unreachable'
  }

  test('number the table of a subnet by its range', () => {
    const [subnet] = plannedVpc(1).subnets
    assert.equal(subnet && tableOf(subnet), 10 * 2 ** 24 + 256)
  })
})

/** A host that does what it is told, in the words of the items it is told about. */
function obey(
  seen: readonly SeenItem[],
  wanted: readonly Item[],
  lines: readonly string[],
): Map<string, string> {
  const state = new Map(seen.map((it) => [it.slot, it.value]))
  for (const line of lines) {
    const made = wanted.find((it) => it.set === line)
    const gone = seen.find((it) => it.unset === line)
    assert.ok(made ?? gone, `nobody knows: ${line}`)
    if (made) state.set(made.slot, made.value)
    else if (gone) state.delete(gone.slot)
  }
  return state
}

const asSeen = (items: readonly Item[]): SeenItem[] =>
  items.map(({ slot, value, words }) => ({ slot, value, words, unset: `del ${slot}` }))

const sorted = (state: ReadonlyMap<string, string>): (readonly [string, string])[] =>
  [...state].toSorted(([a], [b]) => a.localeCompare(b))

describe('the difference', () => {
  test('makes of any state any other, and is nothing when there is none', () => {
    fc.assert(
      fc.property(anyWorld, anyWorld, (one, other) => {
        const before = asSeen(itemsInside(one.plan, plannedHost, one.links))
        const wanted = itemsInside(other.plan, plannedHost, other.links)
        const { lines } = difference(wanted, before)
        const ups = before.filter((it) => it.slot.startsWith('up ')).map((it) => [it.slot, it.value] as const)
        const expected = new Map([...ups, ...wanted.map((it) => [it.slot, it.value] as const)])
        assert.deepEqual(sorted(obey(before, wanted, lines)), sorted(expected))
        assert.deepEqual(difference(wanted, asSeen(wanted)), { drift: [], lines: [] })
      }),
    )
  })

  test('replaces a route rather than taking it away first', () => {
    const [was, is] = [true, false].map((internet) => {
      const plan = plannedVpc(1, { internet: true })
      const [subnet] = plan.subnets
      assert.ok(subnet)
      const target = internet ? ('internet' as const) : ('blackhole' as const)
      const routes = [{ cidr: '0.0.0.0/0', target }]
      return itemsInside({ ...plan, subnets: [{ ...subnet, routes }] }, plannedHost, new Set())
    })
    assert.ok(was && is)
    assert.deepEqual(difference(is, asSeen(was)), {
      drift: [{ what: 'drift', thing: 'route', detail: 'route to default in table 167772416 changed' }],
      lines: ['route replace blackhole default table 167772416 proto static'],
    })
  })
})

describe('what ip shows', () => {
  // As iproute2 6.1 prints it.
  const routes = [
    { type: 'unreachable', dst: 'default', table: '167772416', metric: 9999, protocol: 'static', flags: [] },
    { dst: 'default', gateway: '100.120.1.2', dev: 'uplink', protocol: 'static', flags: ['linkdown'] },
    { type: 'unreachable', dst: '10.0.1.0/24', protocol: 'static', flags: [] },
    { dst: '10.0.1.5', dev: 'c1', scope: 'link', protocol: 'static', flags: [] },
    {
      dst: '100.120.1.2/31',
      dev: 'uplink',
      protocol: 'kernel',
      scope: 'link',
      prefsrc: '100.120.1.3',
      flags: [],
    },
    { type: 'local', dst: '10.0.1.1', dev: 'c1', table: 'local', protocol: 'kernel', flags: [] },
    { dst: 'fd00:1::5', dev: 'c1', metric: 1024, flags: [], protocol: 'static', pref: 'medium' },
    {
      type: 'unreachable',
      dst: 'fd00:1::/48',
      dev: 'lo',
      metric: 1024,
      protocol: 'static',
      flags: [],
      pref: 'medium',
    },
    { dst: 'fe80::/64', dev: 'c1', protocol: 'kernel', metric: 256, flags: [], pref: 'medium' },
    {
      type: 'multicast',
      dst: 'ff00::/8',
      dev: 'c1',
      table: 'local',
      protocol: 'kernel',
      metric: 256,
      flags: [],
    },
  ]

  test('is read without what the kernel made by itself', () => {
    assert.deepEqual(
      seenRoutes(routes).map((it) => [it.slot, it.value]),
      [
        ['route 167772416 default last', 'unreachable'],
        ['route main default', 'via 100.120.1.2 dev uplink'],
        ['route main 10.0.1.0/24', 'unreachable'],
        ['route main 10.0.1.5/32', 'dev c1'],
        ['route main fd00:1::5/128', 'dev c1'],
        ['route main fd00:1::/48', 'unreachable'],
      ],
    )
    const rules = [
      { priority: 0, src: 'all', table: 'local' },
      { priority: 100, src: 'all', table: 'main', suppress_prefixlen: 0 },
      { priority: 200, src: '10.0.1.0', srclen: 24, table: '167772416' },
      { priority: 32766, src: 'all', table: 'main' },
    ]
    assert.deepEqual(
      seenRules(rules).map((it) => it.slot),
      ['rule 100 from all lookup main suppress 0', 'rule 200 from 10.0.1.0/24 lookup 167772416'],
    )
    const links = [
      {
        ifindex: 1,
        ifname: 'lo',
        flags: ['UP'],
        mtu: 65536,
        addr_info: [
          { local: '127.0.0.1', prefixlen: 8 },
          { local: '10.0.1.100', prefixlen: 32 },
        ],
      },
      { ifindex: 2, ifname: 'c1', flags: [], mtu: 1500 },
    ]
    assert.deepEqual(
      seenLinks(links).map((it) => it.slot),
      ['up lo', 'address lo 10.0.1.100/32'],
    )
  })

  test("of a link that is not the router's is told, the kernel's own left out", () => {
    const plan = plannedVpc(1)
    const names = [
      UPLINK,
      'lo',
      'sit0',
      'eth7',
      'c00000000',
      ...plan.attachments.map((it) => routerLink(it.id)),
    ]
    const links = names.map((ifname, ifindex) => ({ ifname, ifindex, flags: [], mtu: 1500 }))
    assert.deepEqual(strayLinks(plan, links), ['eth7', 'c00000000'])
  })
})

test('addresses are written as the kernel writes them', () => {
  assert.equal(canonical('FD00:0:1:1:0:0:a00:105'), 'fd00:0:1:1::a00:105')
  assert.equal(canonical('fd00:0:0001::/48'), 'fd00:0:1::/48')
  assert.equal(canonical('10.0.1.5'), '10.0.1.5')
})

test('the host has a route to each fabric and external address of the VPC, once', () => {
  const plan = plannedVpc(1)
  assert.deepEqual(externalsOf(plan), ['100.72.0.101', '100.72.0.1'])
  assert.deepEqual(externalsOf({ ...plan, internet: false }), [])
  const slots = itemsOnHost(plan, 'arcus-u1').map((it) => it.slot)
  assert.deepEqual(slots, [
    'up arcus-u1',
    'address arcus-u1 100.120.1.2/31',
    'route main 100.120.128.31/32',
    'route main 100.120.128.32/32',
    'route main 100.72.0.101/32',
    'route main 100.72.0.1/32',
  ])
})
