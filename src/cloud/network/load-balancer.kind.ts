import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'
import { BALANCER_PORTS } from './network.driver.ts'

export const TARGETS_MAX = 100
export const WEIGHT_MAX = 1000
export const ALGORITHMS = ['round-robin', 'least-conn'] as const
/** The pool of the edge's ports, one for each load balancer. */
export const BALANCER_PORT = 'balancer-port'

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

/**
 * A load balancer: an address of a VPC, with one TCP port, behind which the edge shares connections among workloads of the VPC
 * that can be connected to. Keeps its VPC from going.
 */
export const loadBalancer = defineKind({
  name: 'load-balancer',
  spec: Type.Object(
    {
      vpc: Type.String(),
      port: Port,
      /** In turns by weight, or to the target that has the fewest connections for its weight. */
      algorithm: Type.Enum([...ALGORITHMS]),
      /** Its address, in a subnet of the VPC; both absent as long as the VPC had none when it was made or given a target. */
      subnet: Type.Optional(Type.String()),
      address: Type.Optional(Type.String({ format: 'ipv4' })),
      /** The edge's port. */
      at: Type.Integer({ minimum: BALANCER_PORTS.from, maximum: BALANCER_PORTS.to }),
      targets: Type.Array(
        Type.Object(
          {
            id: Type.String(),
            workload: Type.String(),
            port: Port,
            weight: Type.Integer({ minimum: 1, maximum: WEIGHT_MAX }),
          },
          { additionalProperties: false },
        ),
        { maxItems: TARGETS_MAX },
      ),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'active']),
    message: Type.Optional(Type.String()),
    /** Of targets by id what was last seen; those that are not here were not looked at yet. */
    healthy: Type.Record(Type.String(), Type.Boolean()),
  }),
  initial: { state: 'pending', healthy: {} },
  immutable: ['vpc', 'port', 'at', 'creator'],
  settleSecondsMax: 60,
  states: {
    pending: {
      advice: `\`arcus explain vpc\` says what its VPC waits for, \`arcus doctor\` whether the edge can listen. ${HOST_ADVICE}`,
    },
    active: { advice: HOST_ADVICE, fine: true },
    deleting: {
      advice: `\`arcus explain\` says who still has it: the edge or the router of its VPC. ${HOST_ADVICE}`,
    },
  },
  state: statusWord,
  claims: (r) => [
    { pool: BALANCER_PORT, value: String(r.spec.at - BALANCER_PORTS.from), ends: 'removal' },
    ...(r.spec.subnet !== undefined && r.spec.address !== undefined
      ? [{ pool: `addresses:${r.spec.subnet}`, value: r.spec.address, ends: 'removal' as const }]
      : []),
  ],
  refs: (r) => [
    { to: r.spec.vpc, onDelete: 'block' },
    ...(r.spec.subnet === undefined ? [] : [{ to: r.spec.subnet, onDelete: 'block' as const }]),
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`, ...r.spec.targets.map((it) => `workload:${it.workload}`)],
  wakes: (r) => [`vpc/${r.spec.vpc}`],
})
export type LoadBalancer = ResourceOf<typeof loadBalancer>
export type Target = LoadBalancer['spec']['targets'][number]
