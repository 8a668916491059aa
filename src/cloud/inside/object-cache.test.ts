import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import type { CacheItem, Instance } from './inside.ts'
import { createObjectCache } from './object-cache.ts'

const instance = (tenant: string): Instance =>
  ({
    tenant: { id: tenant },
    vpc: { id: `${tenant}-vpc` },
    workload: { id: `${tenant}-web` },
    replica: { id: `${tenant}-0` },
  }) as unknown as Instance
const item = (key: string, value = 'v', seconds = 60): CacheItem => ({
  scope: 'global',
  key,
  value,
  expires: `${seconds}s`,
  seconds,
})
const [a, b] = [instance('a'), instance('b')]

test('a value is there until it expires, for its own tenant', async () => {
  const clock = simulatedClock()
  const cache = createObjectCache(clock)
  cache.put(a, item('k'))
  assert.equal(cache.get(a, 'global', 'k')?.value, 'v')
  assert.equal(cache.get(b, 'global', 'k'), undefined)
  cache.put(a, item('k', 'new', 120))
  await clock.advance(60_000)
  assert.equal(cache.get(a, 'global', 'k')?.value, 'new')
  await clock.advance(60_000)
  assert.equal(cache.get(a, 'global', 'k'), undefined)
})

test('scopes are apart, whatever the key', () => {
  const cache = createObjectCache(simulatedClock())
  cache.put(a, { ...item('k'), scope: 'instance' })
  assert.equal(cache.get(a, 'global', 'k'), undefined)
  assert.equal(cache.get(a, 'container', 'k'), undefined)
  assert.equal(cache.get(a, 'instance', 'k')?.value, 'v')
})

test('a tenant without room loses its own oldest, and no other’s', () => {
  const cache = createObjectCache(simulatedClock(), { tenantBytesMax: 2000, bytesMax: 10_000 })
  cache.put(b, item('k'))
  for (let at = 0; at < 20; at++) cache.put(a, item(`k${at}`, 'x'.repeat(200)))
  assert.equal(cache.get(a, 'global', 'k0'), undefined)
  assert.equal(cache.get(a, 'global', 'k19')?.value.length, 200)
  assert.ok(cache.get(b, 'global', 'k'))
})

test('without room for all, who has most loses', () => {
  const cache = createObjectCache(simulatedClock(), { tenantBytesMax: 4000, bytesMax: 5000 })
  for (let at = 0; at < 6; at++) cache.put(a, item(`k${at}`, 'x'.repeat(200)))
  for (let at = 0; at < 3; at++) cache.put(b, item(`k${at}`, 'x'.repeat(200)))
  assert.equal(cache.get(a, 'global', 'k0'), undefined)
  for (let at = 0; at < 3; at++) assert.ok(cache.get(b, 'global', `k${at}`))
})
