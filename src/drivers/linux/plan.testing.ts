import fc from 'fast-check'
import { plannedVpc } from '#cloud/network/network.conformance.ts'
import type { Attachment, PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'

const GROUPS = ['g1', 'g2', 'g3']

export const attachmentOf = (last: number, groups: string[], egress: boolean): Attachment => ({
  id: `a${last}`,
  subnet: 'net',
  address: `10.0.1.${last}`,
  address6: `fd00:0:1:1::${last.toString(16)}`,
  mac: '02:00:00:00:00:01',
  fabric: `100.120.128.${last}`,
  groups,
  ...(egress ? { egress: '100.72.0.1' } : {}),
})

const anyRule: fc.Arbitrary<PlannedRule> = fc
  .record({
    direction: fc.constantFrom('ingress' as const, 'egress' as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'icmp' as const, 'any' as const),
    ports: fc.option(fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 3 }))),
    peer: fc.oneof(
      fc.constant('any' as const),
      fc
        .constantFrom(
          '10.0.1.0/30',
          '10.0.1.4/32',
          '0.0.0.0/0',
          '192.0.2.0/24',
          'fd00:0:1:1::/126',
          'fd00:0:1:1::2/126',
          'fd00:0:1:1::5/127',
          '::/0',
        )
        .map((cidr) => ({ cidr })),
      fc.constantFrom(...GROUPS, 'g-of-another').map((group) => ({ group })),
    ),
  })
  .map(({ ports, ...rule }) => ({
    ...rule,
    ...(ports ? { ports: { from: ports[0], to: ports[0] + ports[1] } } : {}),
  }))

/** A VPC of some machines and security groups, of which some are members of some. */
export const anyPlan: fc.Arbitrary<VpcPlan> = fc
  .record({
    members: fc.array(fc.tuple(fc.subarray([...GROUPS, 'g-unknown']), fc.boolean()), {
      minLength: 2,
      maxLength: 6,
    }),
    rules: fc.tuple(...GROUPS.map(() => fc.array(anyRule, { maxLength: 4 }))),
    internet: fc.boolean(),
  })
  .map(({ members, rules, internet }) =>
    plannedVpc(1, {
      internet,
      attachments: members.map(([groups, egress], index) => attachmentOf(index + 2, groups, egress)),
      vips: [],
      groups: GROUPS.map((id, index) => ({ id, rules: rules[index] ?? [] })),
    }),
  )
