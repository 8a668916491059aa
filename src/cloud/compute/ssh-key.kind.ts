import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** A public key of somebody who may log in to instances. */
export const sshKey = defineKind({
  name: 'ssh-key',
  spec: Type.Object(
    {
      /** As in an authorized_keys file, without options. */
      publicKey: Type.String({ minLength: 1, maxLength: 16_384 }),
      /** `SHA256:` and the hash in base64; given by the platform. */
      fingerprint: Type.String(),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  immutable: ['publicKey', 'fingerprint', 'creator'],
  claims: (r) => [
    {
      pool: `ssh-key-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'SSH key with this name already exists',
    },
  ],
})
export type SshKey = ResourceOf<typeof sshKey>
