import Type, { type Static } from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { vpc, type Vpc as Resource } from '#cloud/network/vpc.kind.ts'
import type { Doors } from './doors.ts'
import {
  BodyToken,
  idOf,
  Label,
  listOf,
  Nothing,
  params,
  refusals,
  said,
  timestamp,
  Timestamp,
  Uuid,
  type App,
} from './schema.ts'

/** What a VPC may have that this dialect cannot show: it is not taken along unseen. */
const UNSEEN = ['internet-gateway', 'nat-gateway', 'peering', 'zone', 'load-balancer']

export const NetworkStatus = Type.Enum(['pending', 'active', 'error', 'deleting'])

export const VpcFields = Type.Object({ name: Label, enable_internet: Type.Boolean() })
const VpcCreate = Type.Object(
  {
    tenant_id: Type.String({ format: 'uuid', description: "Must be the token's own tenant." }),
    token: BodyToken,
    ...VpcFields.properties,
  },
  {
    examples: [
      {
        tenant_id: '6f1c2f0e-6f5a-4c5e-9b8e-0d7c3a2f1b10',
        token: 'YOUR_TOKEN',
        name: 'production',
        enable_internet: true,
      },
    ],
  },
)
export const Vpc = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  ...VpcFields.properties,
  status: NetworkStatus,
  created_at: Timestamp,
})

/** The state word of a network resource. */
export const networkStatus = (it: {
  readonly deletedAt?: number
  readonly status: { readonly state: 'pending' | 'active' | 'error' }
}): Static<typeof NetworkStatus> => (it.deletedAt === undefined ? it.status.state : 'deleting')

export const encodeVpc = (it: Resource): Static<typeof Vpc> => ({
  id: it.id,
  tenant_id: it.tenant,
  name: it.name,
  enable_internet: it.spec.internet,
  status: networkStatus(it),
  created_at: timestamp(it.createdAt),
})

const common = { tags: ['vpcs'] }

export function vpcRoutes(app: App, cloud: Cloud, { callerOf, ownBody }: Doors): void {
  app.post(
    '/vpcs',
    {
      preValidation: ownBody,
      schema: {
        ...common,
        operationId: 'createVpc',
        summary: 'Create a VPC',
        body: VpcCreate,
        response: { 201: said(Vpc, 'VPC created.'), ...refusals(400, 401, 409) },
      },
    },
    async (request, reply) => {
      const { name, enable_internet: internet } = request.body
      const made = await cloud.act(callerOf(request), 'circloud.vpcs.create', (verbs) =>
        verbs.createVpc({ name, internet }),
      )
      return reply.code(201).send(encodeVpc(made))
    },
  )
  app.get(
    '/vpcs',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listVpcs',
        summary: "List the caller's VPCs",
        response: { 200: listOf(Vpc, "VPCs of the token's tenant, oldest first."), ...refusals(401) },
      },
    },
    async (request, reply) => reply.code(200).send((await cloud.all(callerOf(request), vpc)).map(encodeVpc)),
  )
  app.delete(
    '/vpcs/:vpc_id',
    {
      schema: {
        ...common,
        operationId: 'deleteVpc',
        summary: 'Delete a VPC with its subnets and pods',
        params: params('vpc_id'),
        response: {
          204: Nothing('Deleted with its subnets, pods and their tunnels. No body.'),
          ...refusals(401, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const id = idOf(request.params.vpc_id, 'VPC')
      await cloud.act(callerOf(request), 'circloud.vpcs.delete', (verbs) =>
        verbs.deleteVpc(id, { hold: UNSEEN }),
      )
      return reply.code(204).send(null)
    },
  )
}
