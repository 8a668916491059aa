import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CloudError } from '#lib/errors.ts'
import type { Caller } from '#cloud/access.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import type { InsideFile } from '#cloud/compute/compute.driver.ts'
import { replica, type Replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { objectId } from '#lib/object-id.ts'
import { certificateFiles } from './outfit.ts'
import { createRefresh } from './refresh.ts'

const signal = AbortSignal.timeout(60_000)

type World = { readonly it: TestCloud; readonly caller: Caller; readonly vpc: string }

/** A VPC with a workload; nothing was reconciled yet. */
async function world(
  how: Parameters<typeof testCloud>[0] = {},
  spec: { persistence?: { enabled: true; path: string }; env?: Record<string, string> } = {},
): Promise<World> {
  const it = await testCloud(how)
  const { caller } = await it.tenant('acme')
  const made = await it.cloud.act(caller, 'test', async (verbs) => {
    const of = await verbs.createVpc({ name: 'production', internet: true })
    const within = { vpc: of.id, name: 'web', cidr: '10.100.1.0/24', gateway: '10.100.1.1' }
    const subnet = await verbs.createSubnet(within)
    await verbs.createWorkload({
      vpc: of.id,
      subnet: subnet.id,
      name: 'web',
      spec: { image: 'nginx:latest', ...spec },
    })
    return of.id
  })
  return { it, caller, vpc: made }
}

const only = async ({ it, caller }: World): Promise<Replica> =>
  (await it.cloud.list(caller, replica)).items[0] ?? assert.fail('no replica')

test('a replica has its socket before its container is asked for, and none when it is gone', async () => {
  const order: string[] = []
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure' || verb === 'compute.apply') order.push(verb)
    },
  })
  const { it, caller } = made
  await using _ = it
  await it.settle()
  const { id } = await only(made)
  assert.deepEqual(order.slice(0, 2), ['sockets.ensure', 'compute.apply'])
  assert.deepEqual(await it.sockets.list(signal), [id])
  assert.ok(it.compute.wishes.get(id)?.inside)
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteVpc(made.vpc))
  await it.settle()
  assert.equal((await it.cloud.list(caller, replica)).items.length, 0)
  assert.deepEqual(await it.sockets.list(signal), [])
})

test('without its socket no container is asked for, and the replica says why', async () => {
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure') throw new CloudError('unavailable', 'no room for a socket')
    },
  })
  await using _ = made.it
  await made.it.settle()
  const it = await only(made)
  assert.equal(made.it.compute.wishes.get(it.id), undefined)
  assert.match(
    JSON.stringify(await made.it.cloud.explain(made.caller, replica, it.id)),
    /no room for a socket/,
  )
})

test('under a host agent of before there were sockets a container runs without', async () => {
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure') throw new CloudError('unsupported', 'no such verb')
    },
  })
  await using _ = made.it
  await made.it.settle()
  const it = await only(made)
  assert.equal(it.status.phase, 'running')
  assert.equal(made.it.compute.wishes.get(it.id)?.inside, undefined)
})

const textOf = (file: InsideFile | undefined): string => Buffer.from(file?.content ?? '', 'base64').toString()

async function variable({ it, caller, vpc }: World, name: string, spec: object): Promise<void> {
  const kind = it.cloud.kinds.get('scoped-variable') ?? assert.fail()
  const scope = { global: true, workloads: [], names: [] }
  await it.cloud.act(
    caller,
    'test',
    async (verbs) => await verbs.create(kind, { name, spec: { vpc, scope, ...spec } }),
  )
}

test('its environment says who it is and where, above what its workload says, above what is given to all', async () => {
  const env = { MODE: 'own', CYCLE_INSTANCE_ID: 'a lie' }
  const made = await world({}, { env })
  const { it } = made
  await using _ = it
  for (const [name, value] of Object.entries({ MODE: 'given', REGION: 'north', CYCLE_API_TOKEN: 'no' }))
    await variable(made, name, { value, access: { env: {} } })
  await variable(made, 'password', { secret: 's3cret', access: { env: { key: 'DB_PASSWORD' } } })
  await variable(made, 'unseen', { value: 'x', access: { api: {} } })
  await it.settle()
  const own = await only(made)
  const seen = it.compute.wishes.get(own.id)?.env ?? assert.fail()
  const server = await it.cloud.inside.server((await it.cloud.inside.instance(own.id)) ?? assert.fail())
  assert.deepEqual(
    { ...seen },
    {
      MODE: 'own',
      REGION: 'north',
      DB_PASSWORD: 's3cret',
      CYCLE_API_TOKEN: it.cloud.inside.token(own),
      CYCLE_INSTANCE_ID: objectId(own.id),
      CYCLE_CONTAINER_ID: objectId(own.spec.workload),
      CYCLE_CONTAINER_IDENTIFIER: 'web',
      CYCLE_ENVIRONMENT_ID: objectId(made.vpc),
      CYCLE_SERVER_ID: server.id,
      CYCLE_LOCATION_ID: server.id,
      CYCLE_PROVIDER_VENDOR: 'arcus',
      CYCLE_PROVIDER_IDENTIFIER: 'arcus',
      CYCLE_PROVIDER_LOCATION: server.hostname,
      CYCLE_INSTANCE_IPV6_IP: seen['CYCLE_INSTANCE_IPV6_IP'],
      CYCLE_INSTANCE_IPV6_CIDR: seen['CYCLE_INSTANCE_IPV6_CIDR'],
      CYCLE_INSTANCE_IPV6_SUBNET: '1',
      CYCLE_AUTO_START: 'no',
      CYCLE_FIRST_START: 'yes',
      CYCLE_COMPUTE_PROXY: 'unix:///var/run/cycle/api/api.sock',
      CYCLE_CPU_PERIOD: '100000',
      CYCLE_CPU_QUOTA: '100000',
      CYCLE_CPU_LIMITED: 'yes',
    },
  )
  const [placed] = await it.cloud.inside.replicasOf((await it.cloud.inside.instance(own.id)) ?? assert.fail())
  assert.deepEqual(
    [seen['CYCLE_INSTANCE_IPV6_IP'], seen['CYCLE_INSTANCE_IPV6_CIDR']],
    [placed?.address6, placed?.cidr6],
  )
  // What a person sees of the workload is what a person said.
  const of = await it.cloud.get(made.caller, workload, own.spec.workload)
  assert.deepEqual(of.spec.env, env)
})

