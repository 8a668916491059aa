import assert from 'node:assert/strict'
import type { ValidateFunction } from 'ajv/dist/2020.js'
import { contractAjv } from '../e2e/contract.testing.ts'
import type { Answer } from './ask.ts'
import type { SweptDialect } from './dialect.ts'
import { declared, EVENTS, type Operation, type Schema } from './document.ts'

const ajv = contractAjv()
const compiled = new WeakMap<object, ValidateFunction>()

/** Throws with each place where a value is not as a schema says. */
export function fits(schema: Schema, value: unknown, what: string): void {
  const validate = compiled.get(schema) ?? ajv.compile(schema)
  compiled.set(schema, validate)
  if (!validate(value))
    assert.fail(`${what}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value)?.slice(0, 2000)}`)
}

/** Words of our insides, of our libraries and of stack traces: no answer has them. */
export const INTERNAL =
  /\bat (?:\S+ \()?\/?\S+:\d+:\d+|node_modules|node:internal|SQLITE|sqlite|FST_ERR|[Ff]astify|\bajv\b|typebox|TypeError|RangeError|ReferenceError|SyntaxError|Cannot read prop|is not a function|is not iterable|\bE(?:NOENT|ACCES|INVAL|PIPE)\b|\[object Object\]|\bundefined\b|\bNaN\b|\/src\/\w+|\.ts\b/

export const seenAs = (what: string, { status, text }: Answer): string =>
  `${what} answered ${status} ${text.slice(0, 1000)}`

/** What any request may come to, whatever it asks for: no such path or method, too much, too often. */
const ANYWHERE = [404, 405, 413, 429]

/** Throws unless the answer is one that a client can count on: never a fault of ours, always the dialect's own shape. */
export function judge(table: SweptDialect, operation: Operation, answer: Answer, what: string): void {
  const { status, body } = answer
  const at = seenAs(what, answer)
  const isLater = status === table.later && answer.headers['retry-after'] !== undefined
  assert.ok(status < 500 || isLater, at)
  if (status >= 400) {
    fits(table.refusal, body, at)
    assert.doesNotMatch(String(table.messageOf(body)), INTERNAL, at)
    if (!ANYWHERE.includes(status) && !isLater)
      assert.notEqual(declared(operation, status), undefined, `${at}, which its document does not list`)
    return
  }
  if (status === 101 || (operation.streams && answer.type.startsWith(EVENTS))) return
  const schema = declared(operation, status)
  assert.notEqual(schema, undefined, `${at}, which its document does not list`)
  if (schema) fits(schema, body, at)
}

/** The refusal of an answer as a caller may compare it: without what was asked for and the number of the request. */
export const withoutNames = ({ status, text }: Answer, names: readonly string[]): string =>
  names
    .filter((it) => it !== '')
    .reduce((all, name) => all.replaceAll(name, '<name>'), `${status} ${text}`)
    .replaceAll(/"(request_?[iI]d|timestamp)": ?"[^"]*"/g, '"$1":"<request>"')
