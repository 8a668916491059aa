import type { InsideEvent } from '#cloud/cloud.ts'
import { objectId } from '#lib/object-id.ts'
import { STATES } from './container.ts'
import { CLUSTER } from './place.ts'
import type { NotificationMessage } from './schema/notification.ts'

/** What happened, in the topics of contract section 8. What is not here has no topic there and is not told. */
const TOPICS: Readonly<Record<string, string>> = {
  'workload.state.changed': 'container.state.changed',
  'workload.changed': 'container.reconfigured',
  'workload.replicas.changed': 'container.instances.reconfigured',
  'vpc.services.changed': 'environment.services.reconfigured',
  'vpc.deployments.changed': 'environment.deployments.reconfigured',
  'vpc.addresses.changed': 'environment.services.lb.ips.modified',
  'network.created': 'sdn.network.created',
  'network.changed': 'sdn.network.reconfigured',
  'domain.verified': 'dns.zone.verified',
  'domain.changed': 'dns.zone.reconfigured',
  'domain.records.changed': 'dns.zone.records.reconfigured',
  'domain.certificate.ready': 'dns.zone.certificate.ready',
}

const OTHER_WORDS: Readonly<Record<string, string>> = {
  deleting: 'deleting',
  restarting: 'starting',
  updating: 'running',
  scaling: 'running',
  deleted: 'deleted',
}
/** A workload's state word as a container's. */
const wordOf = (state: unknown): string | undefined =>
  typeof state === 'string' ? ((STATES as Record<string, string>)[state] ?? OTHER_WORDS[state]) : undefined

const listOf = (ids: readonly string[]): string[] | null => (ids.length > 0 ? ids.map(objectId) : null)

/** A message with the cursor to go on from, which the contract lets be there. */
export type Notification = NotificationMessage & { readonly cursor: string }

/** What an instance is told of what happened; undefined for what this API has no topic for, or shows no difference of. */
export function encodeNotification(event: InsideEvent, tenant: string): Notification | undefined {
  const topic = TOPICS[event.what]
  if (topic === undefined) return undefined
  const isState = event.what === 'workload.state.changed'
  const [from, to] = isState ? [wordOf(event.from), wordOf(event.to)] : []
  if (isState && from === to) return undefined
  const isZone = topic.startsWith('dns.')
  const id = objectId(event.subject)
  return {
    topic,
    object: {
      id,
      ...(to === undefined ? {} : { state: to }),
      // The vendor's documents and its client spell it differently.
      ...(from === undefined ? {} : { previous_state: from, state_previous: from }),
      ...(isState && event.message !== undefined ? { error: event.message } : {}),
    },
    context: {
      label: null,
      hub_id: objectId(tenant),
      account_id: null,
      environments: listOf(event.vpcs),
      dns_zones: isZone ? [id] : null,
      clusters: isZone ? null : [CLUSTER],
      containers: listOf(event.workloads),
      virtual_machines: null,
    },
    cursor: event.cursor,
  }
}
