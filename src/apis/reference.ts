import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import Fastify, { type RouteOptions } from 'fastify'

/** What a dialect's OpenAPI document says beside its routes. */
export type Reference = {
  readonly description: string
  readonly tags: readonly { readonly name: string; readonly description?: string }[]
  /** OpenAPI security schemes by name. */
  readonly securitySchemes: Readonly<
    Record<
      string,
      { type: 'apiKey'; in: 'header'; name: string; description?: string } | { type: 'http'; scheme: string }
    >
  >
  /** Names of the schemes that apply where a route says nothing. */
  readonly security: readonly string[]
}

/**
 * A body field marked so is required by the contract, yet its absence is tolerated: the reference says required, the
 * validation does not ask for it.
 */
export const TOLERATED = 'x-server-tolerates-absence'

/** A JSON schema, as far as the reference reads it. */
type Node = {
  readonly [TOLERATED]?: unknown
  readonly type?: string
  readonly title?: string
  readonly description?: string
  readonly format?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly properties?: Readonly<Record<string, Node>>
  readonly required?: readonly string[]
  readonly items?: Node
  readonly anyOf?: readonly Node[]
  readonly additionalProperties?: Node | boolean
}

function withTolerated(schema: Node): Node {
  const marked = Object.entries(schema.properties ?? {}).filter(([, it]) => it[TOLERATED] === true)
  return marked.length
    ? { ...schema, required: [...(schema.required ?? []), ...marked.map(([name]) => name)] }
    : schema
}

type Documented = { readonly name: string; readonly title: string; readonly reference?: Reference }

const swaggerOptions = (dialect: Documented, version: string): FastifyDynamicSwaggerOptions => ({
  openapi: {
    openapi: '3.1.0',
    info: { title: dialect.title, version, description: dialect.reference?.description ?? '' },
    servers: [{ url: `/${dialect.name}` }],
    tags: [...(dialect.reference?.tags ?? [])],
    components: { securitySchemes: { ...dialect.reference?.securitySchemes } },
    security: (dialect.reference?.security ?? []).map((it) => ({ [it]: [] })),
  },
  transform: ({ schema, url }) => ({
    schema: schema?.body ? { ...schema, body: withTolerated(schema.body) } : schema,
    url,
  }),
})

export type Document = {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string }
  readonly servers?: readonly { readonly url: string }[]
  readonly tags?: readonly { readonly name: string; readonly description?: string }[]
  readonly security?: readonly Record<string, unknown>[]
  readonly components?: {
    readonly securitySchemes?: Readonly<Record<string, { name?: string; scheme?: string }>>
  }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}
type Operation = {
  readonly operationId?: string
  readonly tags?: readonly string[]
  readonly summary?: string
  readonly description?: string
  readonly security?: readonly Record<string, unknown>[]
  readonly parameters?: readonly {
    readonly name: string
    readonly in: string
    readonly required?: boolean
    readonly description?: string
    readonly schema?: Node
  }[]
  readonly requestBody?: { readonly content?: Readonly<Record<string, Content>> }
  readonly responses?: Readonly<
    Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, Content>> }>
  >
}
type Content = {
  readonly schema?: Node
  readonly example?: unknown
  readonly examples?: Readonly<Record<string, { readonly value?: unknown }>>
}

/**
 * The OpenAPI document of a dialect's routes; made when first asked for and kept. What makes it is loaded then, and works
 * on routes that do nothing: few ask, and a start need not wait for it.
 */
export function documentOf(
  dialect: Documented,
  version: string,
  routes: readonly RouteOptions[],
): () => Promise<Document> {
  const make = async (): Promise<Document> => {
    const { default: swagger } = await import('@fastify/swagger')
    const app = Fastify({ exposeHeadRoutes: false })
    app.setValidatorCompiler(() => () => true)
    app.setSerializerCompiler(() => () => '')
    await app.register(swagger, swaggerOptions(dialect, version))
    for (const { method, url, schema } of routes)
      if (method !== 'HEAD') app.route({ method, url, ...(schema ? { schema } : {}), handler: () => {} })
    await app.ready()
    return app.swagger() as unknown as Document
  }
  let made: Promise<Document> | undefined
  return () => (made ??= make())
}

