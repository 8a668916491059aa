import type { Tenant } from '#cloud/identity/tenant.kind.ts'
import type { Integration } from '#cloud/inside/integration.kind.ts'
import type { Network } from '#cloud/inside/network.kind.ts'
import { slugOf } from '#lib/slug.ts'
import { objectId } from '#lib/object-id.ts'
import { CLUSTER } from './place.ts'
import type { PublicHub } from './schema/hub.ts'
import type { Integration as CycleIntegration } from './schema/integration.ts'
import type { Network as CycleNetwork } from './schema/network.ts'
import { creatorOf, lifetimeOf, timeOf } from './wire.ts'

export const encodeHub = (it: Tenant): PublicHub => ({
  id: objectId(it.id),
  name: it.name,
  events: lifetimeOf(it),
  creator: { id: objectId(it.id), type: 'platform' },
  state: {
    current: it.deletedAt === undefined ? (it.spec.suspended ? 'inactive' : 'live') : 'deleting',
    changed: timeOf(it.deletedAt ?? it.updatedAt),
  },
  providers: {},
})

/** With the secrets that a workload needs to use it. */
export function encodeIntegration(it: Integration): CycleIntegration {
  const { spec } = it
  return {
    id: objectId(it.id),
    name: it.name,
    vendor: spec.vendor,
    identifier: slugOf(it.name),
    auth: {
      region: spec.region ?? null,
      namespace: spec.namespace ?? null,
      api_key: spec.apiKey ?? null,
      key_id: spec.keyId ?? null,
      secret: spec.secret ?? null,
      subscription_id: spec.subscriptionId ?? null,
      client_id: spec.clientId ?? null,
      base64_config: spec.base64Config ?? null,
    },
    extra: spec.extra ?? null,
    creator: creatorOf(it),
    hub_id: objectId(it.tenant),
    state: { current: 'live', changed: timeOf(it.updatedAt) },
    events: lifetimeOf(it),
    meta: null,
  }
}

/** It moves no packets, so it has no range of its own. */
export const encodeNetwork = (it: Network): CycleNetwork => ({
  id: objectId(it.id),
  name: it.name,
  identifier: slugOf(it.name),
  cluster: CLUSTER,
  creator: creatorOf(it),
  hub_id: objectId(it.tenant),
  state: { current: 'live', changed: timeOf(it.updatedAt) },
  l2: null,
  private_network: null,
  environments: it.spec.members.map(({ vpc, addedAt }) => ({ id: objectId(vpc), added: timeOf(addedAt) })),
  acl: null,
  events: lifetimeOf(it),
})
