import assert from 'node:assert/strict'
import { test } from 'node:test'
import Docker from 'dockerode'
import { openAviary } from '../../sweep/canary.ts'
import { filesOf, processes } from '../../sweep/places.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { startPrivateRegistry } from '../registry.testing.ts'
import { eventually } from '../wait.testing.ts'

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
    await keptByTheirOwn(cloud(), { tenant: t.id, vpc: subnet.vpc_id, subnet: subnet.id, password })

    assert.equal((await t.call<{ name: string }>('DELETE', `${path}/private`, 200)).name, 'private')
    await t.call('DELETE', `${path}/private`, 404)
    assert.ok(!cloud().log().includes(password), 'no process wrote the password down')
    await t.remove()
  })
}

type Kept = { tenant: string; vpc: string; subnet: string; password: string }

/** A registry's password was used and is nowhere; what is in a container's environment is in that container's alone. */
async function keptByTheirOwn(cloud: TestCloud, { tenant, vpc, subnet, password }: Kept): Promise<void> {
  const secrets = openAviary()
  secrets.adopt('password', password)
  const words = openAviary()
  const env = { WORD: words.plant('word') }
  const { id } = await cloud.native<{ id: string }>('POST', '/workload', 201, {
    tenant,
    body: { name: 'with-a-word', spec: { vpc, subnet, image: 'idle:latest', env } },
  })
  await eventually(
    'the container with a word runs',
    async () => {
      const path = `/workload/${id}`
      const it = await cloud.native<{ status: { state: string } }>('GET', path, 200, { tenant })
      return it.status.state === 'running'
    },
    60_000,
  )
  const docker = new Docker()
  const holders = []
  for (const { Id } of await docker.listContainers()) {
    const found = await docker
      .getContainer(Id)
      .inspect()
      .catch(() => undefined)
    if (found && words.foundIn(JSON.stringify(found)).length > 0) holders.push(Id)
    assert.deepEqual(secrets.foundIn(JSON.stringify(found ?? {})), [], `container ${Id}`)
  }
  assert.equal(holders.length, 1, 'one container has the word')
  const [holder = '-'] = holders
  let inside = 0
  for (const { pid, command, environment, cgroups } of processes()) {
    const shown = Buffer.concat([command, environment])
    assert.deepEqual(secrets.foundIn(shown), [], `process ${pid}`)
    if (words.foundIn(shown).length === 0) continue
    assert.ok(cgroups.includes(holder), `process ${pid} has the word and is not of its container`)
    inside++
  }
  assert.ok(inside > 0, 'the process of the container has its word')
  for (const { path, bytes } of filesOf(cloud.data)) {
    assert.deepEqual(secrets.foundIn(bytes), [], path)
    if (/\/(log|edge|run)\//.test(path)) assert.deepEqual(words.foundIn(bytes), [], path)
  }
  assert.deepEqual(words.foundIn(cloud.log()), [])
}
