import Type, { type Static } from 'typebox'
import type { Verbs } from '#cloud/cloud.ts'
import { SERVICES, type ServiceTunnel as ServiceResource } from '#cloud/edge/service-tunnel.kind.ts'
import { TUNNEL_PROTOCOLS, type Tunnel as Resource } from '#cloud/edge/tunnel.kind.ts'
import { Label, Nullable, Port, timestamp, Timestamp, Uuid } from './schema.ts'

export const PORT_DEFAULT = 80

const Protocol = Type.Enum([...TUNNEL_PROTOCOLS])
const Status = Type.Enum(['active', 'pending', 'error', 'deleting'], {
  description: '`pending` until the edge serves the hostname.',
})
const Domain = Type.Optional(
  Nullable(Type.String({ maxLength: 253 }), {
    default: null,
    description: "One of the tenant's domains or the provider's default domain; null means the latter.",
  }),
)

const TunnelBase = {
  subdomain: Label,
  protocol_type: Protocol,
  service_port: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 65535,
      default: PORT_DEFAULT,
      description: 'Port in the container that the tunnel leads to.',
    }),
  ),
  domain: Domain,
}
export const TunnelCreate = Type.Object(
  { tunnel_name: Label, ...TunnelBase },
  {
    examples: [
      { tunnel_name: 'web-app', subdomain: 'app', protocol_type: 'http', service_port: 80 },
      { tunnel_name: 'ssh-access', subdomain: 'ssh', protocol_type: 'ssh', service_port: 22 },
      { tunnel_name: 'database', subdomain: 'db', protocol_type: 'tcp', service_port: 5432 },
      { tunnel_name: 'game-server', subdomain: 'game', protocol_type: 'udp', service_port: 27015 },
    ],
  },
)
export const TunnelCreateAutoNamed = Type.Object(TunnelBase, {
  description: 'As for a named tunnel but without the name; a `tunnel_name` sent here is ignored.',
  examples: [{ subdomain: 'app', protocol_type: 'http', service_port: 80 }],
})
/** A tunnel inside a pod's creation. */
export const InlineTunnel = Type.Object(
  {
    tunnel_name: Type.Optional(Label),
    subdomain: Label,
    protocol_type: Protocol,
    service_port: Type.Optional(Port("The pod's service_port by default.")),
    domain: Domain,
  },
  {
    description: "Without a name it is derived from the pod, without a port the pod's service_port is used.",
  },
)
export type InlineTunnel = Static<typeof InlineTunnel>

/** A tunnel as an answer shows it. */
export const Tunnel = Type.Object({
  id: Type.String(),
  tunnel_name: Type.String(),
  hostname: Type.String({ description: '`subdomain.domain`' }),
  protocol_type: Protocol,
  status: Status,
  pod_id: Uuid,
  subdomain: Type.String(),
  domain: Type.String(),
  service_port: Port('Port in the container that the tunnel leads to.'),
  created_at: Timestamp,
})
export type Tunnel = Static<typeof Tunnel>

export const ServiceTunnelCreate = Type.Object(
  {
    service: Type.Enum([...SERVICES]),
    subdomain: Label,
    tunnel_name: Type.Optional(Label),
    protocol_type: Type.Optional(
      Type.Enum(['http', 'https'], {
        default: 'https',
        description: '`http` serves plain HTTP as well, `https` redirects it.',
      }),
    ),
    service_port: Type.Optional(Port('Port of the service on this machine; that of the API by default.')),
    domain: Domain,
  },
  { examples: [{ service: 'api', subdomain: 'api' }] },
)
export const ServiceTunnel = Type.Object({
  id: Type.String(),
  tunnel_name: Type.String(),
  hostname: Type.String(),
  protocol_type: Protocol,
  status: Status,
  service: Type.Enum([...SERVICES]),
  service_port: Port('Port of the service on this machine.'),
  created_at: Timestamp,
})

const statusOf = (
  it: Pick<Resource | ServiceResource, 'deletedAt' | 'overdue' | 'status'>,
): Static<typeof Status> =>
  it.deletedAt !== undefined ? 'deleting' : it.overdue !== undefined ? 'error' : it.status.state

export function encodeTunnel(it: Resource): Tunnel {
  const { hostname, protocol, port, workload } = it.spec
  const dot = hostname.indexOf('.')
  return {
    id: it.id,
    tunnel_name: it.name,
    hostname,
    protocol_type: protocol,
    status: statusOf(it),
    pod_id: workload,
    subdomain: hostname.slice(0, dot),
    domain: hostname.slice(dot + 1),
    service_port: port,
    created_at: timestamp(it.createdAt),
  }
}

export const encodeServiceTunnel = (it: ServiceResource): Static<typeof ServiceTunnel> => ({
  id: it.id,
  tunnel_name: it.name,
  hostname: it.spec.hostname,
  protocol_type: it.spec.protocol,
  status: statusOf(it),
  service: it.spec.service,
  service_port: it.spec.port,
  created_at: timestamp(it.createdAt),
})

/** The verb's input; a port left out is `port`. */
export const decodeTunnel = (
  body: InlineTunnel,
  pod: string,
  port: number,
): Parameters<Verbs['createTunnel']>[0] => ({
  workload: pod,
  ...(body.tunnel_name === undefined ? {} : { name: body.tunnel_name }),
  subdomain: body.subdomain,
  ...(typeof body.domain === 'string' ? { domain: body.domain } : {}),
  protocol: body.protocol_type,
  port: body.service_port ?? port,
})