const FIELD_DEPTH_MAX = 6
const escape = (text = ''): string => text.replace(/[&<>"']/g, (it) => `&#${it.codePointAt(0)};`)
/** Escaped text in which `words` between backticks are code. */
const prose = (text?: string): string => escape(text).replace(/`([^`]+)`/g, '<code>$1</code>')

function typeOf(node: Node): string {
  if (node.anyOf) return [...new Set(node.anyOf.map(typeOf))].join(' or ')
  if (node.enum) return node.enum.map((it) => JSON.stringify(it)).join(', ')
  if (node.const !== undefined) return JSON.stringify(node.const)
  if (node.items) return `list of ${typeOf(node.items)}`
  return `${node.type ?? 'any'}${node.format ? ` (${node.format})` : ''}`
}

function rangeOf({ minimum, maximum }: Node): string {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`
  if (minimum !== undefined) return `at least ${minimum}`
  return maximum === undefined ? '' : `at most ${maximum}`
}

const limitsOf = (node: Node): string =>
  [
    rangeOf(node),
    // A named form says its length itself.
    node.pattern !== undefined && node.title
      ? node.title
      : node.maxLength && `at most ${node.maxLength} characters`,
    node.default === undefined ? '' : `default ${JSON.stringify(node.default)}`,
  ]
    .filter(Boolean)
    .join('; ')

type Row = { readonly name: string; readonly node: Node; readonly required: boolean }

/** Every field of a schema by its path: `replicas[].ip`. */
function rowsOf(node: Node, prefix = '', depth = 0): Row[] {
  if (depth > FIELD_DEPTH_MAX) return []
  const own = Object.entries(node.properties ?? {}).flatMap(([name, child]) => [
    { name: `${prefix}${name}`, node: child, required: node.required?.includes(name) ?? false },
    ...rowsOf(child, `${prefix}${name}.`, depth + 1),
  ])
  return [
    ...own,
    ...(node.anyOf ?? []).flatMap((it) => rowsOf(it, prefix, depth + 1)),
    ...(node.items ? rowsOf(node.items, `${prefix.replace(/\.$/, '')}[].`, depth + 1) : []),
    ...(typeof node.additionalProperties === 'object'
      ? rowsOf(node.additionalProperties, `${prefix}<key>.`, depth + 1)
      : []),
  ]
}

const fieldTable = (rows: readonly Row[]): string =>
  rows.length
    ? `<table><tr><th>Field<th>Type<th>Required<th>Meaning</tr>${rows
        .map(
          ({ name, node, required }) =>
            `<tr><td><code>${escape(name)}</code><td>${escape(typeOf(node))}<td>${required ? 'yes' : ''}<td>${prose(node.description)} <small>${escape(limitsOf(node))}</small></tr>`,
        )
        .join('')}</table>`
    : ''

const jsonOf = (content: Readonly<Record<string, Content>> | undefined): Content | undefined =>
  Object.entries(content ?? {}).find(([type]) => type.includes('json'))?.[1]

/** A call to paste; placeholders stand where the reader's own values go. */
function curlOf(
  method: string,
  path: string,
  headers: readonly string[],
  content: Content | undefined,
): string {
  const example =
    content?.example ?? Object.values(content?.examples ?? {})[0]?.value ?? content?.schema?.examples?.[0]
  const lines = [
    `curl -k${method === 'get' ? '' : ` -X ${method.toUpperCase()}`} "$API${path.replace(/\{(\w+)\}/g, (_, it: string) => `$${it.toUpperCase()}`)}"`,
    ...headers.map((it) => `  -H "${it}: $TOKEN"`),
    ...(content
      ? [
          `  -H "Content-Type: application/json"`,
          `  -d '${JSON.stringify(example ?? {}).replaceAll("'", "'\\''")}'`,
        ]
      : []),
  ]
  return lines.join(' \\\n')
}

