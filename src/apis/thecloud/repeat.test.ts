import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import { testCloud } from '#cloud/cloud.testing.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { isCloudError } from '#lib/errors.ts'
import { repeatOf } from './repeat.ts'

const request = (key: string | undefined, body: unknown): FastifyRequest =>
  ({ headers: key === undefined ? {} : { 'idempotency-key': key }, body }) as unknown as FastifyRequest

test('a key makes one thing, however often and at once it is asked; another body is refused', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const beta = await it.tenant('beta')
  const make = async (key: string | undefined, name: string, by = caller) =>
    await it.cloud.act(by, 'vpc.create', async (verbs) =>
      verbs.once('vpc.create', vpc, repeatOf(request(key, { name })), () =>
        verbs.createVpc({ name, internet: true }),
      ),
    )
  const both = await Promise.all([make('k', 'prod'), make('k', 'prod'), make('k', 'prod')])
  assert.equal(new Set(both.map((one) => one.id)).size, 1)
  assert.equal((await make('k', 'prod')).id, both[0]?.id)
  await assert.rejects(make('k', 'other'), (error) => isCloudError(error, 'conflict'))
  await assert.rejects(make(undefined, 'prod'), (error) => isCloudError(error, 'already_exists'))
  assert.notEqual((await make('k', 'prod', beta.caller)).id, both[0]?.id, 'keys are of a tenant')
  assert.equal((await it.cloud.all(caller, vpc)).length, 1)
  await it.cloud.act(caller, 'vpc.delete', async (verbs) => await verbs.deleteVpc(both[0]?.id ?? ''))
  await it.settle()
  assert.notEqual((await make('k', 'prod')).id, both[0]?.id, 'what is gone is made anew')
  await it.clock.advance(86_400_001)
  assert.equal((await make('k', 'later')).name, 'later', 'a key is free after a day')
})

test('a key has a length', () => {
  assert.equal(repeatOf(request(undefined, {})), undefined)
  assert.equal(repeatOf(request('', {})), undefined)
  assert.throws(() => repeatOf(request('k'.repeat(65), {})), /at most 64/)
})
