import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { PLACED_STATES, placedWord } from '#cloud/states.ts'
import { ELASTIC_IP_USE } from './elastic-ip.kind.ts'

/**
 * A NAT gateway: what routes of a VPC's tables lead out by, under one elastic IP for all who are routed to it. Nobody
 * outside can begin anything by it. Keeps an address of its subnet, and its elastic IP until it goes.
 */
export const natGateway = defineKind({
  name: 'nat-gateway',
  spec: Type.Object(
    {
      vpc: Type.String(),
      subnet: Type.String(),
      elasticIp: Type.String(),
      /** The elastic IP's address. */
      address: Type.String({ format: 'ipv4' }),
      /** Its address in the subnet, which nobody else gets. */
      privateAddress: Type.String({ format: 'ipv4' }),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active', 'failed']),
    message: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  immutable: ['vpc', 'subnet', 'elasticIp', 'address', 'privateAddress', 'creator'],
  settleSecondsMax: 60,
  states: PLACED_STATES,
  state: placedWord,
  claims: (r) => [
    {
      pool: 'nat-gateway-of',
      value: r.spec.subnet,
      ends: 'deletion',
      refusal: 'The subnet has a NAT gateway already',
    },
    { pool: ELASTIC_IP_USE, value: r.spec.elasticIp, ends: 'deletion', refusal: 'The elastic IP is in use' },
    { pool: `addresses:${r.spec.subnet}`, value: r.spec.privateAddress, ends: 'removal' },
  ],
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'cascade' },
    { to: r.spec.subnet, onDelete: 'block' },
    { to: r.spec.elasticIp, onDelete: 'block' },
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`, `elastic-ip:${r.spec.elasticIp}`],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type NatGateway = ResourceOf<typeof natGateway>
