import type { SweptDialect } from './dialect.ts'
import { type Field, fieldsOf, type Operation, type Schema } from './document.ts'

/** Names of fields that hold secrets, whatever the document says of them. */
const NAMED_SO = /(^|[._\]])(\w*?(password|passphrase|secret|token|private_?key|api_?key|credentials?))$/i

const isText = ({ schema }: Field): boolean =>
  [schema, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].some((it) => it.type === 'string')

/** Whether a document says of a field that it is never shown. */
export const isMarked = (schema: Schema): boolean =>
  schema.writeOnly === true ||
  schema.format === 'password' ||
  [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].some(isMarked)

/** The fields of an operation's body that hold secrets: by what the document says of them, or by their names. */
export const secretFieldsOf = (table: SweptDialect, operation: Operation): Field[] =>
  fieldsOf(operation.body).filter((field) => {
    if (!isText(field)) return false
    if ([...(table.notSecret ?? []), ...(table.ownToken ?? [])].includes(field.path)) return false
    return isMarked(field.schema) || NAMED_SO.test(field.path)
  })
