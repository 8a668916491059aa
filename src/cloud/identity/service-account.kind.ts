import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** Secrets of one service account at most. */
const SECRETS_MAX = 10

/** A program that acts in a tenant: it shows one of its secrets and gets a token for an hour. */
export const serviceAccount = defineKind({
  name: 'service-account',
  spec: Type.Object(
    {
      description: Type.Optional(Type.String({ maxLength: 4096 })),
      /** As of a membership. */
      role: Type.String({ minLength: 1, maxLength: 100 }),
      /** While false neither its secrets nor its tokens open anything. */
      enabled: Type.Boolean(),
      secrets: Type.Array(
        Type.Object(
          {
            id: Type.String(),
            name: Type.String(),
            /** SHA-256 of the secret, hex. */
            hash: Type.String(),
            createdAt: Type.Integer(),
            expiresAt: Type.Optional(Type.Integer()),
          },
          { additionalProperties: false },
        ),
        { maxItems: SECRETS_MAX },
      ),
      /** What its tokens are signed with; a new one makes the old tokens worthless. */
      signingKey: Type.String(),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['signingKey'],
})
export type ServiceAccount = ResourceOf<typeof serviceAccount>
