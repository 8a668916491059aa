import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { plannedHost } from '#cloud/network/network.conformance.ts'
import type { PlannedVip, VpcPlan } from '#cloud/network/network.driver.ts'
import { routerLink } from './names.ts'
import { keyOf, nftChain, nftChange, nftSet, type Part } from './nft.ts'
import { inNetwork } from './nft.testing.ts'
import { anyPlan } from './plan.testing.ts'
import { ROUTER_TABLE, vpcParts } from './render.ts'

/** A table as the kernel has it. */
type Kept = { readonly head: string; readonly items: string[] }
type Model = Map<string, Kept>

const modelOf = (parts: readonly Part[]): Model =>
  new Map(
    parts.map((it) => [
      keyOf(it),
      it.kind === 'chain'
        ? {
            head: it.lines[0]?.startsWith('type ') ? it.lines[0] : '',
            items: it.lines.filter((line) => !line.startsWith('type ')),
          }
        : { head: it.head, items: it.elements.toSorted() },
    ]),
  )

/** The parts that a rule or a verdict of an element leads to. */
const named = (text: string): string[] => [
  ...[...text.matchAll(/ @([\w-]+)/g)].map(([, name = '']) => `set ${name}`),
  ...[...text.matchAll(/(?:goto|jump) ([\w-]+)/g)].map(([, name = '']) => `chain ${name}`),
]
const refers = (model: Model, name: string): boolean =>
  [...model.values()].some(({ items }) => items.some((it) => named(it).includes(name)))

const split = (text: string): string[] =>
  text.slice(text.indexOf('{') + 2, text.lastIndexOf(' }')).split(', ')

/** Does what a line says, as strictly as the kernel: what is not there, is there already or is still in use is an error. */
function act(model: Model, line: string): void {
  const [, verb = '', kind = '', name = '', rest = ''] =
    /^(\w+) (\w+) inet arcus ([\w-]+) ?(.*)$/.exec(line) ?? []
  const at = (word: string): Kept => {
    const found = model.get(`${word} ${name}`)
    assert.ok(found, `no ${word} ${name}: ${line}`)
    return found
  }
  const set = (): Kept => at(model.has(`map ${name}`) ? 'map' : 'set')
  const there = (text: string): void => {
    for (const it of named(text))
      assert.ok(model.has(it) || model.has(it.replace('set', 'map')), `${it} is not there: ${line}`)
  }
  if (verb === 'add' && ['set', 'map', 'chain'].includes(kind)) {
    assert.ok(!model.has(`${kind} ${name}`), line)
    model.set(`${kind} ${name}`, { head: rest.replace(/^\{ | \}$/g, ''), items: [] })
  } else if (verb === 'add' && kind === 'rule') {
    there(rest)
    at('chain').items.push(rest)
  } else if (verb === 'add' && kind === 'element') {
    const { items } = set()
    for (const it of split(rest)) {
      there(it)
      assert.ok(!items.some((one) => one.split(' : ')[0] === it.split(' : ')[0]), `${it} is there: ${line}`)
      items.push(it)
    }
  } else if (verb === 'delete' && kind === 'element') {
    const { items } = set()
    for (const it of split(rest)) {
      assert.ok(items.includes(it), `${it} is not there: ${line}`)
      items.splice(items.indexOf(it), 1)
    }
  } else if (verb === 'flush') at('chain').items.splice(0)
  else if (verb === 'delete') {
    const key = `${kind} ${name}`
    assert.ok(!refers(model, key.replace('map', 'set')), `${key} is in use: ${line}`)
    assert.equal(kind === 'chain' ? at(kind).items.length : 0, 0, line)
    assert.ok(model.delete(key), line)
  } else throw new Error(`cannot read: ${line}`)
}

const overlap = (one: string, other: string): boolean => {
  const [fields, others] = [one.split(' . '), other.split(' . ')]
  return fields.every((a, at) => {
    const b = others[at] ?? ''
    const [[from = 0, to = from], [first = 0, last = first]] = [a, b].map((it) =>
      it.split('-').map(Number),
    ) as [number[], number[]]
    if (/^[\d-]+$/.test(a)) return from <= last && first <= to
    const base = (it: string): string => it.split('/')[0] ?? ''
    return a === b || (/[.:]/.test(a) && (inNetwork(a, base(b)) || inNetwork(b, base(a))))
  })
}

