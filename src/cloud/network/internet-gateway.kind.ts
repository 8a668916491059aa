import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/**
 * An internet gateway: what routes of a VPC's tables lead out by, under the address that a machine has of its own. Attached
 * to one VPC, which has one at most, or to none. A record and no thing of its own: the VPC's router follows it.
 */
export const internetGateway = defineKind({
  name: 'internet-gateway',
  spec: Type.Object(
    {
      /** The VPC that it is attached to; absent: detached. */
      vpc: Type.Optional(Type.String()),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  immutable: ['creator'],
  claims: (r) =>
    r.spec.vpc === undefined
      ? []
      : [
          {
            pool: 'internet-gateway-of',
            value: r.spec.vpc,
            ends: 'deletion',
            refusal: 'The VPC has an internet gateway already; detach that one first',
          },
        ],
  refs: (r) => (r.spec.vpc === undefined ? [] : [{ to: r.spec.vpc, onDelete: 'cascade' }]),
  terms: (r) => (r.spec.vpc === undefined ? [] : [`vpc:${r.spec.vpc}`]),
  wakes: (r) => (r.spec.vpc === undefined ? [] : [`vpc/${r.spec.vpc}`]),
})
export type InternetGateway = ResourceOf<typeof internetGateway>
