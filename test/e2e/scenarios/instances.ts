import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestCloud } from '../cloud.testing.ts'
import { run } from '../host.testing.ts'
import { cloudTenant } from '../thecloud.testing.ts'
import { eventually } from '../wait.testing.ts'

const SETTLES_MS = 40_000
const MIB = 1024 * 1024

type Volume = { readonly id: string; readonly status: string }

const MACHINE = { image: 'idle:latest', cmd: ['sh', '-c', 'sleep 1000'] }

const docker = async (container: string, what: string): Promise<string> =>
  (await run('docker', 'inspect', '-f', `{{.${what}}}`, container)).trim()

export function instanceScenarios(cloud: () => TestCloud): void {
  test('instances: power, size, volumes and snapshots', async () => {
    const { data, launch, until, shell: say, t } = await cloudTenant(cloud())
    const made = await data<Volume>('POST', '/volumes', { name: 'data', size_gb: 1 })
    const { id, container_id: container } = await launch('machine', {
      ...MACHINE,
      volumes: [{ volume_id: 'data', mount_path: '/data' }],
    })
    assert.match(await say(id, 'echo saved > /data/file && echo kept > /tmp/own && hostname'), /machine-/)
    const blocks = Number(/(\d+) +\d+ +\d+ +\d+% \/data/.exec(await say(id, 'df -k /data'))?.[1])
    assert.ok(blocks > 900_000 && blocks <= 1_048_576, `${blocks} KiB`)

    await data('POST', `/instances/${id}/pause`)
    assert.equal(await docker(container, 'State.Status'), 'paused')
    await until(id, 'PAUSED')
    await data('POST', `/instances/${id}/resume`)
    await until(id, 'RUNNING')
    assert.equal(await docker(container, 'State.Status'), 'running')

    await data('POST', `/instances/${id}/resize`, { instance_type: 'basic-4' })
    await eventually(
      'it has another size',
      async () => (await docker(container, 'HostConfig.Memory')) === String(2048 * MIB),
      SETTLES_MS,
    )
    const stats = await data<{ memory_limit_bytes: number }>('GET', `/instances/${id}/stats`)
    assert.equal(stats.memory_limit_bytes, 2048 * MIB)

    await data('POST', `/instances/${id}/stop`)
    await eventually(
      'it is off',
      async () => (await docker(container, 'State.Status')) === 'exited',
      SETTLES_MS,
    )
    await data('PUT', `/instances/${id}`, { status: 'RUNNING' })
    assert.equal((await until(id, 'RUNNING')).container_id, container)
    assert.match(await say(id, 'cat /tmp/own'), /kept/)

    const { id: snapshot } = await data<{ id: string }>('POST', '/snapshots', { volume_id: made.id })
    await eventually(
      'the snapshot is there',
      async () => (await data<Volume>('GET', `/snapshots/${snapshot}`)).status === 'AVAILABLE',
      SETTLES_MS,
    )
    await say(id, 'echo changed > /data/file')
    await data('POST', `/snapshots/${snapshot}/restore`, { new_volume_name: 'copy' })
    await data('DELETE', `/instances/${id}`)
    await eventually(
      'the volume is free',
      async () => (await data<Volume>('GET', '/volumes/data')).status === 'AVAILABLE',
      SETTLES_MS,
    )
    const next = await launch('next', {
      ...MACHINE,
      volumes: [
        { volume_id: 'data', mount_path: '/data' },
        { volume_id: 'copy', mount_path: '/copy' },
      ],
    })
    const files = await say(next.id, 'cat /data/file /copy/file')
    assert.match(files, /changed\s+saved/)
    await t.remove()
  })
}
