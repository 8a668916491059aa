import { readFileSync } from 'node:fs'

// What tests read of a contract and of the document of our own routes, to compare them.

export type Schema = {
  $ref?: string
  allOf?: Schema[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
}
export type Operation = {
  operationId: string
  summary: string
  tags: string[]
  security?: Record<string, unknown>[]
  parameters?: { $ref?: string; name?: string; in?: string }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>
}
export type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

/** The contract of a dialect. */
export const contractNamed = (name: string): Document =>
  JSON.parse(readFileSync(new URL(`../../test/contracts/${name}.json`, import.meta.url), 'utf8')) as Document

/** Every operation of a document. */
export const operationsIn = (of: Document) =>
  Object.entries(of.paths).flatMap(([path, item]) =>
    ['get', 'post', 'put', 'patch', 'delete'].flatMap((method) => {
      const operation = item[method]
      return operation ? [{ method: method.toUpperCase(), path, operation }] : []
    }),
  )

/** Every field of a schema, each with whether it is required. */
export function fieldsOf(of: Document, schema: Schema | undefined, prefix = ''): Record<string, boolean> {
  if (!schema) return {}
  if (schema.$ref) return fieldsOf(of, of.components.schemas[schema.$ref.split('/').at(-1) ?? ''], prefix)
  const parts = [...(schema.allOf ?? []), ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]
  return Object.assign(
    {},
    ...parts.map((it) => fieldsOf(of, it, prefix)),
    fieldsOf(of, schema.items, `${prefix}[].`),
    ...Object.entries(schema.properties ?? {}).map(([name, child]) => ({
      [prefix + name]: schema.required?.includes(name) ?? false,
      ...fieldsOf(of, child, `${prefix}${name}.`),
    })),
  ) as Record<string, boolean>
}

/** Schema of a JSON body. */
export const jsonOf = (
  it: { content?: Record<string, { schema: Schema }> } | undefined,
): Schema | undefined => it?.content?.['application/json']?.schema
