import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { digestOf, parseTableBody, relisted } from './listing.ts'
import { nftSet } from './nft.ts'

const listed = (elements: string, more = ''): string =>
  `${more}\tset s {\n\t\ttype ipv4_addr . inet_service\n\t\tflags interval\n${elements && `\t\telements = { ${elements} }\n`}\t}\n\n` +
  '\tchain c {\n\t\tip saddr . tcp dport @s accept\n\t}\n'
const digestFor = (text: string): string => digestOf(parseTableBody(text))
const setOf = (...elements: string[]) =>
  nftSet(
    's',
    'ipv4_addr . inet_service',
    elements.map((it) => [it]),
    'interval',
  )
const TWO = '10.0.0.1 . 80,\n\t\t\t     10.0.0.2 . 81-82'

describe('how nftables lists a table', () => {
  test('is the same whatever the order and the lines of its elements', () => {
    assert.equal(digestFor(listed(TWO)), digestFor(listed('10.0.0.2 . 81-82, 10.0.0.1 . 80')))
  })

  test('differs by an element, a rule, a declaration, and what is none of its parts', () => {
    const same = digestFor(listed(TWO))
    const others = [
      listed('10.0.0.1 . 80'),
      listed(''),
      listed(TWO).replace('accept', 'drop'),
      listed(TWO).replace('flags interval', 'flags dynamic'),
      listed(TWO, '\tflags dormant\n\n'),
      `${listed(TWO)}\n\tcounter x {\n\t\tpackets 0\n\t}\n`,
    ]
    for (const it of others) assert.notEqual(digestFor(it), same, it)
  })

  test('follows from what is written where it is listed as that was, and only there', () => {
    const seen = (text: string): string | undefined => parseTableBody(text).get('set s')
    const two = setOf('10.0.0.2 . 81-82', '10.0.0.1 . 80')
    const next = relisted(seen(listed(TWO)), two, setOf('10.0.0.1 . 80'))
    assert.equal(next, seen(listed('10.0.0.1 . 80')))
    assert.equal(relisted(seen(listed('10.0.0.1 . http')), setOf('10.0.0.1 . 80'), two), undefined)
    assert.equal(relisted(undefined, undefined, two), undefined)
  })
})
