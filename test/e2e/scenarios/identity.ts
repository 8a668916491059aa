import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Pod } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'

export function identityScenarios(cloud: () => TestCloud): void {
  test('1 system: health, version, unknown path', async () => {
    const { call } = cloud()
    await call('GET', '/healthz', 200)
    await call('GET', '/version', 200)
    await call('GET', '/nope', 404)
    await call('PUT', '/healthz', 405)
  })

  test('2 admin login', async () => {
    const { call, admin, tenant } = cloud()
    const { username, password } = admin
    const { api_token } = await call<{ api_token: string }>('POST', '/admin/login', 200, {
      username,
      password,
    })
    await call('POST', '/admin/login', 401, { username, password: `${password}x` })
    await call('POST', '/admin/login', 400, { username })
    await call('GET', '/tenants', 200, undefined, { admin: api_token })
    await call('GET', '/tenants', 401)
    const t = await tenant()
    await call('GET', '/tenants', 401, undefined, { token: t.token })
    await call('GET', '/tenants', 401, undefined, { admin: t.token })
    await call('GET', '/vpcs', 401, undefined, { token: api_token })
    await t.remove()
  })

  test('3 tenant', async () => {
    const { call, admin, tenant } = cloud()
    const as = { admin: admin.token }
    const t = await tenant()
    await call('POST', '/tenants', 409, { name: t.name, password: 'x' }, as)
    await call('POST', '/tenants', 400, { name: 'Bad_Name', password: 'x' }, as)
    await call('POST', '/tenants', 400, { name: 'no-password' }, as)
    await call('POST', '/tenants', 400, '{"name":', as)
    const listed = await call<Record<string, unknown>[]>('GET', '/tenants', 200, undefined, as)
    const mine = listed.find((it) => it['id'] === t.id)
    assert.deepEqual(Object.keys(mine ?? {}).sort(), ['created_at', 'description', 'id', 'name'])
    await call('GET', `/tenants/${randomUUID()}`, 404, undefined, as)
    await call('GET', '/tenants/not-an-id', 404, undefined, as)
    await t.remove()
  })

  test('4 header rule', async () => {
    const { call, tenant } = cloud()
    const [a, b] = [await tenant(), await tenant()]
    const body = { tenant_id: a.id, token: a.token, name: 'one', enable_internet: true }
    await call('POST', '/vpcs', 401, body)
    await a.call('POST', '/vpcs', 201, { tenant_id: a.id, name: 'one', enable_internet: true })
    await a.call('POST', '/vpcs', 401, { ...body, name: 'two', token: b.token })
    await a.call('POST', '/vpcs', 401, { ...body, name: 'two', tenant_id: b.id })
    await Promise.all([a.remove(), b.remove()])
  })

  test('20 isolation of the API: a foreign id is as if it did not exist', async () => {
    const { call, tenant } = cloud()
    const [a, b] = [await tenant(), await tenant()]
    const subnet = await a.subnet(await a.vpc('production'))
    const pod = await a.pod(subnet, 'web', { container_image: 'idle:latest' })
    await a.call('POST', `/tenants/${a.id}/registry-credentials`, 201, {
      name: 'hub',
      server: 'registry.example.com',
      username: 'u',
      password: 'p',
    })
    for (const path of ['/vpcs', '/subnets', '/pods']) {
      assert.deepEqual(await b.call('GET', path, 200), [], `B sees A's ${path}`)
    }
    await b.call('DELETE', `/pods/${pod.id}`, 404)
    await b.call('POST', `/pods/${pod.id}/restart`, 404)
    await b.call('POST', `/pods/${pod.id}/replicas`, 404)
    await b.call('PATCH', `/pods/${pod.id}/config`, 404, { auto_healing: true })
    await b.call('DELETE', `/vpcs/${subnet.vpc_id}`, 404)
    await b.call('GET', `/tenants/${a.id}/topology`, 401)
    await b.call('GET', `/tenants/${a.id}/registry-credentials`, 401)
    await b.call('DELETE', `/tenants/${a.id}/registry-credentials/hub`, 401)
    await b.call('POST', '/subnets', 404, {
      tenant_id: b.id,
      token: b.token,
      vpc_id: subnet.vpc_id,
      name: 'mine',
      cidr: '10.9.0.0/24',
      gateway_ip: '10.9.0.1',
    })
    assert.equal((await a.call<Pod[]>('GET', '/pods', 200)).length, 1)
    await a.remove()
    await call('GET', '/vpcs', 401, undefined, { token: a.token })
    await b.remove()
  })
}
