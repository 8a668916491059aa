import Type, { type TObject, type TSchema } from 'typebox'
import { type AnyKind, isSettled, type Resource } from '#engine/resource.ts'
import { timestamp } from '#lib/timestamp.ts'
import { Labels } from './schema.ts'

const Time = Type.String({ format: 'date-time' })

/** A kind's spec as it is shown: a secret is there only while it is empty. */
const shownSpec = (kind: AnyKind): TSchema => {
  const { properties } = kind.spec as TObject
  const secrets = Object.entries(properties).filter(([field]) => kind.secret.includes(field))
  if (secrets.length === 0) return kind.spec
  const empty = secrets.map(([field]) => [field, Type.Optional(Type.Literal(''))])
  return Type.Object(
    { ...properties, ...(Object.fromEntries(empty) as TObject['properties']) },
    {
      additionalProperties: false,
    },
  )
}

/** A kind's resource as the native API shows it. */
export const wireSchema = (kind: AnyKind) =>
  Type.Object(
    {
      kind: Type.Literal(kind.name),
      id: Type.String({ format: 'uuid' }),
      tenant: Type.String({
        description: 'Id of the tenant; `platform` for what belongs to the installation.',
      }),
      name: Type.String(),
      owner: Type.Optional(Type.String({ description: 'Id of the resource that goes only after this one.' })),
      labels: Labels,
      spec: shownSpec(kind),
      status: kind.status,
      generation: Type.Integer({ description: 'Moves with every change of the wish.' }),
      observed: Type.Integer({ description: 'The generation that status speaks of.' }),
      revision: Type.Integer({ description: 'Moves with every change of anything.' }),
      createdAt: Time,
      updatedAt: Time,
      deletedAt: Type.Optional(Time),
      overdue: Type.Optional(Type.String({ description: 'Why it has not settled in time.' })),
      settled: Type.Boolean({ description: 'Whether reality is as the spec says.' }),
    },
    secretsOf(kind).length ? { description: `Never shown: ${secretsOf(kind).join(', ')}.` } : {},
  )

/** The fields of a kind that are never shown, with the part that they are in. */
export const secretsOf = (kind: AnyKind): string[] => [
  ...kind.secret.map((field) => `spec.${field}`),
  ...kind.secretStatus.map((field) => `status.${field}`),
]

/** A spec or status without the secrets that are set in it. */
const shown = (secret: readonly string[], fields: unknown): unknown =>
  secret.length === 0
    ? fields
    : Object.fromEntries(
        Object.entries(fields as Record<string, unknown>).filter(
          ([field, value]) => value === '' || !secret.includes(field),
        ),
      )

export const encode = (kind: AnyKind, it: Resource) => ({
  kind: it.kind,
  id: it.id,
  tenant: it.tenant,
  name: it.name,
  ...(it.owner === undefined ? {} : { owner: it.owner }),
  labels: it.labels,
  spec: shown(kind.secret, it.spec),
  status: shown(kind.secretStatus, it.status),
  generation: it.generation,
  observed: it.observed,
  revision: it.revision,
  createdAt: timestamp(it.createdAt),
  updatedAt: timestamp(it.updatedAt),
  ...(it.deletedAt === undefined ? {} : { deletedAt: timestamp(it.deletedAt) }),
  ...(it.overdue === undefined ? {} : { overdue: it.overdue }),
  settled: isSettled(it),
})
