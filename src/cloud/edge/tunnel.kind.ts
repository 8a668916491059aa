import Type from 'typebox'
import { defineKind, type KindEvent } from '#engine/kind.ts'
import type { Resource, ResourceOf } from '#engine/resource.ts'
import { changedState, event, turnOf } from '#cloud/inside/event.kind.ts'
import { LEADING_STATES, statusWord } from '#cloud/states.ts'

export const TUNNEL_PROTOCOLS = ['http', 'https', 'ssh', 'tcp', 'udp'] as const
export type TunnelProtocol = (typeof TUNNEL_PROTOCOLS)[number]

/** How far a tunnel is: `pending` until the edge (or the provider) serves it. */
export const TunnelState = Type.Enum(['pending', 'active', 'error'])

/** A DNS name in lower case, of at least two labels. */
export const HOSTNAME = '^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'

/** Answers that took up to so long and longer than the edge's next lower bucket; null for what took longer than all. */
export const LatencyBucket = Type.Object({
  upToMs: Type.Union([Type.Number(), Type.Null()]),
  count: Type.Integer(),
})

export const tunnelStatus = Type.Object({
  state: TunnelState,
  message: Type.Optional(Type.String()),
  /** Who answers for the hostname: the built-in edge unless told. */
  backend: Type.Optional(Type.Enum(['cloudflare'])),
  /** Counted by the edge since its start (`since`), told about once a minute. */
  traffic: Type.Optional(
    Type.Object({
      since: Type.Integer(),
      requests: Type.Integer(),
      /** Answers 500 to 599. */
      faults: Type.Integer(),
      /** Answers by class of status: `2` counts 200 to 299. HTTP only. */
      statuses: Type.Optional(Type.Record(Type.String(), Type.Integer())),
      receivedBytes: Type.Integer(),
      sentBytes: Type.Integer(),
      active: Type.Integer(),
      latencySumMs: Type.Optional(Type.Number()),
      /** Answers by how long they took; not cumulative, empty buckets left out. */
      latency: Type.Optional(Type.Array(LatencyBucket)),
    }),
  ),
})

/** A tunnel or route came, went, was changed, or came into force or out of it; said of the domain that it is below. */
export function leadEvents<
  R extends Resource<{ readonly under?: string }, { readonly state: string; readonly message?: string }>,
>(
  before: R | undefined,
  after: R | undefined,
  lead: (it: R) => { readonly hostname: string; readonly vpc: string; readonly workloads: readonly string[] },
): KindEvent[] {
  const { from, to, isWish } = turnOf(before, after)
  const of = to ?? from
  if (!of || (!isWish && from?.status.state === to?.status.state)) return []
  const { hostname, vpc, workloads } = lead(of)
  return [
    event('domain.records.changed', of.spec.under ?? of.id, {
      of: hostname,
      ...changedState(from, to),
      vpcs: [vpc],
      workloads: [...new Set(workloads)],
    }),
  ]
}

/** A hostname, under a domain that the tenant may use, that leads to a port of one workload's replicas. */
export const tunnel = defineKind({
  name: 'tunnel',
  spec: Type.Object(
    {
      workload: Type.String(),
      vpc: Type.String(),
      /**
       * `http`: TLS ends at the edge. `https`: the workload's own TLS, end to end. `ssh`, `tcp`: a WebSocket on the
       * hostname that carries the bytes. `udp`: datagrams to the tunnel's port.
       */
      protocol: Type.Enum([...TUNNEL_PROTOCOLS]),
      /** A label below a domain that the tenant may use. */
      hostname: Type.String({ maxLength: 253, pattern: HOSTNAME }),
      /** Port in the container; for `udp` also the port that the edge listens on. */
      port: Type.Integer({ minimum: 1, maximum: 65535 }),
      /** Id of a certificate of the tenant; without one the tunnel gets one of its own. */
      certificate: Type.Optional(Type.String()),
      /** Id of the tenant's domain that the hostname is below; absent for the installation's own. */
      under: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: tunnelStatus,
  initial: { state: 'pending' },
  immutable: ['workload', 'vpc', 'protocol', 'hostname', 'port', 'under'],
  settleSecondsMax: 120,
  states: LEADING_STATES,
  state: statusWord,
  claims: (r) => [
    {
      pool: `tunnel-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Tunnel with this name already exists',
    },
    {
      pool: 'hostname',
      value: r.spec.hostname,
      ends: 'deletion',
      refusal: `${r.spec.hostname} is in use: choose another subdomain`,
    },
    ...(r.spec.protocol === 'udp'
      ? [
          {
            pool: 'edge-udp-port',
            value: String(r.spec.port),
            ends: 'removal' as const,
            refusal: `UDP port ${r.spec.port} of the edge is in use by another tunnel: choose another port`,
          },
        ]
      : []),
  ],
  refs: (r) => [
    { to: r.spec.workload, onDelete: 'cascade' },
    { to: r.spec.vpc, onDelete: 'cascade' },
    ...[r.spec.certificate, r.spec.under].flatMap((to) =>
      to === undefined ? [] : [{ to, onDelete: 'block' as const }],
    ),
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`, `workload:${r.spec.workload}`, `hostname:${r.spec.hostname}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
  events: (before, after) =>
    leadEvents(before, after, (it) => ({
      hostname: it.spec.hostname,
      vpc: it.spec.vpc,
      workloads: [it.spec.workload],
    })),
})
export type Tunnel = ResourceOf<typeof tunnel>
