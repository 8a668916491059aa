import { CloudError } from '#lib/errors.ts'
import type { AnyKind } from '#engine/resource.ts'

/** A place in a spec that holds the id, or in a topology document the name, of another resource. */
export type Reference = {
  readonly path: readonly (string | number)[]
  /** Name of the kind it means. */
  readonly kind: string
  readonly text: string
}

type Node = {
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
}

// Where a field has not the name of its kind.
const ALIASES: Readonly<Record<string, string>> = { group: 'security-group', peer: 'vpc' }

// Names of kinds that are something else as a field: a container's image is a registry's.
const NO_REFERENCES: ReadonlySet<string> = new Set(['image'])

const camel = (kind: string): string => kind.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

/** Field names that hold references, with the kind each means: a kind's name or its plural. */
export function referenceFields(kinds: Iterable<string>): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  for (const kind of kinds)
    if (!NO_REFERENCES.has(kind)) fields.set(camel(kind), kind).set(`${camel(kind)}s`, kind)
  for (const [field, kind] of Object.entries(ALIASES)) if (fields.has(camel(kind))) fields.set(field, kind)
  return fields
}

/**
 * The references in a spec. Only fields that the kind's schema names are looked at: an environment variable called `vpc`
 * is none.
 */
export function referencesOf(kind: AnyKind, spec: unknown, fields: ReadonlyMap<string, string>): Reference[] {
  const found: Reference[] = []
  const walk = (node: Node | undefined, value: unknown, path: readonly (string | number)[]): void => {
    if (Array.isArray(value)) {
      for (const [at, it] of value.entries()) walk(node?.items, it, [...path, at])
      return
    }
    if (value === null || typeof value !== 'object') return
    for (const [field, it] of Object.entries(value)) {
      const inner = node?.properties?.[field]
      if (!inner) continue
      const meant = fields.get(field)
      const texts = meant === undefined ? [] : Array.isArray(it) ? it : [it]
      for (const [at, text] of texts.entries())
        if (meant !== undefined && typeof text === 'string')
          found.push({ path: Array.isArray(it) ? [...path, field, at] : [...path, field], kind: meant, text })
      walk(inner, it, [...path, field])
    }
  }
  walk(kind.spec as Node, spec, [])
  return found
}

/** A copy of a value with something else at a path. */
export function withValue(
  value: unknown,
  [step, ...rest]: readonly (string | number)[],
  other: unknown,
): unknown {
  if (step === undefined) return other
  if (Array.isArray(value)) return value.map((it, at) => (at === step ? withValue(it, rest, other) : it))
  if (value === null || typeof value !== 'object')
    throw new CloudError('invalid', 'has no such place', { field: String(step) })
  return { ...value, [step]: withValue((value as Record<string, unknown>)[step], rest, other) }
}

/** Whether a merge patch (RFC 7396) would leave a value as it is. */
export function isWithin(value: unknown, patch: unknown): boolean {
  // A null removes, or is the value of a field that may be null.
  if (patch === null) return value === undefined || value === null
  if (Array.isArray(patch))
    return (
      Array.isArray(value) && value.length === patch.length && patch.every((it, at) => isSame(value[at], it))
    )
  if (typeof patch !== 'object') return value === patch
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false
  return Object.entries(patch).every(([key, it]) => isWithin((value as Record<string, unknown>)[key], it))
}

// What is in a list is replaced, not merged, so there a null is a null and a field more is a difference.
function isSame(one: unknown, other: unknown): boolean {
  if (one === null || other === null || typeof one !== 'object' || typeof other !== 'object')
    return one === other
  if (Array.isArray(one) !== Array.isArray(other)) return false
  const keys = Object.keys(one)
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) =>
      isSame((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key]),
    )
  )
}
