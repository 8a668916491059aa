import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Attached, evaluate, like, type Question } from './evaluate.ts'
import type { Statement } from './policy.kind.ts'

const of = (it: Statement, at = 0): Attached => ({
  ...it,
  policy: { id: String(at), name: `policy ${at}` },
})
const ask = (given: Partial<Question> = {}): Question => ({
  actions: ['vpc:read', 'vpc:list', 'vpc:get'],
  resources: ['7', 'prod', 'vpc:7', 'arn:thecloud:vpc:local:t:vpc/7'],
  context: {
    'aws:SourceIp': '10.1.2.3',
    'aws:CurrentTime': '2026-03-01T00:00:00Z',
    'thecloud:TenantId': 't',
  },
  ...given,
})
const allow: Statement = { effect: 'Allow', action: ['vpc:*'], resource: ['*'] }
const deny: Statement = { effect: 'Deny', action: ['vpc:list'], resource: ['prod'] }
const effect = (statements: Statement[], question = ask()) => evaluate(statements.map(of), question)?.effect

test('a Deny goes before every Allow, wherever it stands', () => {
  assert.equal(effect([]), undefined)
  assert.equal(effect([allow]), 'Allow')
  assert.equal(effect([allow, deny]), 'Deny')
  assert.equal(effect([deny, allow]), 'Deny')
})

test('every name of a resource counts, and case does', () => {
  for (const resource of ['7', 'prod', 'vpc:7', 'vpc:*', 'arn:thecloud:vpc:*', 'pro*', '*'])
    assert.equal(effect([{ ...deny, resource: [resource] }]), 'Deny', resource)
  for (const resource of ['Prod', '8', 'prod ', 'rod', '*rod', 'vpc'])
    assert.equal(effect([{ ...deny, resource: [resource] }]), undefined, resource)
})

const holds = (operator: string, key: string, expected: unknown) =>
  effect([{ ...allow, condition: { [operator]: { [key]: expected } } }]) === 'Allow'

test('each operator of conditions holds where it should', () => {
  const rows: [string, string, unknown, boolean][] = [
    ['IpAddress', 'aws:SourceIp', '10.0.0.0/8', true],
    ['IpAddress', 'aws:SourceIp', ['192.168.0.0/16', '10.1.2.3'], true],
    ['IpAddress', 'aws:SourceIp', '10.1.2.4', false],
    ['IpAddress', 'aws:SourceIp', 'fd00::/8', false],
    ['IpAddress', 'aws:SourceIp', '10.0.0.0/99', false],
    ['IpAddress', 'aws:SourceIp', 'nonsense', false],
    ['NotIpAddress', 'aws:SourceIp', '10.0.0.0/8', false],
    ['NotIpAddress', 'aws:SourceIp', ['11.0.0.0/8', '12.0.0.0/8'], true],
    ['StringEquals', 'thecloud:TenantId', 't', true],
    ['StringEquals', 'thecloud:TenantId', 'T', false],
    ['StringEquals', 'no:such', 't', false],
    ['StringNotEquals', 'thecloud:TenantId', 't', false],
    ['StringNotEquals', 'no:such', 't', true],
    ['StringLike', 'aws:SourceIp', '10.?.*', true],
    ['StringNotLike', 'aws:SourceIp', '10.?.*', false],
    ['DateGreaterThan', 'aws:CurrentTime', '2026-02-28T23:59:59Z', true],
    ['DateGreaterThan', 'aws:CurrentTime', '2026-03-01T00:00:00Z', false],
    ['DateLessThan', 'aws:CurrentTime', '2026-03-01T01:00:00+01:00', false],
    ['DateLessThan', 'aws:CurrentTime', '2027-01-01T00:00:00Z', true],
    ['DateEquals', 'aws:CurrentTime', '2026-03-01T01:00:00+01:00', true],
    ['DateEquals', 'aws:CurrentTime', 'never', false],
    ['Bool', 'aws:SourceIp', true, false],
    ['Null', 'no:such', 'true', true],
    ['Null', 'no:such', true, true],
    ['Null', 'aws:SourceIp', 'true', false],
    ['Null', 'aws:SourceIp', 'false', true],
    ['NoSuchOperator', 'aws:SourceIp', '10.1.2.3', false],
  ]
  for (const [operator, key, expected, wanted] of rows)
    assert.equal(holds(operator, key, expected), wanted, `${operator} ${key} ${JSON.stringify(expected)}`)
  const both = { StringEquals: { 'thecloud:TenantId': 't' }, IpAddress: { 'aws:SourceIp': '11.0.0.0/8' } }
  assert.equal(effect([{ ...allow, condition: both }]), undefined, 'all must hold')
})

