import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Pod } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { containersOf, tcpFrom } from '../host.testing.ts'
import { answering, askProbe, listening, placeOf } from '../probe.testing.ts'
import { eventually } from '../wait.testing.ts'
import { EXTERNAL } from './networks.ts'

const SETTLES_MS = 40_000

export function podScenarios(cloud: () => TestCloud): void {
  test('6 pod basics and 7 balancing', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const made = await t.pod(subnet, 'web', { replica_count: 2 })
    assert.equal(made.status, 'pending')
    const client = await t.pod(subnet, 'client')
    const web = await t.running(made)
    assert.equal(web.ready_replicas, 2)
    const addresses = [web.vip, ...web.ip_addresses]
    assert.equal(new Set(addresses).size, 3)
    for (const it of addresses) {
      assert.match(it, /^10\.100\.1\.\d+$/)
      assert.notEqual(it, '10.100.1.1')
    }
    await t.running(client)
    await listening(web, client)
    for (const host of [web.vip, web.name]) {
      // A name is looked up by the probe itself, an address needs no resolver.
      const seen = new Set<string>()
      if (host === web.vip) for (const it of await answering(client, host, 40)) seen.add(it)
      else {
        for (let i = 0; i < 8; i++)
          seen.add(
            (await askProbe(client, `/fetch?url=${encodeURIComponent(`http://${host}/hostname`)}`)).body,
          )
      }
      assert.equal(seen.size, 2, `${host} answered as ${[...seen].join(', ')}`)
    }

    const body = {
      tenant_id: t.id,
      token: t.token,
      vpc_id: subnet.vpc_id,
      subnet_id: subnet.id,
      name: 'refused',
      container_image: 'idle:latest',
    }
    for (const wrong of [
      { replica_count: 11 },
      { replica_count: 0 },
      { replica_count: '2' },
      { service_port: 70000 },
      { name: 'Bad_Name' },
      { container_image: '' },
      { tunnels: 'x' },
      { subnet_id: 'not-an-id' },
    ]) {
      await t.call('POST', '/pods', 400, { ...body, ...wrong })
    }
    await t.call('POST', '/pods', 404, { ...body, subnet_id: randomUUID() })
    await t.call('POST', '/pods', 404, { ...body, vpc_id: randomUUID() })
    await t.call('POST', '/pods', 409, { ...body, name: 'web' })
    const otherVpc = await t.vpc('staging')
    await t.call('POST', '/pods', 400, { ...body, vpc_id: otherVpc.id })
    assert.equal((await t.call<Pod[]>('GET', '/pods', 200)).length, 2, 'a refused pod leaves nothing')
    await t.remove()
  })

  test('6 an unknown image ends in error and says why', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    // A registry nobody runs: refused at once, whatever the host's network is like.
    const made = await t.pod(subnet, 'broken', { container_image: '127.0.0.1:9/no/such-image:1' })
    const broken = await t.until(made, 'ends in error', (it) => it.status === 'error', 60_000)
    assert.ok(broken.status_message, 'status_message says why')
    await t.call('PATCH', `/pods/${broken.id}/config`, 200, { auto_healing: true })
    await t.remove()
  })

  test('9 replicas', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const fields = { container_image: 'idle:latest', replica_count: 2 }
    const pod = await t.running(await t.pod(subnet, 'web', fields))
    const path = `/pods/${pod.id}/replicas`
    assert.equal((await t.call<Pod>('POST', path, 200)).replica_count, 3)
    const three = await t.running(pod)
    assert.equal((await t.call<Pod>('DELETE', path, 200)).replica_count, 2)
    const two = await t.until(pod, 'has two again', (it) => it.ip_addresses.length === 2, SETTLES_MS)
    assert.deepEqual(two.ip_addresses.sort(), pod.ip_addresses.sort(), 'the newest replica went')
    assert.equal(three.vip, two.vip)
    assert.equal((await t.call<Pod>('DELETE', path, 200)).replica_count, 1)
    await t.call('DELETE', path, 409)
    assert.equal((await t.seen(pod)).replica_count, 1)
    await eventually(
      'one container is left',
      async () => (await containersOf(pod.id)).length === 1,
      SETTLES_MS,
    )

    const ten = await t.pod(subnet, 'ten', { container_image: 'idle:latest', replica_count: 10 })
    await t.call('POST', `/pods/${ten.id}/replicas`, 409)
    const scaled = await t.pod(subnet, 'scaled', { container_image: 'idle:latest', auto_scaling: true })
    await t.call('POST', `/pods/${scaled.id}/replicas`, 409)
    await t.call('DELETE', `/pods/${scaled.id}/replicas`, 409)
    await t.remove()
  })

  test('11 PATCH edge cases keep the VIP, the name and the external address', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const pod = await t.running(await t.pod(subnet, 'web', { external_access: true, external_inbound: true }))
    assert.match(pod.external_ip ?? '', EXTERNAL)
    const path = `/pods/${pod.id}/config`
    const kept = ({ vip, dns_name, external_ip }: Pod): object => ({ vip, dns_name, external_ip })
    const [before] = await containersOf(pod.id)
    const same = await t.call<Pod>('PATCH', path, 200, {})
    assert.equal(same.status, 'running')
    assert.equal((await containersOf(pod.id))[0]?.id, before?.id, 'nothing is recreated')

    const scaled = await t.call<Pod>('PATCH', path, 200, { auto_scaling: true })
    assert.equal(scaled.auto_healing, true)
    assert.ok(scaled.replica_count >= 2)
    assert.equal(scaled.status, 'updating')
    assert.deepEqual(kept(scaled), kept(pod))
    const running = await t.running(pod)
    assert.deepEqual(kept(running), kept(pod))
    await listening(running)
    assert.equal(
      (await fetch(`http://${pod.external_ip}/hostname`, { signal: AbortSignal.timeout(5000) })).status,
      200,
    )

    const plain = await t.call<Pod>('PATCH', path, 200, { auto_healing: false })
    assert.deepEqual([plain.auto_healing, plain.auto_scaling], [false, false])
    const both = await t.call<Pod>('PATCH', path, 200, { auto_scaling: true, auto_healing: false })
    assert.deepEqual([both.auto_healing, both.auto_scaling], [true, true], 'autoscaling wins')
    for (const wrong of [
      { autoscale_min_replicas: 5, autoscale_max_replicas: 3 },
      { autoscale_min_replicas: 1 },
      { autoscale_max_replicas: 51 },
      { autoscale_cpu_target_millicores: 9 },
      { autoscale_cpu_target_millicores: 10001 },
      { gpu_access: true },
      { gpu_count: 1 },
      { persistent: 'yes' },
      { persistent: true, persistent_mount_path: 'data' },
      { persistent_mount_path: '/' },
      { persistent_mount_path: '/a/../b' },
    ]) {
      await t.call('PATCH', path, 400, wrong)
    }
    await t.remove()
  })

  test('12 persistence: content survives restart, PATCH and healing, and goes with the pod', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const pod = await t.running(await t.pod(subnet, 'store', { auto_healing: true }))
    await t.call('PATCH', `/pods/${pod.id}/config`, 200, { persistent: true, persistent_mount_path: '/data' })
    await t.running(pod)
    const text = `kept-${randomUUID()}`
    assert.equal((await askProbe(pod, `/write?path=/data/x&data=${text}`)).status, 200)
    const read = async (): Promise<string> => {
      await t.running(pod)
      return eventually(
        'the probe reads',
        async () => (await askProbe(pod, '/read?path=/data/x')).body,
        10_000,
      )
    }
    await t.call('POST', `/pods/${pod.id}/restart`, 200)
    assert.ok((await read()).includes(text), 'after a restart')
    await t.call('PATCH', `/pods/${pod.id}/config`, 200, { auto_healing: false })
    assert.ok((await read()).includes(text), 'after a PATCH')
    await t.call('PATCH', `/pods/${pod.id}/config`, 200, { auto_healing: true })
    await t.running(pod)
    await askProbe(pod, '/crash').catch(() => undefined)
    await eventually('it healed', async () => (await t.live(pod)).replicas[0]?.restarts, SETTLES_MS)
    assert.ok((await read()).includes(text), 'after healing')
    await t.remove()
  })

  test('13 healing, and stopped without it', async () => {
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const [healed, plain] = await Promise.all(
      [await t.pod(subnet, 'healed', { auto_healing: true }), await t.pod(subnet, 'plain')].map((it) =>
        t.running(it),
      ),
    )
    assert.ok(healed && plain)
    await Promise.all([healed, plain].map((it) => askProbe(it, '/crash').catch(() => undefined)))
    await eventually(
      'a restart is counted',
      async () => ((await t.live(healed)).replicas[0]?.restarts ?? 0) >= 1,
      SETTLES_MS,
    )
    const back = await t.running(healed)
    assert.deepEqual(back.ip_addresses, healed.ip_addresses)
    await t.until(plain, 'is stopped', (it) => it.status === 'stopped', SETTLES_MS)
    assert.equal(
      await tcpFrom(await placeOf(back), plain.vip, 80),
      'ECONNREFUSED',
      'nobody is ready: refused at once',
    )
    await t.call('PATCH', `/pods/${plain.id}/config`, 409, { auto_healing: true })
    await t.call('POST', `/pods/${plain.id}/replicas`, 409)
    const restarted = await t.call<{ status: string }>('POST', `/pods/${plain.id}/restart`, 200)
    assert.equal(restarted.status, 'restarting')
    assert.equal((await t.running(plain)).vip, plain.vip)
    await t.remove()
  })
}
