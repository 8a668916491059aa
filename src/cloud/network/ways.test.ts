// Gateways, elastic IPs, route tables and peerings as records: what is refused, what is planned, what is left.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Verbs } from '#cloud/cloud.ts'
import { testCloud } from '#cloud/cloud.testing.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { type ErrorCode, type ErrorRule, isCloudError } from '#lib/errors.ts'
import { elasticIp } from './elastic-ip.kind.ts'
import { internetGateway } from './internet-gateway.kind.ts'
import { natGateway } from './nat-gateway.kind.ts'
import { peering } from './peering.kind.ts'
import { routeTable } from './route-table.kind.ts'
import { securityGroup } from './security-group.kind.ts'
import { vpc as vpcKind } from './vpc.kind.ts'

const refused = (code: ErrorCode, rule?: ErrorRule) => (error: unknown) => {
  assert.ok(isCloudError(error, code), String(error))
  assert.equal(error.details.rule, rule)
  return true
}

async function routedCloud() {
  const it = await testCloud()
  const { caller } = await it.tenant('acme')
  const act = <R>(work: (verbs: Verbs) => Promise<R>): Promise<R> => it.cloud.act(caller, 'test', work)
  const network = async (name: string, range: string) =>
    await act(async (verbs) => {
      const { vpc, table } = await verbs.createRoutedVpc({ name, cidr: range })
      const [a = '', b = ''] = range.split('.')
      const subnetOf = async (called: string, third: number) =>
        await verbs.createSubnet({
          vpc: vpc.id,
          name: called,
          cidr: `${a}.${b}.${third}.0/24`,
          gateway: `${a}.${b}.${third}.1`,
        })
      return { vpc, table, web: await subnetOf('web', 1), data: await subnetOf('data', 2) }
    })
  const instance = async (at: { vpc: string; subnet: string }, name: string) =>
    await act((verbs) => verbs.createWorkload({ ...at, name, spec: { image: 'nginx' } }))
  const planOf = (id: string) => it.network.plans.get(id)
  return {
    ...it,
    caller,
    act,
    network,
    instance,
    planOf,
    [Symbol.asyncDispose]: () => it[Symbol.asyncDispose](),
  }
}

test('a VPC with a range holds its subnets to it', async () => {
  await using it = await routedCloud()
  const { vpc } = await it.network('one', '10.1.0.0/16')
  const outside = { vpc: vpc.id, name: 'far', cidr: '10.2.0.0/24', gateway: '10.2.0.1' }
  await assert.rejects(
    it.act((verbs) => verbs.createSubnet(outside)),
    refused('invalid'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.createSubnet({ ...outside, cidr: '10.0.0.0/8', gateway: '10.0.0.1' })),
    refused('invalid'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.createVpc({ name: 'bad', internet: true, cidr: '127.0.0.0/8' })),
    refused('invalid'),
  )
})

