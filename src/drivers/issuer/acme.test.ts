import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { acmeDriver } from './acme.ts'

test('an authority that cannot be reached is told by what the connection failed with', async () => {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const directory = `https://127.0.0.1:${(server.address() as AddressInfo).port}/dir`
  await once(server.close(), 'close')
  await assert.rejects(
    acmeDriver().register({ directory }, AbortSignal.timeout(20_000)),
    /gave no account: connect ECONNREFUSED 127\.0\.0\.1/,
  )
})
