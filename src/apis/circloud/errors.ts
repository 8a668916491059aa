import { plainField, sentenceOf, type ErrorShape, type FaultCode } from '#apis/errors.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'

/** Circloud's statuses: 200, 201, 204, 400, 401, 404, 409 where its contract speaks; the rest where it is silent. */
const STATUS = {
  invalid: 400,
  unsupported: 400,
  unauthenticated: 401,
  forbidden: 401,
  not_found: 404,
  no_route: 404,
  gone: 404,
  wrong_method: 405,
  already_exists: 409,
  conflict: 409,
  exhausted: 409,
  rate_limited: 429,
  internal: 500,
  unavailable: 503,
} satisfies Record<FaultCode, number>

/** Circloud's words for fields of the cloud's own. */
const FIELDS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    gateway: 'gateway_ip',
    vpc: 'vpc_id',
    subnet: 'subnet_id',
    image: 'container_image',
    replicas: 'replica_count',
    ports: 'service_port',
    egress: 'external_access',
    inbound: 'external_inbound',
    healing: 'auto_healing',
    autoscaling: 'auto_scaling',
    'autoscaling.enabled': 'auto_scaling',
    'autoscaling.min': 'autoscale_min_replicas',
    'autoscaling.max': 'autoscale_max_replicas',
    'autoscaling.cpuTargetMillicores': 'autoscale_cpu_target_millicores',
    'persistence.enabled': 'persistent',
    'persistence.path': 'persistent_mount_path',
    hostname: 'subdomain',
    port: 'service_port',
    externalCidr: 'external_subnet_cidr',
    externalGateway: 'external_subnet_gateway',
    peeringCidr: 'peering_subnet_cidr',
    nameservers: 'pod_dns_nameservers',
    ndots: 'pod_dns_ndots',
    cloudflareAccountId: 'cloudflare_account_id',
    cloudflareToken: 'cloudflare_api_token',
    cloudflareDomain: 'cloudflare_domain',
  }),
)

const fieldOf = (field: string): string => FIELDS.get(field) ?? field

/** Every refusal is `{"detail": text}`. */
export const shape: ErrorShape = (fault) => ({
  status: STATUS[fault.code],
  body: { detail: sentenceOf(fault, fieldOf) },
})

/** A refusal of one item of a list, with the item before the field: `pods[2].replica_count`. */
export async function within<R>(item: string, work: () => Promise<R>): Promise<R> {
  try {
    return await work()
  } catch (error) {
    if (!isCloudError(error)) throw error
    const { field } = error.details
    const where = field === undefined ? item : `${item}.${fieldOf(plainField(field))}`
    throw new CloudError(error.code, error.message, { ...error.details, field: where }, error.cause)
  }
}
