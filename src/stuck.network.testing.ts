import assert from 'node:assert/strict'
import { CloudError } from '#lib/errors.ts'
import { loadBalancer } from '#cloud/network/load-balancer.kind.ts'
import { PROVIDER } from '#cloud/cloud.testing.ts'
import { AGENT_AWAY, type Case, EDGE_AWAY, type Ground } from './stuck.testing.ts'

// Every way for what is made of routers to hang: the driver fails, the agent or the edge is away, a container stays.

const NEWER = new CloudError('conflict', 'generation 3 is older than 9', { rule: 'lost_race' })
const CONFIG = { ...PROVIDER, nameservers: ['1.1.1.1'], ndots: 2 }

const mend = (ground: Ground): void => ground.mend()

async function vpcIn(ground: Ground): Promise<string> {
  return (await ground.act(async (verbs) => await verbs.createVpc({ name: 'production', internet: true }))).id
}

type Part = 'subnet' | 'security-group' | 'route-table' | 'record'

async function part(ground: Ground, kind: Part, vpc: string): Promise<string> {
  return await ground.act(async (verbs) => {
    const made = {
      subnet: { cidr: '10.9.0.0/24', gateway: '10.9.0.1' },
      'security-group': { rules: [] },
      'route-table': { subnets: [], routes: [] },
      record: {},
    }[kind]
    const of = ground.it.cloud.kinds.get(kind)
    if (!of) throw new Error(kind)
    if (kind === 'record') {
      const { id } = await verbs.createZone({ vpc, name: 'corp.example' })
      return (await verbs.createRecord({ zone: id, name: 'part', type: 'A', content: '10.9.0.9' })).id
    }
    return (await verbs.create(of, { name: 'part', spec: { vpc, ...made } })).id
  })
}

/** A pod that does not go, with a way to let it. */
async function clinging(
  ground: Ground,
  groups: readonly string[] = [],
  at?: Awaited<ReturnType<Ground['network']>>,
) {
  const made = await ground.pod({ securityGroups: [...groups] }, at)
  await ground.settle()
  const id = made.status.replicas[0]?.id ?? ''
  ground.it.compute.pretend(id, {
    state: 'stopping',
    message: 'its process does not end: it waits for a disk',
  })
  return { vpc: made.spec.vpc, subnet: made.spec.subnet, replica: id, workload: made.id }
}

async function letGo(ground: Ground): Promise<void> {
  for (const { id } of await ground.it.compute.list(AbortSignal.timeout(1000))) ground.it.compute.pretend(id)
  for (const { id } of (await ground.it.engine.store.list({ kind: 'replica', tenant: '*' })).items)
    await ground.it.engine.wake(`replica/${id}`)
}

/** What was in force and is not known to be any more: another plan was seen in its place, and no new one can be made. */
async function inForceNoMore(ground: Ground, kind: Part): Promise<string> {
  const at = await ground.network()
  const id = await part(ground, kind, at.vpc.id)
  await ground.settle()
  ground.fail('network.apply', NEWER)
  await ground.pod({}, at)
  await ground.settle()
  await ground.it.engine.wake(`${kind}/${id}`)
  return id
}

const VPC: readonly Case[] = [
  {
    kind: 'vpc',
    state: 'pending',
    title: 'the driver fails for ever',
    async stick(ground) {
      ground.fail('network.apply', new Error('ip link add: RTNETLINK answers: Operation not permitted'))
      return await vpcIn(ground)
    },
    says: /ip link add: .*Operation not permitted/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'pending',
    title: 'the host agent cannot be reached',
    async stick(ground) {
      ground.fail('network', AGENT_AWAY)
      ground.fail('compute', AGENT_AWAY)
      return await vpcIn(ground)
    },
    says: /the host agent does not answer at .*agent\.sock/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'pending',
    title: 'the edge cannot be reached',
    async stick(ground) {
      ground.fail('edge', EDGE_AWAY)
      return await vpcIn(ground)
    },
    says: /the edge does not answer at .*edge\.sock/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'pending',
    title: 'its plan is refused as older than the one that is held',
    async stick(ground) {
      ground.fail('network.apply', NEWER)
      return await vpcIn(ground)
    },
    says: /generation 3 is older than 9/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'active',
    title: 'a change of what is in it cannot be applied',
    async stick(ground) {
      const at = await ground.network()
      ground.fail('network.apply')
      await ground.pod({}, at)
      return at.vpc.id
    },
    says: /network\.apply: no space left on device/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'deleting',
    title: 'its router cannot be removed',
    async stick(ground) {
      const { vpc } = await ground.network()
      ground.fail('network.remove', new Error('ip netns del: Device or resource busy'))
      await ground.act(async (verbs) => await verbs.deleteVpc(vpc.id))
      return vpc.id
    },
    says: /ip netns del: Device or resource busy/,
    free: mend,
  },
  {
    kind: 'vpc',
    state: 'deleting',
    title: 'a container in it does not stop',
    async stick(ground) {
      const { vpc } = await clinging(ground)
      await ground.act(async (verbs) => await verbs.deleteVpc(vpc))
      return vpc
    },
    says: /waits for .*workload web/,
    free: letGo,
  },
]

