import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LiveStatus } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { containersOf, httpFrom } from '../host.testing.ts'
import { listening } from '../probe.testing.ts'
import { eventually } from '../wait.testing.ts'

const GROWS_WITHIN_MS = 120_000
const REPLICAS_MAX = 3

export function autoscalingScenario(cloud: () => TestCloud): void {
  test('10 autoscaling: grows under load, never above its maximum', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    await t.call('POST', '/pods', 400, {
      tenant_id: t.id,
      token: t.token,
      vpc_id: subnet.vpc_id,
      subnet_id: subnet.id,
      name: 'refused',
      container_image: 'idle:latest',
      auto_scaling: true,
      autoscale_max_replicas: 1,
    })
    const made = await t.pod(subnet, 'busy', {
      auto_scaling: true,
      autoscale_max_replicas: REPLICAS_MAX,
      autoscale_cpu_target_millicores: 50,
    })
    assert.deepEqual([made.replica_count, made.auto_healing], [2, true])
    await t.running(made)
    await listening(made)
    const counts = new Set<number>()
    // More than the two asked for already, where starting them took more than the target.
    const first = await containersOf(made.id)
    assert.ok(first.length >= 2, `${first.length} replicas`)
    for (const { pid } of first) {
      const [burning] = await httpFrom({ pid }, 'http://127.0.0.1/burn?seconds=120')
      assert.ok(burning && 'status' in burning && burning.status === 202, JSON.stringify(burning))
    }
    let reading: LiveStatus['autoscaler'] = null
    await eventually(
      'the count grows',
      async () => {
        const { replica_count } = await t.seen(made)
        const { autoscaler } = await t.live(made)
        if (autoscaler?.current_cpu_millicores) reading = autoscaler
        counts.add(replica_count)
        return replica_count > 2
      },
      GROWS_WITHIN_MS,
    )
    const grown = await t.running(made)
    counts.add(grown.replica_count)
    assert.ok(Math.max(...counts) <= REPLICAS_MAX)
    const seen = (await t.live(made)).autoscaler ?? reading
    assert.ok((seen?.current_cpu_millicores ?? 0) > 0, `the reading is shown: ${JSON.stringify(seen)}`)
    assert.equal(seen?.max_replicas, REPLICAS_MAX)
    await t.remove()
  })
}
