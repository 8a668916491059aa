import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** A login for a container registry; used for images of that server. */
export const registryCredential = defineKind({
  name: 'registry-credential',
  spec: Type.Object(
    {
      server: Type.String({ minLength: 1, maxLength: 512 }),
      username: Type.String({ minLength: 1, maxLength: 256 }),
      password: Type.String({ minLength: 1 }),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['password'],
  claims: (r) => [
    {
      pool: `registry-credential-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'A credential with this name already exists',
    },
  ],
})
export type RegistryCredential = ResourceOf<typeof registryCredential>
