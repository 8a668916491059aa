import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replica } from '#cloud/compute/replica.kind.ts'
import { MISSING_IMAGE } from '#drivers/simulated/compute.ts'
import { testDialect, type Answer, type TestDialect, type TestTenant } from './circloud.testing.ts'

const NOBODY = '00000000-0000-7000-8000-000000000000'

type Net = { readonly vpc: string; readonly subnet: string }
const create = async (of: TestTenant, net: Net, fields: object): Promise<Answer> =>
  await of.call('POST', '/pods', {
    tenant_id: of.id,
    token: of.token,
    vpc_id: net.vpc,
    subnet_id: net.subnet,
    name: 'web',
    container_image: 'nginx:latest',
    ...fields,
  })

// eslint-disable-next-line typescript/no-explicit-any
async function podOf(of: TestTenant, id: string): Promise<any> {
  const { body } = await of.call('GET', '/pods')
  return body.find((it: { id: string }) => it.id === id)
}

async function start(it: TestDialect, fields: object = {}) {
  const acme = await it.tenant('acme')
  const net = await it.network(acme)
  const made = await create(acme, net, fields)
  assert.equal(made.status, 201, JSON.stringify(made.body))
  return { acme, net, id: made.body.id as string, made: made.body }
}

test('a pod answers whole at once and runs on its addresses', async () => {
  await using it = await testDialect()
  const { acme, net, id, made } = await start(it, { replica_count: 2 })
  assert.deepEqual(
    { ...made, id: 0, created_at: 0, updated_at: 0 },
    {
      id: 0,
      tenant_id: acme.id,
      vpc_id: net.vpc,
      subnet_id: net.subnet,
      name: 'web',
      container_image: 'nginx:latest',
      replica_count: 2,
      service_port: 80,
      use_registry_credentials: true,
      external_access: false,
      external_inbound: false,
      auto_healing: false,
      auto_scaling: false,
      autoscale_min_replicas: 2,
      autoscale_max_replicas: 10,
      autoscale_cpu_target_millicores: 200,
      persistent: false,
      persistent_mount_path: '/storage',
      gpu_access: false,
      status: 'pending',
      status_message: null,
      ready_replicas: 0,
      vip: made.vip,
      ip_addresses: made.ip_addresses,
      external_ip: null,
      dns_name: 'web.production.internal',
      tunnels: [],
      created_at: 0,
      updated_at: 0,
    },
  )
  const addresses = [made.vip, ...made.ip_addresses]
  assert.equal(new Set(addresses).size, 3)
  for (const address of addresses) assert.match(address, /^10\.100\.1\.(?!0$|1$|255$)/)
  await it.world.settle()
  const now = await podOf(acme, id)
  assert.deepEqual(
    [now.status, now.ready_replicas, now.vip, now.ip_addresses],
    ['running', 2, made.vip, made.ip_addresses],
  )
})

