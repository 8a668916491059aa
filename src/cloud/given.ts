import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Kind } from '#engine/kind.ts'
import type { AnyKind } from '#engine/resource.ts'
import { checkSpec } from '#engine/shape.ts'

const PASSWORD_LENGTH_MIN = 8
export const PASSWORD_LENGTH_MAX = 1024

/** A spec as a caller gave it. */
export type Given = Readonly<Record<string, unknown>>

/** Refuses fields that a caller has no say in, since to ignore them would look like success. */
export function known(spec: Given, fields: readonly string[], given: readonly string[] = []): void {
  for (const field of Object.keys(spec)) {
    if (given.includes(field))
      throw new CloudError('invalid', 'is given by the platform', { field: `spec.${field}` })
    if (!fields.includes(field)) throw new CloudError('invalid', 'is not known', { field: `spec.${field}` })
  }
}

/** A field that has to be there, and not empty. */
export function text(spec: Given, field: string): string {
  const value = spec[field]
  if (typeof value !== 'string' || value === '')
    throw new CloudError('invalid', 'is required, as text', { field: `spec.${field}` })
  return value
}

/** A spec, or a part of it, as it came, seen to be an object; absent: an empty one. */
export function objectOf(value: unknown, field = 'spec'): Given {
  if (value === undefined) return {}
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new CloudError('invalid', 'must be an object', { field })
  return { ...value }
}

/** A password somebody chose. */
export function newPassword(spec: Given): string {
  const password = text(spec, 'password')
  if (password.length < PASSWORD_LENGTH_MIN || password.length > PASSWORD_LENGTH_MAX)
    throw new CloudError(
      'invalid',
      `must have at least ${PASSWORD_LENGTH_MIN} and at most ${PASSWORD_LENGTH_MAX} characters`,
      { field: 'spec.password' },
    )
  return password
}

/** A field that may be absent or null. */
export function textOrNull(spec: Given, field: string): string | null {
  return spec[field] === undefined || spec[field] === null ? null : text(spec, field)
}

export function flag(spec: Given, field: string, otherwise: boolean): boolean {
  const value = spec[field] ?? otherwise
  if (typeof value !== 'boolean')
    throw new CloudError('invalid', 'must be true or false', { field: `spec.${field}` })
  return value
}

/** The spec, seen to have the kind's shape; the field that is wrong is named. */
export function checked<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, spec: unknown): Static<S> {
  checkSpec(kind as unknown as AnyKind, spec)
  return spec as Static<S>
}
