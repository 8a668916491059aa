import Type, { type Static } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { TOLERATED } from '#apis/reference.ts'
import type { Doors } from './doors.ts'
import { within } from './errors.ts'
import { encodePod, Pod } from './pod.ts'
import { createPod, decodePod, podOf, PodSpec } from './pods.ts'
import { Label, params, refusals, said, Uuid, type App } from './schema.ts'
import { decodeSubnet, encodeSubnet, Subnet, SubnetFields } from './subnets.ts'
import { encodeVpc, Vpc, VpcFields } from './vpcs.ts'
import { liveTunnels } from './tunnels.ts'

/** A topology as a caller sends it, without its token. */
export const EXAMPLE = {
  vpcs: [{ name: 'production', enable_internet: true }],
  subnets: [{ name: 'web', vpc_name: 'production', cidr: '10.100.1.0/24', gateway_ip: '10.100.1.1' }],
  pods: [
    {
      name: 'nginx',
      vpc_name: 'production',
      subnet_name: 'web',
      container_image: 'nginx:latest',
      replica_count: 2,
      service_port: 80,
      auto_scaling: true,
      autoscale_max_replicas: 6,
      autoscale_cpu_target_millicores: 250,
    },
  ],
}

/** What one document may hold; quotas are lower by default. */
const VPCS_MAX = 100
const SUBNETS_MAX = 500
const PODS_MAX = 500
/** The most replicas that a pod may be created with. */
const REPLICAS_MAX = 10

const TopologySubnet = Type.Object({ ...SubnetFields.properties, vpc_name: Label })
const TopologyPod = Type.Object({ ...PodSpec.properties, vpc_name: Label, subnet_name: Label })
const TopologyDeploy = Type.Object(
  {
    token: Type.Optional(
      Type.String({
        description: 'Tenant token. May be left out only when the header is sent.',
        [TOLERATED]: true,
      }),
    ),
    vpcs: Type.Array(VpcFields, { maxItems: VPCS_MAX }),
    subnets: Type.Array(TopologySubnet, { maxItems: SUBNETS_MAX }),
    pods: Type.Optional(Type.Array(TopologyPod, { maxItems: PODS_MAX, default: [] })),
  },
  {
    examples: [
      {
        token: 'YOUR_TOKEN',
        ...EXAMPLE,
      },
    ],
  },
)
const Topology = Type.Object({
  tenant_id: Uuid,
  vpcs: Type.Array(Vpc),
  subnets: Type.Array(Type.Object({ ...Subnet.properties, vpc_name: Type.String() })),
  pods: Type.Array(Type.Object({ ...Pod.properties, vpc_name: Type.String(), subnet_name: Type.String() })),
})
type Topology = Static<typeof Topology>

/** Every item seen to be well-formed, with the place of what is not. */
async function decode(body: Static<typeof TopologyDeploy>) {
  const subnets = []
  for (const [at, it] of body.subnets.entries())
    subnets.push(await within(`subnets[${at}]`, async () => ({ ...decodeSubnet(it), vpc: it.vpc_name })))
  const pods = []
  for (const [at, it] of (body.pods ?? []).entries())
    pods.push(
      await within(`pods[${at}]`, async () => ({
        ...decodePod(it),
        vpc: it.vpc_name,
        subnet: it.subnet_name,
        tunnels: it.tunnels ?? [],
      })),
    )
  return { vpcs: body.vpcs, subnets, pods }
}

const unknown = (field: string, message: string): CloudError => new CloudError('invalid', message, { field })