test('what a pod may ask for', async () => {
  await using it = await testDialect()
  const { acme, net } = await start(it, { name: 'first' })
  const closed = await acme.call('POST', '/vpcs', {
    tenant_id: acme.id,
    name: 'closed',
    enable_internet: false,
  })
  const inside = await acme.call('POST', '/subnets', {
    tenant_id: acme.id,
    vpc_id: closed.body.id,
    name: 'web',
    cidr: '10.100.1.0/24',
    gateway_ip: '10.100.1.1',
  })
  const before = await it.snapshot()
  for (const [fields, status, detail] of [
    [{ replica_count: 0 }, 400, 'replica_count: must be between 1 and 10'],
    [{ replica_count: 11 }, 400, 'replica_count: must be between 1 and 10'],
    [{ replica_count: '2' }, 400, 'replica_count: must be an integer'],
    [{ replica_count: 1.5 }, 400, 'replica_count: must be an integer'],
    [{ service_port: 70000 }, 400, 'service_port: must be between 1 and 65535'],
    [{ service_port: 0 }, 400, 'service_port: must be between 1 and 65535'],
    [{ container_image: '' }, 400, 'container_image: must not be empty'],
    [{ container_image: undefined }, 400, 'container_image: is required'],
    [{ auto_scaling: 'yes' }, 400, 'auto_scaling: must be true or false'],
    [{ autoscale_max_replicas: 1 }, 400, 'autoscale_max_replicas: must be between 2 and 50'],
    [
      { autoscale_cpu_target_millicores: 9 },
      400,
      'autoscale_cpu_target_millicores: must be between 10 and 10000',
    ],
    [
      { auto_scaling: true, replica_count: 4, autoscale_max_replicas: 3 },
      400,
      'replica_count: must not exceed autoscale_max_replicas (3)',
    ],
    [{ external_inbound: true }, 400, 'external_inbound: requires external_access'],
    [
      { vpc_id: closed.body.id, subnet_id: inside.body.id, external_access: true },
      400,
      'external_access: the VPC has no internet access',
    ],
    [{ vpc_id: closed.body.id }, 400, 'subnet_id: the subnet is not in this VPC'],
    [{ vpc_id: 'x' }, 400, 'vpc_id: must be a UUID'],
    [{ vpc_id: NOBODY, external_inbound: true }, 400, 'external_inbound: requires external_access'],
    [{ vpc_id: NOBODY }, 404, 'VPC not found'],
    [{ subnet_id: NOBODY }, 404, 'Subnet not found'],
    [{ name: 'first' }, 409, 'Pod with this name already exists'],
    [
      { tunnels: [{ subdomain: 'app', protocol_type: 'http' }] },
      400,
      'tunnels[0].domain: there is no default domain: name one of your domains, or ask an administrator',
    ],
    [
      { tunnels: [{ subdomain: 'app', protocol_type: 'ftp' }] },
      400,
      'tunnels[0].protocol_type: must be http, https, ssh, tcp or udp',
    ],
    [{ tunnels: {} }, 400, 'tunnels: must be a list'],
  ] as const) {
    const answer = await create(acme, net, fields)
    assert.deepEqual([answer.status, answer.body.detail], [status, detail], JSON.stringify(fields))
  }
  assert.equal(await it.snapshot(), before)
  assert.equal((await create(acme, net, { name: 'second', tunnels: [], gpu: 4, unknown: {} })).status, 201)
  const elsewhere = await create(acme, { vpc: closed.body.id, subnet: inside.body.id }, { name: 'first' })
  assert.equal(elsewhere.status, 201)
})

test('a full subnet refuses whole pods', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const net = await it.network(acme, 'small', '10.100.1.0/29')
  assert.equal((await create(acme, net, { replica_count: 3 })).status, 201)
  const before = await it.snapshot()
  const full = await create(acme, net, { name: 'other', replica_count: 2 })
  assert.equal(full.status, 409)
  assert.match(full.body.detail, /^No address is free in subnet web; /)
  assert.equal(await it.snapshot(), before)
})

test('autoscaling at creation: two at least, healing along', async () => {
  await using it = await testDialect()
  const { acme, net, made } = await start(it, { auto_scaling: true })
  assert.deepEqual([made.replica_count, made.auto_healing, made.autoscale_min_replicas], [2, true, 2])
  const third = await create(acme, net, {
    name: 'three',
    auto_scaling: true,
    replica_count: 3,
    autoscale_max_replicas: 6,
    autoscale_cpu_target_millicores: 250,
  })
  assert.deepEqual(
    [third.body.replica_count, third.body.autoscale_max_replicas, third.body.autoscale_cpu_target_millicores],
    [3, 6, 250],
  )
  for (const method of ['POST', 'DELETE']) {
    const { status, body } = await acme.call(method, `/pods/${made.id}/replicas`)
    assert.deepEqual(
      [status, body.detail],
      [409, 'Replica changes are not available while auto_scaling is enabled'],
    )
  }
})

test('a load above the target adds replicas up to the maximum, and the readings are shown', async () => {
  await using it = await testDialect()
  const { acme, id } = await start(it, {
    auto_scaling: true,
    autoscale_max_replicas: 3,
    autoscale_cpu_target_millicores: 100,
  })
  await it.world.settle()
  const burn = async (): Promise<void> => {
    for (const one of await it.world.cloud.all(it.world.admin, replica)) it.world.compute.load(one.id, 900)
  }
  const detail = async () => (await it.admin('GET', `/tenants/${acme.id}`)).body.pod_status[id]
  for (let round = 0; round < 6; round++) {
    await burn()
    await it.world.settle(16_000)
  }
  const live = await detail()
  assert.equal(live.ready_replicas, 3)
  assert.equal((await podOf(acme, id)).replica_count, 3)
  assert.ok(live.autoscaler.current_cpu_millicores > 100, JSON.stringify(live.autoscaler))
  assert.ok(live.replicas.every((one: { cpu_millicores: number | null }) => one.cpu_millicores !== null))
  const topology = await acme.call('GET', `/tenants/${acme.id}/topology`)
  assert.equal(topology.body.pods[0].replica_count, 3)
})

