import Type, { type Static } from 'typebox'
import { arnOf } from '#cloud/access.ts'
import { internetGateway, type InternetGateway as Resource } from '#cloud/network/internet-gateway.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, nameFor, reading, removing, shown, vpcOf } from './reads.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'

const InternetGateway = Type.Object({
  id: Uuid,
  vpc_id: Type.Optional(Uuid),
  user_id: Uuid,
  tenant_id: Uuid,
  status: Type.Enum(['detached', 'attached']),
  arn: Type.String(),
  created_at: Timestamp,
})

const encode = (it: Resource): Static<typeof InternetGateway> => ({
  id: it.id,
  ...(it.spec.vpc === undefined ? {} : { vpc_id: it.spec.vpc }),
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  status: it.spec.vpc === undefined ? 'detached' : 'attached',
  arn: arnOf(it.kind, it.tenant, it.id),
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'Internet gateways',
  path: '/internet-gateways',
  kind: internetGateway,
  noun: 'Internet gateway',
  answer: InternetGateway,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof internetGateway.spec, typeof internetGateway.status, typeof InternetGateway>

const one = { tag: FAMILY.tag, params: { id: Uuid } }
/** Contract B7: what is attached, or is not, is the client's mistake. */
const WRONG_STATE = { 'conflict:wrong_state': INVALID_INPUT }

export function internetGatewayRoutes(frame: Frame): void {
  const { cloud } = frame
  listing(frame, FAMILY, { id: 'listInternetGateways', summary: 'Internet gateways of the tenant' })
  reading(frame, FAMILY, { id: 'getInternetGateway', summary: 'Read an internet gateway' })
  operation(frame, {
    tag: FAMILY.tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createInternetGateway',
    summary: 'Make an internet gateway, attached to nothing',
    answer: InternetGateway,
    status: 201,
    async run({ caller }) {
      const made = await cloud.act(caller, 'igw.create', (verbs) =>
        verbs.createInternetGateway({ name: nameFor('igw') }),
      )
      return await shown(FAMILY, caller, made)
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/internet-gateways/:id/attach',
    id: 'attachInternetGateway',
    summary: 'Attach it to a VPC and lead 0.0.0.0/0 of the main route table there',
    body: Type.Object({ vpc_id: Uuid }),
    refuses: [404, 409],
    refusals: WRONG_STATE,
    async run({ caller, params, body }) {
      const vpc = await vpcOf(frame, caller, body.vpc_id)
      await cloud.act(caller, 'igw.attach', (verbs) => verbs.attachInternetGateway(params.id, vpc))
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/internet-gateways/:id/detach',
    id: 'detachInternetGateway',
    summary: 'Detach it; refused while routes lead to it, other than the one that attaching made',
    refuses: [404, 409],
    refusals: WRONG_STATE,
    async run({ caller, params }) {
      await cloud.act(caller, 'igw.detach', (verbs) => verbs.detachInternetGateway(params.id))
    },
  })
  removing(frame, FAMILY, {
    id: 'deleteInternetGateway',
    summary: 'Delete a detached gateway',
    act: 'igw.delete',
    refusals: WRONG_STATE,
  })
}
