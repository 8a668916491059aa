import Type, { type Static } from 'typebox'
import { CreatorScope, DateTime, HubId, Id, nullable, stateOf } from './scalar.ts'

const DnsRecordTypes = Type.Object({
  a: Type.Optional(Type.Object({ ip: Type.String() })),
  aaaa: Type.Optional(Type.Object({ ip: Type.String() })),
  cname: Type.Optional(Type.Object({ domain: Type.String() })),
  ns: Type.Optional(Type.Object({ domain: Type.String() })),
  mx: Type.Optional(Type.Object({ priority: Type.Integer(), domain: Type.String() })),
  txt: Type.Optional(Type.Object({ value: Type.String() })),
  alias: Type.Optional(Type.Object({ domain: Type.String() })),
  srv: Type.Optional(
    Type.Object({
      weight: Type.Integer(),
      priority: Type.Integer(),
      port: Type.Integer(),
      domain: Type.String(),
    }),
  ),
  caa: Type.Optional(Type.Object({ tag: Type.String(), value: Type.String() })),
  linked: Type.Optional(
    Type.Object({
      routing: Type.Object({
        http: Type.Optional(nullable(Type.Object({ match_path: Type.Optional(nullable(Type.String())) }))),
      }),
      features: Type.Object({
        tls: Type.Object({ enable: Type.Boolean() }),
        geodns: Type.Object({ enable: Type.Boolean() }),
        wildcard: Type.Optional(nullable(Type.Object({ resolve_sub_domains: Type.Boolean() }))),
      }),
      // Exactly one counts, and the other is sent as null: the vendor's oneOf fails otherwise (section 12).
      container_id: nullable(Type.String()),
      deployment: nullable(
        Type.Object({
          environment_id: Id,
          match: Type.Object({ container: Type.String(), tag: Type.Optional(nullable(Type.String())) }),
        }),
      ),
      virtual_machine: Type.Optional(Type.Object({ id: Id, dmz: Type.Boolean() })),
    }),
  ),
})
const DnsRecordTlsCertificate = Type.Object({
  id: Id,
  generated: DateTime,
  wildcard_child: Type.Boolean(),
  user_supplied: Type.Boolean(),
  expires: Type.Optional(DateTime),
})
const DnsRecordState = stateOf(['pending', 'live', 'deleting', 'deleted'])
const RecordEvents = Type.Record(Type.String(), DateTime)
export const DnsRecord = Type.Object({
  id: Id,
  hub_id: HubId,
  creator: CreatorScope,
  zone_id: Type.String(),
  name: Type.String(),
  resolved_domain: Type.String(),
  type: DnsRecordTypes,
  features: nullable(Type.Object({ certificate: nullable(DnsRecordTlsCertificate) })),
  state: DnsRecordState,
  events: RecordEvents,
})
export type DnsRecord = Static<typeof DnsRecord>
export const Certificate = Type.Object({
  id: Id,
  domains: Type.Array(Type.String()),
  private_key: Type.String(),
  /** The certificate, then its issuers. */
  bundle: Type.String(),
  // Clients of older revisions ask for these two (section 14).
  csr: Type.String(),
  issuer_certificate: Type.String(),
  hub_id: HubId,
})
export type Certificate = Static<typeof Certificate>
