import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { LEADING_STATES, statusWord } from '#cloud/states.ts'
import { HOSTNAME, tunnelStatus } from './tunnel.kind.ts'

export const SERVICES = ['api', 'admin-gui', 'tenant-gui'] as const

/** A hostname that leads to a service of the platform itself. */
export const serviceTunnel = defineKind({
  name: 'service-tunnel',
  scope: 'platform',
  spec: Type.Object(
    {
      service: Type.Enum([...SERVICES]),
      /** `http`: served over plain HTTP as well; `https`: plain requests are redirected. TLS ends at the edge for both. */
      protocol: Type.Enum(['http', 'https']),
      hostname: Type.String({ maxLength: 253, pattern: HOSTNAME }),
      /** Port on this machine that the service listens on. */
      port: Type.Integer({ minimum: 1, maximum: 65535 }),
    },
    { additionalProperties: false },
  ),
  status: tunnelStatus,
  initial: { state: 'pending' },
  immutable: ['service', 'protocol', 'hostname', 'port'],
  settleSecondsMax: 120,
  states: LEADING_STATES,
  state: statusWord,
  claims: (r) => [
    {
      pool: 'service-tunnel-name:platform',
      value: r.name,
      ends: 'deletion',
      refusal: 'Service tunnel with this name already exists',
    },
    {
      pool: 'hostname',
      value: r.spec.hostname,
      ends: 'deletion',
      refusal: `${r.spec.hostname} is in use: choose another subdomain`,
    },
  ],
  terms: (r) => [`hostname:${r.spec.hostname}`],
})
export type ServiceTunnel = ResourceOf<typeof serviceTunnel>
