import Type, { type Static } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Cloud, NewWorkload, Verbs, WorkloadChange } from '#cloud/cloud.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import type { Doors } from './doors.ts'
import { within } from './errors.ts'
import { encodePod, Pod } from './pod.ts'
import { BodyToken, idOf, Label, listOf, Nothing, params, refusals, said, Uuid, type App } from './schema.ts'
import { decodeTunnel, InlineTunnel, PORT_DEFAULT } from './tunnel.ts'
import { liveTunnels } from './tunnels.ts'

/** The most replicas a pod can be given by hand. */
const REPLICAS_MAX = 10
const AUTOSCALE_MIN = 2
const AUTOSCALE_MAX_DEFAULT = 10
const CPU_TARGET_DEFAULT = 200
/** Tunnels that a pod may be created with. */
const TUNNELS_MAX = 20

/** Workload fields shared by the pod and topology operations. */
export const PodSpec = Type.Object({
  name: Label,
  container_image: Type.String({ minLength: 1, maxLength: 512, examples: ['nginx:latest'] }),
  replica_count: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: REPLICAS_MAX,
      default: 1,
      description: 'With auto_scaling it is the starting count, and a value below 2 counts as 2.',
    }),
  ),
  service_port: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 65535,
      default: PORT_DEFAULT,
      description: 'Port of the VIP; the same port is used inside the container.',
    }),
  ),
  use_registry_credentials: Type.Optional(Type.Boolean({ default: true })),
  external_access: Type.Optional(
    Type.Boolean({ default: false, description: 'Outbound internet through SNAT.' }),
  ),
  external_inbound: Type.Optional(
    Type.Boolean({ default: false, description: 'Dedicated external IP; needs external_access.' }),
  ),
  auto_healing: Type.Optional(Type.Boolean({ default: false })),
  auto_scaling: Type.Optional(
    Type.Boolean({ default: false, description: 'CPU-based HPA; turns auto_healing on.' }),
  ),
  autoscale_max_replicas: Type.Optional(
    Type.Integer({ minimum: 2, maximum: 50, default: AUTOSCALE_MAX_DEFAULT }),
  ),
  autoscale_cpu_target_millicores: Type.Optional(
    Type.Integer({ minimum: 10, maximum: 10000, default: CPU_TARGET_DEFAULT }),
  ),
  tunnels: Type.Optional(
    Type.Array(InlineTunnel, {
      default: [],
      maxItems: TUNNELS_MAX,
      description: 'One that cannot be made refuses the whole pod.',
    }),
  ),
})
const PodCreate = Type.Object(
  {
    tenant_id: Uuid,
    token: BodyToken,
    vpc_id: Uuid,
    subnet_id: Type.String({ format: 'uuid', description: 'Must belong to vpc_id.' }),
    ...PodSpec.properties,
  },
  {
    examples: [
      {
        tenant_id: '6f1c2f0e-6f5a-4c5e-9b8e-0d7c3a2f1b10',
        token: 'YOUR_TOKEN',
        vpc_id: '0b9f4e1a-2c9a-4d0c-8f5c-2f6a0e7d9c21',
        subnet_id: '9d6a1e7c-8a54-4b38-93f4-6f0d2b7f4a11',
        name: 'web-server',
        container_image: 'nginx:latest',
        replica_count: 2,
        service_port: 80,
        external_access: true,
        external_inbound: true,
        auto_scaling: true,
        autoscale_max_replicas: 6,
        autoscale_cpu_target_millicores: 250,
      },
    ],
  },
)
const PodConfigPatch = Type.Object(
  {
    auto_healing: Type.Optional(Type.Boolean()),
    persistent: Type.Optional(Type.Boolean()),
    persistent_mount_path: Type.Optional(
      Type.String({
        pattern: '^/[^\\0]+$',
        maxLength: 4096,
        default: '/storage',
        title: 'an absolute path other than / and without ..',
        description:
          'Absolute path inside the container, not `/` itself, no `..` part. The default applies when persistence is first turned on.',
      }),
    ),
    auto_scaling: Type.Optional(Type.Boolean()),
    autoscale_min_replicas: Type.Optional(Type.Integer({ minimum: 2, maximum: 50, default: 2 })),
    autoscale_max_replicas: Type.Optional(
      Type.Integer({ minimum: 2, maximum: 50, default: AUTOSCALE_MAX_DEFAULT }),
    ),
    autoscale_cpu_target_millicores: Type.Optional(
      Type.Integer({ minimum: 10, maximum: 10000, default: CPU_TARGET_DEFAULT }),
    ),
  },
  {
    description:
      'Every field optional; absent fields keep their stored value. The defaults are the initial values of a pod that never had the field set.',
    examples: [
      { auto_scaling: true, autoscale_max_replicas: 6, autoscale_cpu_target_millicores: 250 },
      { persistent: true, persistent_mount_path: '/data' },
    ],
  },
)
const RestartResult = Type.Object({ id: Uuid, status: Type.Enum(['restarting']), message: Type.String() })

