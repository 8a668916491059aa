import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { loadBalancer, type LoadBalancer as Resource } from '#cloud/network/load-balancer.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, shown, vpcOf } from './reads.ts'
import { repeatOf } from './repeat.ts'
import { IdOrName, Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const NAME_LENGTH_MAX = 255
const ALGORITHM_DEFAULT = 'round-robin'

const LoadBalancer = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  idempotency_key: Type.Optional(Type.String({ description: 'Never given: a key is its sender’s own.' })),
  name: Type.String(),
  vpc_id: Uuid,
  port: Type.Integer(),
  algorithm: Type.String(),
  ip: Type.Optional(Type.String({ description: 'In the VPC, and reached from there.' })),
  status: Type.Enum(['CREATING', 'ACTIVE', 'DRAINING', 'DELETED']),
  version: Type.Integer(),
  created_at: Timestamp,
})

const encode = (it: Resource): Static<typeof LoadBalancer> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  name: it.name,
  vpc_id: it.spec.vpc,
  port: it.spec.port,
  algorithm: it.spec.algorithm,
  ...(it.spec.address === undefined ? {} : { ip: it.spec.address }),
  status: it.deletedAt !== undefined ? 'DELETED' : it.status.state === 'active' ? 'ACTIVE' : 'CREATING',
  version: it.generation,
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'Load balancers',
  path: '/lb',
  tenancy: 'optional',
  kind: loadBalancer,
  noun: 'Load balancer',
  answer: LoadBalancer,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof loadBalancer.spec, typeof loadBalancer.status, typeof LoadBalancer>

const Target = Type.Object({
  id: Uuid,
  lb_id: Uuid,
  instance_id: Uuid,
  port: Type.Integer(),
  weight: Type.Integer(),
  health: Type.Enum(['healthy', 'unhealthy', 'unknown']),
})

const encodeTargets = ({ id, spec, status }: Resource): Static<typeof Target>[] =>
  spec.targets.map((it) => {
    const healthy = status.healthy[it.id]
    return {
      id: it.id,
      lb_id: id,
      instance_id: it.workload,
      port: it.port,
      weight: it.weight,
      health: healthy === undefined ? 'unknown' : healthy ? 'healthy' : 'unhealthy',
    }
  })

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })
const { tag, tenancy } = FAMILY
const MISSING = { not_found: { type: 'LB_NOT_FOUND' } }
const common = { tag, tenancy, params: { id: IdOrName }, refuses: [404], refusals: MISSING } as const

export function loadBalancerRoutes(frame: Frame): void {
  const { cloud } = frame
  const named = async (caller: Caller, text: string): Promise<Resource> =>
    await byIdOrName(cloud, caller, loadBalancer, text, FAMILY.noun)
  listing(frame, FAMILY, { id: 'listLoadBalancers', summary: 'Load balancers of the tenant, oldest first' })
  operation(frame, {
    tag,
    tenancy,
    method: 'POST',
    path: FAMILY.path,
    id: 'createLoadBalancer',
    summary: 'Make a load balancer; it is ACTIVE in some seconds',
    description: 'Its address is reached from its VPC alone. Repeated safely with an Idempotency-Key.',
    body: Type.Object({
      name: Text(NAME_LENGTH_MAX),
      vpc_id: Uuid,
      port: Port,
      algorithm: Type.Optional(Type.Enum(['round-robin', 'least-conn'], { default: ALGORITHM_DEFAULT })),
    }),
    answer: LoadBalancer,
    status: 202,
    refuses: [404],
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, body: { name, vpc_id: within, port, algorithm = ALGORITHM_DEFAULT }, request }) {
      const vpc = await vpcOf(frame, caller, within)
      const made = await cloud.act(
        caller,
        'lb.create',
        async (verbs) =>
          await verbs.once(
            'lb.create',
            loadBalancer,
            repeatOf(request),
            async () => await verbs.createBalancer({ name, vpc, port, algorithm }),
          ),
      )
      return await shown(FAMILY, caller, made)
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/lb/:id',
    id: 'getLoadBalancer',
    remembered: true,
    summary: 'Read a load balancer',
    answer: LoadBalancer,
    run: async ({ caller, params }) => await shown(FAMILY, caller, await named(caller, params.id)),
  })
  operation(frame, {
    ...common,
    method: 'DELETE',
    path: '/lb/:id',
    id: 'deleteLoadBalancer',
    summary: 'Delete a load balancer; its connections end',
    answer: Message('load balancer deletion initiated'),
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'lb.delete', (verbs) => verbs.remove(loadBalancer, id))
      return { message: 'load balancer deletion initiated' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/lb/:id/targets',
    id: 'addLoadBalancerTarget',
    summary: 'Add an instance of the same VPC',
    body: Type.Object({
      instance_id: Uuid,
      port: Port,
      weight: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000, default: 1, description: '0 is 1.' })),
    }),
    answer: Message('target added'),
    status: 201,
    refuses: [404, 409],
    refusals: {
      ...MISSING,
      'not_found:no_target': { type: 'NOT_FOUND' },
      'invalid:other_vpc': { type: 'LB_CROSS_VPC' },
      already_exists: { type: 'LB_TARGET_EXISTS' },
    },
    async run({ caller, params, body: { instance_id: instance, port, weight } }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'lb.target_add', (verbs) =>
        verbs.addTarget(id, { workload: instance, port, weight: weight || 1 }),
      )
      return { message: 'target added' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/lb/:id/targets',
    id: 'listLoadBalancerTargets',
    remembered: true,
    summary: 'Targets of a load balancer with their health',
    answer: Type.Array(Target),
    run: async ({ caller, params }) => encodeTargets(await named(caller, params.id)),
  })
  operation(frame, {
    ...common,
    method: 'DELETE',
    path: '/lb/:id/targets/:instanceId',
    id: 'removeLoadBalancerTarget',
    summary: 'Take an instance away from a load balancer',
    params: { id: IdOrName, instanceId: Uuid },
    answer: Message('target removed'),
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'lb.target_remove', (verbs) => verbs.removeTarget(id, params.instanceId))
      return { message: 'target removed' as const }
    },
  })
}
