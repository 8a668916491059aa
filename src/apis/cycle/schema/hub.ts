import Type, { type Static } from 'typebox'
import { CreatorScope, DateTime, HubId, Id, nullable, stateOf } from './scalar.ts'

const HubEvents = Type.Object({
  created: DateTime,
  updated: DateTime,
  deleted: DateTime,
  converted: Type.Optional(DateTime),
  first_order: Type.Optional(DateTime),
  first_provider: Type.Optional(DateTime),
  first_server: Type.Optional(DateTime),
  first_environment: Type.Optional(DateTime),
  first_image: Type.Optional(DateTime),
  first_container: Type.Optional(DateTime),
})
const HubState = stateOf(['new', 'configuring', 'live', 'inactive', 'deleting', 'deleted'])
const MembershipState = stateOf(['pending', 'accepted', 'declined', 'revoked', 'deleted'])
const Invitation = Type.Object({
  sender: Type.Object({ id: Id, type: Type.String() }),
  recipient: Type.String(),
  events: Type.Object({
    created: DateTime,
    updated: DateTime,
    deleted: DateTime,
    accepted: DateTime,
    declined: DateTime,
    revoked: DateTime,
  }),
})
const HubMembership = Type.Object({
  id: Id,
  account_id: Type.Optional(Type.String()),
  hub_id: HubId,
  events: Type.Object({
    created: Type.Optional(DateTime),
    updated: Type.Optional(DateTime),
    deleted: Type.Optional(DateTime),
    joined: DateTime,
  }),
  role_id: Id,
  preferences: Type.Optional(
    Type.Object({
      portal: Type.Object({
        notifications: Type.Object({ jobs: Type.Object({ apikey_alerts: Type.Boolean() }) }),
      }),
      email: Type.Object({
        notificaitons: Type.Optional(
          Type.Object({
            server: Type.Object({ new: nullable(Type.Boolean()), offline: nullable(Type.Boolean()) }),
          }),
        ),
        notifications: Type.Unknown(),
      }),
    }),
  ),
  state: MembershipState,
  invitation: Invitation,
  cycle: Type.Optional(Type.Object({ employee_id: Type.String() })),
  permissions: Type.Unknown(),
  prefereneces: Type.Unknown(),
})
const HubMeta = Type.Object({ membership: Type.Optional(HubMembership) })
export const PublicHub = Type.Object({
  id: Id,
  name: Type.String(),
  events: HubEvents,
  creator: CreatorScope,
  state: HubState,
  meta: Type.Optional(HubMeta),
  /** Asked for by the vendor's first Node client (section 13). */
  providers: Type.Record(Type.String(), Type.Unknown()),
})
export type PublicHub = Static<typeof PublicHub>
