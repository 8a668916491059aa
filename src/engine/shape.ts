import { isDeepStrictEqual } from 'node:util'
import { Compile } from 'typebox/compile'
import type { TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Ref } from './kind.ts'
import { type AnyKind, PLATFORM, type Resource } from './resource.ts'
import type { Keyring } from './secrets.ts'
import type { Mutation, StoredResource } from './store.ts'

type Fields = Record<string, unknown>

/** A copy as it will be read back: no undefined fields, nothing shared with the caller. */
export const plainOf = <V>(value: V): V => JSON.parse(JSON.stringify(value)) as V

const validators = new WeakMap<TSchema, ReturnType<typeof Compile>>()
function validatorOf(schema: TSchema): ReturnType<typeof Compile> {
  let validator = validators.get(schema)
  if (!validator) validators.set(schema, (validator = Compile(schema)))
  return validator
}

type SchemaError = {
  keyword: string
  instancePath: string
  message: string
  params: { requiredProperties?: readonly string[]; additionalProperties?: readonly string[] }
}

/** The first thing wrong with a value, with its dotted field; undefined when nothing is. */
export function wrongIn(
  schema: TSchema,
  value: unknown,
  root: string,
): { field: string; message: string } | undefined {
  const validator = validatorOf(schema)
  if (validator.Check(value)) return undefined
  const errors = validator.Errors(value) as unknown as SchemaError[]
  // An unknown field is also reported as a value that no schema allows; the plainer one is told.
  const error = errors.find((it) => it.keyword !== 'boolean') ?? errors[0]
  if (!error) return { field: root, message: 'is not valid' }
  const [extra] = error.params.additionalProperties ?? []
  const [missing] = error.params.requiredProperties ?? []
  const parts = error.instancePath
    .split('/')
    .slice(1)
    .map((it) => it.replaceAll('~1', '/').replaceAll('~0', '~'))
  const leaf = extra ?? missing
  const field = [root, ...parts, ...(leaf === undefined ? [] : [leaf])].join('.')
  const message = extra !== undefined ? 'is not known' : missing !== undefined ? 'is required' : error.message
  return { field, message }
}

/** Refuses `invalid` with the field, dotted (`spec.cidr`). The value itself is never repeated: it may be a secret. */
export function checkSpec(kind: AnyKind, spec: unknown): void {
  const wrong = wrongIn(kind.spec, spec, 'spec')
  if (wrong) throw new CloudError('invalid', `${wrong.field} ${wrong.message}`, { field: wrong.field })
}

/** The terms a resource is listed under: its kind's, its labels, name and owner. */
export const termsOf = (kind: AnyKind, it: Resource): string[] => [
  ...new Set([
    ...kind.terms(it as never),
    ...Object.entries(it.labels).map(([key, value]) => `label:${key}=${value}`),
    `name:${it.name}`,
    ...(it.owner === undefined ? [] : [`owner:${it.owner}`]),
  ]),
]

/** The event records of a change of one resource; see the kind's `events`. */
export function eventsOf(
  kind: AnyKind,
  before: Resource | undefined,
  after: Resource | undefined,
  now: number,
): Mutation[] {
  const of = after ?? before
  if (!of) return []
  return kind.events(before as never, after as never).map(({ what, subject = of.id, body }) => ({
    do: 'record',
    record: { stream: 'event', tenant: of.tenant, subject, at: now, what, body },
  }))
}

export const refsOf = (kind: AnyKind, it: Resource, tenantRefs: boolean): Ref[] => [
  ...kind.refs(it as never),
  ...(tenantRefs && kind.scope === 'tenant' && it.tenant !== PLATFORM
    ? [{ to: it.tenant, onDelete: 'cascade' as const }]
    : []),
]

/**
 * A stored resource in the shape this program knows, and, where it was written under an older schema version, the
 * mutation that rewrites it. Data newer than the program is refused `unsupported`.
 */
