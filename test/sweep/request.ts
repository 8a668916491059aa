import type { Json, Question } from './ask.ts'
import type { Known, SweptDialect } from './dialect.ts'
import type { Operation, Schema } from './document.ts'

const DEPTH_MAX = 8

/** What is known for a name in an operation: of its path, of its path's first part, or of the name alone. */
function knownFor(operation: Operation, name: string, known: Known): string | undefined {
  const [, first = ''] = operation.path.split('/')
  return known[`${operation.path} ${name}`] ?? known[`${first} ${name}`] ?? known[name]
}

const FORMATS: Readonly<Record<string, Json>> = {
  uuid: '00000000-0000-7000-8000-000000000000',
  ipv4: '10.1.2.3',
  ipv6: 'fd00::1',
  'date-time': '2030-01-02T03:04:05Z',
  date: '2030-01-02',
  email: 'someone@example.com',
  uri: 'https://example.com/',
}

/** A value that a schema allows, as far as it says what it allows: an example of its own, or the least it asks for. */
export function sampleOf(schema: Schema, depth = 0): Json {
  const [example = schema.example] = schema.examples ?? []
  if (example !== undefined) return example
  if (schema.const !== undefined) return schema.const
  if (schema.enum?.[0] !== undefined) return schema.enum[0]
  if (schema.default !== undefined) return schema.default
  const [part] = schema.anyOf ?? schema.oneOf ?? []
  if (part) return sampleOf(part, depth + 1)
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((it) => sampleOf(it, depth + 1))) as Json
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  switch (type ?? (schema.properties ? 'object' : undefined)) {
    case 'integer':
    case 'number':
      return schema.minimum ?? Math.min(1, schema.maximum ?? 1)
    case 'boolean':
      return true
    case 'null':
      return null
    case 'array':
      return depth > DEPTH_MAX || !schema.items || (schema.minItems ?? 0) === 0
        ? []
        : Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items ?? {}, depth + 1))
    case 'object':
      return depth > DEPTH_MAX
        ? {}
        : Object.fromEntries(
            (schema.required ?? []).map((name) => [
              name,
              sampleOf(schema.properties?.[name] ?? {}, depth + 1),
            ]),
          )
    default:
      return FORMATS[schema.format ?? ''] ?? 'a'.padEnd(schema.minLength ?? 1, 'a')
  }
}

/** The same body with every field that something is known of at its top. */
function withKnown(operation: Operation, body: Json, known: Known, unique: string): Json {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return body
  return Object.fromEntries(
    Object.entries(body).map(([name, it]) => [
      name,
      knownFor(operation, name, known) ?? (name === 'name' ? unique : it),
    ]),
  )
}

/** A body that the operation takes, undefined where it takes none. */
export function bodyFor(
  table: SweptDialect,
  operation: Operation,
  known: Known,
  unique: string,
): Json | undefined {
  const own = table.bodies?.[operation.key]
  if (own) return own(known, unique)
  return operation.body && withKnown(operation, operation.example ?? sampleOf(operation.body), known, unique)
}

/** The path with what is known in its places, and a query where one is needed. */
export function pathFor(table: SweptDialect, operation: Operation, known: Known): string {
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const { schema = {} } = operation.parameters.find((it) => it.in === 'path' && it.name === name) ?? {}
    const made = knownFor(operation, name, known) ?? sampleOf(schema)
    return encodeURIComponent(typeof made === 'string' ? made : JSON.stringify(made))
  })
  const query = table.queries?.[operation.key]?.(known)
  return `${table.inside ? '' : `/${table.name}`}${path}${query === undefined ? '' : `?${query}`}`
}

/** A whole request that is right but perhaps for who asks. */
export function questionFor(
  table: SweptDialect,
  operation: Operation,
  how: {
    readonly known: Known
    readonly unique: string
    readonly token: string | undefined
    readonly socketPath?: string | undefined
    readonly headers?: Readonly<Record<string, string>>
  },
): Question {
  const body = bodyFor(table, operation, how.known, how.unique)
  const headers = {
    ...(how.token === undefined ? {} : table.headers(operation, how.token)),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...how.headers,
  }
  return {
    ...(how.socketPath === undefined ? {} : { socketPath: how.socketPath }),
    method: operation.method,
    path: pathFor(table, operation, how.known),
    headers: Object.entries(headers),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(table.sockets?.includes(operation.key) ? { upgrade: true } : {}),
  }
}
