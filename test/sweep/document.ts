import type { Json } from './ask.ts'

/** A JSON schema, as far as the sweeps read it. */
export type Schema = {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly format?: string
  readonly pattern?: string
  readonly enum?: readonly Json[]
  readonly const?: Json
  readonly default?: Json
  readonly examples?: readonly Json[]
  readonly example?: Json
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly maxProperties?: number
  readonly writeOnly?: boolean
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: Schema | boolean
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
}

export type Parameter = {
  readonly name: string
  readonly in: 'path' | 'query' | 'header' | 'cookie'
  readonly required?: boolean
  readonly schema?: Schema
}

/** One operation of a document, with what applies to it from the document around it. */
export type Operation = {
  /** `GET /vpcs/{vpc_id}`. */
  readonly key: string
  readonly method: string
  readonly path: string
  readonly tags: readonly string[]
  readonly parameters: readonly Parameter[]
  readonly body: Schema | undefined
  /** A body that the document gives as an example. */
  readonly example: Json | undefined
  /** Names of the schemes of which one must be shown; empty where nobody must prove anything. */
  readonly security: readonly string[]
  /** Schema of each answer's JSON by status (`200`, `4XX`, `default`); null where an answer has no JSON body. */
  readonly answers: ReadonlyMap<string, Schema | null>
  /** It can answer with server-sent events too. */
  readonly streams: boolean
}

type Media = {
  readonly schema?: Schema
  readonly example?: Json
  readonly examples?: Readonly<Record<string, { readonly value?: Json }>>
}
type Content = Readonly<Record<string, Media>>
type Raw = {
  readonly tags?: readonly string[]
  readonly parameters?: readonly (Parameter & { readonly $ref?: string })[]
  readonly security?: readonly Record<string, unknown>[]
  readonly requestBody?: { readonly $ref?: string; readonly content?: Content }
  readonly responses?: Record<string, { $ref?: string; content?: Content }>
}
export type OpenApi = {
  readonly paths: Record<string, Record<string, Raw> & { parameters?: Raw['parameters'] }>
  readonly security?: readonly Record<string, unknown>[]
  readonly components?: unknown
}

/** The type of server-sent events. */
export const EVENTS = 'text/event-stream'
const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options']
const DEPTH_MAX = 12

/** The document's part that a reference names, itself without references down to a depth where recursion must end. */
function resolve<T>(document: OpenApi, node: T, depth = 0): T {
  if (node === null || typeof node !== 'object') return node
  if (Array.isArray(node)) return node.map((it: unknown) => resolve(document, it, depth)) as T
  const { $ref } = node as { $ref?: unknown }
  if (typeof $ref === 'string') {
    if (depth >= DEPTH_MAX) return {} as T
    let found: unknown = document
    for (const step of $ref.split('/').slice(1))
      found = (found as Record<string, unknown>)[step.replaceAll('~1', '/').replaceAll('~0', '~')]
    return resolve(document, found as T, depth + 1)
  }
  return Object.fromEntries(
    Object.entries(node as Record<string, unknown>).map(([key, it]) => [key, resolve(document, it, depth)]),
  ) as T
}

const jsonOf = (content: Content | undefined): Media | undefined =>
  Object.entries(content ?? {}).find(([type]) => type.includes('json') && !type.includes('ndjson'))?.[1]

/** Every operation of a document, in its order. */
export function operationsOf(document: OpenApi): Operation[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const raw = item[method] && resolve(document, item[method])
      if (!raw) return []
      const shared = resolve(document, item.parameters ?? [])
      const media = jsonOf(raw.requestBody?.content)
      const security = raw.security ?? document.security ?? []
      return [
        {
          key: `${method.toUpperCase()} ${path}`,
          method: method.toUpperCase(),
          path,
          tags: raw.tags ?? [],
          parameters: [...shared, ...(raw.parameters ?? [])],
          body: media && (media.schema ?? {}),
          example: media?.example ?? Object.values(media?.examples ?? {})[0]?.value,
          security: security.flatMap((it) => Object.keys(it)),
          answers: new Map(
            Object.entries(raw.responses ?? {}).map(([status, it]) => [
              status,
              jsonOf(it.content)?.schema ?? null,
            ]),
          ),
          streams: Object.values(raw.responses ?? {}).some((it) => it.content?.[EVENTS] !== undefined),
        },
      ]
    }),
  )
}

/** What the document says of an answer: its schema, null for none, undefined for a status that it does not list. */
export function declared(operation: Operation, status: number): Schema | null | undefined {
  const { answers } = operation
  const class_ = `${Math.floor(status / 100)}XX`
  for (const key of [String(status), class_, class_.toLowerCase(), 'default'])
    if (answers.has(key)) return answers.get(key)
  return undefined
}

/** A field of a body, by its path (`spec.password`, `pods[].name`). */
export type Field = { readonly path: string; readonly schema: Schema }

/** Every field of a schema, however deep. */
export function fieldsOf(schema: Schema | undefined, at = '', depth = 0): Field[] {
  if (!schema || depth > DEPTH_MAX) return []
  const parts = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])]
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, it]) => {
      const path = at === '' ? name : `${at}.${name}`
      return [{ path, schema: it }, ...fieldsOf(it, path, depth + 1)]
    }),
    ...parts.flatMap((it) => fieldsOf(it, at, depth + 1)),
    ...fieldsOf(schema.items, `${at}[]`, depth + 1),
  ]
}
