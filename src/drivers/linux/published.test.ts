import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { PlannedPort, VpcPlan } from '#cloud/network/network.driver.ts'
import { difference, itemsInside, seenRoutes, seenRules } from './links.ts'
import { routerLink } from './names.ts'
import { parseTable } from './nft.testing.ts'
import { exposedBy, exposedCut, exposedElement, strayFlows } from './exposed.ts'
import { vpcRules } from './render.ts'

const uplinkOf = (index: number): string => `arcus-u${index}`

const anyPorts: fc.Arbitrary<PlannedPort[]> = fc.uniqueArray(
  fc.record({
    id: fc.constant('w'),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    host: fc.integer({ min: 30_000, max: 30_004 }),
    container: fc.integer({ min: 1, max: 65_535 }),
    backends: fc.subarray(plannedVpc(1).attachments.map((it) => it.id)),
  }),
  { selector: (it) => `${it.protocol} ${it.host}` },
)

const planned = (number: number, published: readonly PlannedPort[]): VpcPlan => ({
  ...plannedVpc(number),
  published,
})

describe('published ports', () => {
  test('are each of one VPC, that whose plan was applied last, and none is left out', () => {
    fc.assert(
      fc.property(anyPorts, anyPorts, (one, two) => {
        const plans = [planned(1, one), planned(2, two)]
        const exposed = new Map(
          exposedBy(plans, uplinkOf).map((it) => [`${it.protocol} ${it.port}`, it.uplink]),
        )
        const keys = (ports: readonly PlannedPort[]): string[] =>
          ports.map((it) => `${it.protocol} ${it.host}`)
        for (const key of keys(two)) assert.equal(exposed.get(key), 'arcus-u2')
        for (const key of keys(one)) assert.ok(exposed.has(key))
        assert.equal(exposed.size, new Set([...keys(one), ...keys(two)]).size)
      }),
    )
  })

  test('lead to exactly the machines that are ready, in the rules of the router', () => {
    fc.assert(
      fc.property(anyPorts, (ports) => {
        const plan = planned(1, ports)
        const table = parseTable(vpcRules(plan, plannedHost, routerLink))
        assert.equal(table.chains.has('answers'), ports.length > 0)
        for (const it of ports) {
          const verdict = table.sets.get('published')?.get(`${it.protocol} . ${it.host}`)
          const chain = table.chains.get(verdict?.replace('goto ', '') ?? '')?.lines.join('\n') ?? ''
          const to = plan.attachments.filter(({ address }) => new RegExp(`${address}\\b`).test(chain))
          assert.deepEqual(new Set(to.map(({ id }) => id)), new Set(it.backends))
          if (it.backends.length)
            assert.match(chain, new RegExp(`meta l4proto ${it.protocol} .*:${it.container}$`))
        }
      }),
    )
  })

  test('have a way back that is seen as it was made', () => {
    const plan = planned(1, [{ id: 'w', protocol: 'tcp', host: 30_080, container: 80, backends: [] }])
    const bare = itemsInside({ ...plan, published: [] }, plannedHost, new Set())
    const items = itemsInside(plan, plannedHost, new Set()).filter(
      (it) => !bare.some((other) => other.slot === it.slot),
    )
    const { uplink } = plan
    const seen = [
      ...seenRules([
        { priority: 150, src: 'all', fwmark: '0x50', table: '80' },
        { priority: 151, src: uplink.vpc, table: '80' },
      ]),
      ...seenRoutes([{ dst: 'default', gateway: uplink.host, dev: 'uplink', table: '80', flags: [] }]),
    ]
    assert.deepEqual(difference(items, seen).lines, [])
    assert.deepEqual(difference([], seen).lines, [
      'rule del pref 150 from all fwmark 0x50 lookup 80',
      `rule del pref 151 from ${uplink.vpc}/32 lookup 80`,
      'route del default dev uplink table 80',
    ])
    assert.equal(difference(items, []).lines.length, 3)
  })

  test('end what the host took for its own before, and nothing else', () => {
    const flow = {
      protocol: 'udp',
      source: '192.0.2.9',
      destination: '198.51.100.1',
      port: 30_053,
      replySource: '198.51.100.1',
      replyDestination: '192.0.2.9',
      replyPort: 30_053,
    }
    const others = [
      { ...flow, protocol: 'tcp' },
      { ...flow, port: 30_054 },
      { ...flow, replySource: '100.120.1.3' },
      { ...flow, destination: '203.0.113.7', replySource: '203.0.113.7' },
    ]
    const element = exposedElement({ protocol: 'udp', port: 30_053, to: '100.120.1.3', uplink: 'arcus-u1' })
    const own = new Set(['198.51.100.1', '100.120.1.3'])
    assert.deepEqual(strayFlows([flow, ...others], [element], own), [flow])
    assert.deepEqual(strayFlows([flow], [element.replace('udp', 'tcp')], own), [])
  })

  test('end what they led to', () => {
    const it = { protocol: 'udp' as const, port: 30_053, to: '100.120.1.3', uplink: 'arcus-u1' }
    assert.deepEqual(exposedCut([exposedElement(it)]), ['-D -p udp --dport 30053 -r 100.120.1.3'])
  })
})
