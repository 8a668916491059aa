import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pod, Subnet, TestTenant, Vpc } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { EXAMPLE } from '#apis/circloud/topology.ts'
import { containersOf } from '../host.testing.ts'
import { eventually } from '../wait.testing.ts'

const GONE_WITHIN_MS = 40_000
type Shown = { vpcs: Vpc[]; subnets: Subnet[]; pods: Pod[] }

const counts = async (t: TestTenant): Promise<number[]> =>
  Promise.all(
    ['/vpcs', '/subnets', '/pods'].map(async (path) => (await t.call<unknown[]>('GET', path, 200)).length),
  )

export function topologyScenarios(cloud: () => TestCloud): void {
  test('19 topology: deployed whole or not at all, and read back into an empty tenant', async () => {
    const { call, tenant } = cloud()
    const [t, empty] = [await tenant(), await tenant()]
    const path = `/tenants/${t.id}/topology`
    await call('POST', path, 401, { token: `${t.token}x`, ...EXAMPLE })
    await call('POST', path, 401, { token: empty.token, ...EXAMPLE })
    const [pod] = EXAMPLE.pods
    await call('POST', path, 400, { token: t.token, ...EXAMPLE, pods: [{ ...pod, subnet_name: 'nowhere' }] })
    assert.deepEqual(await counts(t), [0, 0, 0], 'nothing was created')
    const made = await call<Shown>('POST', path, 201, { token: t.token, ...EXAMPLE })
    assert.deepEqual(await counts(t), [1, 1, 1])
    await call('POST', path, 409, { token: t.token, ...EXAMPLE })
    assert.deepEqual(await counts(t), [1, 1, 1])
    const nginx = await t.running(made.pods[0]!)
    assert.equal(nginx.replica_count, 2)

    const read = await t.call<Shown>('GET', path, 200)
    const copy = await empty.call<Shown>('POST', `/tenants/${empty.id}/topology`, 201, {
      ...read,
      token: empty.token,
    })
    assert.deepEqual(await counts(empty), [1, 1, 1])
    assert.notEqual(copy.pods[0]?.id, nginx.id)
    await Promise.all([t.remove(), empty.remove()])
  })

  test('20 cascade: a VPC takes its subnets and pods along, a tenant everything', async () => {
    const { call, admin, tenant } = cloud()
    const t = await tenant()
    const [one, two] = await Promise.all([
      t.vpc('one').then((it) => t.subnet(it)),
      t.vpc('two').then((it) => t.subnet(it)),
    ])
    const [gone, kept] = await Promise.all([
      t.pod(one, 'gone', { container_image: 'idle:latest' }).then((it) => t.running(it)),
      t.pod(two, 'kept', { container_image: 'idle:latest' }).then((it) => t.running(it)),
    ])
    await t.call('DELETE', `/vpcs/${one.vpc_id}`, 204)
    await eventually(
      'the first VPC, its subnet and pod are gone',
      async () => assert.deepEqual(await counts(t), [1, 1, 1]) ?? true,
      GONE_WITHIN_MS,
    )
    await eventually(
      'its container is gone',
      async () => (await containersOf(gone.id)).length === 0,
      GONE_WITHIN_MS,
    )
    await t.call('DELETE', `/vpcs/${one.vpc_id}`, 404)
    assert.equal((await t.seen(kept)).status, 'running')
    await t.remove()
    await call('GET', '/pods', 401, undefined, { token: t.token })
    await eventually(
      'the last container is gone',
      async () => (await containersOf(kept.id)).length === 0,
      GONE_WITHIN_MS,
    )
    await call('GET', `/tenants/${t.id}`, 404, undefined, { admin: admin.token })
  })

  test('domains are approved by the administrator and unique', async () => {
    const { call, admin, tenant } = cloud()
    const as = { admin: admin.token }
    const [t, other] = [await tenant(), await tenant()]
    const domain = `${t.name}.example.com`
    await call('POST', `/tenants/${t.id}/domains`, 401, { domain }, { token: t.token })
    await call('POST', `/tenants/${t.id}/domains`, 400, { domain: 'nodots' }, as)
    await call('POST', `/tenants/${t.id}/domains`, 201, { domain }, as)
    await call('POST', `/tenants/${other.id}/domains`, 409, { domain }, as)
    const listed = await call<{ domain: string }[]>('GET', `/tenants/${t.id}/domains`, 200, undefined, as)
    assert.deepEqual(
      listed.map((it) => it.domain),
      [domain],
    )
    assert.deepEqual(
      (await t.detail()).domains.map((it) => it.domain),
      [domain],
    )
    await Promise.all([t.remove(), other.remove()])
  })
}
