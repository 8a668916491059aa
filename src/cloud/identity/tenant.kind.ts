import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

// More than a whole number holds exactly is no number to count by.
const amount = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** What a tenant may use at most; counted by the store as claims with an amount. */
export const Quotas = Type.Object(
  {
    vpcs: amount,
    subnets: amount,
    workloads: amount,
    replicas: amount,
    cpuMillicores: amount,
    memoryMib: amount,
    externalAddresses: amount,
    /** Of this machine, TCP and UDP together. */
    publishedPorts: amount,
  },
  { additionalProperties: false },
)

/** Published ports of a tenant that nobody said otherwise of. */
export const PUBLISHED_PORTS_QUOTA = 100

/** A tenant (organisation): owns resources, is billed, is isolated from every other. Its id is the `tenant` of what it owns. */
export const tenant = defineKind({
  name: 'tenant',
  scope: 'platform',
  version: 2,
  upgrades: {
    1: ({ spec, status }) => ({
      spec: {
        ...spec,
        quotas: { publishedPorts: PUBLISHED_PORTS_QUOTA, ...(spec['quotas'] as object | undefined) },
      },
      status,
    }),
  },
  spec: Type.Object(
    {
      description: Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]),
      quotas: Quotas,
      /** While set its callers may look and change nothing; what it has runs on. An administrator sets and clears it. */
      suspended: Type.Boolean(),
      /** What people call it, where its name is a slug. */
      title: Type.Optional(Type.String({ maxLength: 200 })),
      /** Id of the user who made it. */
      founder: Type.Optional(Type.String()),
      plan: Type.Optional(Type.Enum(['free', 'pro', 'enterprise'])),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  settleSecondsMax: 900,
  states: {
    deleting: { advice: '`arcus explain tenant` names what it still has; follow that with `arcus explain`' },
  },
  claims: (r) => [
    { pool: 'tenant-name', value: r.name, ends: 'deletion', refusal: 'Tenant with this name already exists' },
  ],
})
export type Tenant = ResourceOf<typeof tenant>
