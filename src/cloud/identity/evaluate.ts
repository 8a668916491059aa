import { BlockList, isIP, isIPv6 } from 'node:net'
import type { Statement } from './policy.kind.ts'

/** A statement with the policy that it stands in, to tell by which one something is refused. */
export type Attached = Statement & { readonly policy: { readonly id: string; readonly name: string } }

/** What is asked of policies: an action by all its names, a resource by all its names, and the circumstances. */
export type Question = {
  readonly actions: readonly string[]
  readonly resources: readonly string[]
  /** Values by condition key; a key that is absent is not known. */
  readonly context: Readonly<Record<string, string>>
}

/** The first statement that decides, a Deny before every Allow; undefined when none speaks of it. */
export function evaluate(statements: readonly Attached[], question: Question): Attached | undefined {
  let allow: Attached | undefined
  for (const it of statements) {
    if ((it.effect === 'Allow' && allow) || !applies(it, question)) continue
    if (it.effect === 'Deny') return it
    allow = it
  }
  return allow
}

const applies = ({ action, resource, condition = {} }: Statement, question: Question): boolean =>
  matchesAny(action, question.actions) &&
  matchesAny(resource, question.resources) &&
  Object.entries(condition).every(([operator, keys]) =>
    Object.entries(keys).every(([key, expected]) => holds(operator, question.context[key], expected)),
  )

/** `*`, a prefix before a trailing `*`, or the very text. */
export const matches = (pattern: string, text: string): boolean =>
  pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : pattern === text

/** Whether any pattern matches any of the texts. */
export const matchesAny = (patterns: readonly string[], texts: readonly string[]): boolean =>
  patterns.some((pattern) => texts.some((text) => matches(pattern, text)))

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : [value])

type Test = (actual: string, expected: unknown) => boolean
const isText = (it: unknown): it is string => typeof it === 'string'

const atOf = (text: unknown): number => (isText(text) ? Date.parse(text) : Number.NaN)

/** Operators whose condition holds when the value passes for any of those that are expected. */
const POSITIVE: Readonly<Record<string, Test>> = {
  IpAddress: within,
  StringEquals: (actual, expected) => actual === expected,
  StringLike: (actual, expected) => isText(expected) && like(expected, actual),
  DateGreaterThan: (actual, expected) => atOf(actual) > atOf(expected),
  DateLessThan: (actual, expected) => atOf(actual) < atOf(expected),
  DateEquals: (actual, expected) => atOf(actual) === atOf(expected),
  Bool: (actual, expected) => actual === String(expected),
}
const NEGATIVE: Readonly<Record<string, string>> = {
  NotIpAddress: 'IpAddress',
  StringNotEquals: 'StringEquals',
  StringNotLike: 'StringLike',
}

/** A key that is not known fails what asks for a value and passes what excludes one. */
function holds(operator: string, actual: string | undefined, expected: unknown): boolean {
  if (operator === 'Null') return (actual === undefined) === (String(expected) === 'true')
  const positive = POSITIVE[NEGATIVE[operator] ?? operator]
  if (!positive) return false
  const passes = actual !== undefined && listOf(expected).some((it) => positive(actual, it))
  return operator in NEGATIVE ? !passes : passes
}

/** Whether an address is the one given or lies in the network given. */
function within(actual: string, expected: unknown): boolean {
  if (!isText(expected) || !isIP(actual)) return false
  const [address = '', prefix, ...rest] = expected.split('/')
  const family = isIP(address)
  if (!family || rest.length) return false
  const length = Number(prefix ?? (family === 6 ? 128 : 32))
  if (prefix !== undefined && (!/^\d{1,3}$/.test(prefix) || length > (family === 6 ? 128 : 32))) return false
  const list = new BlockList()
  list.addSubnet(address, length, isIPv6(address) ? 'ipv6' : 'ipv4')
  return isIP(actual) === family && list.check(actual, isIPv6(actual) ? 'ipv6' : 'ipv4')
}

/** Text against a pattern in which `*` is any run of characters and `?` any one; its cost grows with the product of both lengths at most. */
export function like(pattern: string, text: string): boolean {
  let at = 0
  let star = -1
  let resume = 0
  let next = 0
  while (at < text.length) {
    if (pattern[next] === '*') {
      star = next++
      resume = at
    } else if (next < pattern.length && (pattern[next] === '?' || pattern[next] === text[at])) {
      next++
      at++
    } else if (star >= 0) {
      next = star + 1
      at = ++resume
    } else return false
  }
  while (pattern[next] === '*') next++
  return next === pattern.length
}
