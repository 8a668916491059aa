import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** The server by which the installation's messages reach people; one of a kind. Without it they wait in the outbox. */
export const mailRelay = defineKind({
  name: 'mail-relay',
  scope: 'platform',
  spec: Type.Object(
    {
      host: Type.String({ minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9._:-]+$' }),
      port: Type.Integer({ minimum: 1, maximum: 65_535 }),
      /** `starttls` (port 587) and `implicit` (465) speak nothing but TLS; `none` is for a server without a password. */
      tls: Type.Enum(['starttls', 'implicit', 'none']),
      username: Type.Optional(Type.String({ minLength: 1, maxLength: 320 })),
      /** Empty when there is none. */
      password: Type.String({ maxLength: 1024 }),
      /** Whom the mails come from. */
      from: Type.String({ maxLength: 320, pattern: '^[^\\s@<>]+@[^\\s@<>]+$' }),
      /** PEM of a private authority that signed the server's certificate. */
      trust: Type.Optional(Type.String({ maxLength: 65_536 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['password'],
  claims: () => [
    { pool: 'singleton', value: 'mail-relay', ends: 'deletion', refusal: 'There is a mail relay already' },
  ],
})
export type MailRelay = ResourceOf<typeof mailRelay>
