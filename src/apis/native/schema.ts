import type { FastifySchemaCompiler } from 'fastify'
import Type, { type Static, type TSchema } from 'typebox'
import { validatorCompiler } from '#apis/validation.ts'

/** Most items a page may have; more is refused. */
export const PAGE_MAX = 1000
export const PAGE_DEFAULT = 100

/** A switch in a query: `?follow`, `?follow=true`. */
export const Flag = Type.Enum(['', 'true', 'false'])
export const isOn = (flag: Static<typeof Flag> | undefined): boolean => flag === '' || flag === 'true'

/** A query parameter that may be given several times. */
export const Repeated = Type.Union([
  Type.String({ maxLength: 512 }),
  Type.Array(Type.String({ maxLength: 512 }), { maxItems: 16 }),
])
const LabelFilter = Type.String({ pattern: '^[^=]+=', maxLength: 512, title: 'a label as key=value' })
export const asList = (it: Static<typeof Repeated> | undefined): readonly string[] =>
  it === undefined ? [] : typeof it === 'string' ? [it] : it

export const Name = Type.String({ minLength: 1, maxLength: 253, description: 'What a person calls it.' })
export const Labels = Type.Record(Type.String({ maxLength: 128 }), Type.String({ maxLength: 256 }), {
  maxProperties: 64,
})

const closed = { additionalProperties: false }

/** What a create and one item of a topology have in common; the spec is checked by the kind's own verb. */
export const NewBody = Type.Object(
  {
    name: Name,
    labels: Type.Optional(Labels),
    spec: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  },
  closed,
)

/** A merge patch (RFC 7396) of a resource. */
export const PatchBody = Type.Object(
  {
    name: Type.Optional(Name),
    labels: Type.Optional(
      Type.Record(
        Type.String({ maxLength: 128 }),
        Type.Union([Type.String({ maxLength: 256 }), Type.Null()]),
      ),
    ),
    spec: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  },
  closed,
)

export const ListParams = Type.Object(
  {
    term: Type.Optional(Repeated),
    label: Type.Optional(Type.Union([LabelFilter, Type.Array(LabelFilter, { maxItems: 16 })])),
    name: Type.Optional(Type.String({ maxLength: 253 })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    after: Type.Optional(Type.String({ maxLength: 64 })),
    deleted: Type.Optional(Flag),
    newestFirst: Type.Optional(Flag),
    watch: Type.Optional(Flag),
  },
  closed,
)

/** Some of what is kept in order of time. */
export const RangeParams = Type.Object(
  {
    from: Type.Optional(Type.String({ format: 'date-time', description: 'All that is kept by default.' })),
    to: Type.Optional(Type.String({ format: 'date-time', description: 'The moment it ends before.' })),
    after: Type.Optional(
      Type.String({ maxLength: 64, description: 'The cursor of the last one seen, to go on.' }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    newestFirst: Type.Optional(Flag),
  },
  closed,
)
export const rangeOf = ({
  from,
  to,
  newestFirst,
  limit = PAGE_DEFAULT,
  ...rest
}: Static<typeof RangeParams>) => ({
  ...rest,
  limit,
  newestFirst: isOn(newestFirst),
  ...(from === undefined ? {} : { from: Date.parse(from) }),
  ...(to === undefined ? {} : { to: Date.parse(to) }),
})

export const WriteParams = Type.Object({ dryRun: Type.Optional(Flag) }, closed)
/** A resource by id, name, or `<vpc>/<name>`. */
export const RefParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 512 }) })
export type ById = { Params: Static<typeof RefParams> }

/**
 * Validates a body by `checked` instead of the schema that documents it: what may be left out of a kind's spec is for
 * the kind's own verb to say.
 */
export const checkBodyBy =
  (checked: TSchema): FastifySchemaCompiler<TSchema> =>
  (route) =>
    validatorCompiler(route.httpPart === 'body' ? { ...route, schema: checked } : route)
