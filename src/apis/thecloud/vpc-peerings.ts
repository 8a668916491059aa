import Type, { type Static } from 'typebox'
import { arnOf } from '#cloud/access.ts'
import { peering, type Peering as Resource } from '#cloud/network/peering.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, nameFor, reading, removing, shown, shownDone, vpcOf } from './reads.ts'
import { Message, timestamp, Timestamp, Uuid } from './schema.ts'

const Peering = Type.Object({
  id: Uuid,
  requester_vpc_id: Uuid,
  accepter_vpc_id: Uuid,
  tenant_id: Uuid,
  status: Type.Enum(['pending-acceptance', 'active', 'rejected', 'deleted', 'failed']),
  arn: Type.String(),
  created_at: Timestamp,
  updated_at: Timestamp,
})

/** One that was accepted and is not in force yet still waits. */
const statusOf = ({ spec, status }: Resource): Static<typeof Peering>['status'] =>
  spec.decision === 'rejected'
    ? 'rejected'
    : status.state === 'pending' || spec.decision === 'pending'
      ? 'pending-acceptance'
      : status.state

const encode = (it: Resource): Static<typeof Peering> => ({
  id: it.id,
  requester_vpc_id: it.spec.vpc,
  accepter_vpc_id: it.spec.peer,
  tenant_id: it.tenant,
  status: statusOf(it),
  arn: arnOf(it.kind, it.tenant, it.id),
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const FAMILY = {
  tag: 'VPC peering',
  path: '/vpc-peerings',
  kind: peering,
  noun: 'Peering',
  answer: Peering,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof peering.spec, typeof peering.status, typeof Peering>

const one = { tag: FAMILY.tag, params: { id: Uuid }, refuses: [404] as const }
/** Contract B7: only one that waits is decided. */
const DECIDED = { conflict: INVALID_INPUT }

export function vpcPeeringRoutes(frame: Frame): void {
  const { cloud } = frame
  listing(frame, FAMILY, { id: 'listVpcPeerings', summary: 'Peerings of the tenant' })
  reading(frame, FAMILY, { id: 'getVpcPeering', summary: 'Read a peering' })
  operation(frame, {
    tag: FAMILY.tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createVpcPeering',
    summary: 'Ask for a peering of two VPCs of the tenant, whose ranges do not overlap',
    body: Type.Object({ requester_vpc_id: Uuid, accepter_vpc_id: Uuid }),
    answer: Peering,
    status: 201,
    refuses: [404, 409],
    async run({ caller, body }) {
      const vpc = await vpcOf(frame, caller, body.requester_vpc_id)
      const peer = await vpcOf(frame, caller, body.accepter_vpc_id)
      const made = await cloud.act(caller, 'vpc_peering.create', (verbs) =>
        verbs.createPeering({ name: nameFor('pcx'), vpc, peer }),
      )
      return await shown(FAMILY, caller, made)
    },
  })
  removing(frame, FAMILY, {
    id: 'deleteVpcPeering',
    summary: 'Delete a peering with the routes that its acceptance made',
    act: 'vpc_peering.delete',
    message: 'peering deleted',
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/vpc-peerings/:id/accept',
    id: 'acceptVpcPeering',
    summary: 'Accept it, and lead both main route tables to the other side',
    answer: Peering,
    refusals: DECIDED,
    async run({ caller, params }) {
      const it = await cloud.act(caller, 'vpc_peering.accept', (verbs) =>
        verbs.decidePeering(params.id, 'accepted'),
      )
      return await shownDone(frame, FAMILY, caller, it)
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/vpc-peerings/:id/reject',
    id: 'rejectVpcPeering',
    summary: 'Reject it',
    answer: Message('peering rejected'),
    refusals: DECIDED,
    async run({ caller, params }) {
      await cloud.act(caller, 'vpc_peering.reject', (verbs) => verbs.decidePeering(params.id, 'rejected'))
      return { message: 'peering rejected' as const }
    },
  })
}
