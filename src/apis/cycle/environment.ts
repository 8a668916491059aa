import type { Environment as Inside, Metadata } from '#cloud/cloud.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import { slugOf } from '#lib/slug.ts'
import { objectId } from '#lib/object-id.ts'
import { CLUSTER } from './place.ts'
import type { Environment } from './schema/environment.ts'
import type { EnvironmentServices } from './schema/service.ts'
import { creatorOf, lifetimeOf, timeOf } from './wire.ts'

const STATES = { pending: 'new', active: 'live', error: 'live' } as const

function stateOf({ status, deletedAt, updatedAt }: Vpc): Environment['state'] {
  const changed = timeOf(updatedAt)
  if (deletedAt !== undefined) return { current: 'deleting', changed: timeOf(deletedAt) }
  const { message } = status
  return {
    current: STATES[status.state],
    changed,
    ...(status.state === 'error' && message !== undefined ? { error: { message, time: changed } } : {}),
  }
}

/** The VPC's number on its host, in the form that networks are named by here. */
export const networkSubnetOf = ({ spec }: Vpc): string => spec.index.toString(16)

/** First address and range of an IPv6 network written `fd00:1:2::/48`. */
export const rangeOf = (cidr: string) => ({ ip: cidr.slice(0, cidr.indexOf('/')), cidr })

export const privateNetworkOf = (vpc: Vpc): NonNullable<Environment['private_network']> => ({
  vxlan_tag: vpc.spec.index,
  subnet: networkSubnetOf(vpc),
  ipv6: rangeOf(vpc.spec.range6),
  legacy: null,
})

export const deploymentsOf = ({ spec }: Vpc): NonNullable<Environment['deployments']> | null =>
  spec.deployments ? { tags: spec.deployments } : null

/** The services with a workload of their own; only the load balancer's key must be there without one. */
export function servicesOf({ vpc, services }: Metadata): EnvironmentServices {
  const { discovery, vpn, loadbalancer, scheduler, gateway } = services
  const common = (it: { readonly workload: { readonly id: string } }) => ({
    enable: true,
    container_id: objectId(it.workload.id),
    high_availability: false,
    auto_update: false,
  })
  return {
    loadbalancer: loadbalancer ? { ...common(loadbalancer), config: null } : null,
    discovery: discovery ? { ...common(discovery), config: null } : null,
    vpn: vpn ? { ...common(vpn), config: vpnConfigOf(vpc) } : null,
    // Its access keys are for the scheduler alone, and there are none.
    scheduler: scheduler
      ? { ...common(scheduler), high_availablity: false, config: { public: false, access_keys: [] } }
      : null,
    gateway: gateway ? { ...common(gateway), config: null } : null,
  }
}

const vpnConfigOf = ({ spec: { vpn, internet } }: Vpc) =>
  vpn
    ? {
        allow_internet: internet,
        custom_directives: null,
        auth: { webhook: vpn.webhook ?? null, cycle_accounts: vpn.users, vpn_accounts: vpn.vpnUsers },
      }
    : null

export const encodeEnvironment = (it: Inside): Environment => ({
  id: objectId(it.vpc.id),
  identifier: slugOf(it.vpc.name),
  name: it.vpc.name,
  cluster: CLUSTER,
  about: { description: '', favorite: false },
  creator: creatorOf(it.vpc),
  hub_id: objectId(it.vpc.tenant),
  state: stateOf(it.vpc),
  events: lifetimeOf(it.vpc),
  features: { legacy_networking: false, monitoring: null },
  services: servicesOf(it),
  acl: null,
  private_network: privateNetworkOf(it.vpc),
  deployments: deploymentsOf(it.vpc),
})
