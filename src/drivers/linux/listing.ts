import { createHash } from 'node:crypto'
import { canonical } from './links.ts'
import { byKey, keyOf, type Part } from './nft.ts'

/**
 * How nftables lists each part of a table, as digests: of a set its declaration and its elements, which have no order, apart.
 * What is listed beside the parts has the key ''.
 */
export type Listed = ReadonlyMap<string, string>

export const digest = (text: string): string => createHash('sha256').update(text).digest('base64')

const ofElements = (elements: readonly string[]): string => digest(elements.toSorted().join())

const ELEMENTS = /^\t\telements = \{([^}]*)\}\n/m

/** Reads the body of a listed table. */
export function parseTableBody(text: string): Listed {
  const listed = new Map<string, string>()
  const rest = text.replace(
    /^\t(\w+) (\S+) \{\n([\s\S]*?)^\t\}\n/gm,
    (_, kind: string, name: string, body: string) => {
      const [, elements = ''] = ELEMENTS.exec(body) ?? []
      const list = elements.split(',').map((it) => it.trim().replace(/\s+/g, ' '))
      const value =
        kind === 'set' || kind === 'map'
          ? `${digest(body.replace(ELEMENTS, ''))} ${ofElements(list.filter(Boolean))}`
          : digest(body)
      listed.set(keyOf({ kind, name }), value)
      return ''
    },
  )
  return listed.set('', digest(rest.trim()))
}

/** One digest of all. */
export const digestOf = (listed: Listed): string =>
  digest(
    [...listed]
      .map((it) => it.join(' '))
      .toSorted()
      .join('\n'),
  )

/** How a set will be listed once its elements are those of `part`; undefined when nftables lists them otherwise than they are written. */
function relistedSet(listed: string | undefined, was: Part | undefined, part: Part): string | undefined {
  const [head, elements] = listed?.split(' ') ?? []
  if (part.kind === 'chain' || was === undefined || was.kind === 'chain') return undefined
  return elements === ofElements(was.elements) ? `${head} ${ofElements(part.elements)}` : undefined
}

const ADDRESS = /(?<!\S)(\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:]*:[0-9a-f]*)(?!\S)/g

/** A chain's rules without their addresses; undefined when nftables may list another order, or another form of an address. */
function shapeOf(part: Part): string | undefined {
  if (part.kind !== 'chain') return undefined
  const text = part.lines.join('\n')
  const all = text.match(ADDRESS) ?? []
  if (text.includes('{') || all.some((it) => canonical(it) !== it)) return undefined
  return text.replace(ADDRESS, (it) => (it.includes(':') ? '::' : '.'))
}

const asWritten = (part: Part): string =>
  part.kind === 'chain' ? digest(part.lines.map((it) => `\t\t${it}\n`).join('')) : ''

/** Shapes of chains that nftables was seen to list as they are written; what it lists does not depend on the table. */
const seenAsWritten = new Set<string>()
const SEEN_MAX = 1000

/**
 * Foretells how nftables will list parts, by how it lists those of `before`: a set by its other elements, a chain by one
 * that has the same rules with other addresses, in any table so far. Undefined for a part that has to be asked for.
 */
export function foretell(before: readonly Part[], listed: Listed): (part: Part) => string | undefined {
  const was = byKey(before)
  const isSeen = (shape: string): boolean => {
    if (seenAsWritten.has(shape)) return true
    const isAlike = before.some((it) => listed.get(keyOf(it)) === asWritten(it) && shapeOf(it) === shape)
    if (isAlike && seenAsWritten.size < SEEN_MAX) seenAsWritten.add(shape)
    return isAlike
  }
  return (part) => {
    const shape = shapeOf(part)
    if (shape !== undefined) return isSeen(shape) ? asWritten(part) : undefined
    const key = keyOf(part)
    return relistedSet(listed.get(key), was.get(key), part)
  }
}
