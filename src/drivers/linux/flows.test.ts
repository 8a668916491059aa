import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { plannedBalancer, plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import { VPC_DNS_ADDRESS, type PlannedRule, type VpcPlan } from '#cloud/network/network.driver.ts'
import { flowsToCut, mayRevoke, parseFlows } from './flows.ts'

const base = plannedVpc(1)
const [first, second] = base.attachments
const [service] = base.vips
if (!first || !second || !service) throw new Error('the plan has no machines')
const open: VpcPlan = {
  ...base,
  attachments: base.attachments.map((it) => ({ ...it, groups: [] })),
  vips: [{ ...service, ports: [...service.ports, { protocol: 'udp', port: 53 }] }],
  groups: [],
}
const [vip] = open.vips
if (!vip) throw new Error('the plan has no VIP')

/** A line as conntrack prints it. */
const line = (
  protocol: string,
  source: string,
  destination: string,
  port: number,
  by = destination,
  to = source,
): string =>
  `${protocol} 6 99 ESTABLISHED src=${source} dst=${destination} sport=4000 dport=${port} ` +
  `src=${by} dst=${to} sport=${port} dport=4000 [ASSURED] mark=0 use=1`

/** The lines that are to be cut when `before` becomes `after`. */
const cut = (lines: string[], after: VpcPlan, before: VpcPlan = open): string[] => {
  const gone = flowsToCut(parseFlows(lines.join('\n')), before, after, plannedHost)
  return lines.filter((it) =>
    gone.some(
      (flow) =>
        parseFlows(it)[0]?.source === flow.source &&
        JSON.stringify(parseFlows(it)[0]) === JSON.stringify(flow),
    ),
  )
}

const inside = line('tcp', second.address, first.address, 80)
const byVip = line('tcp', second.address, vip.address, 80, first.address)
const byVip6 = line('tcp', second.address6, vip.address6, 80, first.address6)
const udpByVip = line('udp', second.address, vip.address, 53, first.address)
const fromOutside = line('tcp', '192.0.2.9', vip.external ?? '', 80, first.address)
const out = line('tcp', first.address, '192.0.2.80', 443, '192.0.2.80', first.egress)
const platform = line('tcp', base.uplink.host, first.fabric, 80, first.address)
const dns = line('udp', first.address, VPC_DNS_ADDRESS, 53, plannedHost.resolver, first.fabric)
const all = [inside, byVip, byVip6, udpByVip, fromOutside, out, platform, dns]

describe('what conntrack prints', () => {
  test('is read, both directions', () => {
    assert.deepEqual(parseFlows(udpByVip), [
      {
        protocol: 'udp',
        source: second.address,
        destination: vip.address,
        port: 53,
        replySource: first.address,
        replyDestination: second.address,
        replyPort: 53,
      },
    ])
    const others = [
      'icmp     1 29 src=10.0.1.11 dst=10.0.1.12 type=8 code=0 id=77 src=10.0.1.12 dst=10.0.1.11 type=0 code=0 id=77 mark=0 use=1',
      'unknown  99 597 src=10.0.1.11 dst=10.0.1.12 [UNREPLIED] src=10.0.1.12 dst=10.0.1.11 mark=0 use=1',
    ]
    assert.deepEqual(
      parseFlows(others.join('\n')).map((it) => [it.protocol, it.port]),
      [
        ['icmp', undefined],
        ['99', undefined],
      ],
    )
  })

  test('is passed over where it cannot be read', () => {
    assert.deepEqual(parseFlows('conntrack v1.4.7: 3 flow entries have been shown.\n\ntcp 6 nonsense'), [])
  })
})

describe('of the flows of a VPC', () => {
  test('none is cut when nothing changes', () => {
    assert.deepEqual(cut(all, open), [])
    assert.deepEqual(cut(all, { ...open, generation: 2 }), [])
  })

  test('all of a machine are cut when it goes, or its address is another’s', () => {
    const attachments = open.attachments.filter((it) => it.id !== first.id)
    const gone: VpcPlan = { ...open, attachments, vips: [{ ...vip, backends: [second.id] }] }
    assert.deepEqual(cut(all, gone), all)
    const heir = open.attachments.map((it) => (it.id === first.id ? { ...it, id: 'heir' } : it))
    assert.deepEqual(cut(all, { ...open, attachments: heir, vips: [{ ...vip, backends: ['heir'] }] }), all)
  })

  test('connections end on a backend that takes no new ones, datagrams go elsewhere', () => {
    const drained: VpcPlan = { ...open, vips: [{ ...vip, backends: [second.id] }] }
    assert.deepEqual(cut(all, drained), [udpByVip])
    const nowhere = { ...open, vips: [{ ...vip, backends: [] }] }
    const refused = line('tcp', second.address, vip.address, 80)
    assert.deepEqual(cut([refused], nowhere), [])
    assert.deepEqual(cut([refused], open), [refused])
    // One that another version of the rules tracked.
    const datagrams = line('udp', second.address, vip.address, 53)
    assert.deepEqual(cut([datagrams], nowhere), [datagrams])
  })

  test('those of a VIP or port that is no more are cut', () => {
    assert.deepEqual(cut(all, { ...open, vips: [] }), [byVip, byVip6, udpByVip, fromOutside])
    const fewer: VpcPlan = { ...open, vips: [{ ...vip, ports: [{ protocol: 'tcp', port: 80 }] }] }
    assert.deepEqual(cut(all, fewer), [udpByVip])
    const { external: _, ...internal } = vip
    assert.deepEqual(cut(all, { ...open, vips: [internal] }), [fromOutside])
  })

  test('those of a published port are cut with it, with its target, and with its last machine', () => {
    const port = { id: vip.id, protocol: 'tcp', host: 30_080, container: 80, backends: [first.id] } as const
    const own = open.uplink.vpc
    const by = (host: number, by: string, container: number, protocol = 'tcp', from = '192.0.2.9'): string =>
      `${protocol} 6 99 ESTABLISHED src=${from} dst=${own} sport=4000 dport=${host} ` +
      `src=${by} dst=${from} sport=${container} dport=4000 [ASSURED] mark=80 use=1`
    const published: VpcPlan = { ...open, published: [port, { ...port, protocol: 'udp' }] }
    const mine = [
      by(30_080, first.address, 80),
      by(30_080, first.address, 80, 'udp'),
      by(30_080, first.address, 80, 'tcp', open.uplink.host),
    ]
    const lines = [...all, ...mine]
    const after = (more: Partial<VpcPlan>): string[] => cut(lines, { ...published, ...more }, published)
    assert.deepEqual(after({}), [])
    assert.deepEqual(after({ published: [] }), mine)
    assert.deepEqual(after({ published: [{ ...port, host: 30_081 }] }), mine)
    assert.deepEqual(after({ published: [{ ...port, container: 81 }] }), mine)
    const [, datagrams] = mine
    assert.deepEqual(after({ published: [port] }), [datagrams])
    const drained = [port, { ...port, protocol: 'udp' as const }].map((it) => ({
      ...it,
      backends: [second.id],
    }))
    assert.deepEqual(after({ published: drained }), [datagrams])
    const members = open.attachments.map((it) => ({ ...it, groups: ['g'] }))
    const peer = { cidr: '192.0.2.0/24' }
    const rules = [{ direction: 'ingress', protocol: 'tcp', ports: { from: 80, to: 80 }, peer }] as const
    const [, , byHost] = mine
    const gone = cut(mine, { ...published, attachments: members, groups: [{ id: 'g', rules }] }, published)
    assert.deepEqual(gone, [datagrams, byHost])
    assert.equal(mayRevoke(published, { ...published, published: [port] }), true)
    assert.equal(mayRevoke(open, published), false)
  })

  test('a VIP that leads to one machine more revokes nothing, one that leads to one less may', () => {
    const led = (...backends: string[]): VpcPlan => ({ ...open, vips: [{ ...vip, backends }] })
    assert.equal(mayRevoke(led(), led(first.id)), false)
    assert.equal(mayRevoke(led(), led()), false)
    assert.equal(mayRevoke(led(first.id), led(second.id, first.id)), false)
    assert.equal(mayRevoke(led(first.id, second.id), led(second.id)), true)
    const { external: _, ...closed } = vip
    assert.equal(mayRevoke(open, { ...open, vips: [closed] }), true)
    assert.equal(mayRevoke(open, { ...open, vips: [] }), true)
  })

  test('those on the way out are cut with the way, or when it becomes another', () => {
    assert.deepEqual(cut(all, { ...open, internet: false }), [fromOutside, out])
    const moved = open.attachments.map((it) => ({ ...it, egress: '100.72.0.77' }))
    assert.deepEqual(cut(all, { ...open, attachments: moved }), [out])
  })

  test('those that a group does not allow are cut, the platform’s and DNS not', () => {
    const members = open.attachments.map((it) => ({ ...it, groups: ['g'] }))
    const rules = [{ direction: 'egress', protocol: 'any', peer: { cidr: '10.0.0.0/8' } }] as const
    const closed: VpcPlan = { ...open, attachments: members, groups: [{ id: 'g', rules }] }
    assert.deepEqual(cut(all, closed), [inside, byVip, byVip6, udpByVip, fromOutside, out])
    const some: VpcPlan = {
      ...closed,
      groups: [
        {
          id: 'g',
          rules: [
            ...rules,
            { direction: 'ingress', protocol: 'tcp', ports: { from: 80, to: 80 }, peer: { group: 'g' } },
          ],
        },
      ],
    }
    // Between members over IPv4: IPv6 is not in the egress rule.
    assert.deepEqual(cut(all, some), [byVip6, udpByVip, fromOutside, out])
  })

  test('those that another machine relays are kept as long as they are routed to it', () => {
    const relayed = line('tcp', second.address, '192.0.2.80', 443)
    const tables = (cidr: string): VpcPlan => ({
      ...open,
      subnets: open.subnets.map((it) => ({ ...it, routes: [{ cidr, target: { address: first.address } }] })),
    })
    assert.deepEqual(cut([relayed], tables('192.0.2.0/24')), [])
    assert.deepEqual(cut([relayed], tables('198.51.100.0/24')), [relayed])
    assert.deepEqual(cut([relayed], open), [relayed])
  })

  test('those that rules let which were taken away tell which are cut, of flows that were allowed', () => {
    const address = fc.constantFrom(first.address, second.address, '192.0.2.80')
    const flow = fc.record({ from: address, to: address, port: fc.constantFrom(80, 81, 443) })
    const rule = fc.record({
      direction: fc.constantFrom('ingress' as const, 'egress' as const),
      protocol: fc.constantFrom('tcp' as const, 'any' as const),
      peer: fc.constantFrom<PlannedRule['peer']>(
        'any',
        { cidr: '10.0.1.0/24' },
        { cidr: first.address + '/32' },
        { group: 'g' },
      ),
      ports: fc.constantFrom({ from: 80, to: 80 }, { from: 80, to: 81 }, { from: 1, to: 500 }),
    })
    const members = open.attachments.map((it) => ({ ...it, groups: ['g', 'h'] }))
    const groups = fc.tuple(fc.array(rule, { maxLength: 4 }), fc.array(rule, { maxLength: 3 }))
    fc.assert(
      fc.property(fc.array(flow, { maxLength: 8 }), groups, groups, (flows, ...both) => {
        const [before, after] = both.map(([g, h]): VpcPlan => {
          const of = { g, h }
          return {
            ...open,
            attachments: members,
            groups: Object.entries(of).map(([id, rules]) => ({ id, rules })),
          }
        })
        assert.ok(before && after)
        const lines = flows.map((it) =>
          line('tcp', it.from, it.to, it.port, it.to, it.to.startsWith('10.') ? it.from : first.egress),
        )
        const tracked = parseFlows(lines.join('\n'))
        const refused = flowsToCut(tracked, before, before, plannedHost)
        const allowed = tracked.filter((it) => !refused.includes(it))
        const gone = flowsToCut(allowed, before, after, plannedHost, true)
        assert.deepEqual(gone, flowsToCut(allowed, before, after, plannedHost))
        if (gone.length) assert.equal(mayRevoke(before, after), true)
      }),
      { numRuns: 500 },
    )
  })

  test('one from an address that nobody has is cut', () => {
    const stranger = line('tcp', '10.0.1.200', first.address, 80)
    assert.deepEqual(cut([stranger], open), [stranger])
  })
})

describe('a flow to a load balancer', () => {
  const it = plannedBalancer
  const balanced: VpcPlan = { ...open, balancers: [it] }
  const to = (client: string, by: string, at: number = it.at): string =>
    `tcp 6 99 ESTABLISHED src=${client} dst=${it.address} sport=4000 dport=${it.port} ` +
    `src=${plannedHost.resolver} dst=${by} sport=${at} dport=4000 [ASSURED] mark=0 use=1`
  const own = to(first.address, first.fabric)

  test('of a machine stays, and goes with the load balancer', () => {
    assert.deepEqual(cut([own, ...all], balanced, balanced), [])
    assert.deepEqual(cut([own, ...all], open, balanced), [own])
    assert.equal(mayRevoke(balanced, open), true)
    assert.equal(mayRevoke(open, balanced), false)
  })

  test('to another port of the edge, under another address or of a stranger goes', () => {
    const strange = [
      to(first.address, first.fabric, 20_002),
      to(first.address, second.fabric),
      to('10.9.1.5', '10.9.1.5'),
    ]
    assert.deepEqual(cut(strange, balanced, balanced), strange)
  })

  test('stays while a security group of its machine lets it to that address and port', () => {
    const grouped = (peer: string, port: number): VpcPlan => ({
      ...balanced,
      attachments: [{ ...first, groups: ['clients'] }, second],
      groups: [
        {
          id: 'clients',
          rules: [
            { direction: 'egress', protocol: 'tcp', ports: { from: port, to: port }, peer: { cidr: peer } },
          ],
        },
      ],
    })
    assert.deepEqual(cut([own], grouped('10.0.1.0/24', it.port), balanced), [])
    assert.deepEqual(cut([own], grouped('10.0.1.0/24', it.at), balanced), [own])
    assert.deepEqual(cut([own], grouped(`${plannedHost.resolver}/32`, it.port), balanced), [own])
  })

  test('from it to a target stays while the target’s groups let the load balancer to that port', () => {
    const port = 80
    const sent = (by: string): string =>
      `tcp 6 99 ESTABLISHED src=${by} dst=${first.fabric} sport=4000 dport=${port} ` +
      `src=${first.address} dst=${by} sport=${port} dport=4000 [ASSURED] mark=0 use=1`
    const grouped = (...rules: Partial<PlannedRule>[]): VpcPlan => ({
      ...balanced,
      attachments: [{ ...first, groups: ['served'] }, second],
      groups: [
        {
          id: 'served',
          rules: rules.map((rule) => ({ direction: 'ingress', protocol: 'tcp', peer: 'any', ...rule })),
        },
      ],
    })
    const from = sent(plannedHost.resolver)
    assert.deepEqual(cut([from, sent(plannedVpc(1).uplink.host)], balanced, balanced), [])
    assert.deepEqual(cut([from], open, balanced), [from], 'with the load balancer')
    const let1 = grouped({ peer: { cidr: `${it.address}/32` }, ports: { from: port, to: port } })
    assert.deepEqual(cut([from], let1, balanced), [])
    for (const other of [
      { ports: { from: 81, to: 81 } },
      { peer: { cidr: '10.0.2.0/24' } },
      { peer: { cidr: `${plannedHost.resolver}/32` } },
      { peer: { group: 'served' } },
      { direction: 'egress' as const },
      { protocol: 'udp' as const },
    ]) {
      assert.deepEqual(cut([from], grouped(other), let1), [from], JSON.stringify(other))
      assert.equal(mayRevoke(let1, grouped(other)), true)
    }
    // The platform’s own, which tunnels come by, is not asked.
    assert.deepEqual(cut([sent(plannedVpc(1).uplink.host)], grouped(), let1), [])
  })

  test('of who comes by a peering stays while both sides route it, under the router’s own address', () => {
    const peer = '10.9.1.5'
    const routes = [{ cidr: '10.9.1.0/24', target: { peering: 'p1' } }]
    const peered: VpcPlan = {
      ...balanced,
      peerings: [{ id: 'p1', vpc: 'other', ranges: ['10.9.1.0/24'] }],
      subnets: balanced.subnets.map((one) => ({ ...one, routes })),
    }
    const by = plannedVpc(1).uplink.vpc
    assert.deepEqual(cut([to(peer, by)], peered, peered), [])
    assert.deepEqual(cut([to(peer, peer)], peered, peered), [to(peer, peer)])
    assert.deepEqual(cut([to('10.8.1.5', by)], peered, peered), [to('10.8.1.5', by)])
    const unrouted = { ...peered, subnets: balanced.subnets }
    assert.deepEqual(cut([to(peer, by)], unrouted, peered), [to(peer, by)])
  })
})

describe('flows have to be looked at', () => {
  test('when something was taken away or changed', () => {
    assert.equal(mayRevoke(open, { ...open, vips: [] }), true)
    assert.equal(mayRevoke(open, { ...open, internet: !open.internet }), true)
    assert.equal(mayRevoke(open, { ...open, vips: [{ ...vip, backends: [first.id] }] }), true)
  })

  test('but not when something was added', () => {
    assert.equal(mayRevoke(open, { ...open, generation: 2 }), false)
    const added = { ...first, id: 'more', address: '10.0.1.33' }
    assert.equal(mayRevoke(open, { ...open, attachments: [...open.attachments, added] }), false)
    const rule = { direction: 'ingress', protocol: 'tcp', peer: 'any' } as const
    const attachments = [{ ...first, groups: ['g'] }, second]
    const withRules = (...rules: PlannedRule[]): VpcPlan => ({
      ...open,
      attachments,
      groups: [{ id: 'g', rules }],
    })
    const [few, more] = [withRules(rule), withRules({ ...rule, protocol: 'udp' }, rule)]
    assert.equal(mayRevoke(few, more), false)
    assert.equal(mayRevoke(more, few), true)
    const { attachments: nobody } = open
    assert.equal(mayRevoke({ ...more, attachments: nobody }, { ...few, attachments: nobody }), false)
  })
})
