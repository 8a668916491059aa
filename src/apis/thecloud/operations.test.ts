import assert from 'node:assert/strict'
import { test } from 'node:test'
import { contractNamed, type Document, fieldsOf, jsonOf, operationsIn } from '#apis/contract.testing.ts'
import { FAMILIES } from './server.ts'
import { testDialect } from './thecloud.testing.ts'

/** Refusals that the contract has no case for: registration that is closed, a new name that is in use. */
const BEYOND: Readonly<Record<string, string>> = {
  'POST /auth/register': '403',
  'PUT /iam/policies/{id}': '409',
  'PUT /rbac/roles/{id}': '409',
  'PATCH /vpcs/{id}': '409',
}

const queryOf = (operation: { parameters?: { name?: string; in?: string }[] }): string[] =>
  (operation.parameters ?? []).flatMap((it) => (it.in === 'query' && it.name !== undefined ? [it.name] : []))

/**
 * Fields that our description gives in one word: statements are checked whole where they are made, and a console's `data` is
 * its address, which the client decodes.
 */
const isTold = (field: string): boolean => !/condition|^data\.(console_)?url$/.test(field)

test('the document has every operation of these families with its fields and statuses', async () => {
  await using it = await testDialect()
  const contract = contractNamed('thecloud')
  const ours = await it.document<Document>()
  const wanted = operationsIn(contract).filter((one) => FAMILIES.includes(one.operation.tags[0] ?? ''))
  assert.ok(wanted.length > 40)
  for (const { method, path, operation } of wanted) {
    const at = `${method} ${path}`
    const own = ours.paths[path]?.[method.toLowerCase()]
    assert.ok(own, at)
    assert.equal(own.operationId, operation.operationId, at)
    assert.deepEqual(own.tags, operation.tags, at)
    assert.equal(own.security?.length === 0, operation.security?.length === 0, `${at}: who may come`)
    assert.deepEqual(queryOf(own).toSorted(), queryOf(operation).toSorted(), at)
    const body = Object.entries(fieldsOf(contract, jsonOf(operation.requestBody))).filter(([name]) =>
      isTold(name),
    )
    const asked = fieldsOf(ours, jsonOf(own.requestBody))
    for (const [name, required] of body) assert.equal(asked[name], required, `${at} takes ${name}`)
    for (const [status, answer] of Object.entries(operation.responses).filter(([code]) =>
      code.startsWith('2'),
    )) {
      const given = fieldsOf(ours, jsonOf(own.responses[status]))
      for (const name of Object.keys(fieldsOf(contract, jsonOf(answer))).filter(isTold))
        // A role may be bare in the contract; here it is in its envelope, with the members beside it.
        assert.ok(name in given || `data.${name}` in given, `${at} ${status} gives ${name}`)
      // Of several that mean the same one is given.
      assert.ok(
        Object.keys(operation.responses).some((it) => it.startsWith('2') && own.responses[it]),
        at,
      )
    }
    for (const status of Object.keys(own.responses))
      assert.ok(
        status in operation.responses || BEYOND[at] === status,
        `${at}: the contract has no ${status}`,
      )
  }
})
