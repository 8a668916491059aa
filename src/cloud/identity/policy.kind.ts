import Type, { type Static } from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

const STATEMENTS_MAX = 100
const PATTERNS_MAX = 200
const ATTACHMENTS_MAX = 1000
const PATTERN_LENGTH_MAX = 512

const Patterns = Type.Array(Type.String({ minLength: 1, maxLength: PATTERN_LENGTH_MAX }), {
  minItems: 1,
  maxItems: PATTERNS_MAX,
})

/** One sentence of a policy: who it is attached to may, or may not, do these actions to these resources. */
export const Statement = Type.Object(
  {
    sid: Type.Optional(Type.String({ maxLength: PATTERN_LENGTH_MAX })),
    effect: Type.Enum(['Allow', 'Deny']),
    /** `resource:verb`; a trailing `*` stands for anything. */
    action: Patterns,
    /** Id, name, `<type>:<id>` or ARN; a trailing `*` stands for anything. */
    resource: Patterns,
    /** Operator to key to value; all must hold. */
    condition: Type.Optional(
      Type.Record(Type.String(), Type.Record(Type.String(), Type.Unknown()), { maxProperties: 20 }),
    ),
  },
  { additionalProperties: false },
)
export type Statement = Static<typeof Statement>

/** What callers of a tenant may and may not do beyond or against their role. */
export const policy = defineKind({
  name: 'policy',
  spec: Type.Object(
    {
      description: Type.Optional(Type.String({ maxLength: 4096 })),
      statements: Type.Array(Statement, { minItems: 1, maxItems: STATEMENTS_MAX }),
      /** Ids of the users, service accounts and roles that it holds for. */
      attachedTo: Type.Array(Type.String(), { maxItems: ATTACHMENTS_MAX }),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  claims: (r) => [
    {
      pool: `policy-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Policy with this name already exists',
    },
  ],
  terms: (r) => r.spec.attachedTo.map((it) => `attached:${it}`),
})
export type Policy = ResourceOf<typeof policy>
