import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import { encodeLive, encodePod, stateOf, type PodState } from './pod.ts'
import { decodePatch, decodePod } from './pods.ts'

const pod: Workload = {
  kind: 'workload',
  id: '5a0d2d6c-0f0e-7a35-9b1b-5f0b0c1f7a10',
  tenant: '6f1c2f0e-6f5a-7c5e-9b8e-0d7c3a2f1b10',
  name: 'web',
  labels: {},
  generation: 2,
  observed: 2,
  revision: 9,
  createdAt: Date.UTC(2026, 0, 5, 10),
  updatedAt: Date.UTC(2026, 0, 5, 11),
  spec: {
    vpc: 'vpc-id',
    subnet: 'subnet-id',
    image: 'nginx:latest',
    env: {},
    capabilities: [],
    cpuMillicores: 1000,
    memoryMib: 512,
    pidsMax: 512,
    replicas: 3,
    ports: [{ protocol: 'tcp', port: 8080 }],
    vip: '10.0.0.2',
    egress: true,
    securityGroups: [],
    useRegistryCredentials: true,
    healing: true,
    autoscaling: { enabled: false, min: 2, max: 10, cpuTargetMillicores: 200 },
    persistence: { enabled: false, path: '/storage' },
    stopGraceSeconds: 10,
    attempt: 1,
    change: 'create',
  },
  status: {
    state: 'running',
    desired: 7,
    ready: 1,
    replicas: [
      { id: 'r0', index: 0, address: '10.0.0.3', phase: 'running', ready: true, restarts: 2 },
      { id: 'r4', index: 4, address: '10.0.0.4', phase: 'terminating', ready: false, restarts: 0 },
    ],
  },
}

test('the state word is what is being done while the wish is ahead, else what is true', () => {
  const states = ['pending', 'running', 'degraded', 'stopped', 'error'] as const
  const doing = { create: 'pending', restart: 'restarting', config: 'updating', scale: undefined } as const
  for (const state of states)
    for (const [change, word] of Object.entries(doing) as [
      keyof typeof doing,
      (typeof doing)['create'] | undefined,
    ][]) {
      const it: PodState = { generation: 3, observed: 2, spec: { change }, status: { state } }
      assert.equal(stateOf(it), word ?? state, `${change} of ${state}`)
      assert.equal(stateOf({ ...it, observed: 3 }), state)
      assert.equal(stateOf({ ...it, deletedAt: 1 }), 'deleting')
    }
})

test('a message is told with the state it belongs to', () => {
  const failed: Workload = { ...pod, status: { ...pod.status, state: 'error', message: 'no such image' } }
  assert.equal(encodePod(failed, 'v', []).status_message, 'no such image')
  assert.equal(encodePod({ ...failed, generation: 3 }, 'v', []).status_message, null)
  assert.equal(encodePod({ ...failed, overdue: 'took too long' }, 'v', []).status_message, 'took too long')
  assert.equal(encodePod(pod, 'v', []).status_message, null)
})

test('the count is the one asked for, or what the autoscaler wants within its bounds', () => {
  const scaled = (desired: number): Workload => ({
    ...pod,
    spec: { ...pod.spec, autoscaling: { ...pod.spec.autoscaling, enabled: true } },
    status: { ...pod.status, desired },
  })
  assert.equal(encodePod(pod, 'v', []).replica_count, 3)
  assert.deepEqual(
    [1, 7, 40].map((it) => encodePod(scaled(it), 'v', []).replica_count),
    [2, 7, 10],
  )
  assert.equal(encodeLive(scaled(7), () => undefined).desired_replicas, 7)
})

test('what other dialects allow is shown within this one’s bounds', () => {
  const odd: Workload = {
    ...pod,
    spec: {
      ...pod.spec,
      ports: [],
      autoscaling: { enabled: false, min: 1, max: 1, cpuTargetMillicores: 50 },
    },
  }
  const shown = encodePod(odd, 'default', [])
  assert.deepEqual(
    [shown.service_port, shown.autoscale_min_replicas, shown.autoscale_max_replicas],
    [80, 2, 2],
  )
  assert.equal(shown.dns_name, 'web.default.internal')
  assert.equal(shown.created_at, '2026-01-05T10:00:00.000Z')
})

test('live figures: a reading for each replica that has one, their average, none of those that leave', () => {
  const scaled = { ...pod, spec: { ...pod.spec, autoscaling: { ...pod.spec.autoscaling, enabled: true } } }
  const sample = { at: 0, memoryBytes: 1000.4, receivedBytes: 0, sentBytes: 0 }
  const live = encodeLive(scaled, (id) => ({ ...sample, id, cpuMillicores: id === 'r0' ? 33.333 : 900 }))
  assert.deepEqual(live.replicas[0], {
    name: 'web-0',
    phase: 'running',
    ready: true,
    restarts: 2,
    ip: '10.0.0.3',
    cpu_millicores: 33.33,
    memory_bytes: 1000,
  })
  assert.equal(live.replicas[1]?.name, 'web-4')
  assert.deepEqual(live.autoscaler, {
    min_replicas: 2,
    max_replicas: 10,
    current_replicas: 1,
    desired_replicas: 7,
    target_cpu_millicores: 200,
    current_cpu_millicores: 33.33,
  })
  const unread = encodeLive(scaled, () => undefined)
  assert.equal(unread.autoscaler?.current_cpu_millicores, null)
  assert.deepEqual([unread.replicas[0]?.cpu_millicores, unread.replicas[0]?.memory_bytes], [null, null])
  assert.equal(encodeLive(pod, () => undefined).autoscaler, null)
})

test('absent fields take the contract’s defaults in a creation and stay absent in a change', () => {
  const { spec, inbound } = decodePod({ name: 'web', container_image: 'nginx' })
  assert.equal(inbound, false)
  assert.deepEqual(
    [spec.replicas, spec.egress, spec.healing, spec.useRegistryCredentials],
    [1, false, false, true],
  )
  assert.deepEqual(spec.autoscaling, { enabled: false, min: 2, max: 10, cpuTargetMillicores: 200 })
  assert.deepEqual(
    spec.ports?.map((it) => it.port),
    [80, 80],
  )
  assert.deepEqual(decodePatch({}), {})
  assert.deepEqual(decodePatch({ auto_healing: false }), { healing: false })
  assert.deepEqual(decodePatch({ persistent: true }), { persistence: { enabled: true } })
  assert.deepEqual(decodePatch({ autoscale_max_replicas: 4 }), { autoscaling: { max: 4 } })
})
