import assert from 'node:assert/strict'
import { BlockList, isIPv6 } from 'node:net'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { plannedBalancer, plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { Attachment, PlannedRoute, PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { allows, routeTo } from './flows.ts'
import { peeringLink, routerLink, UPLINK } from './names.ts'
import { parseTable, verdictOf, type Packet } from './nft.testing.ts'
import { anyPlan, attachmentOf } from './plan.testing.ts'
import { vpcRules } from './render.ts'

const OUTSIDE = '192.0.2.80'

/** Whether the plan lets a flow begin, in the plainest words: what the rules and the program are measured by. */
function lets(plan: VpcPlan, from: string, to: string, protocol: Packet['protocol'], port: number): boolean {
  const at = (address: string): Attachment | undefined =>
    plan.attachments.find((it) => it.address === address || it.address6 === address)
  const passes = (
    member: Attachment | undefined,
    peer: string,
    direction: PlannedRule['direction'],
  ): boolean => {
    if (!member?.groups.length) return true
    return plan.groups
      .filter((it) => member.groups.includes(it.id))
      .flatMap((it) => it.rules)
      .some((rule) => {
        if (rule.direction !== direction) return false
        if (rule.protocol !== 'any' && rule.protocol !== protocol) return false
        const { from: low, to: high } = rule.ports ?? { from: 0, to: 65535 }
        const portless = rule.protocol === 'any' || rule.protocol === 'icmp'
        if (!portless && (port < low || port > high)) return false
        if (rule.peer === 'any') return true
        if ('group' in rule.peer) return at(peer)?.groups.includes(rule.peer.group) ?? false
        const [base = '', prefix] = rule.peer.cidr.split('/')
        const network = new BlockList()
        network.addSubnet(base, Number(prefix), isIPv6(base) ? 'ipv6' : 'ipv4')
        return isIPv6(base) === isIPv6(peer) && network.check(peer, isIPv6(peer) ? 'ipv6' : 'ipv4')
      })
  }
  return passes(at(from), to, 'egress') && passes(at(to), from, 'ingress')
}

const anyPacket = fc.record({
  from: fc.nat(9),
  to: fc.nat(9),
  six: fc.boolean(),
  protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'icmp' as const),
  port: fc.integer({ min: 1, max: 9 }),
})

describe('the rules of security groups', () => {
  test('let pass between machines what the plan lets, and so says the program', () => {
    fc.assert(
      fc.property(anyPlan, fc.array(anyPacket, { minLength: 1, maxLength: 20 }), (plan, packets) => {
        const table = parseTable(vpcRules(plan, plannedHost, routerLink))
        for (const it of packets) {
          const from = plan.attachments[it.from % plan.attachments.length]
          const to = plan.attachments[it.to % plan.attachments.length]
          if (!from || !to) continue
          const source = it.six ? from.address6 : from.address
          const destination = it.six ? to.address6 : to.address
          const expected = lets(plan, source, destination, it.protocol, it.port)
          const packet = {
            iifname: routerLink(from.id),
            oifname: routerLink(to.id),
            source,
            destination,
            original: destination,
            protocol: it.protocol,
            port: it.port,
          }
          assert.equal(verdictOf(table, 'forward', packet) === 'accept', expected)
          const asked = { source, target: destination, protocol: it.protocol, port: it.port }
          assert.equal(allows(plan, plannedHost, asked), expected)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('and the way out, for those who have one', () => {
    fc.assert(
      fc.property(anyPlan, anyPacket, (plan, it) => {
        const table = parseTable(vpcRules(plan, plannedHost, routerLink))
        const from = plan.attachments[it.from % plan.attachments.length]
        if (!from) return
        const packet = {
          iifname: routerLink(from.id),
          oifname: UPLINK,
          source: from.address,
          destination: OUTSIDE,
          original: OUTSIDE,
          protocol: it.protocol,
          port: it.port,
        }
        const out = plan.internet && from.egress !== undefined
        assert.equal(
          verdictOf(table, 'forward', packet) === 'accept',
          out && lets(plan, from.address, OUTSIDE, it.protocol, it.port),
        )
        assert.notEqual(
          verdictOf(table, 'forward', {
            ...packet,
            destination: plannedHost.resolver,
            original: plannedHost.resolver,
          }),
          'accept',
        )
      }),
    )
  })

  test('and what comes in, of which the platform passes all', () => {
    fc.assert(
      fc.property(anyPlan, anyPacket, (plan, it) => {
        const table = parseTable(vpcRules(plan, plannedHost, routerLink))
        const to = plan.attachments[it.to % plan.attachments.length]
        if (!to) return
        const packet = {
          iifname: UPLINK,
          oifname: routerLink(to.id),
          source: OUTSIDE,
          destination: to.address,
          original: '100.72.0.9',
          protocol: it.protocol,
          port: it.port,
        }
        const expected = lets(plan, OUTSIDE, to.address, it.protocol, it.port)
        assert.equal(verdictOf(table, 'forward', packet) === 'accept', expected)
        const platform = { ...packet, source: plan.uplink.host, original: to.fabric }
        assert.equal(verdictOf(table, 'forward', platform), 'accept')
        // What load balancers send is asked for as if it came from where they are.
        const balanced = { ...platform, source: plannedHost.resolver, protocol: 'tcp' as const }
        assert.equal(verdictOf(table, 'forward', balanced), 'drop', 'there is none')
        const more = parseTable(vpcRules({ ...plan, balancers: [plannedBalancer] }, plannedHost, routerLink))
        assert.equal(
          verdictOf(more, 'forward', balanced) === 'accept',
          lets(plan, plannedBalancer.address, to.address, 'tcp', it.port),
        )
        const straight = { ...packet, original: to.address }
        assert.equal(verdictOf(table, 'forward', straight), 'drop', 'not translated, so not asked for')
        assert.equal(verdictOf(table, 'forward', { ...packet, oifname: UPLINK }), 'drop')
      }),
    )
  })
})

const NAT = '100.72.0.40'
const anyWay: fc.Arbitrary<PlannedRoute> = fc.record({
  cidr: fc.constantFrom('0.0.0.0/0', '192.0.2.0/24', '192.0.2.80/32', '192.0.0.0/8', '8.0.0.0/8'),
  target: fc.constantFrom<PlannedRoute['target']>(
    'internet',
    'blackhole',
    { nat: NAT },
    { nat: '100.72.0.41' },
  ),
})

describe('the ways out', () => {
  test('are those of the longest route, each under its own address', () => {
    const tables = fc.uniqueArray(anyWay, { selector: (it) => it.cidr, maxLength: 5 })
    const destinations = fc.constantFrom(OUTSIDE, '192.0.2.1', '192.1.1.1', '8.8.8.8', '9.9.9.9')
    fc.assert(
      fc.property(tables, destinations, fc.boolean(), (routes, destination, hasOwn) => {
        const from = attachmentOf(5, [], hasOwn)
        const base = plannedVpc(1)
        const [subnet] = base.subnets
        assert.ok(subnet)
        const plan = {
          ...base,
          vips: [],
          subnets: [{ ...subnet, id: 'net', routes }],
          attachments: [from],
        }
        const target = routeTo({ routes }, destination)
        // The kernel's routes keep what leads nowhere from coming here.
        if (target === undefined || target === 'blackhole') return
        const source =
          typeof target === 'object' && 'nat' in target ? target.nat : hasOwn ? '100.72.0.1' : undefined
        const table = parseTable(vpcRules(plan, plannedHost, routerLink))
        const packet = {
          iifname: routerLink(from.id),
          oifname: UPLINK,
          source: from.address,
          destination,
          original: destination,
          protocol: 'tcp' as const,
          port: 80,
        }
        assert.equal(verdictOf(table, 'forward', packet), source === undefined ? 'reject' : 'accept')
        if (source !== undefined) assert.equal(verdictOf(table, 'postrouting', packet), `snat ${source}`)
      }),
      { numRuns: 300 },
    )
  })

  test('by a peering comes only what is behind it, to the VPC alone', () => {
    const peer = { id: 'near', vpc: plannedVpc(2).vpc, ranges: ['10.9.0.0/16'] }
    const table = parseTable(vpcRules(plannedVpc(1, { peerings: [peer] }), plannedHost, routerLink))
    const spoofing = table.chains.get('spoofing')?.lines ?? []
    // Whether the route back leads to the same link is the kernel's to say.
    assert.equal(spoofing.at(-1), 'fib saddr . iif oif missing drop')
    const chain = { lines: spoofing.slice(0, -1), policy: 'accept' as const }
    const raw = { ...table, chains: new Map([['raw', chain]]) }
    const from = (source: string, destination: string) =>
      verdictOf(raw, 'raw', {
        iifname: peeringLink('near'),
        oifname: '',
        source,
        destination,
        original: destination,
        protocol: 'tcp',
        port: 80,
      })
    assert.equal(from('10.9.3.4', '10.0.1.11'), 'accept')
    assert.equal(from('10.0.1.12', '10.0.1.11'), 'drop')
    assert.equal(from('192.0.2.80', '10.0.1.11'), 'drop')
    for (const it of [OUTSIDE, '169.254.169.253', '100.120.128.31', '100.72.0.101', '10.9.1.1'])
      assert.equal(from('10.9.3.4', it), 'drop', it)
    assert.equal(from('fd00:0:2:1::11', 'fd00:0:1:1::11'), 'drop')
  })
})

describe('the text of a VPC', () => {
  const text = vpcRules(plannedVpc(1), plannedHost, routerLink)

  test('is one transaction that replaces the table before', () => {
    assert.match(text, /^table inet arcus\ndelete table inet arcus\ntable inet arcus \{/)
    assert.equal(text.match(/^table inet arcus \{/gm)?.length, 1)
  })

  test('balances over the backends that are ready, and over nobody when none is', () => {
    assert.match(text, /dnat ip to numgen inc mod 2 map \{ 0 : 10\.0\.1\.11, 1 : 10\.0\.1\.12 \}/)
    const [vip] = plannedVpc(1).vips
    assert.ok(vip)
    const none = vpcRules(plannedVpc(1, { vips: [{ ...vip, backends: [] }] }), plannedHost, routerLink)
    const { sets, chains } = parseTable(none)
    // The VIP is the router's own and refuses by itself; the external address has to be led there.
    assert.deepEqual([...(sets.get('vips') ?? [])], [['100.72.0.101 . tcp . 80', `goto vip_${vip.id}`]])
    assert.deepEqual(chains.get(`vip_${vip.id}`)?.lines, ['dnat ip to 10.0.1.100'])
    assert.deepEqual([...(sets.get('vips6') ?? [])], [])
  })

  test('leads to the edge what is for a load balancer, and nothing where there is none', () => {
    const { sets, chains } = parseTable(
      vpcRules(plannedVpc(1, { balancers: [plannedBalancer] }), plannedHost, routerLink),
    )
    assert.equal(sets.get('vips')?.get('10.0.1.110 . tcp . 8080'), 'goto edge20001')
    assert.deepEqual(chains.get('edge20001')?.lines, [
      `meta l4proto tcp dnat ip to ${plannedHost.resolver}:20001`,
    ])
    assert.doesNotMatch(text, /20000|groups_balanc/)
    assert.match(text, new RegExp(`ct original ip saddr ${plannedHost.resolver} drop`))
  })

  test('lets nobody out when there is no internet, whatever else the plan says', () => {
    const { sets } = parseTable(vpcRules(plannedVpc(1, { internet: false }), plannedHost, routerLink))
    assert.deepEqual([...(sets.get('leaving') ?? [])], [])
    assert.deepEqual([...(sets.get('egress_by') ?? [])], [])
    assert.ok(
      ![...(sets.get('vips') ?? new Map<string, string>()).keys()].some((it) => it.startsWith('100.72')),
    )
  })

  test('does not depend on the generation, so that a new one alone loads nothing', () => {
    assert.equal(vpcRules(plannedVpc(1, { generation: 99 }), plannedHost, routerLink), text)
  })

  test('lets a machine send for others only what is routed to it, and never for the VPC', () => {
    const plan = plannedVpc(1)
    const [subnet] = plan.subnets
    const [gateway] = plan.attachments
    assert.ok(subnet && gateway)
    const routes = [{ cidr: '192.168.0.0/16', target: { address: gateway.address } }]
    const { chains } = parseTable(
      vpcRules({ ...plan, subnets: [{ ...subnet, routes }] }, plannedHost, routerLink),
    )
    const [relay, ...rest] = chains.get('spoofing')?.lines ?? []
    assert.match(
      relay ?? '',
      new RegExp(`^iifname "${routerLink(gateway.id)}" ip saddr 192.168.0.0/16 ip saddr != `),
    )
    assert.match(relay ?? '', /10\.0\.1\.0\/24.*100\.120\.0\.0\/16.*accept$/)
    assert.deepEqual(rest, ['fib saddr . iif oif missing drop'])
  })
})