test('a two-tier VPC: nothing leads out until gateways are routed to, and each tier leaves by its own', async () => {
  await using it = await routedCloud()
  const { vpc, table, web, data } = await it.network('one', '10.1.0.0/16')
  const front = await it.instance({ vpc: vpc.id, subnet: web.id }, 'front')
  await it.instance({ vpc: vpc.id, subnet: data.id }, 'store')
  await it.settle()
  assert.equal(it.planOf(vpc.id)?.internet, false)
  assert.deepEqual(
    table.spec.routes.map(({ cidr, target }) => ({ cidr, target })),
    [{ cidr: '10.1.0.0/16', target: 'local' }],
  )

  const gateway = await it.act((verbs) => verbs.createInternetGateway({ name: 'igw', vpc: vpc.id }))
  const { outside, nat } = await it.act(async (verbs) => {
    const [outside, forNat] = [
      await verbs.createElasticIp({ name: 'front' }),
      await verbs.createElasticIp({ name: 'nat' }),
    ]
    await verbs.associateElasticIp(outside.id, front.id)
    const nat = await verbs.createNatGateway({ name: 'nat', subnet: web.id, elasticIp: forNat.id })
    const tier = await verbs.createRouteTable({
      name: 'data',
      spec: { vpc: vpc.id, subnets: [], routes: [] },
    })
    await verbs.addRoute(tier.id, { cidr: '0.0.0.0/0', target: 'nat-gateway', to: nat.id })
    await verbs.associateSubnet(tier.id, data.id)
    return { outside, nat }
  })
  await it.settle()
  const plan = it.planOf(vpc.id)
  assert.equal(plan?.internet, true)
  assert.deepEqual(
    plan.subnets.map((one) => one.routes),
    [[{ cidr: '0.0.0.0/0', target: 'internet' }], [{ cidr: '0.0.0.0/0', target: { nat: nat.spec.address } }]],
  )
  assert.deepEqual(
    plan.attachments.map(({ egress, elastic }) => ({ egress, elastic })),
    [
      { egress: outside.spec.address, elastic: outside.spec.address },
      { egress: undefined, elastic: undefined },
    ],
  )
  assert.equal((await it.cloud.get(it.caller, elasticIp, outside.id)).status.state, 'associated')
  assert.equal((await it.cloud.get(it.caller, natGateway, nat.id)).status.state, 'active')

  // What blocks what.
  const over = await it.act((verbs) => verbs.get(elasticIp, nat.spec.elasticIp))
  await assert.rejects(
    it.act((verbs) => verbs.remove(elasticIp, outside.id)),
    refused('conflict', 'in_use'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.remove(elasticIp, over.id)),
    refused('conflict', 'in_use'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.associateElasticIp(over.id, front.id)),
    refused('conflict', 'wrong_state'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.createNatGateway({ name: 'two', subnet: web.id, elasticIp: outside.id })),
    refused('conflict', 'wrong_state'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.remove(internetGateway, gateway.id)),
    refused('conflict', 'wrong_state'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.attachInternetGateway(gateway.id, vpc.id)),
    refused('conflict', 'wrong_state'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.createInternetGateway({ name: 'second', vpc: vpc.id })),
    refused('conflict', 'in_use'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.remove(routeTable, table.id)),
    refused('conflict', 'wrong_state'),
  )
  await it.act((verbs) =>
    verbs.addRoute(table.id, { cidr: '8.8.8.0/24', target: 'internet-gateway', to: gateway.id }),
  )
  await assert.rejects(
    it.act((verbs) => verbs.addRoute(table.id, { cidr: '8.8.8.0/24', target: 'blackhole' })),
    refused('conflict', 'in_use'),
  )
  await assert.rejects(
    it.act((verbs) => verbs.detachInternetGateway(gateway.id)),
    refused('conflict', 'in_use'),
  )
  await it.act((verbs) => verbs.removeRoute(table.id, '8.8.8.0/24'))

  // Taken away: the gateway with its automatic route, the other one leaving a route to nowhere.
  await it.act(async (verbs) => {
    await verbs.detachInternetGateway(gateway.id)
    await verbs.remove(natGateway, nat.id)
  })
  await it.settle()
  assert.deepEqual(
    it.planOf(vpc.id)?.subnets.map((one) => one.routes),
    [[], [{ cidr: '0.0.0.0/0', target: 'blackhole' }]],
  )
  assert.equal(it.planOf(vpc.id)?.attachments[0]?.elastic, undefined)
  await it
    .act((verbs) => verbs.associateElasticIp(over.id, front.id))
    .then(() => assert.fail('a second address'), refused('conflict', 'in_use'))
})

test('an elastic IP comes back when its instance or VPC goes, and an internet gateway is detached', async () => {
  await using it = await routedCloud()
  const { vpc, web } = await it.network('one', '10.1.0.0/16')
  const at = { vpc: vpc.id, subnet: web.id }
  const [first, second] = [await it.instance(at, 'a'), await it.instance(at, 'b')]
  const { one, two, gateway } = await it.act(async (verbs) => {
    const one = await verbs.createElasticIp({ name: 'one' })
    const two = await verbs.createElasticIp({ name: 'two' })
    await verbs.associateElasticIp(one.id, first.id)
    await verbs.associateElasticIp(one.id, first.id)
    await verbs.associateElasticIp(two.id, second.id)
    return { one, two, gateway: await verbs.createInternetGateway({ name: 'igw', vpc: vpc.id }) }
  })
  await it.settle()
  await it.act((verbs) => verbs.deleteWorkload(first.id))
  await it.settle()
  assert.equal((await it.cloud.get(it.caller, elasticIp, one.id)).status.state, 'allocated')
  await it.act((verbs) => verbs.deleteVpc(vpc.id))
  await it.settle()
  assert.equal((await it.cloud.all(it.caller, vpcKind)).length, 0)
  assert.deepEqual((await it.cloud.get(it.caller, elasticIp, two.id)).spec, {
    address: two.spec.address,
    creator: it.caller.subject,
  })
  assert.deepEqual((await it.cloud.get(it.caller, internetGateway, gateway.id)).spec, {
    creator: it.caller.subject,
  })
  await it.act(async (verbs) => {
    for (const { id } of [one, two]) await verbs.remove(elasticIp, id)
    await verbs.remove(internetGateway, gateway.id)
  })
  await it.settle()
  assert.equal((await it.engine.store.claims('external')).length, 0)
  const { records } = await it.cloud.records(it.caller, { stream: 'usage' })
  assert.equal(records.filter((one) => one.what === 'address.closed').length, 2)
})

