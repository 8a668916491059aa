import Type, { type Static } from 'typebox'
import { isUsable, parseCidr, parseIpv4 } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { subnet, type Subnet as Resource } from '#cloud/network/subnet.kind.ts'
import type { Doors } from './doors.ts'
import {
  BodyToken,
  CidrText,
  Ipv4,
  Label,
  listOf,
  refusals,
  said,
  timestamp,
  Timestamp,
  Uuid,
  type App,
} from './schema.ts'
import { NetworkStatus, networkStatus } from './vpcs.ts'

const PREFIX_MIN = 8
const PREFIX_MAX = 29

const Range = {
  cidr: CidrText(),
  gateway_ip: Type.String({ format: 'ipv4', description: 'A usable host address inside cidr.' }),
}
export const SubnetFields = Type.Object({ name: Label, ...Range })
const SubnetCreate = Type.Object(
  { tenant_id: Uuid, token: BodyToken, vpc_id: Uuid, ...SubnetFields.properties },
  {
    examples: [
      {
        tenant_id: '6f1c2f0e-6f5a-4c5e-9b8e-0d7c3a2f1b10',
        token: 'YOUR_TOKEN',
        vpc_id: '0b9f4e1a-2c9a-4d0c-8f5c-2f6a0e7d9c21',
        name: 'web-tier',
        cidr: '10.100.1.0/24',
        gateway_ip: '10.100.1.1',
      },
    ],
  },
)
export const Subnet = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  vpc_id: Uuid,
  name: Label,
  cidr: CidrText(),
  gateway_ip: Ipv4,
  status: NetworkStatus,
  created_at: Timestamp,
})

export const encodeSubnet = (it: Resource): Static<typeof Subnet> => ({
  id: it.id,
  tenant_id: it.tenant,
  vpc_id: it.spec.vpc,
  name: it.name,
  cidr: it.spec.cidr,
  gateway_ip: it.spec.gateway,
  status: networkStatus(it),
  created_at: timestamp(it.createdAt),
})

/** Name, range and gateway, seen to be well-formed: in this API form comes before existence. */
export function decodeSubnet({ name, cidr, gateway_ip: gateway }: Static<typeof SubnetFields>) {
  const range = parseCidr(cidr)
  if (!range)
    throw new CloudError('invalid', 'must be an IPv4 network with its host bits zero', { field: 'cidr' })
  if (range.prefix < PREFIX_MIN || range.prefix > PREFIX_MAX)
    throw new CloudError('invalid', `the prefix length must be between ${PREFIX_MIN} and ${PREFIX_MAX}`, {
      field: 'cidr',
    })
  const address = parseIpv4(gateway)
  if (address === undefined || !isUsable(range, address))
    throw new CloudError('invalid', `must be a usable address inside ${cidr}`, { field: 'gateway_ip' })
  return { name, cidr, gateway }
}

const common = { tags: ['subnets'] }

export function subnetRoutes(app: App, cloud: Cloud, { callerOf, ownBody }: Doors): void {
  app.post(
    '/subnets',
    {
      preValidation: ownBody,
      schema: {
        ...common,
        operationId: 'createSubnet',
        summary: 'Create a subnet in a VPC',
        body: SubnetCreate,
        response: { 201: said(Subnet, 'Subnet created.'), ...refusals(400, 401, 404, 409) },
      },
    },
    async (request, reply) => {
      const input = { ...decodeSubnet(request.body), vpc: request.body.vpc_id.toLowerCase() }
      const made = await cloud.act(callerOf(request), 'circloud.subnets.create', (verbs) =>
        verbs.createSubnet(input),
      )
      return reply.code(201).send(encodeSubnet(made))
    },
  )
  app.get(
    '/subnets',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listSubnets',
        summary: "List the caller's subnets",
        response: { 200: listOf(Subnet, "Subnets of the token's tenant, oldest first."), ...refusals(401) },
      },
    },
    async (request, reply) =>
      reply.code(200).send((await cloud.all(callerOf(request), subnet)).map(encodeSubnet)),
  )
}