test('replicas go up and down one at a time within 1 and 10', async () => {
  await using it = await testDialect()
  const { acme, net, id } = await start(it, { replica_count: 2 })
  const scale = async (method: string, of = id) => await acme.call(method, `/pods/${of}/replicas`)
  const up = await scale('POST')
  assert.deepEqual([up.status, up.body.replica_count], [200, 3])
  assert.equal((await scale('DELETE')).body.replica_count, 2)
  assert.equal((await scale('DELETE')).body.replica_count, 1)
  const least = await scale('DELETE')
  assert.deepEqual([least.status, least.body.detail], [409, 'A pod needs at least one replica'])
  await it.world.settle(60_000)
  const now = await podOf(acme, id)
  assert.deepEqual(
    [now.replica_count, now.ready_replicas, now.ip_addresses.length, now.status],
    [1, 1, 1, 'running'],
  )
  const ten = await create(acme, net, { name: 'ten', replica_count: 10 })
  assert.equal((await scale('POST', ten.body.id)).status, 409)
  for (const it of [NOBODY, 'no-uuid']) assert.equal((await scale('POST', it)).status, 404)
})

test('configuration follows the rules of healing and autoscaling and keeps the pod’s addresses', async () => {
  await using it = await testDialect()
  const { acme, id, made } = await start(it, { external_access: true, external_inbound: true })
  const patch = async (body: unknown): Promise<Answer> => await acme.call('PATCH', `/pods/${id}/config`, body)
  await it.world.settle()
  const on = await patch({ auto_scaling: true })
  assert.equal(on.status, 200)
  assert.deepEqual(
    [on.body.auto_scaling, on.body.auto_healing, on.body.replica_count, on.body.status],
    [true, true, 2, 'updating'],
  )
  for (const field of ['vip', 'dns_name', 'external_ip']) assert.equal(on.body[field], made[field])
  const off = await patch({ auto_healing: false })
  assert.deepEqual([off.body.auto_scaling, off.body.auto_healing, off.body.replica_count], [false, false, 2])
  const both = await patch({ auto_healing: false, auto_scaling: true })
  assert.deepEqual([both.body.auto_scaling, both.body.auto_healing], [true, true])
  assert.deepEqual(
    (({ auto_scaling, auto_healing }) => [auto_scaling, auto_healing])(
      (await patch({ auto_scaling: false })).body,
    ),
    [false, true],
  )
  const waiting = await patch({ autoscale_min_replicas: 4, autoscale_max_replicas: 8 })
  assert.deepEqual([waiting.body.autoscale_min_replicas, waiting.body.replica_count], [4, 2])
  await it.world.settle()
  const settled = await podOf(acme, id)
  assert.equal(settled.status, 'running')
  const nothing = await patch({})
  assert.deepEqual([nothing.status, nothing.body.status], [200, 'running'])
  const before = await it.snapshot()
  for (const [body, detail] of [
    [
      { autoscale_min_replicas: 5, autoscale_max_replicas: 3 },
      'autoscale_min_replicas: must not exceed autoscale_max_replicas',
    ],
    [{ autoscale_max_replicas: 3 }, 'autoscale_max_replicas: must not be below the minimum'],
    [{ autoscale_cpu_target_millicores: 9 }, 'autoscale_cpu_target_millicores: must be between 10 and 10000'],
    [{ autoscale_min_replicas: 1 }, 'autoscale_min_replicas: must be between 2 and 50'],
    [{ autoscale_max_replicas: 51 }, 'autoscale_max_replicas: must be between 2 and 50'],
    [{ gpu_access: true }, 'gpu_access: GPU access cannot be changed after creation'],
    [{ gpuCount: null }, 'gpuCount: GPU access cannot be changed after creation'],
    [
      { persistent_mount_path: 'data' },
      'persistent_mount_path: must be an absolute path other than / and without ..',
    ],
    [
      { persistent_mount_path: '/' },
      'persistent_mount_path: must be an absolute path other than / and without ..',
    ],
    [
      { persistent_mount_path: '//' },
      'persistent_mount_path: must be an absolute path other than / and without ..',
    ],
    [
      { persistent_mount_path: '/a/../b' },
      'persistent_mount_path: must be an absolute path other than / and without ..',
    ],
    [
      { persistent_mount_path: '/a\0b' },
      'persistent_mount_path: must be an absolute path other than / and without ..',
    ],
    [{ persistent: 1 }, 'persistent: must be true or false'],
    [{ auto_healing: null }, 'auto_healing: must be true or false'],
    [[], 'Body must be an object'],
  ] as const) {
    const answer = await patch(body)
    assert.deepEqual([answer.status, answer.body.detail], [400, detail], JSON.stringify(body))
  }
  assert.equal(await it.snapshot(), before)
  const kept = await patch({ persistent: true, persistent_mount_path: '/data' })
  assert.deepEqual([kept.body.persistent, kept.body.persistent_mount_path], [true, '/data'])
  assert.equal((await acme.call('PATCH', `/pods/${NOBODY}/config`, {})).status, 404)
  assert.equal((await acme.call('PATCH', '/pods/no-uuid/config', { gpu: 1 })).status, 400)
})