const invalid = (field: string, message: string): CloudError => new CloudError('invalid', message, { field })

/** A pod's fields as a workload's, seen to agree with each other: in this API form comes before existence. */
export function decodePod(body: Static<typeof PodSpec>): Omit<NewWorkload, 'vpc' | 'subnet'> {
  const scaling = body.auto_scaling ?? false
  const max = body.autoscale_max_replicas ?? AUTOSCALE_MAX_DEFAULT
  const count = body.replica_count ?? 1
  const port = body.service_port ?? PORT_DEFAULT
  if (body.external_inbound && !body.external_access)
    throw invalid('external_inbound', 'requires external_access')
  if (scaling && count > max)
    throw invalid('replica_count', `must not exceed autoscale_max_replicas (${max})`)
  return {
    name: body.name,
    inbound: body.external_inbound ?? false,
    spec: {
      image: body.container_image,
      replicas: count,
      // One port of the VIP, whichever protocol the service speaks on it.
      ports: [
        { protocol: 'tcp', port },
        { protocol: 'udp', port },
      ],
      egress: body.external_access ?? false,
      useRegistryCredentials: body.use_registry_credentials ?? true,
      healing: body.auto_healing ?? false,
      autoscaling: {
        enabled: scaling,
        min: AUTOSCALE_MIN,
        max,
        cpuTargetMillicores: body.autoscale_cpu_target_millicores ?? CPU_TARGET_DEFAULT,
      },
    },
  }
}

/** The object's fields that are there. */
const present = <T extends object>(fields: { [K in keyof T]: T[K] | undefined }): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, it]) => it !== undefined)) as Partial<T>

/** A configuration change; absent fields stay absent. */
export function decodePatch(body: Static<typeof PodConfigPatch>): WorkloadChange {
  const gpu = Object.keys(body).find((it) => /^gpu/i.test(it))
  if (gpu !== undefined) throw invalid(gpu, 'GPU access cannot be changed after creation')
  const { autoscale_min_replicas: min, autoscale_max_replicas: max, persistent_mount_path: path } = body
  if (min !== undefined && max !== undefined && min > max)
    throw invalid('autoscale_min_replicas', 'must not exceed autoscale_max_replicas')
  if (path !== undefined && (path.split('/').includes('..') || /^\/+$/.test(path)))
    throw invalid('persistent_mount_path', 'must be an absolute path other than / and without ..')
  const persistence = present({ enabled: body.persistent, path })
  const autoscaling = present({
    enabled: body.auto_scaling,
    min,
    max,
    cpuTargetMillicores: body.autoscale_cpu_target_millicores,
  })
  return {
    ...(body.auto_healing === undefined ? {} : { healing: body.auto_healing }),
    ...(Object.keys(persistence).length ? { persistence } : {}),
    ...(Object.keys(autoscaling).length ? { autoscaling } : {}),
  }
}

/** A pod with the VPC's name and the tunnels that its answer needs. */
export async function podOf(verbs: Verbs, it: Workload): Promise<Pod> {
  const tunnels = await verbs.list(tunnel, [`workload:${it.id}`])
  return encodePod(it, (await verbs.get(vpc, it.spec.vpc)).name, tunnels)
}

/** Creates a pod with its tunnels, all or nothing. */
export async function createPod(
  verbs: Verbs,
  input: NewWorkload,
  tunnels: readonly InlineTunnel[] = [],
): Promise<Workload> {
  const made = await verbs.createWorkload(input)
  const port = made.spec.ports[0]?.port ?? PORT_DEFAULT
  for (const [at, it] of tunnels.entries())
    await within(`tunnels[${at}]`, async () => verbs.createTunnel(decodeTunnel(it, made.id, port)))
  return made
}

const common = { tags: ['pods'] }