const parts = (['subnet', 'security-group', 'route-table', 'record'] as const).flatMap((kind): Case[] => [
  {
    kind,
    state: 'pending',
    title: "its VPC's router cannot be made",
    async stick(ground) {
      ground.fail('network.apply')
      return await part(ground, kind, await vpcIn(ground))
    },
    says: /waits for the router of VPC production/,
    free: mend,
  },
  {
    kind,
    state: 'active',
    title: 'it is not in force any more',
    stick: async (ground) => await inForceNoMore(ground, kind),
    says: /waits for the router of VPC net0/,
    free: mend,
  },
])

const PARTS_GOING: readonly Case[] = [
  {
    kind: 'subnet',
    state: 'deleting',
    title: 'a container in it does not stop',
    async stick(ground) {
      const { vpc, subnet } = await clinging(ground)
      await ground.act(async (verbs) => await verbs.deleteVpc(vpc))
      return subnet
    },
    says: /waits for workload web/,
    free: letGo,
  },
  {
    kind: 'security-group',
    state: 'deleting',
    title: 'a pod that uses it does not stop',
    async stick(ground) {
      const at = await ground.network()
      const group = await part(ground, 'security-group', at.vpc.id)
      const { vpc } = await clinging(ground, [group], at)
      await ground.act(async (verbs) => await verbs.deleteVpc(vpc))
      return group
    },
    says: /waits for workload web/,
    free: letGo,
  },
]

type Way = 'elastic-ip' | 'nat-gateway' | 'peering' | 'zone'

/** An elastic IP of a pod, a NAT gateway, an accepted peering or a zone, in a VPC of the name that is given. */
async function way(ground: Ground, kind: Way): Promise<{ id: string; vpc: string }> {
  const { vpc, subnet } = await ground.network()
  if (kind === 'peering') {
    const id = await ground.act(async (verbs) => {
      const peer = await verbs.createVpc({ name: 'other', internet: false, cidr: '10.200.0.0/16' })
      const made = await verbs.createPeering({ name: 'way', vpc: vpc.id, peer: peer.id })
      await verbs.decidePeering(made.id, 'accepted')
      return made.id
    })
    return { id, vpc: vpc.id }
  }
  if (kind === 'zone')
    return {
      id: (await ground.act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'corp.example' }))).id,
      vpc: vpc.id,
    }
  const of = kind === 'elastic-ip' ? await ground.pod({}, { vpc, subnet }) : undefined
  const id = await ground.act(async (verbs) => {
    const address = await verbs.createElasticIp({ name: 'address' })
    if (of) return (await verbs.associateElasticIp(address.id, of.id)).id
    const nat = await verbs.createNatGateway({ name: 'way', subnet: subnet.id, elasticIp: address.id })
    const routes = [{ cidr: '0.0.0.0/0', target: 'nat-gateway' as const, to: nat.id }]
    await verbs.createRouteTable({ name: 'by', spec: { vpc: vpc.id, subnets: [subnet.id], routes } })
    return nat.id
  })
  return { id, vpc: vpc.id }
}

/** What fails where it cannot be placed: the names of a zone are the edge's. */
const placing = (kind: Way): string => (kind === 'zone' ? 'edge.apply' : 'network.apply')

const WAYS: readonly Way[] = ['elastic-ip', 'nat-gateway', 'peering', 'zone']

const ways = WAYS.flatMap((kind): Case[] => [
  {
    kind,
    state: kind === 'elastic-ip' ? 'pending' : 'failed',
    title: 'the router of its VPC cannot take it',
    async stick(ground) {
      const it = await way(ground, kind)
      ground.fail(placing(kind))
      return it.id
    },
    says: /waits for the router of VPC net0: (network|edge)\.apply: no space left on device/,
    free: mend,
  },
  {
    kind,
    state: kind === 'elastic-ip' ? 'associated' : 'failed',
    title: 'it is not in force any more',
    async stick(ground) {
      const { id, vpc } = await way(ground, kind)
      await ground.settle()
      ground.fail('network.apply', NEWER)
      // Another plan is seen in its place, and no new one can be made.
      await ground.act(
        async (verbs) =>
          await verbs.create(ground.it.cloud.kinds.get('security-group') ?? assert.fail('no kind'), {
            name: 'group',
            spec: { vpc, rules: [] },
          }),
      )
      await ground.settle()
      await ground.it.engine.wake(`${kind}/${id}`)
      return id
    },
    says: /waits for the router of VPC net0/,
    free: mend,
  },
  {
    kind,
    state: 'deleting',
    title: 'the router of its VPC cannot let go of it',
    async stick(ground) {
      const { id } = await way(ground, kind)
      await ground.settle()
      ground.fail(placing(kind))
      await ground.act(async (verbs) => {
        if (kind === 'elastic-ip') await verbs.disassociateElasticIp(id)
        await verbs.remove(ground.it.cloud.kinds.get(kind) ?? assert.fail(kind), id)
      })
      return id
    },
    says: /waits for the router of VPC net0 to let go of it: (network|edge)\.apply: no space left on device/,
    free: mend,
  },
])

