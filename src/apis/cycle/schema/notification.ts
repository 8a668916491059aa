import Type, { type Static } from 'typebox'
import { nullable } from './scalar.ts'

export const NotificationMessage = Type.Object({
  topic: Type.String(),
  object: Type.Object({
    id: Type.String(),
    state: Type.Optional(Type.String()),
    state_previous: Type.Optional(Type.String()),
    previous_state: Type.Optional(Type.String()),
    error: Type.Optional(Type.String()),
  }),
  context: Type.Object({
    label: nullable(Type.String()),
    hub_id: nullable(Type.String()),
    account_id: nullable(Type.String()),
    environments: nullable(Type.Array(Type.String())),
    dns_zones: nullable(Type.Array(Type.String())),
    clusters: nullable(Type.Array(Type.String())),
    containers: nullable(Type.Array(Type.String())),
    virtual_machines: Type.Optional(nullable(Type.Array(Type.String()))),
  }),
  flags: Type.Optional(nullable(Type.Record(Type.String(), nullable(Type.Boolean())))),
  annotations: Type.Optional(nullable(Type.Record(Type.String(), Type.String()))),
})
export type NotificationMessage = Static<typeof NotificationMessage>
