import assert from 'node:assert/strict'
import { test } from 'node:test'
import { contractNamed, type Document, fieldsOf, jsonOf, operationsIn } from '#apis/contract.testing.ts'
import { testDialect } from './circloud.testing.ts'

const NOBODY = '00000000-0000-7000-8000-000000000000'

const contract = contractNamed('circloud')

// Tunnels come with the edge; until then their operations are unknown paths.
const operations = (of: Document) => operationsIn(of).filter((it) => !it.operation.tags.includes('tunnels'))

/** Refusals that the contract has no case for: what another dialect made stands in the way. */
const BEYOND: Readonly<Record<string, readonly string[]>> = {
  'DELETE /vpcs/{vpc_id}': ['409'],
  'DELETE /pods/{pod_id}': ['409'],
}

test('the document has every operation, field and status of the contract', async () => {
  await using it = await testDialect()
  const ours = await it.document<Document>()
  assert.deepEqual(
    operations(ours)
      .map(({ operation }) => operation.operationId)
      .toSorted(),
    operations(contract)
      .map(({ operation }) => operation.operationId)
      .toSorted(),
  )
  for (const { method, path, operation } of operations(contract)) {
    const own = ours.paths[path]?.[method.toLowerCase()]
    const at = `${method} ${path}`
    assert.equal(own?.operationId, operation.operationId, at)
    assert.equal(own.summary, operation.summary, at)
    assert.deepEqual(own.tags, operation.tags, at)
    assert.deepEqual(
      fieldsOf(ours, jsonOf(own.requestBody)),
      fieldsOf(contract, jsonOf(operation.requestBody)),
      at,
    )
    const statuses = [...Object.keys(operation.responses), ...(BEYOND[at] ?? [])]
    assert.deepEqual(Object.keys(own.responses).toSorted(), statuses.toSorted(), at)
    for (const [status, answer] of Object.entries(operation.responses).filter(([it]) => it.startsWith('2')))
      assert.deepEqual(
        Object.keys(fieldsOf(ours, jsonOf(own.responses[status]))).toSorted(),
        Object.keys(fieldsOf(contract, jsonOf(answer))).toSorted(),
        `${at} ${status}`,
      )
  }
})

test('every operation is closed to whom it is not for, whatever is sent along', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const admin = it.world.credentials.token
  const before = await it.snapshot()
  for (const { method, path, operation } of operations(contract)) {
    const needs = (operation.security ?? [{ TenantToken: [] }]).flatMap((one) => Object.keys(one))[0]
    if (needs === undefined) continue
    const real = path.replace('{tenant_id}', acme.id).replaceAll(/\{\w+\}/g, NOBODY)
    const strangers =
      needs === 'AdminToken'
        ? [{}, { auth: acme.token }, { admin: acme.token }, { auth: admin }]
        : [{}, { admin }, { auth: admin }, { auth: 'tnt_unknown' }]
    for (const how of strangers)
      for (const body of method === 'GET' ? [undefined] : [undefined, {}, { name: 5 }]) {
        const { status } = await it.ask(method, real, { ...how, body })
        assert.equal(status, 401, `${method} ${path} ${JSON.stringify(how)}`)
      }
  }
  assert.equal(await it.snapshot(), before)
})

test('a suspended tenant’s token opens what changes nothing', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const tenants = it.world.cloud.kinds.get('tenant')
  assert.ok(tenants)
  await it.world.cloud.act(
    it.world.admin,
    'test',
    async (verbs) => await verbs.patch(tenants, acme.id, { spec: { suspended: true } }),
  )
  assert.equal((await acme.call('GET', '/pods')).status, 200)
  const refused = await acme.call('POST', '/vpcs', {
    tenant_id: acme.id,
    name: 'late',
    enable_internet: true,
  })
  assert.equal(refused.status, 401)
  assert.match(refused.body.detail, /^This tenant is suspended/)
})
