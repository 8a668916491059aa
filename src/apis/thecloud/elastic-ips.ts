import Type from 'typebox'
import { arnOf, type Caller } from '#cloud/access.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { elasticIp, type ElasticIp as Resource } from '#cloud/network/elastic-ip.kind.ts'
import { natGateway } from '#cloud/network/nat-gateway.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { byId } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, nameFor, reading, removing, shown, shownDone } from './reads.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'

const ElasticIp = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  public_ip: Type.String(),
  instance_id: Type.Optional(Uuid),
  vpc_id: Type.Optional(Uuid),
  status: Type.Enum(['allocated', 'associated', 'released']),
  arn: Type.String(),
  created_at: Timestamp,
  updated_at: Timestamp,
})

const one = { tag: 'Elastic IPs', params: { id: Uuid } }

export function elasticIpRoutes(frame: Frame): void {
  const { cloud } = frame
  const family: Family<typeof elasticIp.spec, typeof elasticIp.status, typeof ElasticIp> = {
    tag: one.tag,
    path: '/elastic-ips',
    kind: elasticIp,
    noun: 'Elastic IP',
    answer: ElasticIp,
    async encode(caller: Caller, all: readonly Resource[]) {
      // A NAT gateway uses its address as long as it lives.
      const terms = all.length === 1 ? [`elastic-ip:${all[0]?.id}`] : []
      const nats = await cloud.all(caller, natGateway, { terms, deleted: false })
      return all.map((it) => {
        const { workload: instance, vpc = nats.find((nat) => nat.spec.elasticIp === it.id)?.spec.vpc } =
          it.spec
        return {
          id: it.id,
          user_id: it.spec.creator ?? NIL,
          tenant_id: it.tenant,
          public_ip: it.spec.address,
          ...(instance === undefined ? {} : { instance_id: instance }),
          ...(vpc === undefined ? {} : { vpc_id: vpc }),
          status: vpc === undefined ? ('allocated' as const) : ('associated' as const),
          arn: arnOf(it.kind, it.tenant, it.id),
          created_at: timestamp(it.createdAt),
          updated_at: timestamp(it.updatedAt),
        }
      })
    },
  }
  listing(frame, family, { id: 'listElasticIps', summary: 'Elastic IPs of the tenant' })
  reading(frame, family, { id: 'getElasticIp', summary: 'Read an elastic IP' })
  operation(frame, {
    tag: family.tag,
    method: 'POST',
    path: family.path,
    id: 'allocateElasticIp',
    summary: 'Take an address of the external pool, kept until it is released',
    answer: ElasticIp,
    status: 201,
    async run({ caller }) {
      const made = await cloud.act(caller, 'eip.allocate', (verbs) =>
        verbs.createElasticIp({ name: nameFor('eip') }),
      )
      return await shown(family, caller, made)
    },
  })
  removing(frame, family, {
    id: 'releaseElasticIp',
    summary: 'Release it; refused while it is in use',
    act: 'eip.release',
    message: 'elastic ip released',
    refuses: [404, 409],
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/elastic-ips/:id/associate',
    id: 'associateElasticIp',
    summary: 'Lead it to an instance, and let that leave by it; a repeat is fine',
    body: Type.Object({ instance_id: Uuid }),
    answer: ElasticIp,
    refuses: [404, 409],
    async run({ caller, params, body }) {
      const { id } = await byId(cloud, caller, workload, body.instance_id, 'Instance')
      const it = await cloud.act(caller, 'eip.associate', (verbs) => verbs.associateElasticIp(params.id, id))
      return await shownDone(frame, family, caller, it)
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/elastic-ips/:id/disassociate',
    id: 'disassociateElasticIp',
    summary: 'Take it from its instance',
    answer: ElasticIp,
    refuses: [404],
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, params }) {
      const it = await cloud.act(caller, 'eip.disassociate', (verbs) =>
        verbs.disassociateElasticIp(params.id),
      )
      return await shownDone(frame, family, caller, it)
    },
  })
}
