import { CloudError } from '#lib/errors.ts'

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
