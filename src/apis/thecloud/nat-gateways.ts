import Type, { type Static } from 'typebox'
import { arnOf } from '#cloud/access.ts'
import { natGateway, type NatGateway as Resource } from '#cloud/network/nat-gateway.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { INVALID_INPUT } from './errors.ts'
import { byId } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, nameFor, reading, removing, shownDone } from './reads.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'

const NatGateway = Type.Object({
  id: Uuid,
  vpc_id: Uuid,
  subnet_id: Uuid,
  elastic_ip_id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  status: Type.Enum(['pending', 'active', 'failed', 'deleted']),
  private_ip: Type.String(),
  arn: Type.String(),
  created_at: Timestamp,
})

const encode = (it: Resource): Static<typeof NatGateway> => ({
  id: it.id,
  vpc_id: it.spec.vpc,
  subnet_id: it.spec.subnet,
  elastic_ip_id: it.spec.elasticIp,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  status: it.status.state,
  private_ip: it.spec.privateAddress,
  arn: arnOf(it.kind, it.tenant, it.id),
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'NAT gateways',
  path: '/nat-gateways',
  kind: natGateway,
  noun: 'NAT gateway',
  answer: NatGateway,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof natGateway.spec, typeof natGateway.status, typeof NatGateway>

export function natGatewayRoutes(frame: Frame): void {
  const { cloud } = frame
  listing(frame, FAMILY, { id: 'listNatGateways', summary: 'NAT gateways of a VPC', vpcId: 'required' })
  reading(frame, FAMILY, { id: 'getNatGateway', summary: 'Read a NAT gateway' })
  operation(frame, {
    tag: FAMILY.tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createNatGateway',
    summary: 'Make a NAT gateway in a subnet, with an elastic IP that is free',
    body: Type.Object({
      subnet_id: Uuid,
      eip_id: Type.Optional(Uuid),
      elastic_ip_id: Type.Optional({ ...Uuid, description: 'The same, as the client sends it.' }),
    }),
    answer: NatGateway,
    status: 201,
    refuses: [404],
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, body: { subnet_id: within, eip_id: eip, elastic_ip_id: address = eip } }) {
      if (address === undefined)
        throw new CloudError('invalid', 'is required: the id of an elastic IP', { field: 'eip_id' })
      const { id } = await byId(cloud, caller, subnet, within, 'Subnet')
      const made = await cloud.act(caller, 'nat_gateway.create', (verbs) =>
        verbs.createNatGateway({ name: nameFor('nat'), subnet: id, elasticIp: address }),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  removing(frame, FAMILY, {
    id: 'deleteNatGateway',
    summary: 'Delete it; its elastic IP is free again',
    act: 'nat_gateway.delete',
  })
}