export function podRoutes(app: App, cloud: Cloud, doors: Doors): void {
  const { callerOf, ownBody } = doors
  app.post(
    '/pods',
    {
      preValidation: ownBody,
      schema: {
        ...common,
        operationId: 'createPod',
        summary: 'Create a pod (a logical workload of one or more replicas)',
        description:
          'Creates the workload, one VIP that balances over its replicas and a DNS name, all or nothing. Answers before the image has been pulled; `status` starts at `pending`.',
        body: PodCreate,
        response: { 201: said(Pod, 'Pod accepted and being started.'), ...refusals(400, 401, 404, 409) },
      },
    },
    async (request, reply) => {
      const { vpc_id, subnet_id } = request.body
      const input = { ...decodePod(request.body), vpc: vpc_id.toLowerCase(), subnet: subnet_id.toLowerCase() }
      const pod = await cloud.act(callerOf(request), 'circloud.pods.create', async (verbs) =>
        podOf(verbs, await createPod(verbs, input, request.body.tunnels)),
      )
      return reply.code(201).send(pod)
    },
  )
  app.get(
    '/pods',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listPods',
        summary: "List the caller's pods with status",
        response: { 200: listOf(Pod, "Pods of the token's tenant, oldest first."), ...refusals(401) },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const [pods, vpcs, tunnels] = await Promise.all([
        cloud.all(caller, workload),
        cloud.all(caller, vpc),
        liveTunnels(cloud, caller),
      ])
      const names = new Map(vpcs.map((it) => [it.id, it.name]))
      const nameOf = (id: string): string => names.get(id) ?? id
      return reply.code(200).send(pods.map((it) => encodePod(it, nameOf(it.spec.vpc), tunnels)))
    },
  )
  app.delete(
    '/pods/:pod_id',
    {
      schema: {
        ...common,
        operationId: 'deletePod',
        summary: 'Delete a pod',
        params: params('pod_id'),
        response: {
          204: Nothing(
            'Deletion accepted; replicas, VIP, DNS name, EIP, persistent data and tunnels are removed. No body.',
          ),
          ...refusals(401, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const id = idOf(request.params.pod_id, 'Pod')
      await cloud.act(callerOf(request), 'circloud.pods.delete', (verbs) => verbs.deleteWorkload(id))
      return reply.code(204).send(null)
    },
  )
  replicaRoutes(app, cloud, doors)
  changeRoutes(app, cloud, doors)
}

/** One replica more or less. */
function replicaRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  const scaling = {
    post: ['addPodReplica', 'Add', 'raised', 1],
    delete: ['removePodReplica', 'Remove', 'lowered', -1],
  } as const
  for (const method of ['post', 'delete'] as const) {
    const [operationId, word, moved, by] = scaling[method]
    app[method](
      '/pods/:pod_id/replicas',
      {
        schema: {
          ...common,
          operationId,
          summary: `${word} exactly one replica`,
          description:
            by > 0
              ? 'No body. 409 when autoscaling is on, when the pod already has 10 replicas, or when it is stopped or being deleted.'
              : 'No body. 409 when autoscaling is on, when only one replica is left, or when the pod is stopped or being deleted.',
          params: params('pod_id'),
          response: {
            200: said(Pod, `Pod with \`replica_count\` ${moved} by one.`),
            ...refusals(401, 404, 409),
          },
        },
      },
      async (request, reply) => {
        const id = idOf(request.params.pod_id, 'Pod')
        const pod = await cloud.act(
          callerOf(request),
          `circloud.pods.replicas.${method === 'post' ? 'add' : 'remove'}`,
          async (verbs) => podOf(verbs, await verbs.scaleWorkload(id, by, REPLICAS_MAX)),
        )
        return reply.code(200).send(pod)
      },
    )
  }
}

/** Restart and configuration of one pod. */
function changeRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    '/pods/:pod_id/restart',
    {
      schema: {
        ...common,
        operationId: 'restartPod',
        summary: 'Restart all replicas of a pod',
        description: 'No body. Also the way to start a stopped pod again.',
        params: params('pod_id'),
        response: { 200: said(RestartResult, 'Restart under way.'), ...refusals(401, 404, 409) },
      },
    },
    async (request, reply) => {
      const id = idOf(request.params.pod_id, 'Pod')
      await cloud.act(callerOf(request), 'circloud.pods.restart', (verbs) => verbs.restartWorkload(id))
      return reply.code(200).send({ id, status: 'restarting' as const, message: 'Pod restart initiated' })
    },
  )
  app.patch(
    '/pods/:pod_id/config',
    {
      schema: {
        ...common,
        operationId: 'updatePodConfig',
        summary: 'Change auto-healing, persistence or autoscaling',
        description:
          'Stops the workload, applies the change and recreates it. VIP, DNS name and external IP stay the same. GPU access cannot be changed.',
        params: params('pod_id'),
        body: PodConfigPatch,
        response: { 200: said(Pod, 'The updated pod.'), ...refusals(400, 401, 404, 409) },
      },
    },
    async (request, reply) => {
      const change = decodePatch(request.body)
      const id = idOf(request.params.pod_id, 'Pod')
      const pod = await cloud.act(callerOf(request), 'circloud.pods.configure', async (verbs) =>
        podOf(verbs, await verbs.configureWorkload(id, change)),
      )
      return reply.code(200).send(pod)
    },
  )
}
