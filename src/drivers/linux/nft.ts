/** An element of a set, or with a value of a map. */
export type Element = readonly [key: string, value?: string]

/** A named part of a table, as text and taken apart. */
export type Part = { readonly name: string } & (
  | {
      readonly kind: 'set' | 'map'
      /** Its type and flags, as they are declared. */
      readonly head: string
      readonly elements: readonly string[]
    }
  | { readonly kind: 'chain'; readonly lines: readonly string[] }
)

/** Tells parts of one table apart: a chain and a set may have one name. */
export const keyOf = ({ kind, name }: { readonly kind: string; readonly name: string }): string =>
  `${kind} ${name}`

/** A named set or, when its type has a `:`, a map. */
export const nftSet = (name: string, type: string, elements: readonly Element[], flags = ''): Part => ({
  name,
  kind: type.includes(' : ') ? 'map' : 'set',
  head: `type ${type};${flags && ` flags ${flags};`}`,
  elements: elements.map(([key, value]) => (value ? `${key} : ${value}` : key)),
})

/** A chain of rules, a line each; the first line of a base chain says where it is hooked. */
export const nftChain = (name: string, lines: readonly string[]): Part => ({ name, kind: 'chain', lines })

function textOf(it: Part | string): string {
  if (typeof it === 'string') return it
  if (it.kind === 'chain')
    return [`  chain ${it.name} {`, ...it.lines.map((line) => `    ${line}`), '  }'].join('\n')
  const elements = it.elements.length ? ` elements = { ${it.elements.join(', ')} };` : ''
  return `  ${it.kind} ${it.name} { ${it.head}${elements} }`
}

/** A transaction that puts this table in the place of the one of that name, whether there is one or not. */
export const nftReplace = (table: string, parts: readonly (Part | string)[]): string =>
  [
    `table inet ${table}`,
    `delete table inet ${table}`,
    `table inet ${table} {`,
    ...parts.map(textOf),
    '}',
    '',
  ].join('\n')

/** Elements that one transaction changes; the kernel takes as long to remove some hundred as to load a large table. */
const ELEMENTS_MAX = 100

const isHooked = (it: Part): boolean => it.kind === 'chain' && it.lines[0]?.startsWith('type ') === true

const hookOf = (it: Part): string => (it.kind !== 'chain' ? it.head : isHooked(it) ? (it.lines[0] ?? '') : '')

/** Parts of one table, by their keys. */
export const byKey = (parts: readonly Part[]): ReadonlyMap<string, Part> =>
  new Map(parts.map((it) => [keyOf(it), it]))

const without = (all: readonly string[], others: readonly string[]): string[] => {
  const set = new Set(others)
  return all.filter((it) => !set.has(it))
}

/**
 * A transaction that makes a table of the parts `before` one of the parts `now` by writing only what differs, and the names of the parts
 * it writes; of a set single elements. Undefined where the whole table has to be put in its place: what is hooked or how a
 * set is declared changed, or there is very much to write. It fails when the table is not as it was.
 */
export function nftChange(
  table: string,
  before: readonly Part[],
  now: readonly Part[],
): { readonly text: string; readonly parts: readonly Part[] } | undefined {
  const [old, next] = [byKey(before), byKey(now)]
  const made = now.filter((it) => !old.has(keyOf(it)))
  const gone = before.filter((it) => !next.has(keyOf(it)))
  const kept = now.flatMap((it) => {
    const was = old.get(keyOf(it))
    return was ? [{ it, was }] : []
  })
  if ([...made, ...gone].some(isHooked)) return undefined
  if (kept.some(({ it, was }) => hookOf(it) !== hookOf(was))) return undefined
  const of = (it: Part): string => `inet ${table} ${it.name}`
  const [declared, flushed, removed, filled] = [[], [], [], []] as [string[], string[], string[], string[]]
  const changed = new Set(made)
  let elements = 0
  const fill = (it: Part, from: Part | undefined): void => {
    if (it.kind === 'chain') {
      for (const line of it.lines.slice(isHooked(it) ? 1 : 0)) filled.push(`add rule ${of(it)} ${line}`)
      return
    }
    const had = from && from.kind !== 'chain' ? from.elements : []
    const [less, more] = [without(had, it.elements), without(it.elements, had)]
    elements += less.length + more.length
    if (less.length) removed.push(`delete element ${of(it)} { ${less.join(', ')} }`)
    if (more.length) filled.push(`add element ${of(it)} { ${more.join(', ')} }`)
    if (less.length || more.length) changed.add(it)
  }
  for (const it of made) {
    declared.push(`add ${it.kind} ${of(it)}${it.kind === 'chain' ? '' : ` { ${it.head} }`}`)
    fill(it, undefined)
  }
  for (const { it, was } of kept) {
    if (it.kind === 'chain' && was.kind === 'chain') {
      if (it.lines.length === was.lines.length && it.lines.every((line, at) => line === was.lines[at]))
        continue
      changed.add(it)
      flushed.push(`flush chain ${of(it)}`)
    }
    fill(it, was)
  }
  // What is gone is referred to by nothing once the chains are empty and the elements removed.
  for (const it of gone) if (it.kind === 'chain') flushed.push(`flush chain ${of(it)}`)
  removed.push(...gone.map((it) => `delete ${it.kind} ${of(it)}`))
  if (elements > ELEMENTS_MAX) return undefined
  const lines = [...declared, ...flushed, ...removed, ...filled]
  return { text: lines.map((it) => `${it}\n`).join(''), parts: [...changed] }
}
