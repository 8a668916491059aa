import Type, { type TEnum, type TObject, type TProperties, type TSchema } from 'typebox'

// Contract section 1.4. What the bundle names twice (`Identifier`, `Version`) is one string here.

export const nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()])

/** 24 hexadecimal digits. */
export const Id = Type.String({
  format: 'objectid',
  pattern: '^[0-9a-fA-F]{24}$',
  title: 'an id of 24 hexadecimal digits',
})
export const Identifier = Type.String()
export const HubId = Type.String()
/** RFC 3339 in UTC; what has not happened is the zero time `0001-01-01T00:00:00Z`. */
export const DateTime = Type.String({ format: 'date-time' })
/** Numbers with units, `3d15h10m5s`. */
export const Duration = Type.String()
export const HybridIdentifier = Type.String()
export const DataSize = Type.String({ pattern: '^[0-9]+([bBkKmMgGtTpP]|[kKmMgGtTpP][bB])$' })
export const IpAddress = Type.String({ format: 'ip-address' })
export const Cidr = Type.String({ format: 'cidr' })
export const Version = Type.String()
/** The three times that every resource has. */
export const Lifetime = Type.Object({ created: DateTime, updated: DateTime, deleted: DateTime })

const stateFields = {
  changed: DateTime,
  error: Type.Optional(Type.Object({ message: Type.Optional(Type.String()), time: Type.Optional(DateTime) })),
}

/** A state of one of these words, with what else this resource's state says. */
export const stateOf = <W extends string[], P extends TProperties = {}>(
  words: readonly [...W],
  more: P = {} as P,
): TObject<{ current: TEnum<W> } & typeof stateFields & P> =>
  Type.Object({ current: Type.Enum(words) as TEnum<W>, ...stateFields, ...more })

export const CreatorScope = Type.Object({
  id: Id,
  type: Type.Enum([
    'account',
    'environment',
    'platform',
    'platform-pipeline',
    'employee',
    'api-key',
    'visitor',
  ]),
})
export const IpNet = Type.Object({ ip: Type.String(), cidr: Type.String() })
export const LegacyNetwork = Type.Object({ subnet: Type.Integer(), ipv4: Type.Optional(nullable(IpNet)) })
export const Acl = Type.Object({
  roles: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({ view: Type.Boolean(), modify: Type.Boolean(), manage: Type.Boolean() }),
    ),
  ),
})
export const Deployment = Type.Object({ version: Version })
export const L2Domain = Type.Enum(['public', 'shared', 'private'])
export const StateCountSummary = Type.Object({
  state: Type.Record(Type.String(), Type.Integer()),
  total: Type.Integer(),
  available: Type.Integer(),
})
export const ServiceContainerIdentifier = Type.Enum([
  'discovery',
  'vpn',
  'loadbalancer',
  'scheduler',
  'gateway',
])
