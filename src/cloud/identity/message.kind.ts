import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'

const RELAY_ADVICE =
  'Set the mail relay right (`arcus describe mail-relay`): what did not reach it is then tried again. Until then read the message and hand it on'

/** A message to a person. It is mailed where there is a relay; an administrator may read it and hand it on. Gone after a day. */
export const message = defineKind({
  name: 'message',
  scope: 'platform',
  version: 2,
  // Those of before mail was sent waited for an administrator.
  upgrades: { 1: ({ spec }) => ({ spec, status: { state: 'waiting' } }) },
  spec: Type.Object(
    {
      /** E-mail address. */
      to: Type.String(),
      subject: Type.String(),
      /** Sealed, since it may hold a token; shown by its own operation alone. */
      text: Type.String(),
      /** When it is of no more use, in ms since 1970; not mailed from then on. */
      until: Type.Optional(Type.Integer()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    /** `waiting`: there is no relay. */
    state: Type.Enum(['waiting', 'sending', 'sent', 'failed']),
    message: Type.Optional(Type.String()),
    /** Tries so far, by which relay (its generation too), and when the next is due, in ms since 1970. */
    tries: Type.Optional(Type.Integer()),
    relay: Type.Optional(Type.String()),
    retryAt: Type.Optional(Type.Integer()),
    sentAt: Type.Optional(Type.Integer()),
  }),
  initial: { state: 'waiting' },
  secret: ['text'],
  // Longer than all tries take.
  settleSecondsMax: 3600,
  states: {
    waiting: { advice: RELAY_ADVICE, fine: true },
    sending: { advice: RELAY_ADVICE },
    sent: { advice: HOST_ADVICE, fine: true },
    failed: { advice: RELAY_ADVICE },
    deleting: { advice: HOST_ADVICE },
  },
  state: statusWord,
})
export type Message = ResourceOf<typeof message>
