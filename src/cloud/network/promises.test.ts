// What is refused, and what is left out, where the host's network does not promise everything.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Verbs } from '#cloud/cloud.ts'
import { testCloud } from '#cloud/cloud.testing.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { BRIDGE_PROMISES } from '#drivers/docker/bridge-promises.ts'
import { isCloudError } from '#lib/errors.ts'
import { routeTable } from './route-table.kind.ts'
import { securityGroup } from './security-group.kind.ts'
import { vpc as vpcKind } from './vpc.kind.ts'

const refusedFor = (what: RegExp, field?: string) => (error: unknown) => {
  assert.ok(isCloudError(error, 'unsupported'), String(error))
  assert.match(error.message, what)
  assert.equal(error.details.field, field)
  return true
}

async function bridgedCloud() {
  const test = await testCloud({
    promises: BRIDGE_PROMISES,
    settings: { hostNetworks: ['192.168.1.0/24'] },
  })
  const { caller } = await test.tenant('acme')
  const other = (await test.tenant('umbrella')).caller
  const act = <R>(as: typeof caller, work: (verbs: Verbs) => Promise<R>): Promise<R> =>
    test.cloud.act(as, 'test', work)
  const vpc = await act(caller, (verbs) => verbs.createVpc({ name: 'one', internet: true }))
  const subnet = await act(caller, (verbs) =>
    verbs.createSubnet({ vpc: vpc.id, name: 'web', cidr: '10.1.1.0/24', gateway: '10.1.1.1' }),
  )
  return {
    ...test,
    caller,
    other,
    act,
    vpc,
    subnet,
    [Symbol.asyncDispose]: () => test[Symbol.asyncDispose](),
  }
}

test('each thing that the network cannot do is refused at its verb, with the reason', async () => {
  await using it = await bridgedCloud()
  const { act, caller, vpc, subnet } = it
  const within = { vpc: vpc.id, subnet: subnet.id, name: 'web' }
  const image = 'nginx:latest'
  const second = { vpc: vpc.id, name: 'two', cidr: '10.1.2.0/24', gateway: '10.1.2.1' }
  await assert.rejects(
    act(caller, (verbs) => verbs.createSubnet(second)),
    refusedFor(/several subnets/, 'vpc'),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createWorkload({ ...within, inbound: true, spec: { image, egress: true } })),
    refusedFor(/external addresses/, 'inbound'),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createWorkload({ ...within, spec: { image, capabilities: ['NET_RAW'] } })),
    refusedFor(/NET_RAW/, 'spec.capabilities'),
  )
  const published = [{ host: 0, container: 80, protocol: 'tcp' as const }]
  await assert.rejects(
    act(caller, (verbs) => verbs.createWorkload({ ...within, spec: { image, published } })),
    refusedFor(/published ports/, 'spec.published'),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.create(securityGroup, { name: 'g', spec: { vpc: vpc.id, rules: [] } })),
    refusedFor(/security groups/),
  )
  await assert.rejects(
    act(caller, (verbs) =>
      verbs.create(routeTable, { name: 'r', spec: { vpc: vpc.id, subnets: [], routes: [] } }),
    ),
    refusedFor(/route tables/),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createInternetGateway({ name: 'igw' })),
    refusedFor(/gateways/),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createNatGateway({ name: 'nat', subnet: subnet.id, elasticIp: vpc.id })),
    refusedFor(/gateways/),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createRoutedVpc({ name: 'routed' })),
    refusedFor(/gateways/),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createElasticIp({ name: 'eip' })),
    refusedFor(/elastic IPs/),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.createPeering({ name: 'p', vpc: vpc.id, peer: subnet.id })),
    refusedFor(/peerings/),
  )
  const made = await act(caller, (verbs) => verbs.createWorkload({ ...within, spec: { image } }))
  await assert.rejects(
    act(caller, (verbs) => verbs.patch(workload, made.id, { spec: { published } })),
    refusedFor(/published ports/, 'spec.published'),
  )
  await assert.rejects(
    act(caller, (verbs) => verbs.patch(workload, made.id, { spec: { capabilities: ['NET_RAW'] } })),
    refusedFor(/NET_RAW/, 'spec.capabilities'),
  )
})

test("a range of another VPC's, whoever's it is, or of the host is refused, and free again when it is gone", async () => {
  await using it = await bridgedCloud()
  const { act, caller, other, vpc } = it
  const theirs = await act(other, (verbs) => verbs.createVpc({ name: 'theirs', internet: false }))
  const make = (cidr: string) =>
    act(other, (verbs) =>
      verbs.createSubnet({
        vpc: theirs.id,
        name: 'web',
        cidr,
        gateway: cidr.replace('.0/', '.1/').split('/')[0] ?? '',
      }),
    )
  await assert.rejects(make('10.1.0.0/16'), refusedFor(/overlaps another VPC/, 'cidr'))
  await assert.rejects(make('192.168.0.0/16'), (error) => isCloudError(error, 'conflict'))
  await act(caller, (verbs) => verbs.deleteVpc(vpc.id))
  await it.settle()
  assert.equal((await make('10.1.0.0/16')).spec.cidr, '10.1.0.0/16')
})

test('a workload runs without a VIP and without an external address for its VPC, known by its names', async () => {
  await using it = await bridgedCloud()
  const { act, caller, vpc, subnet } = it
  const made = await act(caller, (verbs) =>
    verbs.createWorkload({
      vpc: vpc.id,
      subnet: subnet.id,
      name: 'web',
      spec: { image: 'nginx:latest', egress: true, replicas: 2 },
    }),
  )
  await it.settle()
  const seen = await it.cloud.get(caller, workload, made.id)
  assert.equal(seen.status.state, 'running')
  assert.equal(seen.spec.vip, undefined)
  assert.equal((await it.cloud.get(caller, vpcKind, vpc.id)).spec.natAddress, undefined)
  const [replica] = seen.status.replicas
  const wish = it.compute.wishes.get(replica?.id ?? '')
  assert.deepEqual(wish?.names, ['web', 'web.one.internal'])
  assert.deepEqual(it.network.plans.get(vpc.id)?.vips, [])
})
