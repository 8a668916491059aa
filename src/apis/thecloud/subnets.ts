import Type, { type Static } from 'typebox'
import { arnOf } from '#cloud/access.ts'
import { subnet, type Subnet as Resource } from '#cloud/network/subnet.kind.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, reading, shownDone, vpcOf } from './reads.ts'
import { Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const ZONE = 'availability-zone'
const ZONE_DEFAULT = 'us-east-1a'
/** In the place of a VPC's id: those of all. */
const ALL = '*'

const Subnet = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  vpc_id: Uuid,
  name: Type.String(),
  cidr_block: Type.String(),
  availability_zone: Type.String({ description: 'As it was given; there is one place.' }),
  gateway_ip: Type.String(),
  arn: Type.String(),
  status: Type.String({ description: '`available`, `pending` until its VPC’s router has it, `error`.' }),
  created_at: Timestamp,
})

const encode = (it: Resource): Static<typeof Subnet> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  vpc_id: it.spec.vpc,
  name: it.name,
  cidr_block: it.spec.cidr,
  availability_zone: it.labels[ZONE] ?? ZONE_DEFAULT,
  gateway_ip: it.spec.gateway,
  arn: arnOf(it.kind, it.tenant, it.id),
  status: it.status.state === 'active' ? 'available' : it.status.state,
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'Subnets',
  path: '/subnets',
  tenancy: 'optional',
  kind: subnet,
  noun: 'Subnet',
  answer: Subnet,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof subnet.spec, typeof subnet.status, typeof Subnet>

const { tag, tenancy } = FAMILY

export function subnetRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    tag,
    method: 'GET',
    path: '/vpcs/:id/subnets',
    id: 'listSubnets',
    remembered: true,
    summary: 'Subnets of a VPC; of all with * in the place of its id',
    params: { id: Type.Union([Uuid, Type.Literal(ALL)]) },
    answer: Type.Array(Subnet),
    refuses: [404],
    async run({ caller, params: { id } }) {
      const terms = id === ALL ? [] : [`vpc:${await vpcOf(frame, caller, id)}`]
      return FAMILY.encode(caller, await cloud.all(caller, subnet, { terms, deleted: false }))
    },
  })
  operation(frame, {
    tag,
    method: 'POST',
    path: '/vpcs/:id/subnets',
    id: 'createSubnet',
    summary: 'Make a subnet in a VPC’s range; its gateway is the first address',
    params: { id: Uuid },
    body: Type.Object({
      name: Text(255),
      cidr_block: Type.String({ minLength: 1, maxLength: 18 }),
      availability_zone: Type.Optional(Text(255)),
    }),
    answer: Subnet,
    status: 201,
    refuses: [404, 409],
    async run({ caller, params, body: { name, cidr_block: cidr, availability_zone: zone } }) {
      const made = await cloud.act(caller, 'subnet.create', (verbs) =>
        verbs.createSubnet({
          vpc: params.id,
          name,
          cidr,
          ...(zone === undefined ? {} : { labels: { [ZONE]: zone } }),
        }),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  reading(frame, FAMILY, { id: 'getSubnet', summary: 'Read a subnet' })
  operation(frame, {
    tag,
    tenancy,
    method: 'DELETE',
    path: '/subnets/:id',
    id: 'deleteSubnet',
    summary: 'Delete a subnet; refused while instances or NAT gateways are in it',
    params: { id: Uuid },
    answer: Message('subnet deleted'),
    refuses: [404, 409],
    async run({ caller, params }) {
      await cloud.act(caller, 'subnet.delete', (verbs) => verbs.deleteSubnet(params.id))
      return { message: 'subnet deleted' as const }
    },
  })
}
