import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'

export const NAMES_MAX = 100
const LABEL = '[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'
const NAME = `^(\\*\\.)?(${LABEL}\\.)*${LABEL}$`

/** A TLS certificate for hostnames of the tenant, kept valid: made anew at two thirds of its life unless it was given. */
export const certificate = defineKind({
  name: 'certificate',
  spec: Type.Object(
    {
      /** Lower case; the first is the common name. `*.example.com` stands for one label. */
      names: Type.Array(Type.String({ maxLength: 253, pattern: NAME }), { minItems: 1, maxItems: NAMES_MAX }),
      /** `internal`: signed by this installation's own authority. `acme`: by the one that an administrator set up. `given`: chain and key below. */
      source: Type.Enum(['internal', 'acme', 'given']),
      /** PEM, leaf first; for `given`. */
      chain: Type.Optional(Type.String({ maxLength: 65_536 })),
      /** PEM, unencrypted; for `given`. */
      key: Type.Optional(Type.String({ maxLength: 16_384 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    state: Type.Enum(['pending', 'issued', 'error']),
    /** Why it is pending or in error, and what will happen next. */
    message: Type.Optional(Type.String()),
    /** Milliseconds since 1970, as those below. */
    notBefore: Type.Optional(Type.Integer()),
    notAfter: Type.Optional(Type.Integer()),
    renewAt: Type.Optional(Type.Integer()),
    /** When an issue or renewal is tried next. */
    nextTryAt: Type.Optional(Type.Integer()),
    /** When the one before it failed. */
    triedAt: Type.Optional(Type.Integer()),
    serial: Type.Optional(Type.String()),
    fingerprint256: Type.Optional(Type.String()),
    issuer: Type.Optional(Type.String()),
    /** Names that it was issued for. */
    names: Type.Optional(Type.Array(Type.String())),
    /** PEM, leaf first. */
    chain: Type.Optional(Type.String()),
    key: Type.Optional(Type.String()),
  }),
  initial: { state: 'pending' },
  secret: ['key'],
  secretStatus: ['key'],
  immutable: ['source'],
  settleSecondsMax: 900,
  states: {
    pending: { advice: HOST_ADVICE },
    issued: {
      advice:
        'It is in force until it ends, and its renewal is tried again by itself; what the authority said has to be set right before that',
      fine: true,
    },
    error: {
      advice:
        'What the reason names has to be set right: the authority (`arcus explain acme`, an administrator), the DNS of its names, or the chain and key that were given. It is tried again by itself, at least once an hour',
    },
    deleting: { advice: `\`arcus explain\` names what still uses it. ${HOST_ADVICE}` },
  },
  state: statusWord,
  // Whatever it was made for waits for it.
  wakes: (r) =>
    r.owner === undefined
      ? []
      : (['tunnel', 'route', 'service-tunnel'] as const).map((kind) => `${kind}/${r.owner ?? ''}` as const),
  terms: (r) => [...r.spec.names.map((it) => `hostname:${it}`), `state:${r.status.state}`],
})
export type Certificate = ResourceOf<typeof certificate>
