import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { digestOf, foretell, parseTableBody } from './listing.ts'
import { nftChain, nftSet, type Part } from './nft.ts'

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
    const next = (text: string, was: readonly Part[], part: Part): string | undefined =>
      foretell(was, parseTableBody(text))(part)
    const two = setOf('10.0.0.2 . 81-82', '10.0.0.1 . 80')
    assert.equal(next(listed(TWO), [two], setOf('10.0.0.1 . 80')), seen(listed('10.0.0.1 . 80')))
    assert.equal(next(listed('10.0.0.1 . http'), [setOf('10.0.0.1 . 80')], two), undefined)
    assert.equal(next('', [], two), undefined)
  })

  test('of a chain follows from another with the same rules and other addresses', () => {
    const text = (name: string, rule: string): string => `\tchain ${name} {\n\t\t${rule}\n\t}\n`
    const chain = (name: string, rule: string): Part => nftChain(name, [rule])
    const lead = (rule: string, like: string, listedAs = like): string | undefined =>
      foretell([chain('a', like)], parseTableBody(text('a', listedAs)))(chain('b', rule))
    const alike = [
      ['dnat ip to 10.0.0.1', 'dnat ip to 10.9.0.23'],
      ['dnat ip6 to fd00:0:1::7', 'dnat ip6 to fd00::1:0:0:1'],
    ] as const
    for (const [rule, like] of alike)
      assert.equal(lead(rule, like), parseTableBody(text('b', rule)).get('chain b'), rule)
    const others = [
      ['dnat to 10.0.0.1', 'dnat to fd00::1'],
      ['snat ip to 10.0.0.1', 'dnat ip to 10.0.0.1'],
      ['dnat ip6 to fd00:0:0:0::1', 'dnat ip6 to fd00::1'],
      ['ip daddr { 10.0.0.2, 10.0.0.1 } drop', 'ip daddr { 10.0.0.1, 10.0.0.2 } drop'],
      ['ip daddr 10.0.0.0/8 drop', 'ip daddr 10.0.0.1 drop'],
    ] as const
    for (const [rule, like] of others) assert.equal(lead(rule, like), undefined, rule)
    assert.equal(lead('dnat to 10.0.0.1', 'dnat to 10.0.0.2', 'dnat ip to 10.0.0.2'), undefined)
    // Once seen it is known of every table.
    assert.notEqual(foretell([], new Map())(chain('b', 'dnat ip to 10.0.0.9')), undefined)
  })
})