/** VPCs, then subnets, then pods; names are looked up in the document and in what the tenant has alike. */
async function deploy(
  verbs: Verbs,
  tenant: string,
  document: Awaited<ReturnType<typeof decode>>,
): Promise<Topology> {
  const made: Topology = { tenant_id: tenant, vpcs: [], subnets: [], pods: [] }
  const vpcNamed = async (name: string): Promise<string> => {
    const it = await verbs.find(vpc, tenant, name)
    if (!it) throw unknown('vpc_name', `there is no VPC ${name}`)
    return it.id
  }
  for (const [at, { name, enable_internet: internet }] of document.vpcs.entries())
    made.vpcs.push(
      await within(`vpcs[${at}]`, async () => encodeVpc(await verbs.createVpc({ name, internet }))),
    )
  for (const [at, it] of document.subnets.entries())
    await within(`subnets[${at}]`, async () => {
      const created = await verbs.createSubnet({ ...it, vpc: await vpcNamed(it.vpc) })
      made.subnets.push({ ...encodeSubnet(created), vpc_name: it.vpc })
    })
  for (const [at, { tunnels, ...it }] of document.pods.entries())
    await within(`pods[${at}]`, async () => {
      const inVpc = await vpcNamed(it.vpc)
      const inSubnet = await verbs.find(subnet, inVpc, it.subnet)
      if (!inSubnet) throw unknown('subnet_name', `there is no subnet ${it.subnet} in VPC ${it.vpc}`)
      const created = await createPod(verbs, { ...it, vpc: inVpc, subnet: inSubnet.id }, tunnels)
      made.pods.push({ ...(await podOf(verbs, created)), vpc_name: it.vpc, subnet_name: it.subnet })
    })
  return made
}

/** Everything the tenant has and that is not on its way out, so that it can be posted to an empty tenant. */
async function current(cloud: Cloud, caller: Caller): Promise<Topology> {
  const [vpcs, subnets, pods, tunnels] = await Promise.all([
    cloud.all(caller, vpc, { deleted: false }),
    cloud.all(caller, subnet, { deleted: false }),
    cloud.all(caller, workload, { deleted: false }),
    liveTunnels(cloud, caller),
  ])
  const names = new Map([...vpcs, ...subnets].map((it) => [it.id, it.name]))
  const nameOf = (id: string): string => names.get(id) ?? id
  return {
    tenant_id: caller.tenant,
    vpcs: vpcs.map(encodeVpc),
    subnets: subnets
      .filter((it) => names.has(it.spec.vpc))
      .map((it) => ({ ...encodeSubnet(it), vpc_name: nameOf(it.spec.vpc) })),
    pods: pods
      .filter((it) => names.has(it.spec.vpc) && names.has(it.spec.subnet))
      .map((it) => {
        const pod = encodePod(it, nameOf(it.spec.vpc), tunnels)
        return {
          ...pod,
          // More than this cannot be created; the autoscaler finds its way from there.
          replica_count: Math.min(pod.replica_count, REPLICAS_MAX),
          vpc_name: nameOf(it.spec.vpc),
          subnet_name: nameOf(it.spec.subnet),
        }
      }),
  }
}

const common = { tags: ['topology'], params: params('tenant_id') }
const path = '/tenants/:tenant_id/topology'

/** In a scope whose callers may prove themselves by the body's token alone. */
export function deployRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    path,
    {
      schema: {
        ...common,
        operationId: 'deployTopology',
        summary: 'Create VPCs, subnets and pods in one call',
        description:
          'Items refer to each other by name (`vpc_name`, `subnet_name`). All or nothing. The only operation that may be authenticated by the body `token` alone; when a header is sent too, the header decides and both must name the same tenant.',
        security: [{ TenantToken: [] }, {}],
        body: TopologyDeploy,
        response: { 201: said(Topology, 'Everything was created.'), ...refusals(400, 401, 409) },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const document = await decode(request.body)
      const made = await cloud.act(caller, 'circloud.topology.deploy', (verbs) =>
        deploy(verbs, caller.tenant, document),
      )
      return reply.code(201).send(made)
    },
  )
}

/** In a scope whose callers were seen to be the path's tenant. */
export function topologyRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.get(
    path,
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getTopology',
        summary: 'Current topology as JSON',
        description:
          'Can be sent back to the deploy operation of an empty tenant; ids and status fields are ignored there.',
        response: { 200: said(Topology, 'Everything the tenant has now.'), ...refusals(401) },
      },
    },
    async (request, reply) => reply.code(200).send(await current(cloud, callerOf(request))),
  )
}
