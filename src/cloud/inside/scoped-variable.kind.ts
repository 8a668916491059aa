import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { event, turnOf } from './event.kind.ts'

export const TARGETS_MAX = 100
/** What a variable holds at most, in characters. */
export const VALUE_LENGTH_MAX = 65_536
/** A variable's name; it is a file's name too. */
export const IDENTIFIER = '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'

/**
 * A value that a VPC's workloads are given: as an environment variable, a file, or in the answers of their own API.
 * `name` is its identifier; several may have one, and then the one that names the workload most closely counts.
 */
export const scopedVariable = defineKind({
  name: 'scoped-variable',
  spec: Type.Object(
    {
      vpc: Type.String(),
      /** Whose it is: every workload of the VPC, those with these ids, those with these names. */
      scope: Type.Object(
        {
          global: Type.Boolean(),
          workloads: Type.Array(Type.String(), { maxItems: TARGETS_MAX }),
          names: Type.Array(Type.String({ maxLength: 255 }), { maxItems: TARGETS_MAX }),
        },
        { additionalProperties: false },
      ),
      access: Type.Object(
        {
          /** An environment variable, called `key`, or like the variable. */
          env: Type.Optional(
            Type.Object(
              { key: Type.Optional(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,254}$' })) },
              { additionalProperties: false },
            ),
          ),
          /** In the answers of the workload's API, until the replica has run for this long. */
          api: Type.Optional(
            Type.Object(
              { durationSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 315_360_000 })) },
              { additionalProperties: false },
            ),
          ),
          /** A file below /var/run/cycle/variables, and at `path` too when one is given. `decode`: the value is base64. */
          file: Type.Optional(
            Type.Object(
              {
                decode: Type.Boolean(),
                path: Type.Optional(Type.String({ pattern: '^/', maxLength: 1024 })),
                permissions: Type.Optional(Type.String({ pattern: '^0?[0-7]{3}$' })),
                uid: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
                gid: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
              },
              { additionalProperties: false },
            ),
          ),
        },
        { additionalProperties: false },
      ),
      /** One of three says what its value is: this text, */
      value: Type.Optional(Type.String({ maxLength: VALUE_LENGTH_MAX })),
      /** this text, shown to its workloads alone, */
      secret: Type.Optional(Type.String({ maxLength: VALUE_LENGTH_MAX })),
      /** or what this address answers when a replica starts; empty when it answers nothing good. */
      url: Type.Optional(Type.String({ pattern: '^https?://', maxLength: 2048 })),
      /** Sent to `url`. */
      headers: Type.Optional(
        Type.Record(
          Type.String({ pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$" }),
          Type.String({ pattern: '^[\\t\\x20-\\x7e]*$', maxLength: 4096 }),
          { maxProperties: 32 },
        ),
      ),
      /** What this address answers is sent to `url` as its Authorization. */
      authUrl: Type.Optional(Type.String({ pattern: '^https?://', maxLength: 2048 })),
      /** Only for workloads of this deployment version. */
      deploymentVersion: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  secret: ['secret'],
  immutable: ['vpc'],
  refs: (r) => [{ to: r.spec.vpc, onDelete: 'cascade' }],
  terms: (r) => [`vpc:${r.spec.vpc}`],
  events(before, after) {
    const { from, to, isWish } = turnOf(before, after)
    const of = to ?? from
    if (!of || !isWish) return []
    return [event('vpc.variables.changed', of.spec.vpc, { of: of.name, vpcs: [of.spec.vpc] })]
  },
})
export type ScopedVariable = ResourceOf<typeof scopedVariable>
