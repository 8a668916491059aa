import Type, { type Static } from 'typebox'
import { arnOf, type Caller } from '#cloud/access.ts'
import { vpc, type Vpc as Resource } from '#cloud/network/vpc.kind.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, shown, shownDone } from './reads.ts'
import { repeatOf } from './repeat.ts'
import { IdOrName, Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const CIDR_DEFAULT = '10.0.0.0/16'
/** That of a VPC of another dialect, whose subnets may be anywhere. */
const ANYWHERE = '0.0.0.0/0'
/** A part of the DNS names of its machines. */
const NAME_LENGTH_MAX = 63
const BRIDGE_DIGITS = 8

const Vpc = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  cidr_block: Type.String(),
  network_id: Type.String(),
  vxlan_id: Type.Integer(),
  status: Type.String({ description: '`active`, `pending` while its router is made, `error`.' }),
  arn: Type.String(),
  created_at: Timestamp,
  idempotency_key: Type.Optional(Type.String({ description: 'Never given: a key is its sender’s own.' })),
})

const encode = (it: Resource): Static<typeof Vpc> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  name: it.name,
  cidr_block: it.spec.cidr ?? ANYWHERE,
  network_id: `br-vpc-${it.id.slice(-BRIDGE_DIGITS)}`,
  vxlan_id: it.spec.index,
  status: it.status.state,
  arn: arnOf(it.kind, it.tenant, it.id),
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'VPCs',
  path: '/vpcs',
  kind: vpc,
  noun: 'VPC',
  answer: Vpc,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof vpc.spec, typeof vpc.status, typeof Vpc>

const { tag } = FAMILY
const one = { tag, params: { id: IdOrName } }
const Name = Text(NAME_LENGTH_MAX)

export function vpcRoutes(frame: Frame): void {
  const { cloud } = frame
  const named = async (caller: Caller, text: string): Promise<Resource> =>
    await byIdOrName(cloud, caller, vpc, text, FAMILY.noun)
  listing(frame, FAMILY, { id: 'listVpcs', summary: 'VPCs of the tenant, oldest first' })
  operation(frame, {
    tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createVpc',
    summary: 'Make a VPC with a main route table, in which nothing leads out',
    description: 'Repeated safely with an Idempotency-Key.',
    body: Type.Object({
      name: Name,
      cidr_block: Type.Optional(Type.String({ maxLength: 18, default: CIDR_DEFAULT })),
    }),
    answer: Vpc,
    status: 201,
    refuses: [409],
    async run({ caller, body: { name, cidr_block: cidr = CIDR_DEFAULT }, request }) {
      const made = await cloud.act(
        caller,
        'vpc.create',
        async (verbs) =>
          await verbs.once(
            'vpc.create',
            vpc,
            repeatOf(request),
            async () => (await verbs.createRoutedVpc({ name, cidr })).vpc,
          ),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/vpcs/:id',
    id: 'getVpc',
    remembered: true,
    summary: 'Read a VPC',
    answer: Vpc,
    refuses: [404],
    run: async ({ caller, params }) => await shown(FAMILY, caller, await named(caller, params.id)),
  })
  operation(frame, {
    ...one,
    method: 'PATCH',
    path: '/vpcs/:id',
    id: 'renameVpc',
    summary: 'Rename a VPC, and with it the DNS names of its machines',
    body: Type.Object({ name: Name }),
    answer: Vpc,
    refuses: [404, 409],
    async run({ caller, params, body: { name } }) {
      const { id } = await named(caller, params.id)
      const it = await cloud.act(caller, 'vpc.rename', (verbs) => verbs.renameVpc(id, name))
      return await shownDone(frame, FAMILY, caller, it)
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/vpcs/:id',
    id: 'deleteVpc',
    summary: 'Delete a VPC with its subnets, groups, tables and NAT gateways',
    description:
      'Refused while instances, load balancers or peerings are in it. An internet gateway is detached and stays, and so do elastic IPs.',
    query: {
      force: Type.Optional(
        Type.String({ description: '`true` takes scaling groups and load balancers along; nothing else.' }),
      ),
    },
    answer: Message('vpc deleted'),
    refuses: [404, 409],
    async run({ caller, params, query: { force } }) {
      const { id } = await named(caller, params.id)
      const hold = force === 'true' ? ['workload'] : ['workload', 'load-balancer']
      await cloud.act(caller, 'vpc.delete', (verbs) => verbs.deleteVpc(id, { hold }))
      return { message: 'vpc deleted' as const }
    },
  })
}
