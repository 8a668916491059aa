import Type, { type Static } from 'typebox'
import { LoadBalancerConfig } from './load-balancer.ts'
import { Duration, nullable } from './scalar.ts'

const LoadBalancerEnvironmentService = Type.Object({
  enable: Type.Boolean(),
  container_id: nullable(Type.String()),
  high_availability: Type.Boolean(),
  auto_update: Type.Optional(Type.Boolean()),
  config: Type.Optional(nullable(LoadBalancerConfig)),
})
const DiscoveryConfig = Type.Object({
  empty_set_delay: Type.Optional(nullable(Duration)),
  hosts: Type.Optional(
    nullable(
      Type.Record(
        Type.String(),
        Type.Object({
          ipv4: Type.Optional(nullable(Type.Array(Type.String()))),
          ipv6: Type.Optional(nullable(Type.Array(Type.String()))),
        }),
      ),
    ),
  ),
  custom_resolvers: Type.Optional(nullable(Type.Array(Type.String()))),
  dual_stack_legacy: Type.Optional(nullable(Type.Boolean())),
  external_resolution: Type.Optional(
    nullable(Type.Object({ preference: Type.Enum(['default', 'ipv4', 'ipv6']) })),
  ),
  domain_suffix: Type.Optional(nullable(Type.String())),
})
const DiscoveryEnvironmentService = Type.Object({
  enable: Type.Boolean(),
  container_id: Type.String(),
  high_availability: Type.Boolean(),
  auto_update: Type.Optional(Type.Boolean()),
  config: Type.Optional(nullable(DiscoveryConfig)),
})
const VpnEnvironmentService = Type.Object({
  enable: Type.Boolean(),
  container_id: Type.String(),
  auto_update: Type.Optional(Type.Boolean()),
  config: Type.Optional(
    nullable(
      Type.Object({
        allow_internet: Type.Boolean(),
        custom_directives: Type.Optional(nullable(Type.String())),
        auth: Type.Object({
          webhook: nullable(Type.String()),
          cycle_accounts: Type.Boolean(),
          vpn_accounts: Type.Optional(Type.Boolean()),
        }),
      }),
    ),
  ),
  high_availability: Type.Boolean(),
})
const SchedulerAccessKey = Type.Object({
  name: Type.String(),
  secret: Type.String(),
  ips: Type.Optional(Type.Array(Type.String())),
})
const SchedulerConfig = Type.Object({
  public: Type.Boolean(),
  access_keys: Type.Optional(Type.Array(SchedulerAccessKey)),
})
const SchedulerEnvironmentService = Type.Object({
  enable: Type.Boolean(),
  container_id: nullable(Type.String()),
  high_availability: Type.Optional(Type.Boolean()),
  auto_update: Type.Optional(Type.Boolean()),
  config: Type.Optional(nullable(SchedulerConfig)),
  high_availablity: Type.Boolean(),
})
const GatewayEnvironmentService = Type.Object({
  enable: Type.Boolean(),
  container_id: Type.String(),
  high_availability: Type.Boolean(),
  auto_update: Type.Optional(Type.Boolean()),
  config: Type.Null(),
})
export const EnvironmentServices = Type.Object({
  loadbalancer: nullable(LoadBalancerEnvironmentService),
  discovery: Type.Optional(nullable(DiscoveryEnvironmentService)),
  vpn: Type.Optional(nullable(VpnEnvironmentService)),
  scheduler: Type.Optional(nullable(SchedulerEnvironmentService)),
  gateway: Type.Optional(nullable(GatewayEnvironmentService)),
})
export type EnvironmentServices = Static<typeof EnvironmentServices>