function operationOf(document: Document, method: string, path: string, operation: Operation): string {
  const schemes = document.components?.securitySchemes ?? {}
  const needed = (operation.security ?? document.security ?? []).flatMap((it) => Object.keys(it))
  const headers = needed.flatMap((it) => schemes[it]?.name ?? (schemes[it] ? 'Authorization' : []))
  const body = jsonOf(operation.requestBody?.content)
  const parameters = (operation.parameters ?? []).map((it): Row => ({
    name: it.name,
    required: it.required ?? false,
    node: { ...it.schema, description: [`In ${it.in}`, it.description].filter(Boolean).join('. ') },
  }))
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => {
    const rows = rowsOf(jsonOf(answer.content)?.schema ?? {})
    const summary = `<b>${escape(status)}</b> ${prose(answer.description)}`
    return rows.length && status.startsWith('2')
      ? `<details><summary>${summary}</summary>${fieldTable(rows)}</details>`
      : `<p>${summary}</p>`
  })
  return `<section id="${escape(operation.operationId ?? `${method}${path}`)}">
<h3><code>${method.toUpperCase()} ${escape(path)}</code> ${prose(operation.summary)}</h3>
${operation.description ? `<p>${prose(operation.description)}</p>` : ''}
<p>${headers.length ? `Needs ${headers.map((it) => `<code>${escape(it)}</code>`).join(' or ')}.` : 'Needs no token.'}</p>
${fieldTable(parameters)}
${body?.schema ? `<h4>Body</h4>${fieldTable(rowsOf(body.schema))}` : ''}
<h4>Example</h4><pre>${escape(curlOf(method, path, headers.slice(0, 1), body))}</pre>
<h4>Answers</h4>${answers.join('')}
</section>`
}

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#f4f4f4;padding:.7rem;overflow:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.92em}th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
section{border-top:2px solid #ccc;margin-top:2rem}h3{font-weight:600}nav li{margin:.1rem 0}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#242424}th,td{border-color:#3a3a3a}section{border-color:#444}a{color:#8ab4f8}}`

/** A page that explains a document: operations by tag, fields, examples. One file, nothing loaded from elsewhere. */
export function pageOf(document: Document, name: string): string {
  const all = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  )
  const tags = [
    ...new Set([
      ...(document.tags ?? []).map((it) => it.name),
      ...all.flatMap((it) => it.operation.tags ?? []),
    ]),
  ]
  const groups = [...tags, undefined].map((tag) => ({
    tag,
    operations: all.filter(({ operation }) =>
      tag === undefined ? !operation.tags?.length : operation.tags?.[0] === tag,
    ),
  }))
  const shown = groups.filter((it) => it.operations.length)
  const contents = shown.map(
    ({ tag, operations }) =>
      `<li>${escape(tag ?? 'other')}<ul>${operations
        .map(
          ({ method, path, operation }) =>
            `<li><a href="#${escape(operation.operationId ?? `${method}${path}`)}"><code>${method.toUpperCase()} ${escape(path)}</code></a> ${prose(operation.summary)}`,
        )
        .join('')}</ul>`,
  )
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(document.info.title)}</title><style>${STYLE}</style>
<h1>${escape(document.info.title)}</h1>
${(document.info.description ?? '')
  .split('\n\n')
  .map((it) => `<p>${prose(it)}</p>`)
  .join('')}
<p>Paths are under <code>/${escape(name)}</code>; the same as a document: <a href="/openapi/${escape(name)}.json">/openapi/${escape(name)}.json</a>.
In the examples <code>API=https://127.0.0.1:8080/${escape(name)}</code>.</p>
<nav><ul>${contents.join('')}</ul></nav>
${shown
  .map(
    ({ tag, operations }) =>
      `<h2>${escape(tag ?? 'other')}</h2>${operations
        .map(({ method, path, operation }) => operationOf(document, method, path, operation))
        .join('\n')}`,
  )
  .join('\n')}
</html>`
}
