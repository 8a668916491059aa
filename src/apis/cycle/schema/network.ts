import Type, { type Static } from 'typebox'
import {
  Acl,
  Cidr,
  CreatorScope,
  DateTime,
  HubId,
  Id,
  IpAddress,
  L2Domain,
  Lifetime,
  nullable,
  stateOf,
} from './scalar.ts'

const NetworkState = stateOf(['live', 'deleting', 'deleted'])
const NetworkL2DhcpDetails = Type.Object({
  method: Type.Literal('dhcp'),
  details: Type.Optional(Type.Object({}, { maxProperties: 0 })),
})
const StaticNetwork = Type.Object({
  network: Type.String(),
  usable: Type.String(),
  gateway: Type.Optional(nullable(Type.String())),
})
const NetworkL2StaticDetails = Type.Object({
  method: Type.Literal('static'),
  details: Type.Object({
    ipv4: Type.Optional(nullable(StaticNetwork)),
    ipv6: Type.Optional(nullable(StaticNetwork)),
  }),
})
const NetworkL2 = Type.Object({
  domain: Type.Optional(nullable(L2Domain)),
  location_ids: Type.Array(Id),
  vid: Type.Optional(nullable(Type.Integer())),
  host_interface: Type.Optional(nullable(Type.String())),
  routes: Type.Optional(Type.Array(Type.Object({ network: Cidr, gateway: Type.Optional(IpAddress) }))),
  ips: Type.Union([NetworkL2DhcpDetails, NetworkL2StaticDetails]),
})
const NetworkPrivacySettings = Type.Object({
  vxlan_tag: Type.Integer(),
  subnet: Type.String(),
  mac_addr_suffix: Type.Integer(),
  ipv6: Type.Object({ ip: Type.String(), cidr: Type.String() }),
})
export const Network = Type.Object({
  id: Id,
  name: Type.String(),
  identifier: Type.String(),
  cluster: Type.String(),
  creator: CreatorScope,
  hub_id: HubId,
  state: NetworkState,
  l2: Type.Optional(nullable(NetworkL2)),
  private_network: Type.Optional(nullable(NetworkPrivacySettings)),
  environments: Type.Optional(nullable(Type.Array(Type.Object({ id: Id, added: DateTime })))),
  acl: Type.Optional(nullable(Acl)),
  events: Lifetime,
})
export type Network = Static<typeof Network>
