import assert from 'node:assert/strict'
import { test } from 'node:test'
import { workload } from '#cloud/compute/workload.kind.ts'
import { routeTable } from '#cloud/network/route-table.kind.ts'
import { securityGroup } from '#cloud/network/security-group.kind.ts'
import { isWithin, referenceFields, referencesOf, withValue } from './references.ts'

const fields = referenceFields(['vpc', 'subnet', 'workload', 'security-group', 'image'])
const found = (kind: Parameters<typeof referencesOf>[0], spec: unknown): string[] =>
  referencesOf(kind, spec, fields).map((it) => `${it.path.join('.')} ${it.kind} ${it.text}`)

test('references are where a schema has a field called like a kind', () => {
  assert.deepEqual(
    found(workload, { vpc: 'v', subnet: 's', securityGroups: ['a', 'b'], env: { vpc: 'x' }, image: 'i' }),
    [
      'vpc vpc v',
      'subnet subnet s',
      'securityGroups.0 security-group a',
      'securityGroups.1 security-group b',
    ],
  )
  assert.deepEqual(found(routeTable, { vpc: 'v', subnets: ['s'], routes: [] }), [
    'vpc vpc v',
    'subnets.0 subnet s',
  ])
  assert.deepEqual(found(securityGroup, { vpc: 'v', rules: [{ cidr: '::/0' }, { group: 'g' }] }), [
    'vpc vpc v',
    'rules.1.group security-group g',
  ])
  assert.deepEqual(found(workload, { vpc: 7, subnet: null, securityGroups: 'one' }), [
    'securityGroups security-group one',
  ])
})

test('a value is put at a path without touching the original', () => {
  const spec = { vpc: 'v', rules: [{ group: 'a' }, { group: 'b' }] }
  assert.deepEqual(withValue(spec, ['rules', 1, 'group'], 'c'), {
    vpc: 'v',
    rules: [{ group: 'a' }, { group: 'c' }],
  })
  assert.equal(spec.rules[1]?.group, 'b')
})

test('a merge patch that says what is so changes nothing', () => {
  const spec = { a: 1, b: { c: [1, { d: 2 }], e: 'x' } }
  for (const same of [{}, { a: 1 }, { b: { e: 'x' } }, { b: { c: [1, { d: 2 }] } }, { z: null }])
    assert.ok(isWithin(spec, same))
  for (const other of [
    { a: 2 },
    { a: null },
    { f: 1 },
    { b: { c: [1] } },
    { b: { c: [1, {}] } },
    { b: { c: [1, { d: 2, e: 3 }] } },
    { a: { b: 1 } },
  ])
    assert.ok(!isWithin(spec, other), JSON.stringify(other))
})