// A second reading of the rules, made of other parts: patterns as regular expressions, addresses as numbers, and the
// verdict by counting.
const literal = (text: string): string => text.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`)
const asPattern = (pattern: string): RegExp =>
  pattern.endsWith('*')
    ? new RegExp(`^${literal(pattern.slice(0, -1)).replaceAll('*', '\\*')}`, 's')
    : new RegExp(`^${literal(pattern).replaceAll('*', '\\*')}$`, 's')
const numberOf = (address: string): number =>
  address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
function insideOf(address: string, network: string): boolean {
  const [base = '', prefix = '32'] = network.split('/')
  const size = 2 ** (32 - Number(prefix))
  return Math.floor(numberOf(address) / size) === Math.floor(numberOf(base) / size)
}
const likeModel = (pattern: string, text: string): boolean =>
  new RegExp(
    `^${pattern
      .split('')
      .map((it) => (it === '*' ? '.*' : it === '?' ? '.' : literal(it)))
      .join('')}$`,
    's',
  ).test(text)
function conditionModel(condition: Record<string, Record<string, unknown>>, question: Question): boolean {
  for (const [operator, keys] of Object.entries(condition))
    for (const [key, expected] of Object.entries(keys)) {
      const actual = question.context[key]
      const list = Array.isArray(expected) ? (expected as unknown[]) : [expected]
      const any = (test: (it: string) => boolean): boolean =>
        actual !== undefined && list.some((it) => test(String(it)))
      const results: Record<string, boolean> = {
        IpAddress: any((it) => insideOf(actual ?? '', it)),
        NotIpAddress: !any((it) => insideOf(actual ?? '', it)),
        StringEquals: any((it) => it === actual),
        StringNotEquals: !any((it) => it === actual),
        StringLike: any((it) => likeModel(it, actual ?? '')),
        StringNotLike: !any((it) => likeModel(it, actual ?? '')),
        Null: (actual === undefined) === (String(expected) === 'true'),
      }
      if (results[operator] !== true) return false
    }
  return true
}
function model(statements: readonly Statement[], question: Question): string | undefined {
  const applying = statements.filter(
    (it) =>
      it.action.some((pattern) => question.actions.some((name) => asPattern(pattern).test(name))) &&
      it.resource.some((pattern) => question.resources.some((name) => asPattern(pattern).test(name))) &&
      conditionModel(it.condition ?? {}, question),
  )
  if (applying.some((it) => it.effect === 'Deny')) return 'Deny'
  return applying.length ? 'Allow' : undefined
}

const word = fc.oneof(fc.constant('*'), fc.stringMatching(/^[ab:*/.]{0,4}$/))
const address = fc.tuple(fc.nat(2), fc.nat(2), fc.nat(1), fc.nat(1)).map((it) => it.join('.'))
const network = fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([it, prefix]) => `${it}/${prefix}`)
const oneOrMore = <T>(it: fc.Arbitrary<T>) => fc.oneof(it, fc.array(it, { minLength: 1, maxLength: 3 }))
const condition = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  fc
    .tuple(fc.constantFrom('IpAddress', 'NotIpAddress'), oneOrMore(network))
    .map(([operator, it]) => ({ [operator]: { ip: it } })),
  fc
    .tuple(
      fc.constantFrom('StringEquals', 'StringNotEquals', 'StringLike', 'StringNotLike'),
      fc.constantFrom('text', 'absent'),
      oneOrMore(fc.stringMatching(/^[ab*?]{0,4}$/)),
    )
    .map(([operator, key, it]) => ({ [operator]: { [key]: it } })),
  fc
    .tuple(fc.constantFrom('text', 'absent'), fc.constantFrom('true', 'false', true, false))
    .map(([key, it]) => ({ Null: { [key]: it } })),
)
const statement = fc.record({
  effect: fc.constantFrom('Allow' as const, 'Deny' as const),
  action: fc.array(word, { minLength: 1, maxLength: 3 }),
  resource: fc.array(word, { minLength: 1, maxLength: 3 }),
  condition,
})
const question = fc.record({
  actions: fc.array(word, { minLength: 1, maxLength: 3 }),
  resources: fc.array(word, { minLength: 1, maxLength: 4 }),
  context: fc
    .tuple(address, fc.stringMatching(/^[ab]{0,4}$/))
    .map(([ip, text]) => ({ ip, text }) as Record<string, string>),
})

test('it decides as a second reading of the rules does', () => {
  const seen = new Map<string | undefined, number>()
  fc.assert(
    fc.property(fc.array(statement, { maxLength: 4 }), question, (statements, asked) => {
      const verdict = evaluate(statements.map(of), asked)?.effect
      seen.set(verdict, (seen.get(verdict) ?? 0) + 1)
      assert.equal(verdict, model(statements, asked))
    }),
    { numRuns: 3000, seed: 6 },
  )
  for (const verdict of ['Allow', 'Deny', undefined])
    assert.ok((seen.get(verdict) ?? 0) > 100, `${verdict} came ${seen.get(verdict)} times: too few to tell`)
})

test('one more statement: a Deny never permits, an Allow never refuses what was permitted', () => {
  fc.assert(
    fc.property(fc.array(statement, { maxLength: 4 }), statement, question, (had, more, asked) => {
      const before = evaluate(had.map(of), asked)?.effect
      const after = evaluate([...had, more].map(of), asked)?.effect
      if (before === 'Deny') assert.equal(after, 'Deny')
      if (more.effect === 'Allow' && before === 'Allow') assert.equal(after, 'Allow')
      if (more.effect === 'Deny' && before !== 'Allow') assert.notEqual(after, 'Allow')
    }),
    { numRuns: 1000, seed: 7 },
  )
})

test('patterns with wildcards match as regular expressions do, and end whatever they are', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[ab*?]{0,8}$/), fc.stringMatching(/^[ab*?]{0,8}$/), (pattern, text) => {
      assert.equal(like(pattern, text), likeModel(pattern, text))
    }),
    { numRuns: 3000, seed: 8 },
  )
  assert.equal(like(`${'*a'.repeat(200)}b`, 'a'.repeat(512)), false)
})