async function balancer(ground: Ground): Promise<string> {
  const { vpc } = await ground.network()
  const given = { name: 'front', port: 80, algorithm: 'round-robin' } as const
  return (await ground.act((verbs) => verbs.createBalancer({ ...given, vpc: vpc.id }))).id
}

const BALANCERS: readonly Case[] = [
  {
    kind: 'load-balancer',
    state: 'pending',
    title: 'the edge does not take it',
    async stick(ground) {
      const id = await balancer(ground)
      ground.fail('front.apply')
      return id
    },
    says: /waits for the edge and the router of VPC net0: front\.apply: no space left on device/,
    free: mend,
  },
  {
    kind: 'load-balancer',
    state: 'pending',
    title: 'the router of its VPC cannot lead to the edge',
    async stick(ground) {
      const id = await balancer(ground)
      ground.fail('network.apply')
      return id
    },
    says: /network\.apply: no space left on device/,
    free: mend,
  },
  {
    kind: 'load-balancer',
    state: 'active',
    title: 'it is not in force any more',
    async stick(ground) {
      const id = await balancer(ground)
      await ground.settle()
      ground.fail('network.apply', NEWER)
      await balancerOfSame(ground, id)
      await ground.settle()
      await ground.it.engine.wake(`load-balancer/${id}`)
      return id
    },
    says: /waits for the edge and the router of VPC net0/,
    free: mend,
  },
  {
    kind: 'load-balancer',
    state: 'deleting',
    title: 'the edge does not let go of it',
    async stick(ground) {
      const id = await balancer(ground)
      await ground.settle()
      ground.fail('front')
      await ground.act(async (verbs) => {
        await verbs.remove(ground.it.cloud.kinds.get('load-balancer') ?? assert.fail('no kind'), id)
      })
      return id
    },
    says: /to let go of it: front: no space left on device/,
    free: mend,
  },
]

/** Another one in the VPC of this one, so that the VPC's plan changes. */
async function balancerOfSame(ground: Ground, id: string): Promise<void> {
  const { spec } = await ground.it.cloud.get(ground.caller, loadBalancer, id)
  const given = { name: 'other', port: 81, algorithm: 'least-conn', vpc: spec.vpc } as const
  await ground.act((verbs) => verbs.createBalancer(given))
}

const ELASTIC_IPS: readonly Case[] = [
  {
    kind: 'elastic-ip',
    state: 'pending',
    title: 'the router that had it cannot let go of it',
    async stick(ground) {
      const { id } = await way(ground, 'elastic-ip')
      await ground.settle()
      ground.fail('network.apply')
      await ground.act(async (verbs) => await verbs.disassociateElasticIp(id))
      return id
    },
    says: /waits for the router of VPC net0 to let go of it/,
    free: mend,
  },
]

const PLATFORM: readonly Case[] = [
  {
    kind: 'provider',
    state: 'pending',
    title: "the host's own rules cannot be set",
    async stick(ground) {
      ground.fail('network.applyHost', new Error('nft: Operation not supported'))
      const { provider } = await ground.it.cloud.act(
        ground.it.admin,
        'test',
        async (verbs) => await verbs.putProvider(CONFIG),
      )
      return provider.id
    },
    says: /nft: Operation not supported/,
    free: mend,
  },
  {
    kind: 'provider',
    state: 'active',
    title: "the host's own rules cannot be kept",
    async stick(ground) {
      const { provider } = await ground.it.cloud.act(
        ground.it.admin,
        'test',
        async (verbs) => await verbs.putProvider(CONFIG),
      )
      await ground.settle()
      ground.fail('network.applyHost', AGENT_AWAY)
      await ground.it.engine.wake(`provider/${provider.id}`)
      return provider.id
    },
    says: /the host agent does not answer/,
    free: mend,
  },
  {
    kind: 'tenant',
    state: 'deleting',
    title: 'the router of its VPC cannot be removed',
    async stick(ground) {
      await ground.network()
      ground.fail('network.remove')
      await ground.it.cloud.act(
        ground.it.admin,
        'test',
        async (verbs) => await verbs.deleteTenant(ground.tenant),
      )
      return ground.tenant
    },
    says: /waits for .*vpc net0/,
    free: mend,
  },
]

export const NETWORK_CASES: readonly Case[] = [
  ...VPC,
  ...parts,
  ...PARTS_GOING,
  ...ways,
  ...ELASTIC_IPS,
  ...BALANCERS,
  ...PLATFORM,
]