test('a pod that ended is stopped until it is restarted; a healed one never is', async () => {
  await using it = await testDialect()
  const { acme, net, id } = await start(it)
  const healed = await create(acme, net, { name: 'healed', auto_healing: true })
  await it.world.settle()
  for (const one of await it.world.cloud.all(it.world.admin, replica)) {
    it.world.compute.exit(one.id, 3)
    await it.world.engine.wake(`replica/${one.id}`)
  }
  await it.world.settle()
  const stopped = await podOf(acme, id)
  assert.deepEqual([stopped.status, stopped.ready_replicas], ['stopped', 0])
  assert.match(stopped.status_message, /3/)
  assert.equal((await podOf(acme, healed.body.id)).status, 'running')
  const { pod_status: live } = (await it.admin('GET', `/tenants/${acme.id}`)).body
  assert.equal(live[healed.body.id].replicas[0].restarts, 1)
  for (const [method, path, body] of [
    ['PATCH', `/pods/${id}/config`, { auto_healing: true }],
    ['POST', `/pods/${id}/replicas`, undefined],
    ['DELETE', `/pods/${id}/replicas`, undefined],
  ] as const) {
    const { status, body: said } = await acme.call(method, path, body)
    assert.deepEqual([status, said.detail], [409, 'Pod is stopped'], `${method} ${path}`)
  }
  const restarted = await acme.call('POST', `/pods/${id}/restart`)
  assert.deepEqual(
    [restarted.status, restarted.body],
    [200, { id, status: 'restarting', message: 'Pod restart initiated' }],
  )
  assert.equal((await podOf(acme, id)).status, 'restarting')
  await it.world.settle()
  assert.equal((await podOf(acme, id)).status, 'running')
})

test('an image that cannot be pulled is an error with its reason, and can be configured', async () => {
  await using it = await testDialect()
  const { acme, id, made } = await start(it, { container_image: `${MISSING_IMAGE}:latest` })
  assert.equal(made.status, 'pending')
  await it.world.settle(60_000)
  const failed = await podOf(acme, id)
  assert.equal(failed.status, 'error')
  assert.equal(typeof failed.status_message, 'string')
  assert.equal((await acme.call('PATCH', `/pods/${id}/config`, { auto_healing: true })).status, 200)
  assert.equal((await acme.call('POST', `/pods/${id}/restart`)).status, 200)
})

test('a pod being deleted says so, refuses changes, and is gone at the end', async () => {
  await using it = await testDialect()
  const { acme, net, id } = await start(it)
  await it.world.settle()
  assert.equal((await acme.call('DELETE', `/pods/${id}`)).status, 204)
  assert.equal((await podOf(acme, id)).status, 'deleting')
  assert.equal((await acme.call('DELETE', `/pods/${id}`)).status, 204)
  for (const [method, path, body] of [
    ['PATCH', `/pods/${id}/config`, { auto_healing: true }],
    ['POST', `/pods/${id}/replicas`, undefined],
    ['DELETE', `/pods/${id}/replicas`, undefined],
    ['POST', `/pods/${id}/restart`, undefined],
  ] as const) {
    const answer = await acme.call(method, path, body)
    assert.deepEqual([answer.status, answer.body.detail], [409, 'Pod is being deleted'], `${method} ${path}`)
  }
  const again = await create(acme, net, {})
  assert.equal(again.status, 201)
  await it.world.settle(60_000)
  assert.equal(await podOf(acme, id), undefined)
  assert.equal((await acme.call('DELETE', `/pods/${id}`)).status, 404)
  assert.equal((await acme.call('DELETE', '/pods/no-uuid')).status, 404)
})
