import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { Resource, ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE } from '#cloud/states.ts'

/** One user of an elastic IP at a time: the association with a workload, or a NAT gateway. */
export const ELASTIC_IP_USE = 'elastic-ip-use'
/** The elastic IP of a workload, of which it has one at most. */
export const ELASTIC_IP_OF = 'elastic-ip-of'

const stateWord = (it: Resource<unknown, { readonly state: string }>): string =>
  it.deletedAt !== undefined ? 'deleting' : it.observed < it.generation ? 'pending' : it.status.state

/**
 * An elastic IP: an external address that a tenant keeps. Associated with a workload it leads 1:1 to its machine (the
 * replica with the lowest index), every protocol and port that security groups let, and is the source of what its
 * replicas send out. A NAT gateway may use it instead.
 */
export const elasticIp = defineKind({
  name: 'elastic-ip',
  spec: Type.Object(
    {
      address: Type.String({ format: 'ipv4' }),
      /** The workload it is associated with, and the VPC of that; both or neither. */
      workload: Type.Optional(Type.String()),
      vpc: Type.Optional(Type.String()),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['allocated', 'associated']),
    /** The VPC whose router was last seen to have it. */
    vpc: Type.Optional(Type.String()),
  }),
  initial: { state: 'allocated' },
  immutable: ['address', 'creator'],
  settleSecondsMax: 60,
  states: {
    pending: { advice: `\`arcus explain vpc\` says what the VPC of its workload waits for. ${HOST_ADVICE}` },
    allocated: { advice: HOST_ADVICE, fine: true },
    associated: { advice: HOST_ADVICE, fine: true },
    deleting: { advice: `\`arcus explain\` names the VPC whose router still has it. ${HOST_ADVICE}` },
  },
  state: stateWord,
  claims: (r) => [
    { pool: 'external', value: r.spec.address, ends: 'removal' },
    ...(r.spec.workload === undefined
      ? []
      : [
          {
            pool: ELASTIC_IP_OF,
            value: r.spec.workload,
            ends: 'deletion' as const,
            refusal: 'The workload has an elastic IP already; disassociate that one first',
          },
          {
            pool: ELASTIC_IP_USE,
            value: r.id,
            ends: 'deletion' as const,
            refusal: 'The elastic IP is in use',
          },
        ]),
  ],
  refs: (r) => (r.spec.workload === undefined ? [] : [{ to: r.spec.workload, onDelete: 'block' }]),
  terms: (r) => (r.spec.vpc === undefined ? [] : [`vpc:${r.spec.vpc}`]),
  wakes: (r) => (r.spec.vpc === undefined ? [] : [`vpc/${r.spec.vpc}`]),
})
export type ElasticIp = ResourceOf<typeof elasticIp>
