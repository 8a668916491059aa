import fc from 'fast-check'
import type { Json } from './ask.ts'
import type { Field, Schema } from './document.ts'

/** Values that get past one check or another, or that some layer below might take for something else. */
const ODD: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  -0,
  2 ** 31,
  2 ** 53,
  1e308,
  '',
  ' ',
  '-',
  'a',
  'A',
  'web',
  'production',
  'x'.repeat(64),
  'x'.repeat(5000),
  'é'.repeat(253),
  '\0',
  'a\0b',
  '\ud800',
  '\u202e',
  '💣',
  'ﬀ',
  'İ',
  '../..',
  '/a/../b',
  '/data',
  '%2e%2e',
  '%00',
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.1.0.0/16',
  '10.1.0.1',
  '10.1.2.3/24',
  '255.255.255.255',
  '999.1.1.1',
  '::/0',
  'fd00::1',
  'nginx:latest',
  'nginx@sha256:0',
  '********',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  "'; drop table resource; --",
  '{{7*7}}',
  '${7*7}',
  '<script>',
  'sealed:1:AAAA',
  'true',
  '1e3',
  '0x10',
  '2030-02-31T00:00:00Z',
  '+275760-09-13T00:00:00.001Z',
  [],
  [[]],
  [null],
  {},
  { __proto__x: 1 },
  { constructor: { prototype: { polluted: true } } },
]

const text = (schema: Schema): fc.Arbitrary<string> => {
  const max = Math.min(schema.maxLength ?? 40, 70_000)
  const lengths = [schema.minLength ?? 0, max, max + 1, Math.max(0, (schema.minLength ?? 0) - 1)]
  return fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({ maxLength: Math.min(max, 60) }),
    fc.constantFrom(...lengths).map((length) => 'a'.repeat(length)),
    fc.constantFrom('10.44.0.0/24', '10.44.0.1', 'web', 'nginx', '00000000-0000-7000-8000-000000000000'),
  )
}

const number = (schema: Schema): fc.Arbitrary<number> => {
  const { minimum = -2, maximum = 70_000 } = schema
  return fc.oneof(
    fc.integer({ min: Math.ceil(minimum), max: Math.max(Math.ceil(minimum), Math.floor(maximum)) }),
    fc.constantFrom(minimum, maximum, minimum - 1, maximum + 1, minimum + 0.5),
  )
}

export const odd = (): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...ODD) },
    fc.double(),
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.integer({ min: 1, max: 2000 }).map(nested),
  )

/** Lists in lists, so many deep. */
function nested(depth: number): unknown {
  let it: unknown = 'deep'
  for (let at = 0; at < depth; at++) it = at % 2 ? [it] : { a: it }
  return it
}

/** Values near what a schema allows: mostly such, at its boundaries, now and then something else. */
export function near(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const parts = schema.anyOf ?? schema.oneOf
  if (parts?.length) return fc.oneof(...parts.map((it) => near(it, depth + 1)))
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  if (depth > 5) return odd()
  switch (type ?? (schema.properties ? 'object' : undefined)) {
    case 'integer':
    case 'number':
      return number(schema)
    case 'string':
      return text(schema)
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array':
      return fc.array(near(schema.items ?? {}, depth + 1), { maxLength: 3 })
    case 'object':
      return fc.record(
        Object.fromEntries(
          Object.entries(schema.properties ?? {}).map(([name, it]) => [name, near(it, depth + 1)]),
        ),
        { requiredKeys: (schema.required ?? []).filter((it) => it in (schema.properties ?? {})) },
      )
    default:
      return odd()
  }
}

/** Something done to one place of a good body. */
export type Twist =
  | { readonly do: 'set'; readonly path: string; readonly to: unknown }
  | { readonly do: 'drop'; readonly path: string }
  | { readonly do: 'add'; readonly path: string; readonly name: string; readonly to: unknown }

const PROTOTYPE_NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '',
  'id',
  'status',
]

/** Changes of a body, each at one of the fields that its schema has. */
export const twists = (fields: readonly Field[]): fc.Arbitrary<readonly Twist[]> => {
  const one =
    fields.length === 0
      ? fc.constant<Twist>({ do: 'add', path: '', name: 'more', to: 1 })
      : fc.constantFrom(...fields).chain(({ path, schema }): fc.Arbitrary<Twist> =>
          fc.oneof(
            {
              weight: 4,
              arbitrary: near(schema).map((to) => ({ do: 'set' as const, path, to })),
            },
            { weight: 3, arbitrary: odd().map((to) => ({ do: 'set' as const, path, to })) },
            fc.constant<Twist>({ do: 'drop', path }),
            fc.tuple(fc.constantFrom(...PROTOTYPE_NAMES), odd()).map(([name, to]) => ({
              do: 'add' as const,
              path: path.split('.').slice(0, -1).join('.'),
              name,
              to,
            })),
          ),
        )
  return fc.array(one, { minLength: 0, maxLength: 3 })
}

type Node = Record<string, unknown>

/** Where a path leads in a body; the way is made where it is missing. Of a list its first item, made where there is none. */
function parentOf(body: unknown, steps: readonly string[]): Node | undefined {
  let at = body
  for (const step of steps) {
    if (at === null || typeof at !== 'object') return undefined
    const name = step.replace('[]', '')
    const own = Object.hasOwn(at, name) ? (at as Node)[name] : undefined
    const next = own ?? (step.endsWith('[]') ? [{}] : {})
    Object.defineProperty(at, name, { value: next, enumerable: true, writable: true, configurable: true })
    if (!step.endsWith('[]')) at = next
    else {
      if (!Array.isArray(next)) return undefined
      if (next.length === 0) next.push({})
      at = next[0] as unknown
    }
  }
  return at !== null && typeof at === 'object' ? (at as Node) : undefined
}

/** The body with the twists done to it. Own properties alone are made, also of names that a prototype has. */
export function twisted(body: Json | undefined, all: readonly Twist[]): unknown {
  const copy = structuredClone(body) as unknown
  for (const it of all) {
    const steps = it.path === '' ? [] : it.path.split('.')
    const node = parentOf(copy, it.do === 'add' ? steps : steps.slice(0, -1))
    if (!node) continue
    const name = it.do === 'add' ? it.name : (steps.at(-1) ?? '').replace('[]', '')
    if (it.do === 'drop') delete node[name]
    else
      Object.defineProperty(node, name, {
        value: it.to,
        enumerable: true,
        writable: true,
        configurable: true,
      })
  }
  return copy
}
