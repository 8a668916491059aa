// Collects every named limit of the program. As a program of its own (`npm run limits`) it writes docs/limits.md.
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { DEFAULT_SETTINGS } from '#cloud/context.ts'
import { KINDS } from '#cloud/kinds.ts'

const ROOT = join(import.meta.dirname, '..')
export const LIMITS_FILE = join(ROOT, 'docs/limits.md')

/** A constant that bounds something: `value` in the unit that its name says. */
export type Limit = {
  readonly file: string
  readonly name: string
  readonly value: number
  /** Its comment, or nothing. */
  readonly meaning: string
}

/** One of these words makes a constant of numbers a limit: FETCH_TRIES_MAX, maxMs. */
const LIMIT_WORDS =
  /^(max|min|ms|seconds|minutes|days|bytes|kib|mib|kept|length|once|per|every|tries|times|page|percent|chars)$/i

const wordsOf = (name: string): string[] => name.split(/_|(?=[A-Z][a-z])/)
const isLimitName = (name: string): boolean => wordsOf(name).some((word) => LIMIT_WORDS.test(word))

/** A constant at the start of a line, with the comment before it: one block or lines. */
const CONSTANT =
  /(?<comment>(?:^\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n|(?:^\/\/[^\n]*\n)+)?)^(?:export )?const (?<name>[A-Z][A-Z0-9_]*)(?:: [^=\n]+)? = (?<value>\{\n[\s\S]*?\n\}|[^\n]*)/gm
const FIELD =
  /(?<comment>(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*|(?:\/\/[^\n]*\n\s*)+)?)(?<name>[A-Za-z]\w*): (?<value>[^,{}\n]+)/g
const NUMBERS = /^[\d\s_.*+/()<xa-fA-F-]+$/

