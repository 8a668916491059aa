import type { AnyKind } from '#engine/resource.ts'
import { diskImage } from './compute/disk-image.kind.ts'
import { sshKey } from './compute/ssh-key.kind.ts'
import { snapshot } from './storage/snapshot.kind.ts'
import { volume } from './storage/volume.kind.ts'
import { registryCredential } from './compute/registry-credential.kind.ts'
import { replica } from './compute/replica.kind.ts'
import { workload } from './compute/workload.kind.ts'
import { acme } from './edge/acme.kind.ts'
import { certificate } from './edge/certificate.kind.ts'
import { domain } from './edge/domain.kind.ts'
import { route } from './edge/route.kind.ts'
import { serviceTunnel } from './edge/service-tunnel.kind.ts'
import { tunnel } from './edge/tunnel.kind.ts'
import { credential } from './identity/credential.kind.ts'
import { membership } from './identity/membership.kind.ts'
import { mailRelay } from './identity/mail-relay.kind.ts'
import { message } from './identity/message.kind.ts'
import { policy } from './identity/policy.kind.ts'
import { role } from './identity/role.kind.ts'
import { serviceAccount } from './identity/service-account.kind.ts'
import { tenant } from './identity/tenant.kind.ts'
import { user } from './identity/user.kind.ts'
import { integration } from './inside/integration.kind.ts'
import { network } from './inside/network.kind.ts'
import { scopedVariable } from './inside/scoped-variable.kind.ts'
import { vpnUser } from './inside/vpn-user.kind.ts'
import { elasticIp } from './network/elastic-ip.kind.ts'
import { internetGateway } from './network/internet-gateway.kind.ts'
import { loadBalancer } from './network/load-balancer.kind.ts'
import { natGateway } from './network/nat-gateway.kind.ts'
import { peering } from './network/peering.kind.ts'
import { provider } from './network/provider.kind.ts'
import { routeTable } from './network/route-table.kind.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { subnet } from './network/subnet.kind.ts'
import { vpc } from './network/vpc.kind.ts'
import { record } from './network/record.kind.ts'
import { zone } from './network/zone.kind.ts'

/** Every kind of resource there is. A new one is added here. */
export const KINDS: readonly AnyKind[] = [
  tenant,
  user,
  credential,
  membership,
  role,
  policy,
  serviceAccount,
  mailRelay,
  message,
  provider,
  domain,
  registryCredential,
  vpc,
  subnet,
  securityGroup,
  routeTable,
  internetGateway,
  elasticIp,
  natGateway,
  peering,
  zone,
  record,
  loadBalancer,
  volume,
  snapshot,
  diskImage,
  sshKey,
  workload,
  replica,
  acme,
  certificate,
  tunnel,
  serviceTunnel,
  route,
  network,
  scopedVariable,
  vpnUser,
  integration,
]

/** Names of the kinds that a reconciler makes true; the others are settled as they are. */
export const RECONCILED: readonly string[] = [
  vpc,
  subnet,
  securityGroup,
  routeTable,
  elasticIp,
  natGateway,
  peering,
  zone,
  record,
  loadBalancer,
  message,
  provider,
  volume,
  snapshot,
  diskImage,
  workload,
  replica,
  domain,
  acme,
  certificate,
  tunnel,
  serviceTunnel,
  route,
].map((it) => it.name)
