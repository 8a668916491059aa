import type { Caller } from '#cloud/access.ts'
import type { Resource } from '#engine/resource.ts'
import type { NotificationLimits } from './notifications.ts'
import { cycleWorld, type CycleWorld, type Member } from './cycle.testing.ts'

/** What the world of the contract's recipe holds (section 13). */
export type Seeded = CycleWorld & {
  readonly tenant: { readonly id: string }
  readonly caller: Caller
  readonly vpcs: { readonly shop: Resource; readonly office: Resource }
  /** Workloads by name. */
  readonly workloads: Readonly<Record<string, Resource>>
  /** The first replica of a workload. */
  member(workload: string): Promise<Member>
}

const SNAPSHOT_AT = '2026-03-27T11:15:00Z'
const counted = {
  metrics: {
    disconnects: {
      no_error: 1,
      request_invalid: 0,
      timeout_idle: 0,
      router_none: 0,
      router_nomatch: 0,
      destination_unavailable: 0,
      unknown_error: 0,
    },
    connections: 3,
    requests: 5,
    bytes_transmitted: 1024,
    bytes_received: 512,
  },
  router: null,
}
/** What a load balancer tells of one controller. */
export const snapshot = () => ({
  time: SNAPSHOT_AT,
  started: SNAPSHOT_AT,
  dataset_id: 1,
  current: counted,
  cumulative: counted,
})

/** Two environments of one hub joined by a network, with services, variables, names and certificates, on one machine. */
export async function seededWorld(limits: Partial<NotificationLimits> = {}): Promise<Seeded> {
  const world = await cycleWorld(limits)
  const { it, make } = world
  const tenant = await it.tenant('harbor')
  const { caller } = tenant
  const vpn = { enabled: true, vpnUsers: true, users: false }
  const shop = await make(caller, 'vpc', 'shop', {
    internet: true,
    vpn,
    deployments: { live: 'v1.4.0', next: 'v1.5.0-rc.1' },
  })
  const office = await make(caller, 'vpc', 'back-office', { internet: false })
  const subnetIn = async (vpc: Resource): Promise<Resource> =>
    await make(caller, 'subnet', `of-${vpc.name}`, { vpc: vpc.id, cidr: '10.9.0.0/24' })
  const [here, there] = [await subnetIn(shop), await subnetIn(office)]
  const workloads: Record<string, Resource> = {}
  const run = async (name: string, spec: object, vpc = shop, subnet = here): Promise<void> => {
    workloads[name] = await make(caller, 'workload', name, {
      vpc: vpc.id,
      subnet: subnet.id,
      image: 'registry.test/nginx:1',
      ...spec,
    })
  }
  await run('web', {
    replicas: 2,
    env: { LOG_LEVEL: 'info' },
    ports: [{ protocol: 'tcp', port: 80 }],
    deploymentVersion: 'v1.4.0',
    egress: true,
    inbound: true,
    health: {
      check: { type: 'command', command: ['wget', '-q', 'http://localhost/healthz'] },
      intervalSeconds: 30,
      timeoutSeconds: 5,
      failuresMax: 3,
      startSeconds: 10,
    },
  })
  await run('orders', { healing: false, persistence: { enabled: true, path: '/data' }, replicas: 1 })
  await run('resize', { function: true, replicas: 1 })
  await run('conductor', { role: 'orchestrator', replicas: 1 })
  for (const service of ['discovery', 'loadbalancer', 'vpn', 'scheduler'])
    await run(service, { service, replicas: 1 })
  await run('ledger', { replicas: 1 }, office, there)
  await make(caller, 'network', 'backbone', { members: [{ vpc: shop.id }, { vpc: office.id }] })
  const everyone = { global: true, workloads: [], names: [] }
  await make(caller, 'scoped-variable', 'REGION', {
    vpc: shop.id,
    scope: everyone,
    access: { api: {} },
    value: 'eu',
  })
  await make(caller, 'scoped-variable', 'BOOT', {
    vpc: shop.id,
    scope: { global: false, workloads: [workloads['web']?.id], names: [] },
    access: { api: { durationSeconds: 60 } },
    secret: 'only for a minute',
  })
  await make(caller, 'scoped-variable', 'FILE', {
    vpc: shop.id,
    scope: everyone,
    access: { file: { decode: false } },
    value: 'a file',
  })
  await make(caller, 'vpn-user', 'ada', { vpc: shop.id, password: 'long: enough' })
  await make(caller, 'integration', 'offsite', {
    vendor: 'backblaze-b2',
    region: 'eu-central-003',
    keyId: '003',
    secret: 'a secret',
    extra: { prefix: 'prod' },
  })
  await it.cloud.act(it.admin, 'test', async (verbs) => await verbs.addDomain(tenant.id, 'harbor.example'))
  await make(caller, 'tunnel', 'shop', {
    workload: workloads['web']?.id,
    protocol: 'http',
    hostname: 'shop.harbor.example',
  })
  await make(caller, 'route', 'images', {
    vpc: shop.id,
    hostname: 'shop2.harbor.example',
    pathPrefix: '/images',
    targets: [{ workload: workloads['web']?.id, port: 80, weight: 1 }],
  })
  await it.settle()
  return {
    ...world,
    tenant,
    caller,
    vpcs: { shop, office },
    workloads,
    async member(name) {
      const [first] = await world.members(caller, workloads[name]?.id ?? '')
      if (!first) throw new Error(`${name} has no replica`)
      return first
    },
  }
}
