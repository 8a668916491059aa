import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { contractOf } from './contract.testing.ts'
import { eventually } from './wait.testing.ts'

const CALL_TIMEOUT_MS = 15_000
/** A pod's image is local and its process starts at once; this is the contract's own limit. */
const RUNNING_WITHIN_MS = 60_000

export type Vpc = { id: string; tenant_id: string; name: string; enable_internet: boolean; status: string }
export type Subnet = {
  id: string
  vpc_id: string
  name: string
  cidr: string
  gateway_ip: string
  status: string
}
export type Pod = {
  id: string
  tenant_id: string
  vpc_id: string
  subnet_id: string
  name: string
  container_image: string
  replica_count: number
  service_port: number
  auto_healing: boolean
  auto_scaling: boolean
  autoscale_min_replicas: number
  autoscale_max_replicas: number
  autoscale_cpu_target_millicores: number
  persistent: boolean
  persistent_mount_path: string
  status: string
  status_message: string | null
  ready_replicas: number
  vip: string
  ip_addresses: string[]
  external_ip: string | null
  dns_name: string
}
export type LiveStatus = {
  status: string
  desired_replicas: number
  ready_replicas: number
  replicas: {
    name: string
    phase: string
    ready: boolean
    restarts: number
    ip: string
    cpu_millicores: number | null
  }[]
  autoscaler: { desired_replicas: number; current_cpu_millicores: number | null; max_replicas: number } | null
}
export type TenantDetail = {
  id: string
  vpcs: Vpc[]
  subnets: Subnet[]
  pods: Pod[]
  domains: { domain: string }[]
  pod_status: Record<string, LiveStatus>
}

export type Auth = { token?: string; admin?: string }
export type Call = <T = unknown>(
  method: string,
  path: string,
  expected: number,
  body?: unknown,
  auth?: Auth,
) => Promise<T>

/** A client of one Circloud API: every answer, also a refusal, is held against the contract. */
export function circloudClient(baseUrl: string): Call {
  const check = contractOf(new URL('../contracts/circloud.json', import.meta.url))
  return async <T>(method: string, path: string, expected: number, body?: unknown, auth: Auth = {}) => {
    const headers: Record<string, string> = {}
    if (auth.token !== undefined) headers['x-auth-token'] = auth.token
    if (auth.admin !== undefined) headers['x-admin-token'] = auth.admin
    if (body !== undefined) headers['content-type'] = 'application/json'
    const answer = await fetch(`${baseUrl}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    })
    const text = await answer.text()
    const seen = `${method} ${path} ${body === undefined ? '' : JSON.stringify(body)} answered ${answer.status} ${text}`
    assert.equal(answer.status, expected, seen)
    const parsed: unknown = text === '' ? undefined : JSON.parse(text)
    check(method, path, answer.status, parsed)
    return parsed as T
  }
}

export type TestTenant = {
  readonly id: string
  readonly name: string
  readonly token: string
  /** A call with this tenant's token. */
  call<T = unknown>(method: string, path: string, expected: number, body?: unknown): Promise<T>
  vpc(name: string, internet?: boolean): Promise<Vpc>
  subnet(vpc: Vpc, cidr?: string, name?: string): Promise<Subnet>
  pod(subnet: Subnet, name: string, fields?: Partial<Record<string, unknown>>): Promise<Pod>
  /** The pod as it is listed now; fails when it is not. */
  seen(pod: Pod): Promise<Pod>
  /** Waits until it runs with every replica ready. */
  running(pod: Pod, withinMs?: number): Promise<Pod>
  until(pod: Pod, what: string, holds: (pod: Pod) => boolean, withinMs: number): Promise<Pod>
  /** The administrator's live view of the pod. */
  live(pod: Pod): Promise<LiveStatus>
  detail(): Promise<TenantDetail>
  remove(): Promise<void>
}

/** First usable address of a /24 written as a.b.c.0/24. */
const gatewayOf = (cidr: string): string => cidr.replace(/\.\d+\/\d+$/, '.1')

/** A new tenant with a name of its own. */
export async function makeTenant(call: Call, admin: string, prefix = 'e2e'): Promise<TestTenant> {
  const name = `${prefix}-${randomUUID().slice(0, 8)}`
  const made = await call<{ id: string; api_token: string }>(
    'POST',
    '/tenants',
    201,
    { name, password: 'gui-pw' },
    { admin },
  )
  const own: TestTenant['call'] = (method, path, expected, body) =>
    call(method, path, expected, body, { token: made.api_token })
  const seen = async (pod: Pod): Promise<Pod> => {
    const pods = await own<Pod[]>('GET', '/pods', 200)
    const found = pods.find((it) => it.id === pod.id)
    assert.ok(found, `pod ${pod.name} is not listed`)
    return found
  }
  const until: TestTenant['until'] = (pod, what, holds, withinMs) => {
    let last: Pod | undefined
    const brief = (): string =>
      last
        ? ` (${last.status} ${last.ready_replicas}/${last.replica_count} ${last.status_message ?? ''})`
        : ''
    return eventually(
      `pod ${name}/${pod.name} ${what}`,
      async () => {
        last = await seen(pod)
        if (!holds(last)) throw new Error(brief())
        return last
      },
      withinMs,
    )
  }
  const detail = (): Promise<TenantDetail> => call('GET', `/tenants/${made.id}`, 200, undefined, { admin })
  return {
    id: made.id,
    name,
    token: made.api_token,
    call: own,
    vpc: (vpcName, internet = true) =>
      own('POST', '/vpcs', 201, {
        tenant_id: made.id,
        token: made.api_token,
        name: vpcName,
        enable_internet: internet,
      }),
    subnet: (vpc, cidr = '10.100.1.0/24', subnetName = 'web') =>
      own('POST', '/subnets', 201, {
        tenant_id: made.id,
        token: made.api_token,
        vpc_id: vpc.id,
        name: subnetName,
        cidr,
        gateway_ip: gatewayOf(cidr),
      }),
    pod: (subnet, podName, fields = {}) =>
      own('POST', '/pods', 201, {
        tenant_id: made.id,
        token: made.api_token,
        vpc_id: subnet.vpc_id,
        subnet_id: subnet.id,
        name: podName,
        container_image: 'arcus-probe:latest',
        ...fields,
      }),
    seen,
    until,
    running: (pod, withinMs = RUNNING_WITHIN_MS) =>
      until(
        pod,
        'runs with every replica ready',
        (it) => it.status === 'running' && it.ready_replicas === it.replica_count,
        withinMs,
      ),
    live: async (pod) => {
      const status = (await detail()).pod_status[pod.id]
      assert.ok(status, `pod_status lacks ${pod.name}`)
      return status
    },
    detail,
    remove: () => call('DELETE', `/tenants/${made.id}`, 204, undefined, { admin }),
  }
}
