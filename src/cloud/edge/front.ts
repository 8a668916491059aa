import { PLATFORM } from '#engine/resource.ts'
import { type Replica, serves } from '#cloud/compute/replica.kind.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { LoadBalancer } from '#cloud/network/load-balancer.kind.ts'
import type { Provider } from '#cloud/network/provider.kind.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import type { Certificate } from './certificate.kind.ts'
import type { Carry, Front, FrontRoute, Origin } from './front.driver.ts'
import type { Route } from './route.kind.ts'
import type { ServiceTunnel } from './service-tunnel.kind.ts'
import type { Tunnel, TunnelProtocol } from './tunnel.kind.ts'

/** Everything a VPC's front is derived from. */
export type FrontWorld = {
  readonly vpc: Vpc
  readonly workloads: readonly Workload[]
  readonly replicas: readonly Replica[]
  readonly tunnels: readonly Tunnel[]
  readonly routes: readonly Route[]
  readonly certificates: readonly Certificate[]
  readonly balancers: readonly LoadBalancer[]
}

const CARRY: Readonly<Record<TunnelProtocol, Carry>> = {
  http: 'http',
  https: 'passthrough',
  ssh: 'stream',
  tcp: 'stream',
  udp: 'datagram',
}
const ROUTE_CARRY: Readonly<Record<Route['spec']['protocol'], Carry>> = {
  http: 'http',
  https: 'https',
  passthrough: 'passthrough',
  tcp: 'stream',
}

/** Whether TLS ends at the edge, which then needs a certificate for the hostname. */
export const endsTls = (it: Tunnel | Route | ServiceTunnel): boolean => {
  const { protocol } = it.spec
  if (it.kind === 'tunnel') return protocol !== 'https' && protocol !== 'udp'
  return protocol !== 'passthrough'
}

/** Whether Cloudflare carries a tunnel: where its access is set, everything but UDP, for which it has no public names. */
export const isRemote = (it: Tunnel, provider: Provider | undefined): boolean =>
  it.spec.protocol !== 'udp' && hasCloudflare(provider)

export const hasCloudflare = (provider: Provider | undefined): boolean =>
  provider !== undefined &&
  (provider.spec.cloudflareAccountId ?? '') !== '' &&
  provider.spec.cloudflareToken !== ''

const originsOf = (
  { replicas }: Pick<FrontWorld, 'replicas'>,
  { workload, port, weight }: Route['spec']['targets'][number],
): Origin[] => {
  const ready = replicas.filter((it) => serves(it, workload))
  return ready.map((it) => ({
    id: it.id,
    address: it.spec.fabric,
    port,
    weight: weight / ready.length,
  }))
}

/** The certificate named in the wish, else the one made for it. */
const certificateOf = (it: Tunnel | Route | ServiceTunnel, certificates: readonly Certificate[]) => {
  const named = 'certificate' in it.spec ? it.spec.certificate : undefined
  const id = named ?? certificates.find((one) => one.owner === it.id)?.id
  return !endsTls(it) || id === undefined ? {} : { certificate: id }
}

const planTunnel = (it: Tunnel, world: FrontWorld): FrontRoute => ({
  id: it.id,
  hostname: it.spec.hostname,
  pathPrefix: '/',
  stripPrefix: false,
  carry: CARRY[it.spec.protocol],
  plain: false,
  ...certificateOf(it, world.certificates),
  ...(it.spec.protocol === 'udp' ? { port: it.spec.port } : {}),
  origins: originsOf(world, { workload: it.spec.workload, port: it.spec.port, weight: 1 }),
})

const planRoute = (it: Route, world: FrontWorld): FrontRoute => ({
  id: it.id,
  hostname: it.spec.hostname,
  pathPrefix: it.spec.pathPrefix,
  stripPrefix: it.spec.stripPrefix,
  carry: ROUTE_CARRY[it.spec.protocol],
  plain: it.spec.plain,
  ...certificateOf(it, world.certificates),
  origins: it.spec.targets.flatMap((target) => originsOf(world, target)),
})

const planBalancer = ({ id, spec }: LoadBalancer, world: FrontWorld): FrontRoute => ({
  id,
  hostname: spec.address ?? 'balancer',
  pathPrefix: '/',
  stripPrefix: false,
  carry: 'tcp',
  plain: false,
  port: spec.at,
  ...(spec.algorithm === 'least-conn' ? { least: true as const } : {}),
  origins: spec.targets.flatMap((target) => originsOf(world, target)),
})

/** What leads into a VPC from outside, and its load balancers; the driver's generation is the caller's to add. */
export function planFront(world: FrontWorld): Omit<Front, 'generation'> {
  const live = <R extends { readonly deletedAt?: number }>(all: readonly R[]): R[] =>
    all.filter((it) => it.deletedAt === undefined)
  const { vpc } = world
  const isGoing = vpc.deletedAt !== undefined
  return {
    vpc: vpc.id,
    tenant: vpc.tenant,
    routes: isGoing
      ? []
      : [
          ...live(world.tunnels).map((it) => planTunnel(it, world)),
          ...live(world.routes).map((it) => planRoute(it, world)),
          ...live(world.balancers).map((it) => planBalancer(it, world)),
        ],
  }
}

/** What leads to the platform's own services, which listen on this machine. */
export const planPlatformFront = (
  tunnels: readonly ServiceTunnel[],
  certificates: readonly Certificate[],
  address: string,
): Omit<Front, 'generation'> => ({
  vpc: PLATFORM,
  tenant: PLATFORM,
  routes: tunnels
    .filter((it) => it.deletedAt === undefined)
    .map((it) => ({
      id: it.id,
      hostname: it.spec.hostname,
      pathPrefix: '/',
      stripPrefix: false,
      carry: 'http',
      plain: it.spec.protocol === 'http',
      ...certificateOf(it, certificates),
      origins: [{ id: it.spec.service, address, port: it.spec.port, weight: 1 }],
    })),
})
