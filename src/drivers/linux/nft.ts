/** An element of a set, or with a value of a map. */
export type Element = readonly [key: string, value?: string]

const elementsOf = (elements: readonly Element[]): string =>
  elements.length
    ? `; elements = { ${elements.map(([key, value]) => (value ? `${key} : ${value}` : key)).join(', ')} }`
    : ''

/** A named set or, when its type has a `:`, a map. */
export const nftSet = (name: string, type: string, elements: readonly Element[], flags = ''): string =>
  `  ${type.includes(' : ') ? 'map' : 'set'} ${name} { type ${type}${flags && `; flags ${flags}`}${elementsOf(elements)}; }`

/** A chain of rules, a line each; the first line of a base chain says where it is hooked. */
export const nftChain = (name: string, lines: readonly string[]): string =>
  [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), '  }'].join('\n')

/** A transaction that puts this table in the place of the one of that name, whether there is one or not. */
export const nftReplace = (table: string, parts: readonly string[]): string =>
  [`table inet ${table}`, `delete table inet ${table}`, `table inet ${table} {`, ...parts, '}', ''].join('\n')
