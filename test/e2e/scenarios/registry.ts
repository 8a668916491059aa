import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestCloud } from '../cloud.testing.ts'
import { startPrivateRegistry } from '../registry.testing.ts'

export function registryScenario(cloud: () => TestCloud): void {
  test('18 registry secret: kept, never shown, used for its own server only', async () => {
    await using registry = await startPrivateRegistry()
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const path = `/tenants/${t.id}/registry-credentials`
    const { username, password, server, image } = registry
    await t.call('POST', path, 201, { name: 'private', server, username, password })
    await t.call('POST', path, 409, { name: 'private', server, username, password })
    await t.call('POST', path, 400, { name: 'no-password', server, username })
    const listed = await t.call('GET', path, 200)
    assert.ok(!JSON.stringify(listed).includes(password))
    assert.ok(!JSON.stringify(await t.detail()).includes(password))

    const refused = await t.pod(subnet, 'anonymous', {
      container_image: image,
      use_registry_credentials: false,
    })
    const failed = await t.until(refused, 'ends in error', (it) => it.status === 'error', 60_000)
    assert.ok(failed.status_message && !failed.status_message.includes(password))
    await t.running(await t.pod(subnet, 'private', { container_image: image }))

    assert.equal((await t.call<{ name: string }>('DELETE', `${path}/private`, 200)).name, 'private')
    await t.call('DELETE', `${path}/private`, 404)
    assert.ok(!cloud().log().includes(password), 'no process wrote the password down')
    await t.remove()
  })
}
