import { createHash } from 'node:crypto'
import { keyOf, type Part } from './nft.ts'

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
export function relisted(listed: string | undefined, was: Part | undefined, part: Part): string | undefined {
  const [head, elements] = listed?.split(' ') ?? []
  if (part.kind === 'chain' || was === undefined || was.kind === 'chain') return undefined
  return elements === ofElements(was.elements) ? `${head} ${ofElements(part.elements)}` : undefined
}