test('variables become files as they say, and follow a change of theirs', async () => {
  const made = await world()
  const { it } = made
  await using _ = it
  const file = { decode: true, path: '/etc/app/key', permissions: '0640', uid: 70, gid: 71 }
  await variable(made, 'key.pem', { secret: Buffer.from('binary').toString('base64'), access: { file } })
  await variable(made, 'plain', { value: 'text', access: { file: { decode: false } } })
  await it.settle()
  const own = await only(made)
  const filesOf = (): readonly InsideFile[] => it.compute.wishes.get(own.id)?.inside?.files ?? []
  const named = (name: string): InsideFile | undefined => filesOf().find((one) => one.name === name)
  assert.equal(textOf(named('variables/key.pem')), 'binary')
  const { content: _content, ...key } = named('variables/key.pem') ?? assert.fail()
  assert.deepEqual(key, { name: 'variables/key.pem', mode: 0o640, uid: 70, gid: 71, at: '/etc/app/key' })
  assert.deepEqual([textOf(named('variables/plain')), named('variables/plain')?.mode], ['text', 0o444])

  const everything = async () => (await it.cloud.all(made.caller, replica)) as never
  const refresh = createRefresh(it.engine, everything)
  assert.deepEqual(await refresh(), [`replica/${own.id}`])
  assert.deepEqual(await refresh(), [])
  await variable(made, 'later', { value: 'new', access: { file: { decode: false } } })
  const keys = await refresh()
  assert.deepEqual(keys, [`replica/${own.id}`])
  for (const one of keys) await it.engine.wake(one)
  await it.settle()
  assert.equal(textOf(named('variables/later')), 'new')
  assert.deepEqual(await refresh(), [])
})

test('certificates are files by their names, each key for the one user of the container', () => {
  const served = { id: '1', names: ['shop.example.com', '*.example.com'], chain: 'CHAIN', key: 'KEY' }
  const files = certificateFiles([{ ...served, chain: 'OLD' }, served], '1000:1000')
  assert.deepEqual(
    files.map((it) => [it.name, textOf(it), it.mode, it.uid]),
    [
      ['tls/shop.example.com.bundle', 'CHAIN', 0o444, 0],
      ['tls/shop.example.com.key', 'KEY', 0o400, 1000],
      ['tls/_.example.com.bundle', 'CHAIN', 0o444, 0],
      ['tls/_.example.com.key', 'KEY', 0o400, 1000],
    ],
  )
  assert.deepEqual(new Set(certificateFiles([served], 'www-data').map((it) => it.uid)), new Set([0]))
})

test('a workload that has a volume of its own there keeps it', async () => {
  const made = await world({}, { persistence: { enabled: true, path: '/run/cycle/data' } })
  await using _ = made.it
  await made.it.settle()
  const { id } = await only(made)
  const wish = made.it.compute.wishes.get(id)
  assert.deepEqual([wish?.mounts.length, wish?.inside], [1, undefined])
})

test('an audit finds a socket that is gone or is of nobody, and both are put right', async () => {
  const made = await world()
  const { it } = made
  await using _ = it
  await it.settle()
  const { id } = await only(made)
  it.sockets.vanish(id)
  const stray = '01900000-0000-7000-8000-000000000001'
  await it.sockets.ensure(stray, signal)
  const found = await it.cloud.mend(it.admin, signal)
  assert.deepEqual(
    found
      .map((leak) => [leak.what, leak.thing, leak.id])
      .toSorted((a, b) => String(a).localeCompare(String(b))),
    [
      ['missing', 'socket', id],
      ['orphan', 'socket', stray],
    ],
  )
  await it.settle()
  assert.deepEqual(await it.sockets.list(signal), [id])
  assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
})
