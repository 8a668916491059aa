import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** A message to a person that waits in the outbox: an administrator reads and hands it on. Gone after a day. */
export const message = defineKind({
  name: 'message',
  scope: 'platform',
  spec: Type.Object(
    {
      /** E-mail address. */
      to: Type.String(),
      subject: Type.String(),
      /** Sealed, since it may hold a token; shown by its own operation alone. */
      text: Type.String(),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['text'],
})
export type Message = ResourceOf<typeof message>
