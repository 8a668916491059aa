import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

const Text = Type.Optional(Type.String({ maxLength: 1024 }))

/**
 * What a tenant's workloads need to use somebody else's service: where it is and the secrets that open it. Every
 * workload of the tenant may read it, secrets included.
 */
export const integration = defineKind({
  name: 'integration',
  spec: Type.Object(
    {
      /** Whose service: `backblaze-b2`. */
      vendor: Type.String({ minLength: 1, maxLength: 128 }),
      region: Text,
      namespace: Text,
      keyId: Text,
      subscriptionId: Text,
      clientId: Text,
      apiKey: Type.Optional(Type.String({ maxLength: 8192 })),
      secret: Type.Optional(Type.String({ maxLength: 8192 })),
      /** A whole configuration, base64 of either alphabet. */
      base64Config: Type.Optional(Type.String({ maxLength: 65_536, pattern: '^[A-Za-z0-9+/=_-]*$' })),
      /** Whatever else there is to know; shown to whoever may look. */
      extra: Type.Optional(
        Type.Record(Type.String({ maxLength: 128 }), Type.String({ maxLength: 4096 }), { maxProperties: 64 }),
      ),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['apiKey', 'secret', 'base64Config'],
  claims: (r) => [
    {
      pool: `integration-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Integration with this name already exists',
    },
  ],
  terms: (r) => [`vendor:${r.spec.vendor}`],
})
export type Integration = ResourceOf<typeof integration>
