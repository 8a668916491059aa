import type { Engine } from '#engine/engine.ts'
import type { Picker } from '#engine/pick.ts'
import type { Reconciler } from '#engine/reconcile.ts'
import { PLATFORM } from '#engine/resource.ts'
import { createReplica, freeIndex, guardSize } from './compute/compute.verbs.ts'
import { createContainers } from './compute/containers.ts'
import { diskImage } from './compute/disk-image.kind.ts'
import { reconcileDiskImage } from './compute/disk-image.reconcile.ts'
import { createLastWords } from './compute/last-words.ts'
import { replica } from './compute/replica.kind.ts'
import { reconcileReplica } from './compute/replica.reconcile.ts'
import { createSamples } from './compute/samples.ts'
import { desiredOf } from './compute/state.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import { reconcileWorkload } from './compute/workload.reconcile.ts'
import type { Settings } from './context.ts'
import { acme } from './edge/acme.kind.ts'
import { reconcileAcme } from './edge/acme.reconcile.ts'
import { createTargetHealth, reconcileBalancer } from './edge/balancer.reconcile.ts'
import { certificate } from './edge/certificate.kind.ts'
import { reconcileCertificate } from './edge/certificate.reconcile.ts'
import { domain } from './edge/domain.kind.ts'
import { reconcileDomain } from './edge/domain.reconcile.ts'
import {
  createFrontage,
  reconcileRoute,
  reconcileServiceTunnel,
  reconcileTunnel,
} from './edge/edge.reconcile.ts'
import { createFronts } from './edge/fronts.ts'
import { createHandover } from './edge/handover.ts'
import { createRemoteTunnels } from './edge/remote.ts'
import { route } from './edge/route.kind.ts'
import { serviceTunnel } from './edge/service-tunnel.kind.ts'
import { createTraffic } from './edge/traffic.ts'
import { tunnel } from './edge/tunnel.kind.ts'
import { message } from './identity/message.kind.ts'
import { reconcileMessage } from './identity/message.reconcile.ts'
import type { Inside } from './inside/inside.ts'
import { createOutfits, type Metadata } from './inside/outfit.ts'
import { elasticIp } from './network/elastic-ip.kind.ts'
import { loadBalancer } from './network/load-balancer.kind.ts'
import { natGateway } from './network/nat-gateway.kind.ts'
import { peering } from './network/peering.kind.ts'
import { provider } from './network/provider.kind.ts'
import { record } from './network/record.kind.ts'
import { routeTable } from './network/route-table.kind.ts'
import { createRouters } from './network/routers.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { subnet } from './network/subnet.kind.ts'
import { vpc } from './network/vpc.kind.ts'
import {
  reconcileElasticIp,
  reconcilePart,
  reconcilePlaced,
  reconcileProvider,
  reconcileVpc,
} from './network/vpc.reconcile.ts'
import { zone } from './network/zone.kind.ts'
import type { Drivers } from './observe/audit.ts'
import type { Leak } from './observe/compare.ts'
import type { Logs } from './observe/logs.ts'
import { snapshot } from './storage/snapshot.kind.ts'
import { reconcileSnapshot, reconcileVolume } from './storage/storage.reconcile.ts'
import { volume } from './storage/volume.kind.ts'

/** What reconcilers bring the host to what is recorded by, and remember of it. */
export type Hands = ReturnType<typeof createHands>

export const createHands = (drivers: Drivers, settings: Settings) => ({
  routers: createRouters(drivers.network, drivers.edge),
  fronts: createFronts(drivers.front),
  handover: createHandover(drivers.front),
  traffic: createTraffic(drivers.front),
  targets: createTargetHealth(drivers.front),
  remote: createRemoteTunnels({ ...drivers, edgePort: settings.edgePort }),
  containers: createContainers(drivers.compute),
  samples: createSamples(drivers.compute),
})

/** Drops what is remembered of a resource, since the host was seen to differ. */
export function distrust({ routers, fronts, handover, containers }: Hands, leak: Leak): void {
  if (leak.thing === 'front') fronts.distrust(leak.kind === 'service-tunnel' ? PLATFORM : leak.id)
  else if (leak.thing === 'certificate') handover.distrust(leak.id)
  else if (leak.kind === 'replica') containers.distrust(leak.id)
  else routers.distrust(leak.id)
}

