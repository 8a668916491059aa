import Type, { type Static } from 'typebox'
import { Cidr, HubId, Id, IpAddress, nullable, stateOf } from './scalar.ts'

const IpOptions = Type.Object({ proxy_arp: Type.Optional(nullable(Type.Boolean())) })
const IpState = stateOf(['assigning', 'assigned', 'releasing', 'available'])
const IpAssignment = Type.Object({
  container_id: Id,
  instance_id: Id,
  environment_id: Id,
  virtual_machine: Type.Optional(Type.Object({ id: Id })),
})
export const Ip = Type.Object({
  id: Id,
  hub_id: HubId,
  kind: Type.Enum(['ipv4', 'ipv6']),
  ip: IpAddress,
  assignment: nullable(IpAssignment),
  /** The vendor's spelling, which its schema requires (section 12). */
  assingment: nullable(IpAssignment),
  pool_id: Id,
  network_id: Id,
  address: Type.String(),
  gateway: Type.String(),
  network: Type.Optional(nullable(Cidr)),
  options: Type.Optional(nullable(IpOptions)),
  cidr: Type.String(),
  state: IpState,
})
export type Ip = Static<typeof Ip>
