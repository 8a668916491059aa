import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Replica } from './replica.kind.ts'
import { isSteady, stateOf, toReplace } from './state.ts'
import type { Workload } from './workload.kind.ts'

const slot = (status: Partial<Replica['status']>, attempt = 1): Replica => ({
  kind: 'replica',
  id: 'id',
  tenant: 'tenant',
  name: 'web-0',
  labels: {},
  spec: {
    workload: 'w',
    vpc: 'v',
    subnet: 's',
    index: 0,
    address: '10.0.0.2',
    fabric: '100.120.0.1',
    attempt,
  },
  status: { phase: 'pending', ready: false, restarts: 0, attempt: 1, ...status },
  generation: 1,
  observed: 1,
  revision: 1,
  createdAt: 0,
  updatedAt: 0,
})
const ready = slot({ phase: 'running', ready: true })
const ended = (exitCode: number): Replica => slot({ phase: exitCode ? 'failed' : 'succeeded', exitCode })
const failed = slot({ phase: 'failed', message: 'no such image' })

test('is pending until everything is ready once, then degraded when something is lost', () => {
  assert.equal(stateOf('pending', 2, [ready, slot({})]).state, 'pending')
  assert.equal(stateOf('pending', 2, [ready, ready]).state, 'running')
  assert.equal(stateOf('running', 2, [ready, slot({})]).state, 'degraded')
  assert.equal(stateOf('degraded', 2, [ready, ready]).state, 'running')
})

test('is in error with the reason when nothing can start', () => {
  assert.deepEqual(stateOf('pending', 1, [failed]), { state: 'error', message: 'no such image' })
  assert.equal(stateOf('running', 2, [ready, failed]).state, 'degraded')
})

test('one that is frozen counts as stopped, and the others go on', () => {
  const frozen: Replica = { ...slot({ phase: 'paused' }), spec: { ...slot({}).spec, paused: true } }
  assert.deepEqual(stateOf('running', 1, [frozen]), {
    state: 'stopped',
    message: 'Its replicas wait to be resumed',
  })
  assert.equal(stateOf('running', 2, [frozen, ready]).state, 'running')
  assert.equal(isSteady(1, [frozen], 1, 0), true)
})

test('is stopped when every replica ended by itself', () => {
  assert.equal(stateOf('running', 2, [ended(0), ended(1)]).state, 'stopped')
  assert.equal(stateOf('running', 2, [ended(0), ready]).state, 'degraded')
})

test('what is known of an older attempt says nothing of this one', () => {
  const replaced = slot({ phase: 'running', ready: true, attempt: 1 }, 2)
  assert.equal(stateOf('running', 1, [replaced]).state, 'degraded')
  assert.equal(isSteady(1, [replaced], 2, 0), false)
  assert.equal(isSteady(1, [slot({ phase: 'running', ready: true, attempt: 2 }, 2)], 2, 0), true)
})

test('a restart goes through what serves one by one, and every other change at once', () => {
  const of = (change: 'restart' | 'config') => ({ spec: { change, attempt: 2 } }) as unknown as Workload
  const old = { ...ready, id: 'old' }
  const renewed = slot({ phase: 'running', ready: true, attempt: 2 }, 2)
  const starting = slot({ attempt: 2 }, 2)
  const done = slot({ phase: 'succeeded', exitCode: 0, attempt: 2 }, 2)
  const idsOf = (change: 'restart' | 'config', live: readonly Replica[]): number =>
    toReplace(of(change), live).length
  assert.equal(idsOf('config', [old, old, old]), 3)
  assert.equal(idsOf('restart', [old, old, old]), 1)
  assert.equal(idsOf('restart', [renewed, old, old]), 1)
  assert.equal(idsOf('restart', [starting, old, old]), 0)
  assert.equal(idsOf('restart', [done, old, old]), 1)
  assert.equal(idsOf('restart', [old, slot({}), slot({})]), 2)
  assert.equal(idsOf('restart', [old]), 1)
})
