import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { event, turnOf } from './event.kind.ts'

export const MEMBERS_MAX = 100

/**
 * VPCs of one tenant that may see each other through the workloads' own API: their workloads, replicas and names. It
 * moves no packets: it joins neither ranges nor routes, and what its members reach of each other is as it was without it.
 * A VPC that goes leaves it.
 */
export const network = defineKind({
  name: 'network',
  spec: Type.Object(
    {
      members: Type.Array(
        Type.Object(
          {
            vpc: Type.String(),
            /** When it was added, in milliseconds since 1970; given by the platform. */
            addedAt: Type.Integer(),
          },
          { additionalProperties: false },
        ),
        { maxItems: MEMBERS_MAX },
      ),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  claims: (r) => [
    {
      pool: `network-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Network with this name already exists',
    },
  ],
  events(before, after) {
    const { from, to, isWish } = turnOf(before, after)
    const of = to ?? from
    if (!of || !isWish) return []
    const members = (it: typeof of | undefined): string[] => it?.spec.members.map((one) => one.vpc) ?? []
    return [
      event(from ? 'network.changed' : 'network.created', of.id, {
        ...(from ? { from: members(from) } : {}),
        to: members(to),
        vpcs: [...new Set([...members(from), ...members(to)])],
      }),
    ]
  },
  terms: (r) => [...new Set(r.spec.members.map((it) => `vpc:${it.vpc}`))],
})
export type Network = ResourceOf<typeof network>