const anyVips = (plan: VpcPlan): fc.Arbitrary<PlannedVip[]> =>
  fc
    .uniqueArray(
      fc.record({
        last: fc.integer({ min: 100, max: 103 }),
        ports: fc.uniqueArray(fc.integer({ min: 80, max: 82 }), { maxLength: 2 }),
        backends: fc.subarray(plan.attachments.map((it) => it.id)),
      }),
      { selector: (it) => it.last, maxLength: 3 },
    )
    .map((all) =>
      all.map(({ last, ports, backends }) => ({
        id: `v${last}`,
        subnet: 'net',
        address: `10.0.1.${last}`,
        address6: `fd00:0:1:1::${last}`,
        ports: ports.map((port) => ({ protocol: 'tcp' as const, port })),
        backends,
      })),
    )

/** Plans with VIPs of some, and some without one of their groups. */
const anyChanging = anyPlan.chain((plan) =>
  fc
    .tuple(anyVips(plan), fc.subarray(plan.groups as VpcPlan['groups'][number][]))
    .map(([vips, groups]) => ({ ...plan, vips, groups })),
)

describe('a table that is changed piece by piece', () => {
  test('is what a whole one would be, after any plans in a row', () => {
    fc.assert(
      fc.property(fc.array(anyChanging, { minLength: 2, maxLength: 6 }), (plans) => {
        const rendered = plans.map((it) => vpcParts(it, plannedHost, routerLink))
        const [first = [], ...rest] = rendered
        let model = modelOf(first)
        let before = first
        for (const parts of rest) {
          const change = nftChange(ROUTER_TABLE, before, parts)
          // Very much differs: the whole is written.
          if (!change) model = modelOf(parts)
          for (const line of change?.text.split('\n').filter(Boolean) ?? []) act(model, line)
          const sorted = new Map(
            [...model].map(([key, { head, items }]) => [
              key,
              { head, items: key.startsWith('chain') ? items : items.toSorted() },
            ]),
          )
          assert.deepEqual(sorted, modelOf(parts))
          before = parts
        }
      }),
      { numRuns: 200 },
    )
  })

  test('has no two elements of a set that overlap', () => {
    fc.assert(
      fc.property(anyPlan, (plan) => {
        for (const it of vpcParts(plan, plannedHost, routerLink)) {
          if (it.kind !== 'set') continue
          it.elements.forEach((one, at) =>
            it.elements
              .slice(0, at)
              .forEach((other) => assert.ok(!overlap(one, other), `${it.name}: ${one}, ${other}`)),
          )
        }
      }),
      { numRuns: 200 },
    )
  })

  const chain = nftChain('c', ['accept'])
  const hook = nftChain('c', ['type filter hook forward priority 0; policy drop;', 'accept'])
  const numbers = (from: number): Part =>
    nftSet(
      's',
      'inet_service',
      Array.from({ length: 90 }, (_, at) => [String(from + at)]),
    )

  test('is put in the place of the one before where that is less work, or where it is hooked otherwise', () => {
    assert.equal(nftChange('arcus', [chain], [hook]), undefined)
    assert.equal(nftChange('arcus', [], [hook]), undefined)
    assert.equal(nftChange('arcus', [numbers(1)], [numbers(101)]), undefined)
    assert.equal(
      nftChange('arcus', [nftSet('s', 'inet_service', [])], [nftSet('s', 'inet_proto', [])]),
      undefined,
    )
  })

  test('is written only where it differs', () => {
    assert.deepEqual(nftChange('arcus', [chain, numbers(1)], [chain, numbers(2)])?.text.split('\n'), [
      'delete element inet arcus s { 1 }',
      'add element inet arcus s { 91 }',
      '',
    ])
    assert.equal(nftChange('arcus', [chain], [chain])?.text, '')
  })
})
