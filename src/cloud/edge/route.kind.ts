import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { LEADING_STATES, statusWord } from '#cloud/states.ts'
import { leadEvents, tunnelStatus } from './tunnel.kind.ts'

export const TARGETS_MAX = 16

/** What one hostname and path prefix lead to: workloads of one VPC, by weight. Several routes may share a hostname. */
export const route = defineKind({
  name: 'route',
  spec: Type.Object(
    {
      vpc: Type.String(),
      /** Below a domain that the tenant may use; `*.example.com` stands for one label. */
      hostname: Type.String({
        maxLength: 253,
        pattern: '^(\\*\\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$',
      }),
      /** `/`, or a path without a final slash; the longest that fits a request wins. */
      pathPrefix: Type.String({ maxLength: 1024, pattern: '^/([^/?#\\s%]+(/[^/?#\\s%]+)*)?$' }),
      /** Take the prefix off before the request goes on. */
      stripPrefix: Type.Boolean(),
      /** As for the tunnels of the same names, and `https` opens TLS to the workload. */
      protocol: Type.Enum(['http', 'https', 'passthrough', 'tcp']),
      /** Serve plain HTTP too, instead of redirecting it. */
      plain: Type.Boolean(),
      targets: Type.Array(
        Type.Object(
          {
            workload: Type.String(),
            port: Type.Integer({ minimum: 1, maximum: 65535 }),
            /** Its share of new connections, divided among its ready replicas; 0 gets none. */
            weight: Type.Integer({ minimum: 0, maximum: 1000 }),
          },
          { additionalProperties: false },
        ),
        { minItems: 1, maxItems: TARGETS_MAX },
      ),
      /** Id of a certificate of the tenant; without one the route gets one of its own. */
      certificate: Type.Optional(Type.String()),
      /** Id of the tenant's domain that the hostname is or is below; absent for the installation's own. */
      under: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: tunnelStatus,
  initial: { state: 'pending' },
  immutable: ['vpc', 'hostname', 'pathPrefix', 'protocol', 'under'],
  settleSecondsMax: 120,
  states: LEADING_STATES,
  state: statusWord,
  claims: (r) => [
    {
      pool: `route-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Route with this name already exists',
    },
    {
      pool: `route:${r.spec.hostname}`,
      value: r.spec.pathPrefix,
      ends: 'deletion',
      refusal: `${r.spec.hostname}${r.spec.pathPrefix} has a route already`,
    },
  ],
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'block' },
    ...[...new Set(r.spec.targets.map((it) => it.workload))].map((to) => ({
      to,
      onDelete: 'block' as const,
    })),
    ...[r.spec.certificate, r.spec.under].flatMap((to) =>
      to === undefined ? [] : [{ to, onDelete: 'block' as const }],
    ),
  ],
  terms: (r) => [
    `vpc:${r.spec.vpc}`,
    `hostname:${r.spec.hostname}`,
    ...new Set(r.spec.targets.map((it) => `workload:${it.workload}`)),
  ],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
  events: (before, after) =>
    leadEvents(before, after, ({ spec: { hostname, vpc, targets } }) => ({
      hostname,
      vpc,
      workloads: targets.map((one) => one.workload),
    })),
})
export type Route = ResourceOf<typeof route>