test('a VPC that leaves by itself still does when a gateway or a peering joins it', async () => {
  await using it = await routedCloud()
  const open = await it.act(async (verbs) => {
    const vpc = await verbs.createVpc({ name: 'open', internet: true })
    const subnet = await verbs.createSubnet({
      vpc: vpc.id,
      name: 'web',
      cidr: '10.7.0.0/24',
      gateway: '10.7.0.1',
    })
    await verbs.createWorkload({
      vpc: vpc.id,
      subnet: subnet.id,
      name: 'web',
      spec: { image: 'nginx', egress: true },
    })
    return vpc
  })
  await it.settle()
  const before = it.planOf(open.id)
  assert.equal(before?.subnets[0]?.routes, undefined)
  const other = await it.network('other', '10.8.0.0/16')
  await it.act(async (verbs) => {
    const made = await verbs.createPeering({ name: 'p', vpc: open.id, peer: other.vpc.id })
    await verbs.decidePeering(made.id, 'accepted')
    await verbs.createInternetGateway({ name: 'igw', vpc: open.id })
  })
  await it.settle()
  const after = it.planOf(open.id)
  assert.deepEqual(after?.attachments, before?.attachments)
  assert.deepEqual(
    after?.subnets[0]?.routes?.map((one) => [
      one.cidr,
      typeof one.target === 'string' ? one.target : 'peering',
    ]),
    [
      ['0.0.0.0/0', 'internet'],
      ['10.8.0.0/16', 'peering'],
    ],
  )
})

test('a peering: asked for, decided once, routed on both sides, blocking, and gone without a trace', async () => {
  await using it = await routedCloud()
  const [one, two, same] = [
    await it.network('one', '10.1.0.0/16'),
    await it.network('two', '10.2.0.0/16'),
    await it.network('same', '10.1.0.0/16'),
  ]
  const ask = (peer: string) => it.act((verbs) => verbs.createPeering({ name: 'p', vpc: one.vpc.id, peer }))
  await assert.rejects(ask(one.vpc.id), refused('invalid'))
  await assert.rejects(ask(same.vpc.id), refused('invalid'))
  const made = await ask(two.vpc.id)
  await assert.rejects(ask(two.vpc.id), refused('conflict', 'in_use'))
  await it.settle()
  assert.equal((await it.cloud.get(it.caller, peering, made.id)).status.state, 'pending-acceptance')
  assert.equal(it.planOf(one.vpc.id)?.peerings, undefined)
  await it.act((verbs) => verbs.decidePeering(made.id, 'rejected'))
  await assert.rejects(
    it.act((verbs) => verbs.decidePeering(made.id, 'accepted')),
    refused('conflict', 'wrong_state'),
  )
  const second = await ask(two.vpc.id)
  await it.act((verbs) => verbs.decidePeering(second.id, 'accepted'))
  await it.settle()
  assert.equal((await it.cloud.get(it.caller, peering, second.id)).status.state, 'active')
  for (const [here, there] of [
    [one, two],
    [two, one],
  ] as const) {
    const plan = it.planOf(here.vpc.id)
    const range = there.vpc.spec.cidr
    assert.deepEqual(plan?.peerings, [{ id: second.id, vpc: there.vpc.id, ranges: [range] }])
    assert.deepEqual(plan.subnets[0]?.routes, [{ cidr: range, target: { peering: second.id } }])
  }
  await assert.rejects(
    it.act((verbs) => verbs.deleteVpc(two.vpc.id)),
    refused('conflict', 'in_use'),
  )
  await it.act((verbs) => verbs.remove(peering, second.id))
  await it.settle()
  assert.equal((await it.cloud.all(it.caller, peering)).length, 1, 'the rejected one')
  assert.equal(it.planOf(one.vpc.id)?.peerings, undefined)
  assert.deepEqual(it.planOf(one.vpc.id)?.subnets[0]?.routes, [])
  await it.act((verbs) => verbs.deleteVpc(two.vpc.id))
  await it.settle()
  assert.equal((await it.cloud.all(it.caller, peering)).length, 0)
})

test('what is behind a peering may not be had by both', async () => {
  await using it = await routedCloud()
  const pair = await it.act(async (verbs) => [
    await verbs.createVpc({ name: 'a', internet: false }),
    await verbs.createVpc({ name: 'b', internet: false }),
  ])
  const [a, b] = pair
  assert.ok(a && b)
  await it.act((verbs) => verbs.createPeering({ name: 'p', vpc: a.id, peer: b.id }))
  const subnet = (vpc: string) =>
    it.act((verbs) => verbs.createSubnet({ vpc, name: 's', cidr: '10.5.0.0/24', gateway: '10.5.0.1' }))
  await subnet(a.id)
  await assert.rejects(subnet(b.id), refused('conflict', 'in_use'))
})

