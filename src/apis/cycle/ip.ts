import type { ExternalAddress } from '#cloud/cloud.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import { objectId, objectIdOf } from '#lib/object-id.ts'
import type { Ip } from './schema/ip.ts'
import { timeOf } from './wire.ts'

/**
 * An external address held for the environment. One that belongs to a container is shown at its oldest instance: it leads to
 * all of them. The one that outgoing connections share is assigned to none.
 */
export function encodeIp(it: ExternalAddress, vpc: Vpc): Ip {
  const [replica] = it.replicas
  const assignment =
    it.workload && replica
      ? {
          container_id: objectId(it.workload.id),
          instance_id: objectId(replica.id),
          environment_id: objectId(vpc.id),
        }
      : null
  const pool = objectIdOf(`external pool ${it.cidr}`)
  return {
    id: objectIdOf(`external address ${it.address}`),
    hub_id: objectId(vpc.tenant),
    kind: 'ipv4',
    ip: it.address,
    assignment,
    assingment: assignment,
    pool_id: pool,
    network_id: pool,
    address: it.address,
    gateway: it.gateway,
    network: it.cidr,
    options: null,
    cidr: it.cidr,
    state: { current: 'assigned', changed: timeOf((it.workload ?? vpc).createdAt) },
  }
}
