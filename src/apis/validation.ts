import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { CloudError } from '#lib/errors.ts'

/** What a JSON schema node can carry that matters to the wording of a refusal. */
type Node = {
  readonly type?: string
  readonly title?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly maxItems?: number
  readonly minItems?: number
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
  readonly additionalProperties?: Node | boolean
  /** Of a map: one pattern that every key fits. */
  readonly patternProperties?: Readonly<Record<string, Node>>
  readonly anyOf?: readonly Node[]
}

type Fault = {
  readonly keyword: string
  readonly instancePath: string
  readonly message: string
  readonly params: object
}

const TYPES: Readonly<Record<string, string>> = {
  integer: 'an integer',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  null: 'null',
}
const FORMATS: Readonly<Record<string, string>> = {
  uuid: 'a UUID',
  ipv4: 'an IPv4 address',
  ipv6: 'an IPv6 address',
  'date-time': 'a time in ISO 8601 form',
}

/** What a value has too much of. */
const TOO_LARGE: ReadonlySet<string> = new Set(['maxLength', 'maxItems', 'maxProperties'])

const stepsOf = (pointer: string): string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))

/** `/pods/0/name` as a person writes it: `pods[0].name`. */
const fieldOf = (steps: readonly string[]): string =>
  steps.reduce(
    (text, step) => (/^\d+$/.test(step) ? `${text}[${step}]` : text ? `${text}.${step}` : step),
    '',
  )

function nodeAt(root: Node, steps: readonly string[]): Node | undefined {
  let node: Node | undefined = root
  for (const step of steps) {
    const choices: readonly Node[] = node?.anyOf ?? (node ? [node] : [])
    node = choices
      .map(
        (it) =>
          it.properties?.[step] ??
          it.items ??
          Object.values(it.patternProperties ?? {})[0] ??
          (typeof it.additionalProperties === 'object' ? it.additionalProperties : undefined),
      )
      .find((it) => it !== undefined)
  }
  return node
}

const kindOf = (node: Node | undefined): string =>
  (node?.anyOf ?? (node ? [node] : []))
    .map((it) => it.title ?? TYPES[it.type ?? ''] ?? 'something else')
    .join(' or ')

function demandOf(fault: Fault, node: Node | undefined): string {
  const { limit, format } = fault.params as { limit?: number; format?: string }
  if (node?.anyOf) return `must be ${kindOf(node)}`
  switch (fault.keyword) {
    // No schema allows a field that is not named: its place in the schema is `false`.
    case 'boolean':
      return 'is not known'
    case 'type':
      return `must be ${kindOf(node)}`
    case 'minimum':
    case 'maximum':
      return node?.minimum !== undefined && node.maximum !== undefined
        ? `must be between ${node.minimum} and ${node.maximum}`
        : fault.keyword === 'minimum'
          ? `must be at least ${limit}`
          : `must be at most ${limit}`
    case 'pattern':
      return node?.title ? `must be ${node.title}` : 'has a wrong form'
    case 'format':
      return `must be ${FORMATS[format ?? ''] ?? `of the form ${format}`}`
    case 'minLength':
      return limit === 1 ? 'must not be empty' : `must have at least ${limit} characters`
    case 'maxLength':
      return `must have at most ${limit} characters`
    case 'minItems':
      return `must have at least ${limit} entries`
    case 'maxItems':
      return `must have at most ${limit} entries`
    case 'enum':
    case 'const':
      return `must be ${[...(node?.enum ?? [node?.const])].join(', ').replace(/, ([^,]*)$/, ' or $1')}`
    default:
      return fault.message
  }
}

/**
 * The first thing wrong with a value, as a refusal with the field in its details: `must be between 1 and 10` of
 * `replica_count`. A schema's `title` is what a value of it is called ("must be <title>").
 */
export function refusalFor(schema: TSchema, faults: readonly Fault[], whole = 'Body'): CloudError {
  const first = faults[0]
  if (!first) return new CloudError('invalid', `${whole} is not valid`)
  const steps = stepsOf(first.instancePath)
  if (first.keyword === 'required') {
    const { requiredProperties } = first.params as { requiredProperties?: readonly string[] }
    const field = fieldOf([...steps, requiredProperties?.[0] ?? ''])
    return new CloudError('invalid', 'is required', { field, rule: 'required' })
  }
  const node = nodeAt(schema as Node, steps)
  const demand = demandOf(first, node)
  if (steps.length === 0) return new CloudError('invalid', `${whole} ${demand}`)
  const isTooLarge = TOO_LARGE.has(first.keyword)
  return new CloudError('invalid', demand, {
    field: fieldOf(steps),
    ...(isTooLarge ? { rule: 'too_large' } : {}),
  })
}

function isEmpty(value: unknown): boolean {
  for (const _ in value as object) return false
  return true
}

/**
 * Validates with TypeBox. Bodies are taken as they are: nothing is coerced, dropped or filled in. Query strings and
 * path parameters are text, so they are converted where the schema has another type. A refusal is a CloudError.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  // Compiled when first used: hundreds of schemas would make the start slow.
  let compiled: ReturnType<typeof Compile> | undefined
  return (value: unknown) => {
    compiled ??= Compile(schema)
    const seen = httpPart === 'body' || isEmpty(value) ? value : Value.Convert(schema, value)
    if (compiled.Check(seen)) return { value: seen }
    return {
      error: refusalFor(
        schema,
        compiled.Errors(seen) as readonly Fault[],
        httpPart === 'body' ? 'Body' : 'Query',
      ),
    }
  }
}