test('two subnets that would meet behind a peering, asked for at once: one is made', async () => {
  await using it = await routedCloud()
  const [a, b] = await it.act(async (verbs) => [
    await verbs.createVpc({ name: 'a', internet: false }),
    await verbs.createVpc({ name: 'b', internet: false }),
  ])
  assert.ok(a && b)
  await it.act((verbs) => verbs.createPeering({ name: 'p', vpc: a.id, peer: b.id }))
  for (let third = 0; third < 4; third++) {
    const [cidr, gateway] = [`10.5.${third}.0/24`, `10.5.${third}.1`]
    const both = await Promise.allSettled(
      [a.id, b.id].map((vpc) =>
        it.act((verbs) => verbs.createSubnet({ vpc, name: `s${third}`, cidr, gateway })),
      ),
    )
    assert.equal(both.filter((one) => one.status === 'fulfilled').length, 1)
  }
})

test('the native API changes gateways and associations as their verbs do', async () => {
  await using it = await routedCloud()
  const { vpc, web } = await it.network('one', '10.1.0.0/16')
  const of = await it.instance({ vpc: vpc.id, subnet: web.id }, 'web')
  const kind = (name: string) => it.cloud.kinds.get(name) ?? assert.fail(name)
  const { gateway, address } = await it.act(async (verbs) => ({
    gateway: await verbs.create(kind('internet-gateway'), { name: 'igw', spec: {} }),
    address: await verbs.create(kind('elastic-ip'), { name: 'eip', spec: { workload: of.id } }),
  }))
  const patch = (name: string, id: string, spec: object) =>
    it.act((verbs) => verbs.patch(kind(name), id, { spec }))
  assert.deepEqual((await patch('internet-gateway', gateway.id, { vpc: vpc.id })).spec, {
    vpc: vpc.id,
    creator: it.caller.subject,
  })
  assert.deepEqual((await patch('internet-gateway', gateway.id, { vpc: null })).spec, {
    creator: it.caller.subject,
  })
  await assert.rejects(patch('elastic-ip', address.id, { address: '100.64.0.200' }), refused('invalid'))
  const freed = await patch('elastic-ip', address.id, { workload: null })
  assert.deepEqual(Object.keys(freed.spec as object).toSorted(), ['address', 'creator'])
  assert.equal((await it.cloud.get(it.caller, workload, of.id)).id, of.id)
})

test('rules come and go one by one, and a group is kept by those who are in it', async () => {
  await using it = await routedCloud()
  const { vpc, web } = await it.network('one', '10.1.0.0/16')
  const of = await it.instance({ vpc: vpc.id, subnet: web.id }, 'web')
  const arp = { direction: 'ingress', protocol: 'arp', cidr: '0.0.0.0/0', priority: 1000 } as const
  const group = await it.act((verbs) =>
    verbs.create(securityGroup, { name: 'g', spec: { vpc: vpc.id, rules: [arp], description: 'web' } }),
  )
  const { rule } = await it.act(async (verbs) => {
    await verbs.attachSecurityGroup(of.id, group.id)
    await verbs.attachSecurityGroup(of.id, group.id)
    return await verbs.addSecurityRule(group.id, {
      direction: 'ingress',
      protocol: 'tcp',
      fromPort: 80,
      cidr: '10.1.0.0/16',
      priority: 100,
    })
  })
  await it.settle()
  const plan = it.planOf(vpc.id)
  assert.deepEqual(plan?.attachments[0]?.groups, [group.id])
  assert.deepEqual(plan.groups[0]?.rules, [
    { direction: 'ingress', protocol: 'tcp', ports: { from: 80, to: 80 }, peer: { cidr: '10.1.0.0/16' } },
  ])
  await assert.rejects(
    it.act((verbs) => verbs.remove(securityGroup, group.id)),
    refused('conflict', 'in_use'),
  )
  await it.act((verbs) => verbs.removeSecurityRule(rule.id ?? ''))
  await assert.rejects(
    it.act((verbs) => verbs.removeSecurityRule(rule.id ?? '')),
    refused('not_found'),
  )
  await it.settle()
  assert.deepEqual(it.planOf(vpc.id)?.groups[0]?.rules, [])
  const before = await it.cloud.get(it.caller, workload, of.id)
  await it.act(async (verbs) => {
    await verbs.detachSecurityGroup(of.id, group.id)
    await verbs.detachSecurityGroup(of.id, group.id)
    await verbs.remove(securityGroup, group.id)
  })
  await it.settle()
  const after = await it.cloud.get(it.caller, workload, of.id)
  assert.equal(after.spec.attempt, before.spec.attempt, 'no container is replaced for it')
  assert.deepEqual(it.planOf(vpc.id)?.attachments[0]?.groups, [])
})
