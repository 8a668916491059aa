import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestCloud } from '../cloud.testing.ts'
import { bodyFrom, httpFrom, type Outside, run } from '../host.testing.ts'
import { cloudTenant, type Instance } from '../thecloud.testing.ts'
import { eventually } from '../wait.testing.ts'

const SETTLES_MS = 40_000
const MIB = 1024 * 1024

type Volume = { readonly id: string; readonly status: string }

const MACHINE = { image: 'idle:latest', cmd: ['sh', '-c', 'sleep 1000'] }

const docker = async (container: string, what: string): Promise<string> =>
  (await run('docker', 'inspect', '-f', `{{.${what}}}`, container)).trim()

export function instanceScenarios(cloud: () => TestCloud, outside: () => Outside): void {
  test('instances: ports of the host, also of one without a way out', async () => {
    const { data, until, t } = await cloudTenant(cloud())
    const { id: vpc } = await data<{ id: string }>('POST', '/vpcs', { name: 'closed' })
    const subnet = { name: 'web', cidr_block: '10.0.7.0/24' }
    await data('POST', `/vpcs/${vpc}/subnets`, subnet)
    const web = { name: 'web', image: 'arcus-probe:latest', ports: '0:80', vpc_id: vpc }
    const { id, ports } = await data<Instance>('POST', '/instances', web)
    const port = Number(/^(\d+):80$/.exec(ports)?.[1])
    await until(id, 'RUNNING')
    const here = `http://127.0.0.1:${port}/caller`
    const host = async (): Promise<string | undefined> =>
      await fetch(here, { headers: { connection: 'close' } }).then(
        async (answer) => await answer.text(),
        () => undefined,
      )
    assert.match(await eventually('it answers on the host', host, SETTLES_MS), /^100\.11\d\./)
    const { neighbour, hostLan } = outside()
    const there = `http://${hostLan}:${port}/caller`
    assert.equal((await bodyFrom(outside(), there)).trim(), neighbour)
    await data('POST', `/instances/${id}/stop`)
    await eventually('it is refused', async () => (await host()) === undefined, SETTLES_MS)
    await data('PUT', `/instances/${id}`, { status: 'RUNNING' })
    await eventually('it answers again', host, SETTLES_MS)
    await data('DELETE', `/instances/${id}`)
    await eventually('it is closed', async () => (await host()) === undefined, SETTLES_MS)
    const [seen] = await httpFrom(outside(), there)
    assert.ok(seen && 'error' in seen, JSON.stringify(seen))
    await t.remove()
  })

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

  test('instances: names of a private zone, and a load balancer before them', async () => {
    const { data, launch, shell: say, t } = await cloudTenant(cloud())
    const vpc = await data<{ id: string }>('POST', '/vpcs', { name: 'shop' })
    await data('POST', `/vpcs/${vpc.id}/subnets`, { name: 'web', cidr_block: '10.0.1.0/24' })
    const serving = (text: string): object => ({
      ...MACHINE,
      vpc_id: vpc.id,
      cmd: [
        'sh',
        '-c',
        `mkdir /tmp/www && echo ${text} > /tmp/www/index.html && httpd -f -p 8000 -h /tmp/www`,
      ],
    })
    const [one, two, client] = await Promise.all([
      launch('one', serving('first')),
      launch('two', serving('second')),
      launch('client', { ...MACHINE, vpc_id: vpc.id }),
    ])
    const zone = await data<{ id: string }>('POST', '/dns/zones', { name: 'shop.example', vpc_id: vpc.id })
    const lb = await data<{ id: string; ip: string }>('POST', '/lb', {
      name: 'front',
      vpc_id: vpc.id,
      port: 80,
    })
    const record = { name: 'www', type: 'A', content: lb.ip }
    await data('POST', `/dns/zones/${zone.id}/records`, record)
    const alias = { name: 'alias', type: 'CNAME', content: 'one.shop.example' }
    await data('POST', `/dns/zones/${zone.id}/records`, alias)
    assert.match(await say(client.id, 'wget -qO- http://alias.shop.example:8000/'), /^first/m)
    const add = { instance_id: one.id, port: 8000, weight: 2 }
    await data('POST', `/lb/${lb.id}/targets`, add)
    await data('POST', `/lb/${lb.id}/targets`, { ...add, instance_id: two.id, weight: 1 })
    const healthy = async (count: number): Promise<void> => {
      await eventually(
        `${count} targets are healthy`,
        async () => {
          const targets = await data<{ health: string }[]>('GET', `/lb/${lb.id}/targets`)
          return targets.filter((it) => it.health === 'healthy').length === count
        },
        SETTLES_MS,
      )
    }
    const asked = async (): Promise<string[]> => {
      const said = await say(client.id, 'for i in 1 2 3 4 5 6; do wget -qO- http://www.shop.example/; done')
      return said.match(/^(first|second)/gm)?.toSorted() ?? [said]
    }
    await healthy(2)
    assert.deepEqual(await asked(), ['first', 'first', 'first', 'first', 'second', 'second'])
    await data('POST', `/instances/${one.id}/stop`)
    await healthy(1)
    assert.deepEqual(
      await asked(),
      Array.from({ length: 6 }, () => 'second'),
    )
    // From now on its own group decides who reaches the target: the network that the load balancer is in, then nobody.
    const group = await data<{ id: string }>('POST', '/security-groups', { name: 'served', vpc_id: vpc.id })
    const { id: rule } = await data<{ id: string }>('POST', `/security-groups/${group.id}/rules`, {
      direction: 'ingress',
      protocol: 'tcp',
      port_min: 8000,
      port_max: 8000,
      cidr: '10.0.1.0/24',
    })
    await data('POST', '/security-groups/attach', { instance_id: two.id, group_id: group.id })
    assert.equal((await asked()).length, 6)
    await data('DELETE', `/security-groups/rules/${rule}`)
    await healthy(0)
    assert.doesNotMatch((await asked()).join(), /second/)
    await t.remove()
  })
}