const plain = (comment: string): string =>
  comment
    .replaceAll(/\/\*\*|\*\//g, '')
    .split('\n')
    .map((line) => line.trim().replace(/^(\/\/|\*) ?/, ''))
    .join(' ')
    .trim()

/** The value of an expression of numbers and of constants seen before it; undefined when it is anything else. */
function valueOf(expression: string, known: ReadonlyMap<string, number>): number | undefined {
  const text = expression.replace(/ as const$/, '').replace(/\s*\/\/.*$/, '')
  const filled = text.replaceAll(/\b[A-Z][A-Z0-9_]+\b/g, (name) => String(known.get(name) ?? 'NaN'))
  if (!NUMBERS.test(filled) || !/\d/.test(filled)) return undefined
  const value: unknown = runInNewContext(filled)
  return typeof value === 'number' ? value : undefined
}

const SETTINGS_FILE = 'src/cloud/context.ts'
const isSource = (file: string): boolean =>
  !/\.(test|testing|conformance)\.ts$/.test(file) && file !== SETTINGS_FILE

/** Every limit below `src`, by file and then in the order of the text. */
export function collect(root = ROOT): Limit[] {
  const files = globSync('src/**/*.ts', { cwd: root }).filter(isSource).toSorted()
  const texts = files.map((file) => ({ file, text: readFileSync(join(root, file), 'utf8') }))
  const known = new Map<string, number>()
  for (const { text } of texts)
    for (const { groups } of text.matchAll(CONSTANT)) {
      const value = valueOf(groups?.['value'] ?? '', known)
      if (value !== undefined) known.set(groups?.['name'] ?? '', value)
    }
  return texts.flatMap(({ file, text }) => limitsOf(file, text, known))
}

function limitsOf(file: string, text: string, all: ReadonlyMap<string, number>): Limit[] {
  const known = new Map(all)
  const limits: Limit[] = []
  for (const { groups } of text.matchAll(CONSTANT)) {
    const { name = '', value: expression = '', comment = '' } = groups ?? {}
    const meaning = plain(comment)
    const value = valueOf(expression, known)
    if (value !== undefined) {
      known.set(name, value)
      if (isLimitName(name)) limits.push({ file, name, value, meaning })
    } else if (expression.startsWith('{')) {
      for (const field of expression.matchAll(FIELD)) {
        const { name: key = '', value: of = '', comment: said = '' } = field.groups ?? {}
        const amount = valueOf(of.trim(), known)
        if (amount === undefined || !(isLimitName(key) || isLimitName(name))) continue
        limits.push({ file, name: `${name}.${key}`, value: amount, meaning: plain(said) || meaning })
      }
    }
  }
  return limits
}

/** What an installation and its kinds set, which are fields and not constants. */
function settings(): Limit[] {
  const { quotas, replica } = DEFAULT_SETTINGS
  return [
    ...Object.entries(quotas).map(([name, value]) => ({
      file: SETTINGS_FILE,
      name: `quotas.${name}`,
      value,
      meaning: 'A tenant may have this much unless an administrator says otherwise.',
    })),
    ...Object.entries(replica).map(([name, value]) => ({
      file: SETTINGS_FILE,
      name: `replica.${name}`,
      value,
      meaning: 'What a container gets when its pod does not say.',
    })),
    ...KINDS.map((kind) => ({
      file: 'src/cloud/*/*.kind.ts',
      name: `${kind.name}.settleSecondsMax`,
      value: kind.settleSecondsMax,
      meaning: 'Not settled, or not gone, for longer than this: overdue.',
    })),
  ]
}

const UNITS: readonly [RegExp, (value: number) => string | undefined][] = [
  [/(^|_)MS(_|$)|Ms($|[A-Z])/, (value) => seconds(value / 1000)],
  [/(^|_)SECONDS(_|$)|[sS]econds($|[A-Z])/, seconds],
  [/(^|_)BYTES(_|$)|[bB]ytes($|[A-Z])/, bytes],
]

function seconds(value: number): string | undefined {
  for (const [unit, size] of [
    ['days', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ] as const)
    if (value >= size && value % size === 0) return `${value / size} ${unit}`
  return undefined
}

function bytes(value: number): string | undefined {
  for (const [unit, size] of [
    ['GiB', 1 << 30],
    ['MiB', 1 << 20],
    ['KiB', 1 << 10],
  ] as const)
    if (value >= size && value % size === 0) return `${value / size} ${unit}`
  return undefined
}

const shown = ({ name, value }: Limit): string => {
  const [, say] = UNITS.find(([pattern]) => pattern.test(name.split('.').at(-1) ?? '')) ?? []
  const words = say?.(value)
  return `${value.toLocaleString('en-US')}${words ? ` (${words})` : ''}`
}

const HEAD = `# Limits

Every named limit, with its value. Written by \`npm run limits\` from the constants and their comments; \`npm test\` fails
while it differs from them. The unit is in the name: \`_MS\` milliseconds, \`_SECONDS\`, \`_BYTES\`; a \`_MAX\` without one counts
things. A constant that is only a step on the way to a limit (a pause, an interval) is listed too.

To change one, change the constant. To add one, name it after its unit and what it bounds, say in its comment what happens
at the limit, and run \`npm run limits\`.
`

/** The layer, or the programs. */
const partOf = ({ file }: Limit): string =>
  file.split('/').length > 2 ? (file.split('/')[1] ?? '') : 'programs'

/** docs/limits.md as it should be. */
export function render(limits: readonly Limit[] = [...settings(), ...collect()]): string {
  const parts = [...Map.groupBy(limits, partOf)].toSorted(([a], [b]) => a.localeCompare(b))
  const sections = parts.map(([part, some]) =>
    [
      `## ${part}`,
      '',
      '| limit | value | where | meaning |',
      '| --- | --- | --- | --- |',
      ...some.map(
        (it) =>
          `| \`${it.name}\` | ${shown(it)} | ${it.file.slice(4)} | ${it.meaning.replaceAll('|', '\\|')} |`,
      ),
    ].join('\n'),
  )
  return `${[HEAD, ...sections].join('\n\n').replaceAll('\n\n\n', '\n\n')}\n`
}

if (import.meta.main) writeFileSync(LIMITS_FILE, render())
