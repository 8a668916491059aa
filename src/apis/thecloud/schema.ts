import Type, { type TSchema, type TSchemaOptions } from 'typebox'
import { timestamp } from '#lib/timestamp.ts'

export type { App } from '#apis/app.ts'
export { timestamp }

export const Uuid = Type.String({ format: 'uuid' })
export const Timestamp = Type.String({ format: 'date-time', description: 'UTC, RFC 3339.' })
export const Email = Type.String({ format: 'email', maxLength: 255 })
/** A path value that is an id, or a name within the tenant. */
export const IdOrName = Type.String({ minLength: 1, maxLength: 255, description: 'UUID or resource name.' })
export const Text = (maxLength: number, options: TSchemaOptions = {}) =>
  Type.String({ minLength: 1, maxLength, ...options })
export const Message = <T extends string>(text: T) => Type.Object({ message: Type.Literal(text) })
export const Status = <T extends string>(text: T) => Type.Object({ status: Type.Literal(text) })

/** An id member that is not set (contract A7): never an empty text. */
export const NIL = '00000000-0000-0000-0000-000000000000'

/** The second that was written last: most answers come in the same one as the answer before. */
let written = { second: Number.NaN, text: '' }

/** A moment to the second, as `meta` has it. */
export function toSecond(ms: number): string {
  const second = Math.floor(ms / 1000)
  if (second !== written.second) written = { second, text: `${timestamp(second * 1000).slice(0, -5)}Z` }
  return written.text
}

type Node = {
  readonly type?: string
  readonly format?: string
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
}

/** Whether a member that may be left out was left out: null, and for texts what the client sends when nothing was set. */
function isUnset(value: unknown, node: Node): boolean {
  if (value === null) return true
  if (node.type !== 'string') return false
  return value === '' || value === NIL
}

/**
 * A body as its schema means it (contract A1, C3): members that it does not name are gone, and those that the client did not
 * set, however it says so. Maps with members of any name keep what they hold, since there an empty value has a meaning.
 */
export function withoutUnset(schema: TSchema, value: unknown): unknown {
  const { properties, items, required = [] } = schema as Node
  if (Array.isArray(value)) return items ? value.map((it) => withoutUnset(items as TSchema, it)) : value
  if (value === null || typeof value !== 'object' || !properties) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, it]) => {
      const node = Object.hasOwn(properties, name) ? properties[name] : undefined
      if (!node) return []
      if (!required.includes(name) && isUnset(it, node)) return []
      return [[name, withoutUnset(node as TSchema, it)]]
    }),
  )
}

/** Makes of what a schema's members say the same with ids as the cloud writes them: in lower case. */
export function plainIds(members: Readonly<Record<string, Node>> = {}): <V>(values: V) => V {
  const ids = Object.keys(members).filter((name) => members[name]?.format === 'uuid')
  return (values) => {
    if (values === null || typeof values !== 'object') return values
    const given = values as Record<string, unknown>
    const texts = ids.flatMap((name) => {
      const it = given[name]
      return typeof it === 'string' ? [[name, it.toLowerCase()]] : []
    })
    return texts.length ? { ...values, ...Object.fromEntries(texts) } : values
  }
}