type Parts = {
  readonly engine: Engine
  readonly drivers: Drivers
  readonly settings: Settings
  readonly pick: Picker
  readonly hands: Hands
  readonly keptLogs: Logs
  readonly inside: () => Inside
  readonly metadataOf?: (of: Metadata) => unknown
}

/** A reconciler for each kind that has to be made true. */
export const createReconcilers = (parts: Parts): readonly Reconciler[] => [
  ...ofNetwork(parts),
  ...ofCompute(parts),
  ...ofEdge(parts),
  { kind: message, reconcile: reconcileMessage(parts.drivers.mail) },
]

const ofNetwork = ({ drivers, settings, hands }: Parts): readonly Reconciler[] => {
  const { routers, fronts, targets } = hands
  return [
    {
      kind: vpc,
      reconcile: reconcileVpc(routers, createFrontage(fronts), drivers.network, settings),
      concurrency: 8,
    },
    { kind: subnet, reconcile: reconcilePart(routers) },
    { kind: securityGroup, reconcile: reconcilePart(routers) },
    { kind: routeTable, reconcile: reconcilePart(routers) },
    { kind: elasticIp, reconcile: reconcileElasticIp(routers) },
    { kind: natGateway, reconcile: reconcilePlaced(routers) },
    { kind: peering, reconcile: reconcilePlaced(routers) },
    { kind: zone, reconcile: reconcilePlaced(routers) },
    { kind: record, reconcile: reconcilePart(routers) },
    { kind: loadBalancer, reconcile: reconcileBalancer(fronts, routers, targets) },
    { kind: provider, reconcile: reconcileProvider(drivers.network, settings) },
  ]
}

function ofCompute(parts: Parts): readonly Reconciler[] {
  const { engine, drivers, settings, hands, keptLogs, inside, metadataOf } = parts
  const { routers, fronts, containers, samples } = hands
  const outfits = createOutfits({
    engine,
    sockets: drivers.sockets,
    inside,
    ...(metadataOf ? { metadataOf } : {}),
  })
  return [
    { kind: volume, reconcile: reconcileVolume(drivers.compute) },
    { kind: snapshot, reconcile: reconcileSnapshot(drivers.compute) },
    { kind: diskImage, reconcile: reconcileDiskImage(drivers.images) },
    {
      kind: workload,
      reconcile: reconcileWorkload({
        compute: drivers.compute,
        network: routers,
        samples,
        grow: grow(parts),
      }),
    },
    {
      kind: replica,
      reconcile: reconcileReplica({
        compute: drivers.compute,
        containers,
        lastWords: createLastWords(drivers.compute, keptLogs.keep),
        outfits,
        network: routers,
        front: fronts,
        drainSeconds: settings.drainSeconds,
        namedByDocker: !drivers.network.promises.includes('vip'),
      }),
      concurrency: 32,
    },
  ]
}

const ofEdge = ({ drivers, settings, hands }: Parts): readonly Reconciler[] => {
  const { fronts, traffic, remote, handover } = hands
  return [
    { kind: certificate, reconcile: reconcileCertificate({ ...drivers, handover }), concurrency: 8 },
    { kind: acme, reconcile: reconcileAcme(drivers.issuers.acme) },
    { kind: domain, reconcile: reconcileDomain(drivers.names) },
    { kind: tunnel, reconcile: reconcileTunnel(fronts, traffic, remote) },
    { kind: serviceTunnel, reconcile: reconcileServiceTunnel(fronts, traffic, settings), concurrency: 1 },
    { kind: route, reconcile: reconcileRoute(fronts, traffic) },
  ]
}

/** One replica more for a workload that has fewer than it should. */
const grow =
  ({ engine, settings, pick }: Parts) =>
  async (of: Workload): Promise<void> =>
    await engine.transact(async (draft) => {
      await guardSize(draft, of.id)
      const now = await draft.get(workload, of.tenant, of.id)
      if (!now || now.deletedAt !== undefined) return
      const slots = await draft.list(replica, { tenant: of.tenant, terms: [`workload:${of.id}`] })
      if (slots.filter((it) => it.deletedAt === undefined).length < desiredOf(of))
        await createReplica({ draft, settings, pick }, now, freeIndex(slots))
    })