export function read(kind: AnyKind, stored: StoredResource): { resource: Resource; upgrade?: Mutation } {
  const { version, ...resource } = stored
  if (version === kind.version) return { resource }
  if (version > kind.version) {
    throw new CloudError(
      'unsupported',
      `${kind.name} ${stored.id} was written by a newer version (schema ${version}, this one knows ${kind.version})`,
    )
  }
  let shape = { spec: stored.spec as Fields, status: stored.status as Fields }
  for (let from = version; from < kind.version; from++) {
    const step = kind.upgrades[from]
    if (!step) throw new Error(`${kind.name} lacks the upgrade from schema ${from}`)
    shape = step(shape)
  }
  const upgraded = { ...resource, ...plainOf(shape) }
  return {
    resource: upgraded,
    upgrade: {
      do: 'upgrade',
      id: stored.id,
      revision: stored.revision,
      version: kind.version,
      spec: upgraded.spec,
      status: upgraded.status,
    },
  }
}

/** An empty text hides nothing, and that nothing is set may be shown: it is neither sealed nor left out. */
const isSecret = (value: unknown): value is string => typeof value === 'string' && value !== ''

const binding = (kind: string, id: string, field: string): string => `${kind}/${id}/${field}`

const STATUS = 'status.'

/** Seals and opens the secret fields of specs and statuses. */
export function sealingOf(keyring: Keyring) {
  /** A field of the spec, or `status.` and one of the status. */
  const open = (resource: Resource, field: string): string | undefined => {
    const text = field.startsWith(STATUS)
      ? (resource.status as Fields)[field.slice(STATUS.length)]
      : (resource.spec as Fields)[field]
    if (typeof text !== 'string') return undefined
    return keyring.isSealed(text) ? keyring.open(text, binding(resource.kind, resource.id, field)) : text
  }
  return {
    open,
    seal(kind: AnyKind, id: string, spec: unknown): unknown {
      if (!kind.secret.length) return spec
      const sealed = { ...(spec as Fields) }
      for (const field of kind.secret) {
        const text = sealed[field]
        if (isSecret(text)) sealed[field] = keyring.seal(text, binding(kind.name, id, field))
      }
      return sealed
    },
    /** What a reconciler wrote; what it left as it was read is sealed already. */
    sealStatus(kind: AnyKind, id: string, status: unknown): unknown {
      if (!kind.secretStatus.length) return status
      const sealed = { ...(status as Fields) }
      for (const field of kind.secretStatus) {
        const text = sealed[field]
        if (isSecret(text) && !keyring.isSealed(text))
          sealed[field] = keyring.seal(text, binding(kind.name, id, STATUS + field))
      }
      return sealed
    },
    /** A changed spec, checked whole and sealed; secrets left as they were read, or given again as they are, stay. */
    reseal(kind: AnyKind, from: Resource, spec: unknown): unknown {
      const old = from.spec as Fields
      const shown: Fields = { ...(spec as Fields) }
      const kept = kind.secret.filter(
        (field) =>
          typeof shown[field] === 'string' &&
          (shown[field] === old[field] || (isSecret(old[field]) && shown[field] === open(from, field))),
      )
      for (const field of kept) shown[field] = open(from, field)
      checkSpec(kind, shown)
      for (const field of kind.immutable) {
        if (!isDeepStrictEqual((spec as Fields)[field], old[field]))
          throw new CloudError('invalid', `spec.${field} cannot be changed`, { field: `spec.${field}` })
      }
      const sealed: Fields = { ...shown }
      for (const field of kind.secret) {
        const text = shown[field]
        if (kept.includes(field)) sealed[field] = old[field]
        else if (isSecret(text)) sealed[field] = keyring.seal(text, binding(kind.name, from.id, field))
      }
      return sealed
    },
  }
}

/** Without the secret fields that are set, as it may be shown. */
export function redact<R extends Resource>(kind: AnyKind | undefined, resource: R): R {
  if (!kind || (!kind.secret.length && !kind.secretStatus.length)) return resource
  const without = (fields: unknown, secret: readonly string[]): unknown =>
    Object.fromEntries(
      Object.entries(fields as Fields).filter(([field, value]) => value === '' || !secret.includes(field)),
    )
  return {
    ...resource,
    spec: without(resource.spec, kind.secret),
    status: without(resource.status, kind.secretStatus),
  }
}
